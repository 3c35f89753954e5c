/** One target, in a thread of its own: the thread that watches it sees the input that a run does not come back from. */
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { parentPort, workerData } from 'node:worker_threads'
import { instrumentModules } from './instrument.mjs'
import { Finding, Loop } from './loop.mjs'

const { module, name, seconds, seed, shared, folder, only, most } = workerData
const feedback = instrumentModules((file) => only.some((part) => file.includes(part)))
const target = (await import(module)).TARGETS.find((one) => one.name === name)
if (target === undefined) throw new Error(`no target ${name}`)

const state = new Int32Array(shared, 0, 2)
const current = new Uint8Array(shared, 8)
function announce(input) {
  current.set(input.subarray(0, current.length))
  Atomics.store(state, 1, Math.min(input.length, current.length))
  Atomics.add(state, 0, 1)
}

const loop = new Loop(target, feedback, seed, announce)
const kept = folder === undefined ? [] : readdirSync(folder).map((file) => Uint8Array.from(readFileSync(path.join(folder, file))))
try {
  for (const input of [...target.seeds(), ...kept]) if (input.length <= target.most) loop.offer(input)
  const before = loop.features
  const end = Date.now() + seconds * 1000
  let report = Date.now() + 5000
  while (Date.now() < end) {
    for (let i = 0; i < 64; i++) loop.step()
    if (Date.now() < report) continue
    report += 5000
    parentPort.postMessage({ progress: { executions: loop.executions, features: loop.features, corpus: loop.corpus.length } })
  }
  parentPort.postMessage({
    done: { executions: loop.executions, before, features: loop.features, blocks: feedback.blocks, corpus: loop.minimised(most) },
  })
} catch (error) {
  if (!(error instanceof Finding)) throw error
  parentPort.postMessage({ finding: { what: error.message, input: error.input, executions: loop.executions } })
}

/** Runs one target in a worker thread and watches it. */
import { Worker } from 'node:worker_threads'
import path from 'node:path'

/** Without a new run for so long the thread hangs in one. */
const HANG_MS = 15_000
const MAX_HEAP_MB = 512

/**
 * @param {{ module: string, name: string, seconds: number, seed: number, folder?: string, only: string[], most: number,
 *   onProgress?: (progress: object) => void }} options `only`: parts of the names of files that are instrumented
 * @returns {Promise<{ done: object } | { finding: { what: string, input: Uint8Array, executions: number } }>}
 */
export function fuzzTarget({ onProgress = () => {}, ...options }) {
  const shared = new SharedArrayBuffer(8 + (1 << 16))
  const state = new Int32Array(shared, 0, 2)
  return new Promise((resolve, reject) => {
    const worker = new Worker(path.join(import.meta.dirname, 'worker.mjs'), {
      workerData: { ...options, shared },
      resourceLimits: { maxOldGenerationSizeMb: MAX_HEAP_MB },
    })
    const last = { count: -1, at: Date.now() }
    const input = () => Uint8Array.from(new Uint8Array(shared, 8, state[1]))
    const found = (what) => ({ finding: { what, input: input(), executions: state[0] } })
    const watch = setInterval(() => {
      const count = Atomics.load(state, 0)
      if (count !== last.count) Object.assign(last, { count, at: Date.now() })
      else if (count > 0 && Date.now() - last.at > HANG_MS) finish(found(`does not end within ${HANG_MS / 1000} s`))
    }, 1000)
    let over = false
    const finish = (result) => {
      if (over) return
      over = true
      clearInterval(watch)
      worker.terminate().then(() => resolve(result), reject)
    }
    worker.on('message', (message) => (message.progress ? onProgress(message.progress) : finish(message)))
    worker.on('error', (error) => (error.code === 'ERR_WORKER_OUT_OF_MEMORY' ? finish(found(error.message)) : reject(error)))
  })
}

/** The kept inputs again, without a fuzzer; and the fuzzer's own test. */
import { execFile } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { TARGETS } from './targets.js'

const FOLDER = path.join(import.meta.dirname, 'corpus')
const MOST_FILES = 300
const MOST_BYTES = 4096
/** Generous: other tests run beside this one. */
const MOST_MS = 2000

test.each(TARGETS.map((target) => [target.name, target] as const))('%s: seeds and kept inputs', (name, target) => {
  const folder = path.join(FOLDER, name)
  const kept = existsSync(folder) ? readdirSync(folder).map((file) => Uint8Array.from(readFileSync(path.join(folder, file)))) : []
  expect(kept.length).toBeGreaterThan(0)
  for (const input of [...target.seeds(), ...kept]) {
    const started = performance.now()
    target.run(input)
    expect(performance.now() - started).toBeLessThan(MOST_MS)
  }
})

test('the corpora stay small', () => {
  const files = readdirSync(FOLDER).flatMap((name) => readdirSync(path.join(FOLDER, name)).map((file) => path.join(FOLDER, name, file)))
  expect(readdirSync(FOLDER).toSorted()).toEqual(TARGETS.map(({ name }) => name).toSorted())
  expect(files.length).toBeLessThan(MOST_FILES)
  for (const file of files) expect(statSync(file).size, file).toBeLessThanOrEqual(MOST_BYTES)
})

test('a decoder that lets something else than a ProtocolError out, or accepts two encodings, is noticed', () => {
  const [cbor] = TARGETS
  expect(() => cbor!.run(Uint8Array.of(0xf6))).not.toThrow()
  expect(() => cbor!.run(undefined as unknown as Uint8Array)).toThrow(TypeError)
})

test('the fuzzer finds a bug behind three nested comparisons', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [path.join(import.meta.dirname, 'run.mjs'), '--self-test'])
  process.stdout.write(stdout)
  expect(stdout).toMatch(/^the planted bug found after \d+ runs/)
}, 60_000)

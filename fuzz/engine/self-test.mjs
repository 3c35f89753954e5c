/** The fuzzer's own test: coverage feedback leads to a bug that chance alone would take 2^24 runs to find. */
import { pathToFileURL } from 'node:url'
import path from 'node:path'
import { fuzzTarget } from './fuzz-target.mjs'

/** @returns {Promise<{ found: boolean, executions: number, seconds: number }>} */
export async function selfTest(seconds = 30) {
  const started = Date.now()
  const module = pathToFileURL(path.join(import.meta.dirname, 'planted.mjs')).href
  const result = await fuzzTarget({ module, name: 'planted', seconds, seed: 1, only: ['planted-code'], most: 10 })
  const { executions } = result.finding ?? result.done
  return { found: result.finding?.what.includes('the planted bug') === true, executions, seconds: (Date.now() - started) / 1000 }
}

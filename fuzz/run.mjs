#!/usr/bin/env node
/**
 * `npm run fuzz [-- --target NAME] [--seconds N] [--seed N] [--keep]`: every target for N seconds (600 without the
 * option), after a test of the fuzzer itself. `--keep` writes the inputs that show something new to fuzz/corpus, where
 * `npm test` replays them; `--self-test` does nothing but that first test. A finding is written to .cache/fuzz and ends the run with code 1.
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { onNode24 } from '../tools/process/node24.mjs'

const HERE = import.meta.dirname
/** The libraries that decode; what they lean on (hashes, curves) is not. */
const INSTRUMENTED = ['libs/wire/dist/', 'libs/ratchet/dist/']
/** Corpus files of one target. */
const MOST_FILES = 28

if (onNode24()) await main()

async function main() {
  const { values } = parseArgs({
    options: {
      target: { type: 'string' },
      seconds: { type: 'string', default: '600' },
      seed: { type: 'string' },
      keep: { type: 'boolean' },
      'self-test': { type: 'boolean' },
    },
  })
  const { fuzzTarget } = await import('./engine/fuzz-target.mjs')
  const { selfTest } = await import('./engine/self-test.mjs')
  const { TARGETS } = await import('./targets.ts')
  const names = TARGETS.map(({ name }) => name).filter((name) => values.target === undefined || name === values.target)
  const seconds = Number(values.seconds)
  if (names.length === 0 || !(seconds > 0)) {
    process.stderr.write(`usage: run.mjs [--target ${TARGETS.map(({ name }) => name).join('|')}] [--seconds N] [--seed N] [--keep]\n`)
    process.exit(2)
  }
  const itself = await selfTest()
  process.stdout.write(
    `the planted bug ${itself.found ? 'found' : 'NOT FOUND'} after ${itself.executions} runs, ${itself.seconds.toFixed(1)} s\n`,
  )
  if (values['self-test']) process.exit(itself.found ? 0 : 1)
  let failed = itself.found ? 0 : 1
  const module = pathToFileURL(path.join(HERE, 'targets.ts')).href
  for (const name of names) {
    const folder = path.join(HERE, 'corpus', name)
    mkdirSync(folder, { recursive: true })
    const started = Date.now()
    const result = await fuzzTarget({
      module,
      name,
      seconds,
      seed: Number(values.seed ?? Date.now() % 2 ** 31),
      folder,
      only: INSTRUMENTED,
      most: MOST_FILES,
      onProgress: ({ executions, features, corpus }) => {
        if (process.stdout.isTTY) process.stdout.write(`${name}: ${executions} runs, ${features} features, ${corpus} inputs\r`)
      },
    })
    if (result.finding) {
      failed++
      process.stdout.write(`FAIL ${name}: ${result.finding.what}\n     ${keepFinding(name, result.finding.input)}\n`)
      continue
    }
    const { executions, before, features, blocks, corpus } = result.done
    const took = (Date.now() - started) / 1000
    const rate = Math.round(executions / took)
    process.stdout.write(
      `ok   ${name}: ${executions} runs in ${took.toFixed(0)} s (${rate} a second), ${before} features at the start, ${features} at the end, ${blocks} blocks instrumented\n`,
    )
    if (values.keep) keepCorpus(folder, corpus)
  }
  process.stdout.write(`${names.length - (failed - (itself.found ? 0 : 1))} of ${names.length} targets without a finding\n`)
  process.exit(failed === 0 ? 0 : 1)
}

function keepFinding(name, input) {
  const folder = path.join(HERE, '..', '.cache', 'fuzz')
  mkdirSync(folder, { recursive: true })
  const file = path.join(folder, `${name}-${digestOf(input)}`)
  writeFileSync(file, input)
  return path.relative(process.cwd(), file)
}

function keepCorpus(folder, corpus) {
  if (existsSync(folder)) for (const file of readdirSync(folder)) rmSync(path.join(folder, file))
  for (const input of corpus) writeFileSync(path.join(folder, digestOf(input)), input)
}

function digestOf(input) {
  return createHash('sha256').update(input).digest('hex').slice(0, 16)
}

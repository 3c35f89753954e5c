#!/usr/bin/env node
/**
 * `npm run mutation [-- GROUP …]`: mutation testing of the protocol libraries by Stryker, with per-test coverage, one
 * mutant at a time, and incrementally: what has not changed since the last run is not run again (`--fresh` forgets it; `--summary` runs nothing and shows the last
 * results).
 *
 * The sources are copied to `.cache/mutation/GROUP` first. The links of the workspace lead to the sources without
 * mutants, and nothing that edits the tree meanwhile can disturb a run.
 */
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { onNode24 } from '../tools/process/node24.mjs'

const HERE = import.meta.dirname
const ROOT = path.dirname(HERE)
const CACHE = path.join(ROOT, '.cache', 'mutation')
const LIBRARIES = ['primitives', 'secret-bytes', 'wire', 'ratchet']

if (onNode24()) {
  const { groups } = JSON.parse(readFileSync(path.join(HERE, 'groups.json'), 'utf8'))
  const arguments_ = process.argv.slice(2)
  const wanted = arguments_.filter((one) => !one.startsWith('--'))
  const unknown = wanted.filter((name) => !Object.hasOwn(groups, name))
  if (unknown.length > 0) {
    process.stderr.write(`no group ${unknown.join(', ')}; there are ${Object.keys(groups).join(', ')}\n`)
    process.exit(2)
  }
  const summaryOnly = arguments_.includes('--summary')
  if (!summaryOnly) install()
  let failed = 0
  for (const [name, group] of Object.entries(groups)) {
    if (wanted.length > 0 && !wanted.includes(name)) continue
    const enough = summaryOnly ? summarise(name, group.least) : run(name, group, arguments_.includes('--fresh'))
    if (!enough) failed++
  }
  process.exit(failed === 0 ? 0 : 1)
}

/** Stryker is no dependency of the product: it comes from this folder's lockfile. */
function install() {
  if (existsSync(path.join(HERE, 'node_modules', '@stryker-mutator', 'core', 'package.json'))) return
  process.stdout.write('installing Stryker into mutation/ (once)\n')
  const { status } = spawnSync('npm', ['ci', '--ignore-scripts'], { cwd: HERE, stdio: ['ignore', 'ignore', 'inherit'] })
  if (status !== 0) {
    process.stderr.write('Stryker could not be installed: `npm ci` in mutation/ failed\n')
    process.exit(1)
  }
}

/** @returns whether the score is at least the one that groups.json asks for */
function run(name, group, fresh) {
  const stage = path.join(CACHE, name)
  rmSync(stage, { recursive: true, force: true })
  for (const library of LIBRARIES) {
    for (const part of ['src', 'test', 'package.json']) {
      const from = path.join(ROOT, 'libs', library, part)
      if (existsSync(from)) cpSync(from, path.join(stage, 'libs', library, part), { recursive: true })
    }
  }
  cpSync(path.join(ROOT, 'docs', 'spec', 'vectors'), path.join(stage, 'docs', 'spec', 'vectors'), { recursive: true })
  mkdirSync(path.join(stage, 'mutation'), { recursive: true })
  cpSync(path.join(HERE, 'vitest.config.mts'), path.join(stage, 'mutation', 'vitest.config.mts'))
  writeFileSync(path.join(stage, 'group.json'), JSON.stringify(group))
  cpSync(path.join(ROOT, 'package.json'), path.join(stage, 'package.json'))
  // Without a project of its own vite takes the one of the folder above.
  writeFileSync(
    path.join(stage, 'tsconfig.json'),
    JSON.stringify({ compilerOptions: { target: 'ES2024', module: 'NodeNext', strict: true } }),
  )
  symlinkSync(path.join(ROOT, 'node_modules'), path.join(stage, 'node_modules'))

  const incrementalFile = path.join(CACHE, `${name}.incremental.json`)
  if (fresh) rmSync(incrementalFile, { force: true })
  const report = path.join(CACHE, `${name}.json`)
  const plugin = path.join(HERE, 'node_modules', '@stryker-mutator', 'vitest-runner', 'dist', 'src', 'index.js')
  const config = {
    mutate: [...group.mutate, '!**/*.spec.ts'],
    testRunner: 'vitest',
    plugins: [plugin],
    vitest: { configFile: 'mutation/vitest.config.mts' },
    coverageAnalysis: 'perTest',
    concurrency: 1,
    symlinkNodeModules: false,
    incremental: true,
    incrementalFile,
    reporters: ['progress-append-only', 'json'],
    jsonReporter: { fileName: report },
    timeoutMS: 20_000,
    tempDirName: 'sandbox',
  }
  writeFileSync(path.join(stage, 'stryker.json'), JSON.stringify(config, null, 2))
  process.stdout.write(`\n== mutation: ${name}\n`)
  const stryker = path.join(HERE, 'node_modules', '@stryker-mutator', 'core', 'bin', 'stryker.js')
  const { status } = spawnSync(process.execPath, [stryker, 'run', 'stryker.json'], { cwd: stage, stdio: ['ignore', 'inherit', 'inherit'] })
  if (status !== 0) {
    process.stdout.write(`${name}: Stryker ended with code ${status}\n`)
    return false
  }
  return summarise(name, group.least)
}

function summarise(name, least) {
  const { files } = JSON.parse(readFileSync(path.join(CACHE, `${name}.json`), 'utf8'))
  const all = { killed: 0, survived: 0, words: 0 }
  for (const [file, { source, mutants }] of Object.entries(files)) {
    const lines = source.split('\n')
    const killed = mutants.filter(({ status }) => status === 'Killed' || status === 'Timeout').length
    const alive = mutants.filter(({ status }) => status === 'Survived' || status === 'NoCoverage')
    const left = alive.filter((mutant) => !isWordsOfAnError(mutant, lines))
    all.killed += killed
    all.survived += left.length
    all.words += alive.length - left.length
    process.stdout.write(`${file}: ${killed} killed, ${left.length} survived, ${alive.length - left.length} words of errors\n`)
    for (const { status, location, mutatorName, replacement, static: isStatic } of left) {
      const { line, column } = location.start
      const change = `${mutatorName}: ${(replacement ?? '').replaceAll(/\s+/g, ' ').slice(0, 100)}`
      process.stdout.write(`  ${isStatic ? 'Static ' : ''}${status} ${file}:${line}:${column} ${change}\n`)
    }
  }
  const score = (100 * all.killed) / (all.killed + all.survived)
  const words = `${all.words} words of errors not counted`
  process.stdout.write(`${name}: ${all.killed} killed, ${all.survived} survived, ${words}: ${score.toFixed(1)} % (at least ${least} %)\n`)
  return score >= least
}

/** The text of an error is for people: no contract, and no test, goes by it. */
function isWordsOfAnError({ mutatorName, location: { start, end } }, lines) {
  if (mutatorName !== 'StringLiteral') return false
  const around = lines.slice(Math.max(0, start.line - 2), end.line).join('\n')
  return /Error\(|\b(refuse|broken|fields|onlyKnown|exactly)\(|\bpath\b/.test(around)
}

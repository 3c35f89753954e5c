#!/usr/bin/env node
/**
 * `npm run test:interop`: runs every `interop/<name>/run.mjs` or `run.sh`. Each program prints a line for every check,
 * ends with `N passed, N failed`, and fails with the reason when what it needs (Go, Python) is not there.
 */
import { spawn } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import path from 'node:path'
import { onNode24 } from './process/node24.mjs'

const ROOT = path.resolve(import.meta.dirname, '..')
const FOLDER = path.join(ROOT, 'interop')

if (onNode24()) {
  const only = process.argv.slice(2)
  const found = existsSync(FOLDER)
    ? readdirSync(FOLDER, { withFileTypes: true })
        .filter((entry) => entry.isDirectory() && (only.length === 0 || only.includes(entry.name)))
        .map((entry) => ({
          name: entry.name,
          file: ['run.mjs', 'run.sh'].map((file) => path.join(FOLDER, entry.name, file)).find(existsSync),
        }))
        .filter(({ file }) => file !== undefined)
        .sort((a, b) => (a.name < b.name ? -1 : 1))
    : []
  if (found.length === 0)
    process.stdout.write(
      only.length === 0 ? 'there are no interoperability programs in interop/ yet\n' : `nothing in interop/ is called ${only.join(', ')}\n`,
    )
  let passed = 0
  let failed = only.length > 0 && found.length === 0 ? 1 : 0
  for (const { name, file } of found) {
    process.stdout.write(`\n== interop: ${name}\n`)
    const { code, output } = await run(file)
    const counts = [...output.matchAll(/^(\d+) passed, (\d+) failed$/gm)].at(-1)
    const skipped = /^skipped: /m.test(output)
    passed += Number(counts?.[1] ?? 0)
    const own = Number(counts?.[2] ?? 0)
    failed += own > 0 ? own : code !== 0 || (counts === undefined && !skipped) ? 1 : 0
    if (counts === undefined && !skipped) process.stdout.write(`${name}: no line "N passed, N failed" (exit code ${code})\n`)
  }
  process.stdout.write(`${passed} passed, ${failed} failed\n`)
  process.exit(failed === 0 ? 0 : 1)
}

/** @returns {Promise<{ code: number, output: string }>} */
function run(file) {
  return new Promise((resolve, reject) => {
    const child = spawn(file.endsWith('.sh') ? 'bash' : process.execPath, [file], {
      cwd: path.dirname(file),
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let output = ''
    child.stdout.on('data', (chunk) => {
      output += chunk
      process.stdout.write(chunk)
    })
    child.once('error', reject)
    child.once('close', (code) => resolve({ code: code ?? 1, output }))
  })
}

// Runs test files once and prints a line for each test, as programs under interop/ do.
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'

const ROOT = path.resolve(import.meta.dirname, '../..')

/**
 * @param {readonly string[]} files below the project's folder
 * @param {Record<string, string>} environment added to this process's own
 * @returns {Promise<{ passed: number, failed: number }>} a run that gives no report counts as one failure
 */
export async function runSpecs(files, environment = {}) {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'tallystick-specs-'))
  const report = path.join(folder, 'report.json')
  try {
    const code = await new Promise((resolve, reject) => {
      const vitest = path.join(ROOT, 'node_modules', 'vitest', 'vitest.mjs')
      const child = spawn(process.execPath, [vitest, 'run', ...files, '--reporter=json', `--outputFile=${report}`], {
        cwd: ROOT,
        env: { ...process.env, ...environment },
        stdio: ['ignore', 'inherit', 'inherit'],
      })
      child.once('error', reject)
      child.once('close', resolve)
    })
    const { testResults } = JSON.parse(readFileSync(report, 'utf8'))
    let [passed, failed] = [0, 0]
    for (const { assertionResults, message } of testResults) {
      if (assertionResults.length === 0) {
        failed += 1
        process.stdout.write(`not ok  ${message}\n`)
      }
      for (const { status, fullName, failureMessages } of assertionResults) {
        if (status === 'passed') passed += 1
        else failed += 1
        process.stdout.write(`${status === 'passed' ? 'ok     ' : 'not ok '} ${fullName}\n`)
        for (const text of failureMessages) process.stdout.write(`        ${text.split('\n')[0]}\n`)
      }
    }
    return { passed, failed: failed === 0 && code !== 0 ? 1 : failed }
  } catch (error) {
    if (error.code !== 'ENOENT') throw error
    process.stdout.write('not ok  the test run ended without a report\n')
    return { passed: 0, failed: 1 }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

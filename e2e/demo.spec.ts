/** `npm run demo` as a new user runs it: once on an empty folder, once more on the same, and what it leaves behind. */
import { execFile, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { verifyEvidence } from '@tallystick/merkle-log/evidence-verify'
import { root, until } from './support.ts'

const run = promisify(execFile)
let data: string
beforeAll(() => {
  data = mkdtempSync(path.join(os.tmpdir(), 'tallystick-demo-'))
})
afterAll(() => rmSync(data, { recursive: true, force: true }))

/** Processes whose command line or environment names the folder. */
async function leftBehind(): Promise<string[]> {
  const { stdout } = await run('ps', ['-eo', 'pid,args'])
  return stdout.split('\n').filter((line) => line.includes(data) && !line.includes('ps -eo'))
}

it('demo --once --json succeeds on an empty folder and again on the same, and leaves no process', { timeout: 240_000 }, async () => {
  for (const turn of ['first', 'second']) {
    const { stdout } = await run(process.execPath, ['tools/demo.mjs', '--once', '--json', '--data', data], {
      cwd: root,
      maxBuffer: 8 << 20,
    })
    const report = JSON.parse(stdout)
    expect(report, turn).toMatchObject({ ok: true })
    const evidence = JSON.parse(readFileSync(report.evidence.file, 'utf8'))
    expect(verifyEvidence(evidence).ok).toBe(true)
    expect(await leftBehind()).toEqual([])
  }
})

it('an invoice that is not UBL fails with the reason and a non-zero exit, and leaves no process', { timeout: 120_000 }, async () => {
  const failure = await run(process.execPath, ['tools/demo.mjs', '--once', '--json', '--data', data, '--invoice', 'package.json'], {
    cwd: root,
  }).catch((error: { code: number; stdout: string }) => error)
  expect(failure).toMatchObject({ code: expect.any(Number) })
  expect(JSON.parse(failure.stdout)).toMatchObject({ ok: false, error: expect.stringMatching(/XML|UBL/) })
  expect(await leftBehind()).toEqual([])
})

it('Ctrl-C stops everything', { timeout: 120_000 }, async () => {
  const demo = spawn(process.execPath, ['tools/demo.mjs', '--data', data], { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] })
  let screen = ''
  demo.stdout.on('data', (chunk: Buffer) => (screen += chunk.toString()))
  demo.stderr.on('data', (chunk: Buffer) => (screen += chunk.toString()))
  const ended = new Promise<number | null>((resolve) => demo.once('exit', resolve))
  await until('the demo stays up and names its API', async () => /Ctrl-C/i.test(screen) && /http:\/\//.test(screen), {
    timeoutMs: 90_000,
    detail: () => screen.slice(-500),
  })
  demo.kill('SIGINT')
  await ended
  expect(await leftBehind()).toEqual([])
})

/** The process itself, from dist: alive without the others, drains on SIGTERM, survives NATS and PostgreSQL going away. */
import { spawn, type ChildProcess } from 'node:child_process'
import { createHash } from 'node:crypto'
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { startNats, type TestNats } from '../../../tools/testing/nats.ts'
import { startPostgres, type TestPostgres } from '../../../tools/testing/postgres.ts'
import { freePort } from '../../../tools/process/ports.ts'
import { draftInvoice } from './harness.ts'

const TOKEN = 'a-token-of-this-test'
let postgres: TestPostgres
let nats: TestNats
let secrets: string
let child: ChildProcess
let output = ''
let http: string
let ops: string

beforeAll(async () => {
  ;[postgres, nats] = await Promise.all([startPostgres(), startNats()])
  const fleet = await postgres.createFleet('proc')
  secrets = mkdtempSync(path.join(os.tmpdir(), 'tallystick-secrets-'))
  const secret = (name: string, text: string) => writeFileSync(path.join(secrets, name), text, { mode: 0o400 })
  secret('database-url', fleet.urls.invoice)
  secret(
    'api-tokens.json',
    JSON.stringify([
      {
        name: 'admin',
        scopes: ['documents:read', 'documents:write', 'fleet:read'],
        sha256: createHash('sha256').update(TOKEN).digest('hex'),
      },
    ]),
  )
  copyFileSync(nats.seedFile('invoice-svc'), path.join(secrets, 'nats.nk'))
  const [httpPort, opsPort] = [await freePort(), await freePort()]
  http = `http://127.0.0.1:${httpPort}`
  ops = `http://127.0.0.1:${opsPort}`
  child = spawn(process.execPath, [fileURLToPath(new URL('../dist/main.js', import.meta.url))], {
    env: {
      NODE_ENV: 'test',
      TALLYSTICK_FLEET: 'proc',
      TALLYSTICK_NATS_URL: nats.url,
      TALLYSTICK_SECRETS_DIR: secrets,
      TALLYSTICK_HTTP_PORT: String(httpPort),
      TALLYSTICK_OPS_PORT: String(opsPort),
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  for (const stream of [child.stdout, child.stderr]) stream!.on('data', (chunk: Buffer) => (output += chunk.toString()))
})
afterAll(async () => {
  child?.kill('SIGKILL')
  await nats?.stop()
  await postgres?.stop()
  rmSync(secrets, { recursive: true, force: true })
})

async function until(look: () => Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + 20_000; Date.now() < deadline;) {
    if (await look().catch(() => false)) return
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  throw new Error(`it did not happen in 20 s:\n${output}`)
}
const status = async (url: string, token = TOKEN) => (await fetch(url, { headers: { authorization: `Bearer ${token}` } })).status

it('becomes ready alone, serves what needs nobody else, and says so of what does', async () => {
  await until(async () => (await status(`${ops}/health/ready`)) === 200)
  expect(await status(`${http}/health/ready`)).toBe(200)
  const created = await fetch(`${http}/v1/invoices`, {
    method: 'POST',
    headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' },
    body: JSON.stringify(draftInvoice()),
  })
  expect(created.status).toBe(201)
  const fleet = await fetch(`${http}/v1/fleet`, { headers: { authorization: `Bearer ${TOKEN}` } })
  expect([fleet.status, ((await fleet.json()) as { code: string }).code]).toEqual([503, 'Network'])
  expect((await (await fetch(`${http}/openapi.json`)).json()) as object).toMatchObject({ openapi: '3.1.0' })
  const metrics = await (await fetch(`${ops}/metrics`)).text()
  expect(metrics).toMatch(/tallystick_http_request_duration_seconds_count\{method="POST",route="\/v1\/invoices",status="201"\} 1/)
})

it('lives on without NATS, not ready, and recovers', async () => {
  await nats.kill()
  await until(async () => (await status(`${http}/health/ready`)) === 503)
  expect(await status(`${http}/health/live`)).toBe(200)
  expect(await status(`${http}/v1/invoices`)).toBe(200)
  await nats.restart()
  await until(async () => (await status(`${http}/health/ready`)) === 200)
})

it('ends with 0 on SIGTERM, event streams included, and has logged no token', async () => {
  const stream = await fetch(`${http}/v1/events`, { headers: { authorization: `Bearer ${TOKEN}` } })
  const reader = stream.body!.getReader()
  await reader.read()
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve))
  const begun = Date.now()
  child.kill('SIGTERM')
  for (let done = false; !done;) ({ done } = await reader.read())
  expect(await ended, output).toBe(0)
  expect(Date.now() - begun).toBeLessThan(4_500)
  expect(output).not.toContain(TOKEN)
})

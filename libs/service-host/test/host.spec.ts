import { auditIdentity } from '@tallystick/contracts/audit'
import { spawn, type ChildProcess } from 'node:child_process'
import { chmodSync, copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { startNats, type TestNats } from '../../../tools/testing/nats.ts'
import { startTestService } from '../../nats-rpc/test/bus-fixture.ts'

let nats: TestNats
let directory: string
const children: ChildProcess[] = []

beforeAll(async () => {
  nats = await startNats()
  directory = mkdtempSync(join(tmpdir(), 'tallystick-process-'))
  copyFileSync(nats.seedFile('audit-svc'), join(directory, 'nats.nk'))
  chmodSync(join(directory, 'nats.nk'), 0o400)
})
afterEach(() => {
  for (const child of children.splice(0)) if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
})
afterAll(async () => {
  await nats.stop()
  rmSync(directory, { recursive: true, force: true })
})

function run(mode: string, variables: Record<string, string> = {}) {
  const child = spawn(process.execPath, [fileURLToPath(new URL('fixture-service.mjs', import.meta.url))], {
    env: {
      PATH: process.env.PATH,
      TALLYSTICK_FLEET: 'acme',
      TALLYSTICK_NATS_URL: nats.url,
      TALLYSTICK_SECRETS_DIR: directory,
      TALLYSTICK_OPS_PORT: '0',
      MODE: mode,
      ...variables,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  children.push(child)
  const lines: string[] = []
  const waiting = new Set<() => void>()
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', (line) => {
      lines.push(line)
      for (const resolve of waiting) resolve()
    })
  }
  const ended = new Promise<number | NodeJS.Signals | null>((resolve) => child.once('close', (code, signal) => resolve(code ?? signal)))
  return {
    child,
    lines,
    ended,
    async line(text: string): Promise<string> {
      for (;;) {
        const found = lines.find((line) => line.includes(text))
        if (found !== undefined) return found
        await Promise.race([
          new Promise<void>((resolve) => waiting.add(resolve)),
          ended.then(() => {
            if (!lines.some((line) => line.includes(text))) throw new Error(`ended without "${text}":\n${lines.join('\n')}`)
          }),
        ])
      }
    },
  }
}

it('SIGTERM lets the request in flight answer, runs the own stop, and exits with 0', async () => {
  const service = run('serve')
  await service.line('"msg":"ready"')
  const caller = startTestService(nats, 'invoice-svc')
  await caller.bus.whenConnected()
  const call = caller.rpc.call(auditIdentity, {})
  await service.line('entered')
  service.child.kill('SIGTERM')
  await service.line('"msg":"stopping"')
  service.child.kill('SIGUSR2')
  expect(await call).toEqual({ ok: true, publicKey: new Uint8Array(32).fill(9) })
  expect(await service.ended).toBe(0)
  expect(service.lines.slice(-2).map((line) => (line.startsWith('{') ? (JSON.parse(line) as { msg: string }).msg : line))).toEqual([
    'own stop',
    'stopped',
  ])
  await caller.close()
})

it('a second signal ends it at once', async () => {
  const service = run('serve')
  await service.line('"msg":"ready"')
  const caller = startTestService(nats, 'invoice-svc')
  await caller.bus.whenConnected()
  const call = caller.rpc.call(auditIdentity, {}, { timeoutMs: 500 }).catch((error: unknown) => error)
  await service.line('entered')
  service.child.kill('SIGINT')
  await service.line('"msg":"stopping"')
  service.child.kill('SIGINT')
  expect(await service.ended).toBe(1)
  expect(await call).toMatchObject({ code: 'Network' })
  await caller.close()
})

it.each([
  ['reject', 'unhandled rejection', 'nobody handles this'],
  ['throw', 'uncaught exception', 'thrown in a callback'],
  ['fatal', 'fatal', 'the log would fork'],
  ['fail', 'the service cannot start', 'cannot start'],
])('mode %s is logged once as "%s" and ends the process with 1', async (mode, message, text) => {
  const service = run(mode)
  expect(await service.ended).toBe(1)
  const fatal = service.lines
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .filter((line) => line.level === 'fatal')
  expect(fatal).toHaveLength(1)
  expect(fatal[0]).toMatchObject({ msg: message, errorMessage: text, exitCode: 1, service: 'audit-svc' })
})

it('an environment that is not complete ends it with 1 and names the variables, not the values', async () => {
  const service = run('swordfish', { TALLYSTICK_OPS_PORT: 'hunter2' })
  expect(await service.ended).toBe(1)
  const text = service.lines.join('\n')
  for (const name of ['MODE', 'TALLYSTICK_OPS_PORT']) expect(text).toContain(name)
  for (const value of ['swordfish', 'hunter2']) expect(text).not.toContain(value)
})

it('stops cleanly while NATS has never been there', async () => {
  const service = run('serve', { TALLYSTICK_NATS_URL: 'nats://127.0.0.1:1' })
  await service.line('operations endpoint listens')
  service.child.kill('SIGTERM')
  expect(await service.ended).toBe(0)
})

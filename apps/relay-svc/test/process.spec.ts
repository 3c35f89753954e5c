/** The service as it is run: its own process, a real NATS server, a real PostgreSQL, and kill -9. */
import { invoiceDeliver, invoiceRelayProgress } from '@tallystick/contracts/invoice'
import { relayIdentity, relaySend, relaySetPeer } from '@tallystick/contracts/relay'
import { decodeBus, encodeBus } from '@tallystick/nats-rpc/codec'
import { connectBus } from '@tallystick/nats-rpc/connection'
import { ServiceClient } from '@tallystick/nats-rpc/client'
import { spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Registry } from 'prom-client'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startNats, type TestNats } from '../../../tools/testing/nats.ts'
import { fleetIdOf, message, sha256hex, sharedPostgres, startRelay, stopPostgres, until, type TestRelay } from './harness.ts'

const MAIN = path.resolve(import.meta.dirname, '../dist/main.js')
const quiet = { debug() {}, info() {}, warn() {}, error() {} } as never

let nats: TestNats
let globex: TestRelay
let directory: string
let service: ChildProcess
let opsUrl: string
let output = ''
const reported = new Map<string, string>()

async function launch(): Promise<void> {
  const env = {
    PATH: process.env.PATH,
    TALLYSTICK_FLEET: 'acme',
    TALLYSTICK_NATS_URL: nats.url,
    TALLYSTICK_SECRETS_DIR: directory,
    TALLYSTICK_OPS_PORT: opsUrl.split(':').at(-1),
    TALLYSTICK_P2P_PORT: String(p2pPort),
    TALLYSTICK_RELAY_BACKOFF_FIRST_MS: '50',
    TALLYSTICK_RELAY_POLL_MS: '200',
    LOG_LEVEL: 'info',
  }
  service = spawn(process.execPath, [MAIN], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  for (const stream of [service.stdout!, service.stderr!])
    stream.on('data', (chunk: Buffer) => {
      output += chunk.toString()
    })
  await until(
    () =>
      fetch(`${opsUrl}/health/ready`).then(
        (r) => r.ok,
        () => false,
      ),
    'relay-svc to be ready',
    20_000,
  ).catch((error: unknown) => {
    throw new Error(`${(error as Error).message}\n${output}`)
  })
}
let p2pPort: number

async function freePort(): Promise<number> {
  const { createServer } = await import('node:net')
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', () => resolve()))
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return port
}

const ended = (child: ChildProcess): Promise<number | null> =>
  new Promise((resolve) =>
    child.exitCode !== null || child.signalCode !== null ? resolve(child.exitCode) : child.once('exit', (code) => resolve(code)),
  )
let invoice: { client: ServiceClient; close(): Promise<void> }

beforeAll(async () => {
  nats = await startNats()
  globex = await startRelay('globex')
  directory = mkdtempSync(path.join(tmpdir(), 'tallystick-relay-'))
  const { urls } = await (await sharedPostgres()).createFleet(`acme-process-${process.pid}`)
  const secret = (name: string, bytes: Uint8Array | string) => writeFileSync(path.join(directory, name), bytes, { mode: 0o400 })
  secret('database-url', urls.relay)
  secret('transport.seed', randomBytes(32))
  copyFileSync(nats.seedFile('relay-svc'), path.join(directory, 'nats.nk'))
  opsUrl = `http://127.0.0.1:${await freePort()}`
  p2pPort = await freePort()
  const bus = connectBus({
    url: nats.url,
    seedFile: nats.seedFile('invoice-svc'),
    service: 'invoice-svc',
    name: 'test',
    log: quiet,
    metrics: new Registry(),
  })
  const connection = await bus.whenConnected()
  const client = new ServiceClient({ bus, service: 'invoice-svc', metrics: new Registry() })
  // invoice-svc's half of the contracts: takes everything, remembers the reports.
  for (const contract of [invoiceDeliver, invoiceRelayProgress]) {
    connection.subscribe(contract.subject, {
      queue: 'invoice-svc',
      callback: (_, msg) => {
        const { items } = contract.request.parse(decodeBus(msg.data)) as unknown as {
          items: { messageId: string; state: string; envelopeDigest: Uint8Array }[]
        }
        if (contract === invoiceRelayProgress) for (const item of items) reported.set(item.messageId, item.state)
        msg.respond(
          encodeBus(
            contract === invoiceDeliver
              ? { items: items.map((i) => ({ outcome: 'taken', envelopeDigest: i.envelopeDigest })) }
              : { ok: true },
          ),
        )
      },
    })
  }
  invoice = {
    client,
    close: async () => {
      client.close()
      await bus.close()
    },
  }
  await launch()
})

afterAll(async () => {
  service?.kill('SIGKILL')
  await globex?.stop()
  await invoice?.close()
  await nats?.stop()
  await stopPostgres()
  if (directory !== undefined) rmSync(directory, { recursive: true })
})

describe('relay-svc', () => {
  it('answers on the bus, and sends', async () => {
    const identity = await invoice.client.call(relayIdentity, {})
    expect(identity.multiaddrs).toContainEqual(`/ip4/127.0.0.1/tcp/${p2pPort}/p2p/${identity.peerId}`)
    const acmeId = fleetIdOf('acme process')
    await globex.relay.setPeer({ fleetId: acmeId, peerIds: [identity.peerId], multiaddrs: identity.multiaddrs, state: 'allowed' })
    const there = globex.relay.identity()
    expect(
      await invoice.client.call(relaySetPeer, {
        fleetId: globex.fleetId,
        peerIds: [there.peerId],
        multiaddrs: there.multiaddrs,
        state: 'allowed',
      }),
    ).toEqual({ ok: true })
    const sent = message(globex)
    expect(await invoice.client.call(relaySend, { items: [sent] })).toMatchObject({ items: [{ ok: true }] })
    await until(() => globex.fleet.delivered.length === 1, 'the delivery')
    await until(() => reported.get(sent.messageId) === 'stored', 'the report')
    const metrics = await (await fetch(`${opsUrl}/metrics`)).text()
    for (const name of ['tallystick_handshakes_total', 'tallystick_rate_limited_total', 'tallystick_relay_queue_depth'])
      expect(metrics).toContain(name)
  })

  it('killed with -9 in the middle, three times, loses none and doubles none', async () => {
    const before = globex.fleet.delivered.length
    const sent = Array.from({ length: 192 }, () => message(globex, 30_000))
    for (let round = 0; round < 3; round++) {
      const items = sent.slice(round * 64, round * 64 + 64)
      await until(
        () =>
          invoice.client.call(relaySend, { items }).then(
            (answer) => answer.items.every((item) => item.ok),
            () => false,
          ),
        'a call to pass',
      )
      const target = before + round * 64 + 5
      await until(() => globex.fleet.delivered.length >= target, 'some of them')
      service.kill('SIGKILL')
      await ended(service)
      await launch()
    }
    await until(() => sent.every((m) => reported.get(m.messageId) === 'stored'), 'all reported')
    await until(() => globex.fleet.delivered.length >= before + 192, 'all delivered')
    expect(
      globex.fleet.delivered
        .slice(before)
        .map((d) => sha256hex(d.envelope))
        .sort(),
    ).toEqual(sent.map((m) => sha256hex(m.envelope)).sort())
  }, 90_000)

  it('stays alive without NATS, and goes on when it is back', async () => {
    await nats.kill()
    await until(() => fetch(`${opsUrl}/health/ready`).then((r) => !r.ok), 'not ready')
    expect((await fetch(`${opsUrl}/health/live`)).ok).toBe(true)
    await nats.restart()
    await until(() => fetch(`${opsUrl}/health/ready`).then((r) => r.ok), 'ready again')
    const sent = message(globex)
    await until(
      () =>
        invoice.client.call(relaySend, { items: [sent] }).then(
          (r) => r.items[0]!.ok,
          () => false,
        ),
      'a call to pass',
    )
    await until(() => reported.get(sent.messageId) === 'stored', 'the report')
  })

  it('ends with 0 on SIGTERM, and names a port that it cannot have', async () => {
    service.kill('SIGTERM')
    expect(await ended(service)).toBe(0)
    const { createServer } = await import('node:net')
    const squatter = createServer()
    await new Promise<void>((resolve) => squatter.listen(p2pPort, '127.0.0.1', () => resolve()))
    output = ''
    await expect(launchFails()).resolves.toBe(1)
    expect(output).toMatch(/EADDRINUSE|listen/)
    await new Promise((resolve) => squatter.close(resolve))
  })
})

async function launchFails(): Promise<number | null> {
  void launch().catch(() => undefined)
  await until(() => output.length > 0, 'output')
  return ended(service)
}

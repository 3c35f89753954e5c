/** Peers that are away, connections that break, replicas that compete: nothing is lost, nothing arrives twice. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer, connect, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { message, pin, sha256hex, startRelay, stopPostgres, until, type TestRelay } from './harness.ts'

const running = new Set<{ stop(): Promise<unknown> }>()
const start = async (...args: Parameters<typeof startRelay>): Promise<TestRelay> => {
  const relay = await startRelay(...args)
  running.add(relay)
  return relay
}
const stop = async (relay: TestRelay): Promise<void> => {
  running.delete(relay)
  await relay.stop()
}
afterEach(async () => {
  await Promise.all([...running].map((r) => r.stop()))
  running.clear()
})
afterAll(stopPostgres)

/** A TCP proxy that cuts connections after a number of bytes, or when told to. */
class CuttingProxy {
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  cutAfterBytes = Infinity
  cuts = 0
  readonly port: Promise<number>

  constructor(target: number) {
    this.#server = createServer((client) => {
      const upstream = connect(target, '127.0.0.1')
      let passed = 0
      for (const [from, to] of [
        [client, upstream],
        [upstream, client],
      ] as const) {
        this.#sockets.add(from)
        from
          .on('error', () => to.destroy())
          .on('close', () => {
            this.#sockets.delete(from)
            to.destroy()
          })
        from.on('data', (chunk) => {
          passed += chunk.length
          if (passed > this.cutAfterBytes) {
            this.cuts += 1
            client.destroy()
            upstream.destroy()
          } else to.write(chunk)
        })
      }
    })
    this.port = new Promise((resolve) =>
      this.#server.listen(0, '127.0.0.1', () => resolve((this.#server.address() as { port: number }).port)),
    )
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  async stop(): Promise<void> {
    this.cut()
    await new Promise((resolve) => this.#server.close(resolve))
  }
}

const digests = (items: { envelope: Uint8Array }[]): string[] => items.map((i) => sha256hex(i.envelope)).sort()

describe('a peer that is removed', () => {
  it('leaves nothing queued, not even what another replica took meanwhile', async () => {
    const acme = await start('acme')
    const globex = await start('globex')
    await pin(acme, globex, { state: 'removed' })
    const { messageId, fleetId, envelope } = message(globex)
    const digest = Buffer.from(sha256hex(envelope), 'hex')
    await acme.db.outbound.create({ data: { messageId, fleetId, envelope, digest, size: envelope.length } })
    await until(() => acme.fleet.progressOf(messageId).some((p) => p.state === 'refused'), 'its end')
  })
})

describe('changes of peers', () => {
  it('are noticed even when the one that commits last began first', async () => {
    const acme = await start('acme')
    const globex = await start('globex')
    const initech = await start('initech')
    await pin(acme, globex)
    await pin(acme, initech)
    await acme.db.$executeRaw`UPDATE peer SET updated_at = now() + interval '1 s' WHERE fleet_id = ${initech.fleetId}`
    const other = await acme.relay.peer(globex.fleetId)
    expect(other.ok).toBe(true)
    await until(() => acme.relay.allowList.loaded, 'the list')
    await acme.relay.allowList.refresh(true)
    await acme.db.$executeRaw`UPDATE peer SET state = 'blocked', updated_at = clock_timestamp() WHERE fleet_id = ${globex.fleetId}`
    await until(() => acme.relay.allowList.fleet(globex.fleetId)?.state === 'blocked', 'the block', 3_000)
  })
})

describe('a peer that is away', () => {
  it('leaves messages waiting with a cause, and gets them after it is back', async () => {
    const acme = await start('acme')
    let globex = await start('globex')
    await pin(acme, globex)
    await pin(globex, acme)
    await stop(globex)
    const sent = [message(globex), message(globex)]
    await acme.relay.send({ items: sent })
    await until(() => sent.every((m) => acme.fleet.progressOf(m.messageId).some((p) => p.state === 'waiting')), 'reports')
    await until(() => acme.fleet.progressOf(sent[0]!.messageId).some((p) => p.cause.includes('connection refused')), 'the cause')
    const report = acme.fleet.progressOf(sent[0]!.messageId).findLast((p) => p.state === 'waiting')!
    expect(report).toMatchObject({ code: 'Network', cause: `the peer cannot be reached at 127.0.0.1:${globex.port}: connection refused` })
    expect(report.attempts).toBeGreaterThan(0)
    expect(report.nextAttemptAt).toBeGreaterThanOrEqual(report.at)
    expect(await acme.relay.peer(globex.fleetId)).toMatchObject({
      ok: true,
      connected: false,
      queued: 2,
      lastError: expect.stringContaining('connection refused'),
    })
    globex = await globex.restart()
    running.add(globex)
    await until(() => globex.fleet.delivered.length === 2, 'the delivery')
    expect(digests(globex.fleet.delivered)).toEqual(digests(sent))
    await until(() => sent.every((m) => acme.fleet.progressOf(m.messageId).some((p) => p.state === 'stored')), 'stored')
    expect(await acme.relay.peer(globex.fleetId)).toMatchObject({ lastError: null, nextAttemptAt: null, queued: 0 })
  })

  it('opens its circuit after five failures; its coming back is used at once all the same', async () => {
    const acme = await start('acme', { limits: { peerBreakerFailures: 5, peerBreakerResetMs: 600_000 } })
    let globex = await start('globex')
    await pin(acme, globex)
    await pin(globex, acme)
    await stop(globex)
    const sent = message(globex)
    await acme.relay.send({ items: [sent] })
    await until(async () => (await acme.metric('breaker_state', { target: `peer:${globex.fleetId}` })) === 2, 'an open circuit')
    await until(
      () => acme.fleet.progressOf(sent.messageId).some((p) => p.nextAttemptAt > Date.now() + 500_000),
      'a report with the time of the probe',
    )
    expect(acme.fleet.progressOf(sent.messageId).at(-1)!.cause).toContain('connection refused')
    await until(
      async () => (await acme.db.auditOutbox.findMany()).some((row) => (row.event as { type: string }).type === 'BreakerStateChanged'),
      'an audit event',
    )
    globex = await globex.restart()
    running.add(globex)
    await until(() => globex.fleet.delivered.length === 1, 'the delivery over the connection that globex opened', 5_000)
  })

  it('that has not allowed us is named as such', async () => {
    const acme = await start('acme')
    const globex = await start('globex')
    await pin(acme, globex)
    const sent = message(globex)
    await acme.relay.send({ items: [sent] })
    await until(() => acme.fleet.progressOf(sent.messageId).length > 0, 'a report')
    expect(acme.fleet.progressOf(sent.messageId)[0]!.cause).toMatch(/may not have allowed this relay yet/)
    await pin(globex, acme)
    await until(() => globex.fleet.delivered.length === 1, 'the delivery once allowed')
  })

  it('without an address waits for it to connect', async () => {
    const acme = await start('acme')
    const globex = await start('globex')
    await pin(acme, globex, { multiaddrs: [] })
    const sent = message(globex)
    await acme.relay.send({ items: [sent] })
    await until(() => acme.fleet.progressOf(sent.messageId).some((p) => p.cause.includes('no address')), 'a report')
    await pin(globex, acme)
    await until(() => globex.fleet.delivered.length === 1, 'the delivery')
  })

  it('falls back to the next address', async () => {
    const acme = await start('acme', { quic: true })
    const globex = await start('globex', { quic: true })
    await pin(globex, acme, { multiaddrs: [] })
    await pin(acme, globex, {
      multiaddrs: ['/ip4/127.0.0.1/tcp/1', ...globex.relay.identity().multiaddrs.filter((a) => a.includes('quic'))],
    })
    await acme.relay.send({ items: [message(globex)] })
    await until(() => globex.fleet.delivered.length === 1, 'the delivery')
    expect(await acme.relay.peer(globex.fleetId)).toMatchObject({ transport: 'quic' })
  })

  it('when it is removed, what waits is refused and reported', async () => {
    const acme = await start('acme')
    const globex = await start('globex')
    await pin(acme, globex, { multiaddrs: ['/ip4/127.0.0.1/tcp/1'] })
    const sent = message(globex)
    await acme.relay.send({ items: [sent] })
    await pin(acme, globex, { state: 'removed' })
    await until(() => acme.fleet.progressOf(sent.messageId).some((p) => p.state === 'refused'), 'a final report')
    expect(acme.fleet.progressOf(sent.messageId).at(-1)).toMatchObject({ code: 'UnauthorizedPeer' })
  })
})

describe('a connection that breaks', () => {
  it('again and again in the middle of frames loses nothing and doubles nothing', async () => {
    const acme = await start('acme')
    const globex = await start('globex')
    const proxy = new CuttingProxy(globex.port)
    running.add(proxy)
    proxy.cutAfterBytes = 150_000
    await pin(globex, acme, { multiaddrs: [] })
    await pin(acme, globex, { multiaddrs: [`/ip4/127.0.0.1/tcp/${await proxy.port}`] })
    const sent = Array.from({ length: 60 }, (_, i) => message(globex, i % 10 === 0 ? 60_000 : 5_000))
    await acme.relay.send({ items: sent })
    await until(() => globex.fleet.delivered.length >= 60, 'all delivered', 25_000)
    expect(proxy.cuts).toBeGreaterThan(1)
    await until(() => sent.every((m) => acme.fleet.progressOf(m.messageId).some((p) => p.state === 'stored')), 'all reported')
    expect(digests(globex.fleet.delivered)).toEqual(digests(sent))
    expect(await globex.db.inbound.count()).toBe(60)
  })

  it('when a frame is always too large for it does not hold up the smaller ones', async () => {
    const acme = await start('acme')
    const globex = await start('globex', { limits: { frameBodyBytes: 10_000 } })
    await pin(globex, acme)
    await pin(acme, globex)
    const sent = [message(globex, 20_000), message(globex), message(globex)]
    await acme.relay.send({ items: sent })
    await until(() => globex.fleet.delivered.length === 2, 'the two small ones')
    await until(
      () => acme.fleet.progressOf(sent[0]!.messageId).some((p) => p.state === 'waiting' && p.code === 'QuotaExceeded'),
      'the cause',
    )
  })

  it('a relay killed while sending (its memory gone) sends again after its restart', async () => {
    const acme = await start('acme')
    const globex = await start('globex')
    await pin(globex, acme)
    await pin(acme, globex)
    const sent = Array.from({ length: 64 }, () => message(globex, 20_000))
    await acme.relay.send({ items: sent })
    await until(() => globex.fleet.delivered.length > 0, 'the first')
    await stop(acme)
    running.add(await acme.restart())
    await until(() => globex.fleet.delivered.length >= 64, 'all delivered')
    await until(() => sent.every((m) => acme.fleet.progressOf(m.messageId).some((p) => p.state === 'stored')), 'all reported')
    expect(digests(globex.fleet.delivered)).toEqual(digests(sent))
  })
})

describe('sending', () => {
  it('is idempotent by message id, and refuses other bytes under the same id', async () => {
    const acme = await start('acme')
    const globex = await start('globex')
    await pin(globex, acme)
    await pin(acme, globex)
    const one = message(globex)
    const first = await acme.relay.send({ items: [one] })
    expect(await acme.relay.send({ items: [one] })).toEqual(first)
    await until(() => globex.fleet.delivered.length === 1, 'the delivery')
    expect(await acme.relay.send({ items: [one, { ...message(globex), messageId: one.messageId }] })).toMatchObject({
      items: [{ ok: true }, { ok: false, code: 'Conflict' }],
    })
    expect(globex.fleet.delivered).toHaveLength(1)
  })

  it('is refused above the queue quota of the peer', async () => {
    const acme = await start('acme', { limits: { outboundQueueBytesPerPeer: 5_000 } })
    const globex = await start('globex')
    await pin(acme, globex, { multiaddrs: ['/ip4/127.0.0.1/tcp/1'] })
    const answer = await acme.relay.send({ items: [message(globex), message(globex), message(globex)] })
    expect(answer.items.map((i) => i.ok)).toEqual([true, true, false])
    expect(answer.items[2]).toMatchObject({ code: 'QuotaExceeded' })
    await until(async () => (await acme.metric('relay_queue_depth', { queue: 'outbound' })) === 2, 'the depth in the metrics')
  })

  it('waits as long as the peer asks it to', async () => {
    const acme = await start('acme')
    const globex = await start('globex', { limits: { peerMessagesPerMinute: 60 } })
    await pin(globex, acme)
    await pin(acme, globex)
    const sent = Array.from({ length: 63 }, () => message(globex))
    await acme.relay.send({ items: sent })
    await until(
      () => sent.some((m) => acme.fleet.progressOf(m.messageId).some((p) => p.state === 'waiting' && p.code === 'RateLimited')),
      'a report',
    )
    await until(() => globex.fleet.delivered.length === 63, 'all delivered in the end')
  })

  it('by two replicas over one database: each envelope arrives once', async () => {
    const acme = await start('acme')
    const second = await start('acme', { db: acme.db, fleet: acme.fleet, owner: 'test:second', fleetId: acme.fleetId, seed: acme.seed })
    const globex = await start('globex')
    await pin(globex, acme)
    await pin(acme, globex)
    await until(() => second.relay.allowList.fleet(globex.fleetId) !== undefined, 'the other replica to notice')
    const sent = Array.from({ length: 60 }, () => message(globex))
    await Promise.all([acme.relay.send({ items: sent.slice(0, 30) }), second.relay.send({ items: sent.slice(30) })])
    await until(() => globex.fleet.delivered.length >= 60, 'all delivered')
    expect(digests(globex.fleet.delivered)).toEqual(digests(sent))
    expect(await globex.metric('relay_envelopes_total', { direction: 'in', outcome: 'duplicate' })).toBe(0)
    await stop(acme)
    await second.relay.send({ items: [message(globex)] })
    await until(() => globex.fleet.delivered.length === 61, 'the other replica takes over')
  })

  it('is seen on the wire tap, with digests only', async () => {
    const directory = mkdtempSync(path.join(tmpdir(), 'tallystick-tap-'))
    const file = path.join(directory, 'tap.jsonl')
    const acme = await start('acme', { tap: file })
    const globex = await start('globex')
    await pin(globex, acme)
    await pin(acme, globex)
    const sent = message(globex)
    await acme.relay.send({ items: [sent] })
    await until(() => globex.fleet.delivered.length === 1, 'the delivery')
    await stop(acme)
    const lines = readFileSync(file, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as object)
    expect(lines).toEqual([
      {
        at: expect.any(Number),
        service: 'relay-svc',
        direction: 'out',
        peer: globex.fleetId,
        epoch: null,
        chain: null,
        ct: sha256hex(sent.envelope),
      },
    ])
    rmSync(directory, { recursive: true })
  })
})

describe('bundles', () => {
  it('are fetched over the authenticated connection', async () => {
    const acme = await start('acme')
    const globex = await start('globex')
    await pin(globex, acme)
    await pin(acme, globex)
    const answers = await Promise.all(Array.from({ length: 5 }, () => acme.relay.fetchBundle(globex.fleetId)))
    expect(answers.every((a) => a.ok && a.bundle.length === 1000)).toBe(true)
    expect(globex.fleet.of('session.v1.takeBundle')).toEqual(Array(5).fill({ forFleetId: acme.fleetId }))
    globex.fleet.bundle = () => ({ ok: false, code: 'NotReady', message: 'no certificate yet', retryAfterMs: 500 })
    expect(await acme.relay.fetchBundle(globex.fleetId)).toMatchObject({ ok: false, code: 'NotReady', retryAfterMs: 500 })
    globex.fleet.bundle = () => {
      throw new Error('away')
    }
    expect(await acme.relay.fetchBundle(globex.fleetId)).toMatchObject({ ok: false, code: 'NotReady' })
  })

  it('are refused with Network and a time when the peer is away', async () => {
    const acme = await start('acme')
    const globex = await start('globex')
    await pin(acme, globex, { multiaddrs: ['/ip4/127.0.0.1/tcp/1'] })
    expect(await acme.relay.fetchBundle(globex.fleetId)).toMatchObject({
      ok: false,
      code: 'Network',
      message: expect.stringContaining('connection refused'),
      retryAfterMs: expect.any(Number),
    })
  })
})

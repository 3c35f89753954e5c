/** What an allowed peer may do on a stream, and what happens when it does more. */
import { randomBytes } from 'node:crypto'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { decodeHopReceipt, encodeFrameHead } from '../src/frames.js'
import type { Limits } from '../src/limits.js'
import { pinRaw, RawPeer, sha256hex, startRelay, stopPostgres, until, type TestRelay } from './harness.ts'

const running: { stop(): Promise<unknown> }[] = []
afterEach(async () => {
  await Promise.all(running.splice(0).map((r) => r.stop()))
})
afterAll(stopPostgres)

async function setUp(
  limits: Partial<Limits> = {},
  options: { hello?: boolean } = {},
): Promise<{ relay: TestRelay; peer: RawPeer; seed: Uint8Array; fleetId: string }> {
  const relay = await startRelay('acme', { limits })
  running.push(relay)
  const seed = randomBytes(32)
  const fleetId = await pinRaw(relay, seed, 'hand-driven')
  const peer = await RawPeer.connect(relay, { seed, ...options })
  running.push(peer)
  return { relay, peer, seed, fleetId }
}

const header = (seq: number) => ({ t: 'envelope' as const, seq })

describe('a duplicate', () => {
  it('gets the identical receipt bytes: at once, later, on another stream, and after a restart', async () => {
    const { relay, peer, seed } = await setUp()
    const envelope = randomBytes(5_000)
    await Promise.all([peer.send(header(1), envelope), peer.send(header(2), envelope)])
    const first = await peer.next('receipt')
    const second = await peer.next('receipt')
    expect([first.header, second.header]).toEqual([
      expect.objectContaining({ seq: 1, status: 'stored' }),
      expect.objectContaining({ seq: 2, status: 'duplicate' }),
    ])
    expect(Buffer.from(decodeHopReceipt(first.body).digest).toString('hex')).toBe(sha256hex(envelope))
    await until(() => relay.fleet.delivered.length === 1, 'the delivery')
    await peer.send(header(3), envelope)
    const third = await peer.next('receipt')
    await peer.stop()
    await relay.stop()
    const again = await relay.restart()
    running.splice(0, 2, again)
    const later = await RawPeer.connect(again, { seed })
    running.push(later)
    await later.send(header(1), envelope)
    const fourth = await later.next('receipt')
    expect(fourth.header).toMatchObject({ status: 'duplicate' })
    for (const copy of [second, third, fourth]) expect(Buffer.from(copy.body)).toEqual(Buffer.from(first.body))
    await later.send(header(2), randomBytes(10))
    await later.next('receipt')
    await until(() => relay.fleet.delivered.length === 2, 'the other delivery')
    expect(await relay.db.inbound.count()).toBe(2)
  })

  it('is stored before it is acknowledged', async () => {
    const { relay, peer, fleetId } = await setUp()
    relay.fleet.deliver = () => {
      throw new Error('away')
    }
    const envelope = randomBytes(100)
    await peer.send(header(1), envelope)
    const receipt = await peer.next('receipt')
    const row = await relay.db.inbound.findUniqueOrThrow({
      where: { fleetId_digest: { fleetId, digest: Buffer.from(sha256hex(envelope), 'hex') } },
    })
    expect(Buffer.from(row.receipt)).toEqual(Buffer.from(receipt.body))
    expect(Buffer.from(row.envelope!)).toEqual(envelope)
  })
})

describe('hostile frames', () => {
  it.each<[string, string, (peer: RawPeer) => void]>([
    [
      'a body above the limit, from its prefix alone',
      'QuotaExceeded',
      (peer) => peer.stream.send(encodeFrameHead(header(1), 4_259_841).subarray(0, 6)),
    ],
    ['4 GiB announced', 'QuotaExceeded', (peer) => peer.stream.send(Buffer.from('000affffffff', 'hex'))],
    ['a header above the limit', 'Serialization', (peer) => peer.stream.send(Buffer.from('ffff00000000', 'hex'))],
    [
      '1 MiB of noise',
      'Serialization',
      (peer) => peer.stream.send(Buffer.concat([Buffer.from('010000000000', 'hex'), Buffer.alloc(1_048_576, 0x9b)])),
    ],
    [
      'a CBOR nesting bomb as header',
      'Serialization',
      (peer) => peer.stream.send(Buffer.concat([Buffer.from('020000000000', 'hex'), Buffer.alloc(512, 0x81)])),
    ],
    [
      'a frame of the other role',
      'Serialization',
      (peer) => peer.stream.send(encodeFrameHead({ t: 'receipt', seq: 1, status: 'stored' }, 0)),
    ],
    ['a second hello', 'Serialization', (peer) => peer.stream.send(encodeFrameHead({ t: 'hello', v: 1, bytes: 1, frames: 1 }, 0))],
  ])('%s: the stream is closed with its reason, quickly, and the next one works', async (_, code, attack) => {
    const { relay, peer, seed } = await setUp()
    const began = performance.now()
    attack(peer)
    expect(await peer.closed()).toMatchObject({ byPeer: true, code })
    expect(performance.now() - began).toBeLessThan(1_000)
    expect(await relay.metric('relay_streams_cut_total', { code })).toBe(1)
    const next = await RawPeer.connect(relay, { seed })
    running.push(next)
    await next.send(header(1), randomBytes(10))
    await next.next('receipt')
    expect(await relay.db.inbound.count()).toBe(1)
  })

  it('an empty envelope is refused for good', async () => {
    const { peer } = await setUp()
    await peer.send(header(1))
    expect((await peer.next('refusal')).header).toMatchObject({ code: 'Serialization', retryAfterMs: null })
  })

  it('another version is named', async () => {
    const { peer } = await setUp({}, { hello: false })
    await peer.send({ t: 'hello', v: 2, bytes: 1, frames: 1 })
    expect(await peer.closed()).toMatchObject({ code: 'UnsupportedVersion' })
  })

  it('an envelope of the largest size passes', async () => {
    const { relay, peer } = await setUp()
    const envelope = randomBytes(4 * 1024 * 1024 + 64 * 1024)
    await peer.send(header(1), envelope)
    await peer.next('receipt')
    await until(() => relay.fleet.delivered.length === 1, 'the delivery')
    expect(sha256hex(relay.fleet.delivered[0]!.envelope)).toBe(sha256hex(envelope))
  })
})

describe('time limits', () => {
  it('no hello: HandshakeTimeout', async () => {
    const { peer } = await setUp({ helloTimeoutMs: 100 }, { hello: false })
    expect(await peer.closed()).toMatchObject({ code: 'HandshakeTimeout' })
  })

  it('a stream that has said hello lives on beyond the time for it', async () => {
    const { peer } = await setUp({ helloTimeoutMs: 100, idleTimeoutMs: 600 })
    expect(await peer.closed()).toMatchObject({ code: 'IdleTimeout' })
  })

  it('a frame that trickles: ReadTimeout, counted from its first byte', async () => {
    const { peer } = await setUp({ readTimeoutMs: 300 })
    const began = performance.now()
    const bytes = Buffer.concat([encodeFrameHead(header(1), 1_000), Buffer.alloc(1_000)])
    let at = 0
    const trickle = setInterval(() => {
      if (peer.end === undefined) peer.stream.send(bytes.subarray(at, ++at))
    }, 20)
    expect(await peer.closed()).toMatchObject({ code: 'ReadTimeout' })
    clearInterval(trickle)
    expect(performance.now() - began).toBeLessThan(2_000)
  })

  it('silence: IdleTimeout, and the sender just opens another stream', async () => {
    const { relay, peer, seed } = await setUp({ idleTimeoutMs: 300 })
    expect(await peer.closed()).toMatchObject({ code: 'IdleTimeout' })
    expect(relay.logs.filter((line) => line.level === 'warn' || line.level === 'error')).toEqual([])
    const next = await RawPeer.connect(relay, { seed })
    running.push(next)
    await next.send(header(1), randomBytes(10))
    await next.next('receipt')
  })
})

describe('quotas of one peer', () => {
  it('messages a minute: RateLimited with the time to wait', async () => {
    const { relay, peer, fleetId } = await setUp({ peerMessagesPerMinute: 3 })
    for (let i = 0; i < 4; i++) await peer.send(header(i), randomBytes(10))
    await until(() => peer.frames.length === 4, 'four answers')
    expect(peer.frames.filter((f) => f.header.t === 'receipt')).toHaveLength(3)
    const refusal = peer.frames.find((f) => f.header.t === 'refusal')!.header as { seq: number; code: string; retryAfterMs: number }
    expect(refusal.seq).toBe(3)
    expect(refusal.code).toBe('RateLimited')
    expect(refusal.retryAfterMs).toBeGreaterThan(15_000)
    expect(await relay.metric('rate_limited_total', { layer: 'peer-messages' })).toBe(1)
    await until(async () => (await relay.db.auditOutbox.findMany()).length > 0, 'an audit event')
    expect((await relay.db.auditOutbox.findFirstOrThrow()).event).toMatchObject({
      type: 'RateLimitTriggered',
      body: { layer: 'peer-messages', peer: fleetId, count: 1 },
    })
  })

  it('bytes a minute', async () => {
    const { relay, peer } = await setUp({ peerBytesPerMinute: 1_000 })
    await peer.send(header(1), randomBytes(900))
    await peer.next('receipt')
    await peer.send(header(2), randomBytes(900))
    expect((await peer.next('refusal')).header).toMatchObject({ seq: 2, code: 'RateLimited' })
    expect(await relay.metric('rate_limited_total', { layer: 'peer-bytes' })).toBe(1)
  })

  it('bytes that wait for delivery: QuotaExceeded, but a duplicate still gets its receipt', async () => {
    const { relay, peer } = await setUp({ inboundQueueBytesPerPeer: 1_000 })
    relay.fleet.deliver = (items) => ({
      items: items.map((i) => ({ outcome: 'retry', envelopeDigest: i.envelopeDigest, code: 'NotReady' })),
    })
    const first = randomBytes(900)
    await peer.send(header(1), first)
    await peer.next('receipt')
    await peer.send(header(2), randomBytes(900))
    expect((await peer.next('refusal')).header).toMatchObject({ seq: 2, code: 'QuotaExceeded', retryAfterMs: 5_000 })
    await peer.send(header(3), first)
    expect((await peer.next('receipt')).header).toMatchObject({ seq: 3, status: 'duplicate' })
    expect(await relay.db.inbound.count()).toBe(1)
  })

  it('more in flight than the window allows closes the stream', async () => {
    const { peer } = await setUp({ windowFrames: 4 })
    const one = Buffer.concat([encodeFrameHead(header(1), 10), Buffer.alloc(10)])
    peer.stream.send(Buffer.concat(Array.from({ length: 50 }, () => one)))
    expect(await peer.closed()).toMatchObject({ code: 'QuotaExceeded' })
  })

  it('answers that it does not read: the stream is closed', async () => {
    const { relay, peer } = await setUp({ unreadAnswerBytes: 10_000, peerBundlesPerMinute: 1 })
    peer.stream.pause()
    const asked = encodeFrameHead({ t: 'bundle-request', seq: 1 }, 0)
    peer.stream.send(Buffer.concat(Array.from({ length: 60_000 }, () => asked)))
    await until(() => relay.metric('relay_streams_cut_total', { code: 'QuotaExceeded' }), 'the cut')
  })

  it('bundles a minute', async () => {
    const { relay, peer } = await setUp({ peerBundlesPerMinute: 2 })
    for (let seq = 0; seq < 3; seq++) await peer.send({ t: 'bundle-request', seq })
    await until(() => peer.frames.length === 3, 'three answers')
    const answers = peer.frames.sort((a, b) => (a.header as { seq: number }).seq - (b.header as { seq: number }).seq)
    expect(answers.map((f) => f.header.t)).toEqual(['bundle', 'bundle', 'refusal'])
    expect([...answers[0]!.body]).toEqual(Array(1000).fill(7))
    expect(answers[2]!.header).toMatchObject({ code: 'RateLimited' })
    expect(await relay.metric('rate_limited_total', { layer: 'bundle' })).toBe(1)
    expect(relay.fleet.of('session.v1.takeBundle')).toHaveLength(2)
  })

  it('the database away: the peer is asked to come back, and then it is stored', async () => {
    const { relay, peer } = await setUp()
    const original = relay.db.$queryRaw
    Object.defineProperty(relay.db, '$queryRaw', {
      value: () => {
        throw new Error('database is away')
      },
      configurable: true,
      writable: true,
    })
    const envelope = randomBytes(10)
    await peer.send(header(1), envelope)
    expect((await peer.next('refusal')).header).toMatchObject({ code: 'NotReady', retryAfterMs: 1_000 })
    Object.defineProperty(relay.db, '$queryRaw', { value: original, configurable: true, writable: true })
    await peer.send(header(2), envelope)
    expect((await peer.next('receipt')).header).toMatchObject({ status: 'stored' })
  })
})

/** Who gets in: the allow-list, the handshake limits, and that neither depends on good behaviour. */
import { randomBytes } from 'node:crypto'
import { connect, type Socket } from 'node:net'
import { multiaddr } from '@multiformats/multiaddr'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { addressOf, message, peerIdOf, pin, pinRaw, rawNode, RawPeer, startRelay, stopPostgres, until, type TestRelay } from './harness.ts'
import { RELAY_PROTOCOL } from '../src/frames.js'

const running: { stop(): unknown }[] = []
const start = async (...args: Parameters<typeof startRelay>): Promise<TestRelay> => {
  const relay = await startRelay(...args)
  running.push(relay)
  return relay
}
const sockets: Socket[] = []
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy()
  await Promise.all(running.splice(0).map((r) => r.stop()))
})
afterAll(stopPostgres)

/** A TCP client that says nothing. */
function silent(relay: TestRelay, localAddress: string): Promise<{ socket: Socket; openMs: Promise<number> }> {
  return new Promise((resolve) => {
    const began = performance.now()
    const socket = connect({ host: '127.0.0.1', port: relay.port, localAddress })
    sockets.push(socket)
    const openMs = new Promise<number>((done) => socket.on('close', () => done(performance.now() - began)))
    socket.on('error', () => undefined).on('data', () => undefined) // a reset is one way of being refused
    for (const event of ['connect', 'close']) socket.once(event, () => resolve({ socket, openMs }))
  })
}

/** Dial as an unknown PeerId, and try to open a stream with all one's might. */
async function knock(relay: TestRelay, transport: 'tcp' | 'quic' = 'tcp', localAddress?: string): Promise<string> {
  const node = await rawNode(transport, randomBytes(32), localAddress)
  try {
    const connection = await node.dial(multiaddr(addressOf(relay, transport)), { signal: AbortSignal.timeout(5_000) })
    const stream = await connection.newStream(RELAY_PROTOCOL, { signal: AbortSignal.timeout(3_000) })
    stream.send(new Uint8Array(100))
    return 'in'
  } catch (error) {
    return (error as Error).name
  } finally {
    await node.stop()
  }
}

describe('an unknown PeerId', () => {
  it.each(['tcp', 'quic'] as const)('never reaches a stream handler over %s', async (transport) => {
    const relay = await start('acme', { quic: true })
    expect(relay.relay.node.quic).toBe(true)
    for (let i = 0; i < 3; i++) expect(await knock(relay, transport)).not.toBe('in')
    await until(async () => (await relay.metric('handshakes_total', { outcome: 'unauthorized' })) === 3, 'three refusals counted')
    expect(await relay.metric('relay_streams_total')).toBe(0)
    expect(await relay.metric('handshakes_total', { outcome: 'accepted' })).toBe(0)
    const events = async () =>
      (await relay.db.auditOutbox.findMany()).map(
        (row) => row.event as { type: string; body: { reason: string; client: string; count: number } },
      )
    await until(async () => (await events()).reduce((sum, e) => sum + e.body.count, 0) === 3, 'audit events for the three')
    expect(
      (await events()).every((e) => e.type === 'AuthFailed' && e.body.reason === 'unknown-peer' && e.body.client.startsWith('12D3KooW')),
    ).toBe(true)
  })

  it('gets in as soon as it is allowed, and is cut at once when it is blocked', async () => {
    const relay = await start('acme')
    const seed = randomBytes(32)
    const fleetId = await pinRaw(relay, seed, 'later blocked')
    const peer = await RawPeer.connect(relay, { seed })
    running.push(peer)
    expect(await relay.metric('handshakes_total', { outcome: 'accepted' })).toBe(1)
    const peerIds = [await peerIdOf(seed)]
    await relay.relay.setPeer({ fleetId, peerIds, multiaddrs: [], state: 'blocked' })
    await peer.closed()
    await until(() => peer.connection.status !== 'open', 'the connection to be cut')
    await expect(RawPeer.connect(relay, { seed })).rejects.toThrow()
    expect(await relay.metric('handshakes_total', { outcome: 'blocked' })).toBe(1)
    expect(await relay.relay.fetchBundle(fleetId)).toMatchObject({ ok: false, code: 'PeerBlocked' })
    await relay.relay.setPeer({ fleetId, peerIds, multiaddrs: [], state: 'allowed' })
    running.push(await RawPeer.connect(relay, { seed }))
  })

  it('is refused while the allow-list cannot be read (fail closed)', async () => {
    const relay = await start('acme')
    const seed = randomBytes(32)
    await pinRaw(relay, seed, 'in the database')
    const down = await relay.stop().then(() =>
      startRelay('acme', {
        seed: relay.seed,
        port: relay.port,
        db: new Proxy(relay.db, {
          get: (target, key) => {
            if (key === '$queryRaw') throw new Error('database is away')
            return Reflect.get(target, key)
          },
        }),
      }),
    )
    running.splice(0, 1, down)
    expect(down.relay.allowList.loaded).toBe(false)
    await expect(RawPeer.connect(down, { seed })).rejects.toThrow()
  })
})

describe('a wrong PeerId', () => {
  it.each(['tcp', 'quic'] as const)('at the dialled %s address is refused, and says so', async (transport) => {
    const acme = await start('acme', { quic: true })
    const imposter = await start('imposter', { quic: true })
    await pinRaw(imposter, acme.seed, 'acme')
    const expected = randomBytes(32)
    const address = addressOf(imposter, transport).replace(/\/p2p\/.*/, '')
    const fleetId = await pinRaw(acme, expected, 'the genuine one', [address])
    const envelope = { ...message(imposter), fleetId }
    await acme.relay.send({ items: [envelope] })
    await until(() => acme.fleet.progressOf(envelope.messageId).length > 0, 'a report')
    expect(acme.fleet.progressOf(envelope.messageId)[0]).toMatchObject({
      state: 'waiting',
      code: 'InvalidPeerId',
      cause: expect.stringContaining('another key answers there'),
    })
    expect(imposter.fleet.delivered).toHaveLength(0)
    expect(await imposter.metric('relay_streams_total')).toBe(0)
  })
})

describe('handshake limits', () => {
  it('5 a minute and address: the 6th is closed before any handshake', async () => {
    const relay = await start('acme')
    const held: Awaited<ReturnType<typeof silent>>[] = []
    for (let i = 0; i < 5; i++) held.push(await silent(relay, '127.0.0.5'))
    const sixth = await silent(relay, '127.0.0.5')
    expect(await sixth.openMs).toBeLessThan(1_000)
    expect(held.every(({ socket }) => !socket.destroyed)).toBe(true)
    expect(await relay.metric('rate_limited_total', { layer: 'handshake' })).toBe(1)
    expect(await relay.metric('handshakes_total', { outcome: 'rate-limited' })).toBe(1)
    await until(
      async () => (await relay.db.auditOutbox.findMany()).some((row) => (row.event as { type: string }).type === 'RateLimitTriggered'),
      'an audit event',
    )
    // An allowed peer from elsewhere is not concerned.
    const seed = randomBytes(32)
    await pinRaw(relay, seed, 'a friend')
    running.push(await RawPeer.connect(relay, { seed }))
  })

  it('100 in all: unknown addresses are refused, a known one is not', async () => {
    const relay = await start('acme', { limits: { handshakesUnknown: 20 } })
    const seed = randomBytes(32)
    await pinRaw(relay, seed, 'a friend', [`/ip4/127.0.0.1/tcp/9`])
    for (let i = 0; i < 25; i++) await silent(relay, `127.0.1.${i}`)
    await until(async () => (await relay.metric('rate_limited_total', { layer: 'handshake' })) === 5, 'five refused')
    await expect(RawPeer.connect(relay, { seed, localAddress: '127.0.2.1' })).rejects.toThrow()
    running.push(await RawPeer.connect(relay, { seed }))
  })

  it('a known address is remembered over a restart of the relay', async () => {
    let relay = await start('acme', { limits: { handshakesUnknown: 5 } })
    const seed = randomBytes(32)
    await pinRaw(relay, seed, 'a friend that moves')
    const first = await RawPeer.connect(relay, { seed, localAddress: '127.0.3.3' })
    running.push(first)
    await until(async () => (await relay.db.peerAddress.count()) === 1, 'the address to be stored')
    await relay.stop()
    relay = await relay.restart()
    running.splice(0, 1, relay)
    for (let i = 0; i < 6; i++) await silent(relay, `127.0.1.${i}`)
    running.push(await RawPeer.connect(relay, { seed, localAddress: '127.0.3.3' }))
  })

  it('a hostile neighbour on the same address slows an allowed peer, but does not lock it out', async () => {
    const relay = await start('acme', { limits: { reservedHandshakeIntervalMs: 100 } })
    const seed = randomBytes(32)
    await pinRaw(relay, seed, 'a friend behind the same NAT', ['/ip4/127.0.0.1/tcp/9'])
    for (let i = 0; i < 8; i++) await silent(relay, '127.0.0.1')
    expect(await relay.metric('rate_limited_total', { layer: 'handshake' })).toBeGreaterThan(0)
    await until(
      () =>
        RawPeer.connect(relay, { seed }).then(
          (peer) => running.push(peer),
          () => false,
        ),
      'the friend to get in',
      5_000,
    )
  })

  it('an unfinished handshake is cut at its timeout', async () => {
    const relay = await start('acme', { limits: { handshakeTimeoutMs: 300 } })
    const loris = await silent(relay, '127.0.0.6')
    // A byte now and then does not help: the deadline is for the whole.
    const trickle = setInterval(() => {
      if (!loris.socket.destroyed) loris.socket.write(Buffer.of(0x13))
    }, 50)
    const open = await loris.openMs
    clearInterval(trickle)
    expect(open).toBeGreaterThan(200)
    expect(open).toBeLessThan(3_000)
    await until(async () => (await relay.metric('handshakes_total', { outcome: 'timeout' })) === 1, 'a timeout counted')
    const gone = await silent(relay, '127.0.0.6')
    gone.socket.end()
    await until(async () => (await relay.metric('handshakes_total', { outcome: 'failed' })) === 1, 'a failure counted')
  })

  it('unfinished handshakes from unknown addresses are bounded', async () => {
    const relay = await start('acme', { limits: { pendingHandshakes: 10, handshakesUnknown: 1000 } })
    const all: Awaited<ReturnType<typeof silent>>[] = []
    for (let i = 0; i < 15; i++) all.push(await silent(relay, `127.0.1.${i}`))
    await until(() => all.filter(({ socket }) => socket.destroyed).length === 5, 'five closed at once')
  })

  it('a newer connection of a peer replaces the oldest above the cap', async () => {
    const relay = await start('acme', { limits: { connectionsPerPeer: 2 } })
    const seed = randomBytes(32)
    await pinRaw(relay, seed, 'reconnects')
    const peers: RawPeer[] = []
    for (let i = 0; i < 3; i++) peers.push(await RawPeer.connect(relay, { seed }))
    running.push(...peers)
    await until(() => peers[0]!.connection.status !== 'open', 'the oldest to be closed')
    expect(peers.slice(1).every((p) => p.connection.status === 'open')).toBe(true)
  })

  it('connections in all are bounded', async () => {
    const relay = await start('acme', { limits: { connections: 2, connectionsPerPeer: 10 } })
    const seed = randomBytes(32)
    await pinRaw(relay, seed, 'many')
    running.push(await RawPeer.connect(relay, { seed }), await RawPeer.connect(relay, { seed }))
    await expect(RawPeer.connect(relay, { seed })).rejects.toThrow()
    expect(await relay.metric('handshakes_total', { outcome: 'over-capacity' })).toBe(1)
  })

  it('a connection without a stream is closed when it has been idle', async () => {
    const relay = await start('acme', { limits: { idleTimeoutMs: 200 } })
    const seed = randomBytes(32)
    await pinRaw(relay, seed, 'silent friend')
    const node = await rawNode('tcp', seed)
    running.push(node)
    const connection = await node.dial(multiaddr(addressOf(relay)))
    await until(() => connection.status !== 'open', 'the idle connection to be closed', 5_000)
    expect(await relay.metric('relay_streams_cut_total', { code: 'IdleTimeout' })).toBe(1)
  })
})

describe('setPeer', () => {
  it('refuses what cannot be meant', async () => {
    const relay = await start('acme')
    const other = await start('globex')
    await pin(relay, other)
    const peerIds = [await peerIdOf(randomBytes(32))]
    const base = { fleetId: relay.fleetId, peerIds, multiaddrs: [] as string[], state: 'allowed' as const }
    expect(await relay.relay.setPeer({ ...base, multiaddrs: ['/ip4/127.0.0.1/udp/1'] })).toMatchObject({
      ok: false,
      code: 'InvalidRequest',
    })
    expect(await relay.relay.setPeer({ ...base, peerIds: [relay.relay.node.peerId] })).toMatchObject({ ok: false, code: 'InvalidPeerId' })
    expect(await relay.relay.setPeer({ ...base, peerIds: [other.relay.node.peerId] })).toMatchObject({ ok: false, code: 'Conflict' })
    expect(await relay.relay.peer(relay.fleetId)).toMatchObject({ ok: false, code: 'NotFound' })
    expect(await relay.relay.send({ items: [message(relay)] })).toMatchObject({ items: [{ ok: false, code: 'UnauthorizedPeer' }] })
    expect(await relay.relay.fetchBundle(relay.fleetId)).toMatchObject({ ok: false, code: 'UnauthorizedPeer' })
  })
})

/** Limits that a peer which behaves well never meets: what happens when it falls silent, and what is remembered of it. */
import { multiaddr } from '@multiformats/multiaddr'
import { randomBytes } from 'node:crypto'
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { AllowList } from '../src/allow-list.js'
import { encodeFrameHead, encodeHopReceipt, RELAY_PROTOCOL, type Frame } from '../src/frames.js'
import { limitsFrom, type Limits } from '../src/limits.js'
import { FrameLink } from '../src/link.js'
import { ADDRESSES_KEPT_PER_PEER, PeersStore } from '../src/peers.store.js'
import { SecurityEvents } from '../src/security-events.js'
import {
  addressOf,
  fleetIdOf,
  message,
  pin,
  pinRaw,
  rawNode,
  RawPeer,
  sha256hex,
  startRelay,
  stopPostgres,
  until,
  type TestRelay,
} from './harness.ts'

const running: { stop(): unknown }[] = []
const start = async (...args: Parameters<typeof startRelay>): Promise<TestRelay> => {
  const relay = await startRelay(...args)
  running.push(relay)
  return relay
}
afterEach(async () => {
  await Promise.all(running.splice(0).map((r) => r.stop()))
})
afterAll(stopPostgres)

/** A receiver driven by hand: connects to the relay, lets it open a stream, and answers what the test says. */
class SilentReceiver {
  readonly envelopes: { seq: number; bytes: Uint8Array; link: FrameLink }[] = []
  readonly ends: { code: string | null }[] = []
  bundleRequests = 0
  /** Called for each envelope. */
  onEnvelope: () => void = () => undefined

  static async connect(relay: TestRelay, windowBytes = 10_000_000): Promise<{ receiver: SilentReceiver; fleetId: string }> {
    const seed = randomBytes(32)
    const fleetId = await pinRaw(relay, seed, 'silent receiver')
    const receiver = new SilentReceiver()
    const node = await rawNode('tcp', seed)
    running.push(node)
    await node.handle(RELAY_PROTOCOL, (stream) => {
      const link: FrameLink = new FrameLink(stream, limitsFrom(), (frame) => receiver.#frame(link, frame, windowBytes))
      void link.closed.then((end) => receiver.ends.push(end))
    })
    await node.dial(multiaddr(addressOf(relay)))
    await until(async () => ((await relay.relay.peer(fleetId)) as { connected?: boolean }).connected, 'the connection')
    return { receiver, fleetId }
  }

  #frame(link: FrameLink, { header, body }: Frame, windowBytes: number): void {
    if (header.t === 'hello') void link.send({ t: 'hello', v: 1, bytes: windowBytes, frames: 64 })
    if (header.t === 'bundle-request') this.bundleRequests += 1
    if (header.t !== 'envelope') return
    this.envelopes.push({ seq: header.seq, bytes: body, link })
    this.onEnvelope()
  }

  /** Receipts for all that has arrived. */
  acknowledge(): void {
    for (const { seq, bytes, link } of this.envelopes.splice(0)) {
      const receipt = encodeHopReceipt({ digest: Buffer.from(sha256hex(bytes), 'hex'), receivedAt: 1_795_000_000_000 })
      if (link.open) void link.send({ t: 'receipt', seq, status: 'stored' }, receipt)
    }
  }
}

describe('a receiver that asks to wait', () => {
  it('is not offered the rest of the queue meanwhile', async () => {
    const relay = await start('acme', { limits: { backoffMaxMs: 60_000 } })
    const { receiver, fleetId } = await SilentReceiver.connect(relay)
    const seen: number[] = []
    receiver.onEnvelope = () => {
      for (const { seq, link } of receiver.envelopes.splice(0)) {
        seen.push(performance.now())
        if (link.open) void link.send({ t: 'refusal', seq, code: 'RateLimited', retryAfterMs: 1_000 })
      }
    }
    for (let i = 0; i < 3; i++) await relay.relay.send({ items: Array.from({ length: 64 }, () => to(fleetId, 100)) })
    await until(() => performance.now() - (seen.at(-1) ?? Infinity) > 500, 'the pause')
    // The answers to the first window can cross a second one.
    expect(seen.length).toBeLessThanOrEqual(128)
    expect(relay.fleet.calls.filter((call) => call.subject === 'invoice.v1.relayProgress').length).toBeLessThan(seen.length)
  })
})

const to = (fleetId: string, size?: number): ReturnType<typeof message> => message({ fleetId } as TestRelay, size)

describe('a receiver that falls silent', () => {
  it('with envelopes unacknowledged: the stream is given up, they are sent again and arrive once', async () => {
    const acme = await start('acme', { limits: { receiptTimeoutMs: 300 } })
    const { receiver, fleetId } = await SilentReceiver.connect(acme)
    const sent = to(fleetId)
    await acme.relay.send({ items: [sent] })
    await until(() => acme.fleet.progressOf(sent.messageId).some((p) => p.code === 'ReadTimeout'), 'a report')
    expect(acme.fleet.progressOf(sent.messageId).find((p) => p.code === 'ReadTimeout')).toMatchObject({
      state: 'waiting',
      cause: 'this relay closed the connection: no receipt in time',
    })
    expect(receiver.ends[0]).toMatchObject({ code: 'ReadTimeout' })
    // The same envelope once more, on another stream.
    receiver.onEnvelope = () => receiver.acknowledge()
    await until(() => acme.fleet.progressOf(sent.messageId).some((p) => p.state === 'stored'), 'the receipt')
  })

  it('gives no bundle: the answer comes in time and says so', async () => {
    const acme = await start('acme', { limits: { bundleTimeoutMs: 300 } })
    const { receiver, fleetId } = await SilentReceiver.connect(acme)
    const began = performance.now()
    expect(await acme.relay.fetchBundle(fleetId)).toMatchObject({
      ok: false,
      code: 'Network',
      message: 'the peer did not answer in time',
      retryAfterMs: expect.any(Number),
    })
    expect(performance.now() - began).toBeGreaterThanOrEqual(290)
    expect(receiver.bundleRequests).toBe(1)
  })
})

describe('the window in bytes', () => {
  it('of a receiver is never exceeded by our sender', async () => {
    const acme = await start('acme')
    const { receiver, fleetId } = await SilentReceiver.connect(acme, 5_000)
    let most = 0
    let arrived = 0
    receiver.onEnvelope = () => {
      arrived += 1
      const held = receiver.envelopes.reduce((sum, one) => sum + one.bytes.length, 0)
      most = Math.max(most, held)
      // A receipt once no further envelope fits: whatever follows before it is beyond the window.
      if (held + 2_000 > 5_000) setImmediate(() => receiver.acknowledge())
    }
    const sent = Array.from({ length: 10 }, () => to(fleetId, 2_000))
    await acme.relay.send({ items: sent })
    await until(() => sent.every((m) => acme.fleet.progressOf(m.messageId).some((p) => p.state === 'stored')), 'all receipts')
    expect({ most, arrived }).toEqual({ most: 4_000, arrived: 10 })
  })

  it('more unacknowledged bytes than the window allows closes the stream', async () => {
    const relay = await start('acme', { limits: { windowBytes: 1_000 } })
    const seed = randomBytes(32)
    await pinRaw(relay, seed, 'hand-driven')
    const peer = await RawPeer.connect(relay, { seed })
    running.push(peer)
    await peer.send({ t: 'envelope', seq: 1 }, randomBytes(1_000))
    await peer.next('receipt')
    const one = Buffer.concat([encodeFrameHead({ t: 'envelope', seq: 2 }, 600), Buffer.alloc(600)])
    peer.stream.send(Buffer.concat([one, one]))
    expect(await peer.closed()).toMatchObject({ byPeer: true, code: 'QuotaExceeded' })
  })
})

describe('an address that accepts and says nothing', () => {
  /** Takes connections, and never sends a byte. */
  class Mute {
    readonly #sockets = new Set<Socket>()
    readonly #server: Server = createServer((socket) => {
      this.connections += 1
      this.#sockets.add(socket.on('error', () => socket.destroy()))
    })
    connections = 0

    async listen(): Promise<string> {
      running.push(this)
      await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve))
      return `/ip4/127.0.0.1/tcp/${(this.#server.address() as AddressInfo).port}`
    }

    async stop(): Promise<void> {
      for (const socket of this.#sockets) socket.destroy()
      await new Promise((resolve) => this.#server.close(resolve))
    }
  }

  const dialled = async (limits: Partial<Limits>, mutes: Mute[]): Promise<{ acme: TestRelay; globex: TestRelay }> => {
    // A pause that no test outlasts: each address is tried in one attempt only.
    const acme = await start('acme', { limits: { backoffFirstMs: 600_000, backoffMaxMs: 600_000, ...limits } })
    const globex = await start('globex')
    const addresses = await Promise.all(mutes.map((mute) => mute.listen()))
    await pin(globex, acme, { multiaddrs: [] })
    await pin(acme, globex, { multiaddrs: [...addresses, ...(mutes.length === 1 ? globex.relay.identity().multiaddrs : [])] })
    return { acme, globex }
  }

  it('is given up, and the next one is tried', async () => {
    const mute = new Mute()
    const { acme, globex } = await dialled({ dialAddressTimeoutMs: 300, dialTimeoutMs: 60_000 }, [mute])
    await acme.relay.send({ items: [message(globex)] })
    await until(() => globex.fleet.delivered.length === 1, 'the delivery')
    expect(mute.connections).toBe(1)
  })

  it('is named as the cause, with the time it had', async () => {
    const { acme, globex } = await dialled({ dialAddressTimeoutMs: 300, dialTimeoutMs: 60_000 }, [new Mute(), new Mute()])
    expect(await acme.relay.fetchBundle(globex.fleetId)).toMatchObject({
      ok: false,
      code: 'Network',
      message: expect.stringMatching(/no answer within 0\.3 s$/),
    })
  })

  it('leaves no time for a third one when all together have used theirs up', async () => {
    const mutes = [new Mute(), new Mute(), new Mute()]
    const { acme } = await dialled({ dialAddressTimeoutMs: 300, dialTimeoutMs: 500 }, mutes)
    await until(() => acme.logs.some((line) => line.text === 'peer not reached'), 'the end of the attempt')
    expect(mutes[0]!.connections).toBe(1)
    expect(mutes[2]!.connections).toBe(0)
  })
})

describe('a replica that died for good', () => {
  it('holds a peer until its lease has run out, and not longer', async () => {
    const acme = await start('acme')
    const globex = await start('globex')
    await pin(globex, acme)
    await pin(acme, globex)
    expect(await new PeersStore(acme.db).lease(globex.fleetId, 'test:dead', 1_500)).toBe(true)
    const { leaseUntil } = await acme.db.peer.findUniqueOrThrow({ where: { fleetId: globex.fleetId } })
    const arrived = Promise.withResolvers<number>()
    globex.fleet.deliver = (items) => {
      arrived.resolve(Date.now())
      return { items: items.map((item) => ({ outcome: 'taken', envelopeDigest: item.envelopeDigest })) }
    }
    await acme.relay.send({ items: [message(globex)] })
    expect((await arrived.promise) - leaseUntil!.getTime()).toBeGreaterThanOrEqual(0)
    expect(await acme.db.peer.findUniqueOrThrow({ where: { fleetId: globex.fleetId } })).toMatchObject({ leaseOwner: 'test:acme' })
  })
})

describe('what is remembered', () => {
  it('of the addresses of a peer are the eight that were new last', async () => {
    const { db } = await start('acme')
    const fleetId = fleetIdOf('a peer that moves')
    const store = new PeersStore(db)
    await store.replace({ fleetId, state: 'allowed', multiaddrs: ['/ip4/198.51.100.1/tcp/4001'], peerIds: ['a'] })
    const list = new AllowList(store)
    await list.refresh()
    const addresses = Array.from({ length: ADDRESSES_KEPT_PER_PEER + 4 }, (_, i) => `203.0.113.${i}`)
    for (const address of addresses) {
      expect(list.learnAddress(fleetId, address)).toBe(true)
      await store.rememberAddress(fleetId, address)
    }
    const known = () => ['198.51.100.1', ...addresses].filter((address) => list.isKnownAddress(address))
    // At once, and after the list has been read again.
    expect(known()).toEqual(['198.51.100.1', ...addresses.slice(4)])
    await list.refresh(true)
    expect(known()).toEqual(['198.51.100.1', ...addresses.slice(4)])
    expect(await db.peerAddress.count({ where: { fleetId } })).toBe(ADDRESSES_KEPT_PER_PEER)
  })

  it('of clients that knock are sixteen names in a window; the others are counted together', async () => {
    const { db } = await start('acme')
    const security = new SecurityEvents({
      db,
      clock: { now: () => 1_795_000_000_000 },
      limits: { auditWindowMs: 3_600_000 },
      log: { error: (fields) => expect.unreachable(JSON.stringify(fields)) },
      written: () => undefined,
    })
    for (let round = 0; round < 2; round++)
      for (let client = 0; client < 40; client++) security.authFailed('unknown-peer', `12D3KooW${client}`)
    await security.flush()
    const bodies = (await db.auditOutbox.findMany({ orderBy: { id: 'asc' } })).map(
      (row) => (row.event as { body: { client?: string; count: number } }).body,
    )
    expect(bodies.map((body) => body.client)).toEqual([...Array.from({ length: 16 }, (_, i) => `12D3KooW${i}`), undefined])
    expect(bodies.map((body) => body.count)).toEqual([...Array<number>(16).fill(2), 48])
  })
})

/** How a fleet's certificate reaches the relays of its peers, and what a peer may do on that protocol. */
import { randomBytes } from 'node:crypto'
import { multiaddr } from '@multiformats/multiaddr'
import type { Stream } from '@libp2p/interface'
import type { Libp2p } from 'libp2p'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { CERTIFICATE_PROTOCOL } from '../src/certificate-stream.js'
import { RELAY_PROTOCOL } from '../src/frames.js'
import { limitsFrom, type Limits } from '../src/limits.js'
import { FrameLink } from '../src/link.js'
import { addressOf, FakeFleet, message, pin, pinRaw, rawNode, startRelay, stopPostgres, until, type TestRelay } from './harness.ts'

const running: { stop(): unknown }[] = []
afterEach(async () => {
  await Promise.all(running.splice(0).map((r) => r.stop()))
})
afterAll(stopPostgres)

const SOON: Partial<Limits> = { certificatePollMs: 50, peerCertificatesPerMinute: 1_000 }
const certificateOf = (name: string) => new Uint8Array(Buffer.from(`certificate of ${name}`))

async function relayWith(name: string, limits: Partial<Limits> = SOON): Promise<TestRelay> {
  const fleet = new FakeFleet()
  fleet.certificate = certificateOf(name)
  const relay = await startRelay(name, { limits, fleet })
  running.push(relay)
  return relay
}

/** What a relay has been shown, as text. */
const shown = (relay: TestRelay) =>
  (relay.fleet.of('session.v1.offerCertificate') as { fleetId: string; certificate: Uint8Array }[]).map(({ fleetId, certificate }) => ({
    fleetId,
    text: Buffer.from(certificate).toString(),
  }))

async function pair(): Promise<[TestRelay, TestRelay]> {
  const [acme, globex] = [await relayWith('acme'), await relayWith('globex')]
  await pin(acme, globex)
  await pin(globex, acme)
  await until(() => shown(acme).length > 0 && shown(globex).length > 0, 'both certificates')
  return [acme, globex]
}

describe('the own certificate', () => {
  it('reaches the peer on the first connection, for the fleet whose key was proved, both ways', async () => {
    const [acme, globex] = await pair()
    expect(shown(globex)[0]).toEqual({ fleetId: acme.fleetId, text: 'certificate of acme' })
    expect(shown(acme)[0]).toEqual({ fleetId: globex.fleetId, text: 'certificate of globex' })
  })

  it('is shown again when it has changed, and not while it stays the same', async () => {
    const [acme, globex] = await pair()
    const looks = () => acme.fleet.of('session.v1.fleet').length
    const before = looks()
    const seen = shown(globex).length
    await until(() => looks() > before + 3, 'three looks')
    expect(shown(globex)).toHaveLength(seen)
    acme.fleet.certificate = certificateOf('acme, renewed')
    await until(() => shown(globex).at(-1)!.text === 'certificate of acme, renewed', 'the new certificate')
    expect(shown(globex)).toHaveLength(seen + 1)
  })

  it('is shown on every new connection, and brings one about when it has changed', async () => {
    const [acme, globex] = await pair()
    const cut = async () => {
      for (const side of [acme, globex]) {
        const other = side === acme ? globex : acme
        side.relay.node.cut([other.relay.identity().peerId], 'cut by the test')
      }
      await until(() => acme.relay.node.connections([globex.relay.identity().peerId]).length === 0, 'no connection')
    }
    await cut()
    acme.fleet.certificate = certificateOf('acme, renewed')
    await until(() => shown(globex).some((item) => item.text === 'certificate of acme, renewed'), 'the new certificate')
    await cut()
    const seen = shown(globex).length
    const item = message(globex)
    await acme.relay.send({ items: [item] })
    await until(() => shown(globex).length > seen, 'the certificate again')
  })

  it('that the peer cannot take now is shown again, one that it refuses is not', async () => {
    const [acme, globex] = await pair()
    const looks = () => acme.fleet.of('session.v1.fleet').length
    let refusals = 0
    globex.fleet.offer = () => (++refusals < 3 ? { ok: false, code: 'NotReady', message: 'starting' } : { ok: true, outcome: 'adopted' })
    acme.fleet.certificate = certificateOf('acme, later')
    await until(() => refusals === 3, 'the third showing')
    globex.fleet.offer = () => ({ ok: false, code: 'IdentityChanged', message: 'does not follow' })
    acme.fleet.certificate = certificateOf('acme, forged')
    await until(() => shown(globex).at(-1)!.text === 'certificate of acme, forged', 'the forged one')
    const seen = shown(globex).length
    const before = looks()
    await until(() => looks() > before + 3, 'three looks')
    expect(shown(globex)).toHaveLength(seen)
    globex.fleet.offer = () => {
      throw new Error('away')
    }
    acme.fleet.certificate = certificateOf('acme, while away')
    await until(() => shown(globex).filter((item) => item.text === 'certificate of acme, while away').length > 1, 'a repetition')
  })

  it('is not known yet while session-svc is away, and is shown when it has come', async () => {
    const [acme, globex] = [await relayWith('acme', { certificatePollMs: 20 }), await relayWith('globex')]
    acme.fleet.certificate = undefined
    await acme.stop()
    const again = await acme.restart()
    running.push(again)
    await pin(again, globex)
    await pin(globex, again)
    await until(() => shown(again).length > 0, 'the other direction')
    acme.fleet.certificate = certificateOf('acme')
    await until(() => shown(globex).length > 0, 'the certificate')
  })

  it('a relay of an earlier version is not harmed: it takes envelopes as before', async () => {
    const acme = await relayWith('acme')
    const seed = randomBytes(32)
    const fleetId = await pinRaw(acme, seed, 'earlier version')
    const node = await rawNode('tcp', seed)
    running.push(node)
    const got: number[] = []
    await node.handle(RELAY_PROTOCOL, (stream) => {
      const link = new FrameLink(stream, limitsFrom(), (frame) => {
        if (frame.header.t === 'hello') void link.send({ t: 'hello', v: 1, bytes: 10_000_000, frames: 64 })
        if (frame.header.t === 'envelope') got.push(frame.body.length)
      })
    })
    const connection = await node.dial(multiaddr(addressOf(acme)))
    const looks = acme.fleet.of('session.v1.fleet').length
    await until(() => acme.fleet.of('session.v1.fleet').length > looks + 2, 'two looks')
    await acme.relay.send({ items: [{ ...message(acme), fleetId }] })
    await until(() => got.length === 1, 'the envelope')
    expect(connection.status).toBe('open')
  })
})

describe('a peer that shows a certificate', () => {
  let node: Libp2p
  let relay: TestRelay

  async function setUp(limits: Partial<Limits> = {}): Promise<void> {
    relay = await relayWith('acme', { ...SOON, certificateTimeoutMs: 300, ...limits })
    const seed = randomBytes(32)
    await pinRaw(relay, seed, 'hand-driven')
    node = await rawNode('tcp', seed)
    running.push(node)
    await node.dial(multiaddr(addressOf(relay)))
  }

  /** @returns the answer, or undefined when the stream was reset */
  async function show(bytes: Uint8Array): Promise<number | undefined> {
    const stream: Stream = await node.getConnections()[0]!.newStream(CERTIFICATE_PROTOCOL)
    const end = new Promise<number | undefined>((resolve) => {
      stream.addEventListener('message', (event) => resolve(event.data.subarray()[0]))
      stream.addEventListener('close', () => resolve(undefined))
    })
    if (bytes.length > 0) stream.send(bytes)
    const answer = await end
    // As the product does: a stream left half open would count.
    if (answer !== undefined) await stream.close()
    return answer
  }
  const framed = (length: number, bytes: Uint8Array) => new Uint8Array(Buffer.concat([Buffer.from([length >> 8, length & 0xff]), bytes]))

  it('of the largest size is heard; longer, empty, continued, cut off or silent it is reset, and session-svc is not asked', async () => {
    await setUp()
    expect(await show(framed(4096, randomBytes(4096)))).toBe(0)
    expect(relay.fleet.of('session.v1.offerCertificate')).toHaveLength(1)
    for (const [bytes, what] of [
      [framed(4097, randomBytes(4097)), 'too long'],
      [framed(65_535, randomBytes(10)), 'announced too long'],
      [framed(0, new Uint8Array(0)), 'empty'],
      [framed(10, randomBytes(11)), 'continued'],
      [framed(10, randomBytes(9)), 'cut off'],
    ] as const)
      expect(await show(bytes), what).toBeUndefined()
    expect(relay.fleet.of('session.v1.offerCertificate')).toHaveLength(1)
    expect(node.getConnections()[0]!.status).toBe('open')
  })

  it('more than 6 times a minute is told to come later, without a call, and counted', async () => {
    await setUp({ peerCertificatesPerMinute: limitsFrom().peerCertificatesPerMinute })
    const answers = []
    for (let n = 0; n < 9; n++) answers.push(await show(framed(3, randomBytes(3))))
    expect(answers).toEqual([0, 0, 0, 0, 0, 0, 1, 1, 1])
    expect(relay.fleet.of('session.v1.offerCertificate')).toHaveLength(6)
    await until(async () => (await relay.metric('rate_limited_total', { layer: 'peer-messages' })) === 3, 'the count')
  })

  it('opens no third stream at a time, and none after it was blocked', async () => {
    await setUp({ certificateTimeoutMs: 2_000 })
    const connection = node.getConnections()[0]!
    const open = () => connection.newStream(CERTIFICATE_PROTOCOL)
    const outcomes = await Promise.allSettled([open(), open(), open(), open()])
    await until(
      () => outcomes.filter((each) => each.status === 'fulfilled' && each.value.status === 'open').length <= 2,
      'streams beyond two reset',
    )
    const peerId = node.peerId.toString()
    await relay.relay.setPeer({ fleetId: relay.relay.allowList.peer(peerId)!.fleetId, peerIds: [peerId], multiaddrs: [], state: 'blocked' })
    await until(() => connection.status !== 'open', 'the cut')
  })
})

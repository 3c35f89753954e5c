import { generateSigningKey, sign } from '@tallystick/primitives/ed25519'
import { generateKeyPair } from '@tallystick/primitives/x25519'
import { SecretArena } from '@tallystick/secret-bytes/arena'
import { issueCertificate, peerIdFromKey, readCertificate } from '@tallystick/wire/certificate'
import { decodeEnvelope, encodeEnvelope, encodeHandshake } from '@tallystick/wire/envelope'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startPostgres, type TestPostgres } from '../../../tools/testing/postgres.ts'
import { currentCertificate } from '../src/identity/certificates.js'
import { lockPeer } from '../src/peers/peers.store.js'
import { offerCertificate } from '../src/peers/offer-certificate.js'
import { setPeerTrust } from '../src/peers/peer-trust.js'
import { adoptCertificate, pinPeer } from '../src/peers/pin-peer.js'
import { readPeer } from '../src/peers/read-peer.js'
import { takeBundle } from '../src/prekeys/take-bundle.js'
import { bytes, introduce, plain, TestClock, TestFleet } from './fleet.js'

let postgres: TestPostgres
let clock: TestClock
let a: TestFleet
let count = 0
const arena = SecretArena.open(256 * 1024, { allowUnlocked: true })

beforeAll(async () => {
  postgres = await startPostgres()
  clock = new TestClock()
  a = await TestFleet.start({ url: (await postgres.createFleet('acme')).urls.session, clock })
})
afterAll(async () => {
  await a.stop()
  await postgres.stop()
})

const newFleet = async () => TestFleet.start({ url: (await postgres.createFleet(`peer${++count}`)).urls.session, clock })

/** A fleet that exists on paper only. */
function paperFleet() {
  const signing = generateSigningKey(arena)
  const certificate = (sequence: number, options: { suites?: string[]; displayName?: string; peerIds?: string[] } = {}) =>
    plain(
      issueCertificate(
        {
          displayName: options.displayName ?? 'paper',
          signKey: signing.publicKey,
          dhKey: generateKeyPair(arena).publicKey,
          peerIds: options.peerIds ?? [peerIdFromKey(generateSigningKey(arena).publicKey)],
          logKey: generateSigningKey(arena).publicKey,
          suites: options.suites ?? ['TS1'],
          notBefore: clock.now() - 1_000,
          notAfter: clock.now() + 86_400_000,
          sequence,
        },
        (message) => sign(signing.secret, message),
      ),
    )
  return { certificate }
}

describe('pinPeer', () => {
  it('takes a first certificate, the same again, and a higher sequence of the same root key', async () => {
    const fleet = paperFleet()
    const first = fleet.certificate(1)
    const pinned = await pinPeer(a.context, a.id, first)
    const { fleetId, digest } = readCertificate(first, clock.now())
    expect(pinned).toMatchObject({
      ok: true,
      fleetId,
      certificateDigest: digest,
      sequence: 1,
      fingerprint: expect.stringMatching(/^(\d{5} ){11}\d{5}$/) as string,
    })
    expect(await pinPeer(a.context, a.id, first)).toEqual(pinned)
    await setPeerTrust(a.context, { fleetId, trust: 'verified' })
    const third = fleet.certificate(3)
    expect(await pinPeer(a.context, a.id, third)).toMatchObject({ ok: true, sequence: 3 })
    expect(await readPeer(a.context, fleetId)).toMatchObject({ ok: true, trust: 'verified', certificate: third, session: null })
    const events = await a.audited()
    expect(events.filter((type) => type === 'AdminAction')).toHaveLength(3)
    expect(events.at(-1)).toBe('IdentityChanged')
  })

  it('refuses a lower or equal sequence as IdentityChanged, audited, and keeps what it has', async () => {
    const fleet = paperFleet()
    const pinned = fleet.certificate(5)
    await pinPeer(a.context, a.id, pinned)
    const before = (await a.audited()).filter((type) => type === 'IdentityChanged').length
    for (const sequence of [4, 5])
      expect(await pinPeer(a.context, a.id, fleet.certificate(sequence))).toMatchObject({ ok: false, code: 'IdentityChanged' })
    expect((await a.audited()).filter((type) => type === 'IdentityChanged').length).toBe(before + 2)
    expect(await readPeer(a.context, readCertificate(pinned, clock.now()).fleetId)).toMatchObject({ certificate: pinned })
  })

  it('refuses bad signatures, expired ones, garbage, itself, foreign suites and a PeerId of another fleet', async () => {
    const fleet = paperFleet()
    const good = fleet.certificate(1)
    const forged = good.slice()
    forged[forged.length - 10]! ^= 1
    expect(await pinPeer(a.context, a.id, forged)).toMatchObject({ ok: false, code: 'InvalidSignature' })
    expect(await a.registry.getSingleMetricAsString('tallystick_signature_failures_total')).toMatch(/ 1$/m)
    expect(await pinPeer(a.context, a.id, plain(new Uint8Array(40)))).toMatchObject({ ok: false, code: 'Serialization' })
    expect(await pinPeer(a.context, a.id, plain(await a.certificate()))).toMatchObject({ ok: false, code: 'InvalidRequest' })
    expect(await pinPeer(a.context, a.id, fleet.certificate(1, { suites: ['TS0'] }))).toMatchObject({ ok: false, code: 'SuiteBelowPolicy' })
    await pinPeer(a.context, a.id, good)
    const { peerIds } = readCertificate(good, clock.now())
    expect(await pinPeer(a.context, a.id, paperFleet().certificate(1, { peerIds }))).toMatchObject({ ok: false, code: 'Conflict' })
    const old = paperFleet().certificate(1)
    clock.advance(2 * 86_400_000)
    expect(await pinPeer(a.context, a.id, old)).toMatchObject({ ok: false, code: 'ExpiredSignature' })
  })

  it('a removed peer is out until it is pinned again', async () => {
    const fleet = paperFleet()
    const certificate = fleet.certificate(1)
    const { fleetId } = readCertificate(certificate, clock.now())
    expect(await setPeerTrust(a.context, { fleetId, trust: 'blocked' })).toMatchObject({ ok: false, code: 'NotFound' })
    await pinPeer(a.context, a.id, certificate)
    await setPeerTrust(a.context, { fleetId, trust: 'removed' })
    expect(await takeBundle(a.context, a.core.stock, fleetId)).toMatchObject({ ok: false, code: 'UnauthorizedPeer' })
    expect(await setPeerTrust(a.context, { fleetId, trust: 'verified' })).toMatchObject({ ok: false, code: 'Conflict' })
    expect(await pinPeer(a.context, a.id, certificate)).toMatchObject({ ok: true })
    expect(await readPeer(a.context, fleetId)).toMatchObject({ ok: true, trust: 'pinned' })
    expect((await takeBundle(a.context, a.core.stock, fleetId)).ok).toBe(true)
  })

  it('two first pins at once give one peer', async () => {
    const certificate = paperFleet().certificate(1)
    const answers = await Promise.all(Array.from({ length: 6 }, () => pinPeer(a.context, a.id, certificate)))
    expect(answers.every((answer) => answer.ok)).toBe(true)
    expect(await a.context.db.peerCertificate.count({ where: { fleetId: readCertificate(certificate, clock.now()).fleetId } })).toBe(1)
  })
})

describe('a certificate that the relay of a peer shows', () => {
  it('is adopted when it follows, known when it was pinned before, refused when it is another fleet’s, expired or garbage', async () => {
    const fleet = paperFleet()
    const [first, second] = [fleet.certificate(1), fleet.certificate(2)]
    const { fleetId } = readCertificate(first, clock.now())
    const show = (certificate: Uint8Array, of = fleetId) => offerCertificate(a.context, of, plain(certificate))
    expect(await show(first)).toMatchObject({ ok: false, code: 'UnauthorizedPeer' })
    await pinPeer(a.context, a.id, first)
    expect(await show(first)).toEqual({ ok: true, outcome: 'known' })
    expect(await show(second)).toEqual({ ok: true, outcome: 'adopted' })
    expect(await readPeer(a.context, fleetId)).toMatchObject({ certificate: second })
    expect(await show(first)).toEqual({ ok: true, outcome: 'known' })
    expect(await readPeer(a.context, fleetId)).toMatchObject({ certificate: second })
    expect(await show(fleet.certificate(2))).toMatchObject({ ok: false, code: 'IdentityChanged' })
    expect(await show(paperFleet().certificate(3))).toMatchObject({ ok: false, code: 'UnauthorizedPeer' })
    expect(await show(new Uint8Array(10))).toMatchObject({ ok: false, code: 'Serialization' })
    await setPeerTrust(a.context, { fleetId, trust: 'blocked' })
    for (const certificate of [first, second, fleet.certificate(3)])
      expect(await show(certificate)).toMatchObject({ ok: false, code: 'UnauthorizedPeer' })
    clock.advance(2 * 86_400_000)
    expect(await show(first)).toMatchObject({ ok: false, code: 'ExpiredSignature' })
  })

  it('must offer a suite that is allowed here, in bundles as well', async () => {
    const fleet = paperFleet()
    const first = fleet.certificate(1)
    const { fleetId } = readCertificate(first, clock.now())
    await pinPeer(a.context, a.id, first)
    const weak = fleet.certificate(2, { suites: ['TS0'] })
    expect(await offerCertificate(a.context, fleetId, weak)).toMatchObject({ ok: false, code: 'SuiteBelowPolicy' })
    const inBundle = await a.context.db.$transaction(async (tx) =>
      adoptCertificate(a.context, tx, readCertificate(weak, clock.now()), weak, await lockPeer(tx, fleetId), 'peer'),
    )
    expect(inBundle).toMatchObject({ code: 'SuiteBelowPolicy' })
    expect(await readPeer(a.context, fleetId)).toMatchObject({ certificate: first })
  })

  it('never gives one PeerId to two fleets, however close together they claim it', async () => {
    const replica = await a.again()
    let both = 0
    const ROUNDS = 20
    for (let i = 0; i < ROUNDS; i++) {
      const fleets = [paperFleet(), paperFleet()]
      const peerIds = [peerIdFromKey(generateSigningKey(arena).publicKey)]
      const ids: string[] = []
      for (const fleet of fleets) {
        const first = fleet.certificate(1)
        ids.push(readCertificate(first, clock.now()).fleetId)
        await pinPeer(a.context, a.id, first)
      }
      const claims = fleets.map((fleet, n) => offerCertificate([a, replica][n]!.context, ids[n]!, fleet.certificate(2, { peerIds })))
      const answers = await Promise.all(claims)
      expect(answers.map((answer) => (answer.ok ? answer.outcome : answer.code)).sort()).toEqual(['Conflict', 'adopted'])
      if ((await a.context.db.peer.count({ where: { peerIds: { hasSome: peerIds } } })) > 1) both += 1
    }
    console.log(`${ROUNDS} PeerIds claimed by two fleets at once: ${both} given to both`)
    expect(both).toBe(0)
    await replica.stop()
  })
})

describe('setPeerTrust with a fingerprint', () => {
  it('verifies the pinned identity only by its own', async () => {
    const certificate = paperFleet().certificate(1)
    const pinned = await pinPeer(a.context, a.id, certificate)
    if (!pinned.ok) throw new Error(pinned.code)
    const decide = (compared: string) => setPeerTrust(a.context, { fleetId: pinned.fleetId, trust: 'verified', fingerprint: compared })
    expect(await decide('00000 '.repeat(12).trim())).toMatchObject({ ok: false, code: 'Conflict' })
    expect(await readPeer(a.context, pinned.fleetId)).toMatchObject({ trust: 'pinned' })
    expect(await decide(pinned.fingerprint.replaceAll(' ', '-'))).toEqual({ ok: true })
    expect(await readPeer(a.context, pinned.fleetId)).toMatchObject({ trust: 'verified' })
  })
})

describe('a renewed certificate', () => {
  it('of the peer arrives with its bundle and is pinned before the session starts', async () => {
    const b = await newFleet()
    await introduce(a, b)
    await b.certify()
    expect((await currentCertificate(b.context.db))!.sequence).toBe(2)
    const envelope = await a.seal(b, 'hello')
    expect(await readPeer(a.context, b.id)).toMatchObject({ certificate: await b.certificate() })
    expect(await b.open(a, envelope)).toBe('hello')
    await b.stop()
  })

  it('of this fleet, issued while a handshake was under way, does not lose the message', async () => {
    const b = await newFleet()
    await introduce(a, b)
    const envelope = await a.seal(b, 'crossing')
    await b.certify()
    expect(await b.open(a, envelope)).toBe('crossing')
    await b.stop()
  })

  it('that is named by a message before it is known is learnt from a bundle; the message opens at its retry', async () => {
    const b = await newFleet()
    await introduce(a, b)
    await b.certify()
    const envelope = await b.seal(a, 'from my new certificate')
    expect(decodeEnvelope(envelope).handshake).toBeDefined()
    expect(await a.tryOpen(b, envelope)).toMatchObject({ ok: false, code: 'NotReady', retryAfterMs: expect.any(Number) as number })
    await expect
      .poll(async () => (await readPeer(a.context, b.id)) as { certificate?: Uint8Array })
      .toMatchObject({ certificate: await b.certificate() })
    expect(await a.open(b, envelope)).toBe('from my new certificate')
    await b.stop()
  })

  it('that arrives after the peer was removed does not bring it back', async () => {
    const b = await newFleet()
    await introduce(a, b)
    await b.certify()
    await setPeerTrust(a.context, { fleetId: b.id, trust: 'removed' })
    const renewed = await b.certificate()
    const outcome = await a.context.db.$transaction(async (tx) =>
      adoptCertificate(a.context, tx, readCertificate(renewed, clock.now()), renewed, await lockPeer(tx, b.id), 'peer'),
    )
    expect(outcome).toMatchObject({ code: 'UnauthorizedPeer' })
    expect(await readPeer(a.context, b.id)).toMatchObject({ trust: 'removed' })
    await b.stop()
  })

  it('that stays unknown after the peer’s newest one has been learnt is IdentityChanged, audited', async () => {
    const b = await newFleet()
    await introduce(a, b)
    const genuine = await b.seal(a, 'genuine')
    const { headerBytes, commit, ciphertext, handshake } = decodeEnvelope(genuine)
    const handshakeBytes = encodeHandshake({ ...handshake!, certificateDigest: new Uint8Array(32).fill(9) })
    const foreign = encodeEnvelope({ headerBytes, commit, ciphertext, handshakeBytes })
    const fetched = a.fetched
    expect(await a.tryOpen(b, foreign)).toMatchObject({ ok: false, code: 'NotReady' })
    await expect.poll(async () => ((await a.tryOpen(b, foreign)) as { code?: string }).code).toBe('IdentityChanged')
    expect(a.fetched).toBe(fetched + 1)
    expect(await a.audited()).toContain('VerificationFailed')
    expect(await a.open(b, genuine)).toBe('genuine')
    await b.stop()
  })

  it('a bundle with a prekey signed by somebody else starts nothing, is audited, and what was sealed in the same call stays', async () => {
    const b = await newFleet()
    await introduce(a, b)
    const small = await a.again({ limits: { rotateAfterMessages: 3 } })
    const item = (text: string) => ({ messageId: a.newId(), fleetId: b.id, class: 'application' as const, payload: bytes(text) })
    const [known, one, two, three] = [item('known'), item('one'), item('two'), item('three')]
    const [first] = await small.core.sealing.seal([known])
    if (!first?.ok) throw new Error(first?.code)
    await b.open(a, first.envelope)
    await small.open(b, await b.seal(a, 'receipt', { class: 'control' }))
    await b.context.db.prekey.updateMany({ where: { kind: 'signed' }, data: { signature: new Uint8Array(64) } })
    const outcomes = await small.core.sealing.seal([one, two, three, known])
    expect(outcomes.map((outcome) => (outcome.ok ? 'sealed' : outcome.code))).toEqual(['sealed', 'sealed', 'InvalidSignature', 'sealed'])
    expect(outcomes[3]).toEqual(first)
    expect(await small.core.sealing.seal([one, two])).toEqual(outcomes.slice(0, 2))
    expect(await a.audited()).toContain('VerificationFailed')
    expect(await readPeer(a.context, b.id)).toMatchObject({ session: { epoch: 1, sent: 3 } })
    await small.stop()
    await b.stop()
  })
})

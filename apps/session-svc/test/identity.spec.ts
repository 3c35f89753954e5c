import { randomUUID } from 'node:crypto'
import { toHex } from '@tallystick/primitives/bytes'
import { generateSigningKey, sign, verify } from '@tallystick/primitives/ed25519'
import { spkMessage } from '@tallystick/ratchet/labels'
import { SecretArena } from '@tallystick/secret-bytes/arena'
import { decodeBundle } from '@tallystick/wire/bundle'
import { decode, encode } from '@tallystick/wire/cbor'
import { fingerprint, issueCertificate, MAX_SUCCESSION, readCertificate, successionMessage } from '@tallystick/wire/certificate'
import { readStatement } from '@tallystick/wire/document'
import { decodeEnvelope, decodeHandshake } from '@tallystick/wire/envelope'
import { describe, expect, it } from 'vitest'
import type { Context } from '../src/context.js'
import { currentCertificate } from '../src/identity/certificates.js'
import { loadIdentity } from '../src/identity/identity.js'
import { renewIdentity } from '../src/identity/renew-identity.js'
import { offerCertificate } from '../src/peers/offer-certificate.js'
import { setPeerTrust } from '../src/peers/peer-trust.js'
import { pinPeer } from '../src/peers/pin-peer.js'
import { readPeer } from '../src/peers/read-peer.js'
import { plain, TestFleet } from './fleet.js'
import { a, b, clock, postgres, round, twoFleetsForEachTest } from './two-fleets.js'

const arena = SecretArena.open(64 * 1024, { allowUnlocked: true })

twoFleetsForEachTest()

const renew = (fleet: TestFleet, requestId: string = randomUUID()) => renewIdentity(fleet.context, fleet.core.identity, requestId)
const offer = async (to: TestFleet, of: TestFleet) => offerCertificate(to.context, of.id, plain(await of.certificate()))

async function renewed(fleet: TestFleet) {
  const answer = await renew(fleet)
  if (!answer.ok) throw new Error(answer.message)
  return answer
}

async function converse(): Promise<void> {
  expect(await b.open(a, await a.seal(b, 'from a'))).toBe('from a')
  expect(await a.open(b, await b.seal(a, 'from b'))).toBe('from b')
}

/** Everything that a renewal changes, to compare. */
async function snapshot(fleet: TestFleet): Promise<string> {
  const { db } = fleet.context
  const rows = await Promise.all([
    db.identityKey.findMany({ orderBy: [{ kind: 'asc' }, { version: 'asc' }] }),
    db.certificate.findMany({ orderBy: { sequence: 'asc' } }),
    db.prekey.findMany({ orderBy: { id: 'asc' } }),
    db.session.findMany({ orderBy: { startedAt: 'asc' } }),
    db.peer.findMany(),
    db.identityRenewal.findMany(),
    db.auditOutbox.count(),
  ])
  return JSON.stringify(rows)
}

describe('a renewed identity', () => {
  it('end to end: told by the relay, nothing goes on until the right fingerprint is given, then new sessions in both directions', async () => {
    await converse()
    const byOldIdentity = await b.seal(a, 'sealed before the renewal')
    const [oldKey, oldCertificate] = [b.core.identity.signKey, await b.certificate()]
    const oldPrekeys = (await b.context.db.prekey.findMany()).map(({ id }) => id)

    const answer = await renewed(b)
    expect(answer).toMatchObject({ fleetId: b.id, sequence: 2, sessionsWiped: 1 })
    expect(answer.prekeysDestroyed).toBe(oldPrekeys.length)
    expect(answer.fingerprint).not.toBe(fingerprint(oldKey))
    expect(b.core.identity.signKey).not.toEqual(oldKey)
    expect(await b.context.db.session.count({ where: { state: { not: null } } })).toBe(0)
    expect(await b.context.db.prekey.count({ where: { id: { in: oldPrekeys } } })).toBe(0)
    expect(await b.context.db.prekey.count()).toBe(202)
    expect(await b.context.db.identityKey.findMany({ where: { version: 1 }, select: { sealed: true } })).toEqual([
      { sealed: null },
      { sealed: null },
    ])
    expect(await b.audited()).toEqual(expect.arrayContaining(['KeyRotated', 'KeysZeroized', 'AdminAction']))

    expect(await offer(a, b)).toEqual({ ok: true, outcome: 'pending' })
    expect(await offer(a, b)).toEqual({ ok: true, outcome: 'pending' })
    expect((await a.audited()).filter((type) => type === 'VerificationFailed')).toHaveLength(1)
    expect(await readPeer(a.context, b.id)).toMatchObject({
      pendingFingerprint: answer.fingerprint,
      keyState: 'identity-changed',
      certificate: oldCertificate,
    })
    expect(await a.trySeal(b, 'not yet')).toMatchObject({ ok: false, code: 'IdentityChanged' })
    const waiting = await b.seal(a, 'in a new session')
    expect(await a.tryOpen(b, waiting)).toMatchObject({ ok: false, code: 'IdentityChanged', retryAfterMs: expect.any(Number) as number })
    expect(await a.tryOpen(b, byOldIdentity)).toMatchObject({ ok: false, code: 'IdentityChanged' })

    const decide = (compared?: string) =>
      setPeerTrust(a.context, { fleetId: b.id, trust: 'verified', ...(compared === undefined ? {} : { fingerprint: compared }) })
    expect(await decide()).toMatchObject({ ok: false, code: 'IdentityChanged' })
    expect(await decide(fingerprint(oldKey))).toMatchObject({ ok: false, code: 'Conflict' })
    expect(await decide(fingerprint(a.core.identity.signKey))).toMatchObject({ ok: false, code: 'Conflict' })
    expect(await a.trySeal(b, 'still not')).toMatchObject({ ok: false, code: 'IdentityChanged' })
    expect(await decide(answer.fingerprint.replaceAll(' ', ''))).toEqual({ ok: true })
    expect(await decide(answer.fingerprint)).toEqual({ ok: true })
    expect(await a.context.db.session.count({ where: { state: { not: null } } })).toBe(0)
    expect(await readPeer(a.context, b.id)).toMatchObject({
      trust: 'verified',
      pendingFingerprint: null,
      certificate: await b.certificate(),
    })
    expect((await a.audited()).filter((type) => type === 'IdentityChanged')).toHaveLength(1)

    expect(await a.tryOpen(b, byOldIdentity)).toMatchObject({ ok: false })
    expect(await a.open(b, waiting)).toBe('in a new session')
    for (let i = 0; i < 3; i++) await converse()
    expect(await readPeer(a.context, b.id)).toMatchObject({ recovery: { state: 'ok' } })
    expect(await readPeer(b.context, a.id)).toMatchObject({ recovery: { state: 'ok' } })
    expect(await offer(a, b)).toEqual({ ok: true, outcome: 'known' })
  })

  it('a handshake of the replaced identity starts nothing at a peer that has approved the new one', async () => {
    const stolen = await b.seal(a, 'a first message by the old keys')
    const { fingerprint: compared } = await renewed(b)
    await offer(a, b)
    await setPeerTrust(a.context, { fleetId: b.id, trust: 'verified', fingerprint: compared })
    const outcome = await a.tryOpen(b, stolen)
    expect(outcome.ok).toBe(false)
    expect(await a.context.db.session.count()).toBe(0)
    await converse()
  })

  it('a handshake to the replaced identity opens nowhere', async () => {
    const late = await a.seal(b, 'for the old keys')
    await renewed(b)
    expect(await b.tryOpen(a, late)).toMatchObject({ ok: false })
    expect(await b.context.db.session.count()).toBe(0)
  })

  it('is shown with bundles too, and while it waits the old key renews nothing', async () => {
    await converse()
    const { digest: _digest, fleetId: _fleetId, ...fields } = readCertificate(await b.certificate(), clock.now())
    const byOldKey = issueCertificate({ ...fields, sequence: 7 }, (message) => b.core.identity.sign(message))
    await renewed(b)
    await a.context.db.peer.update({ where: { fleetId: b.id }, data: { rotateRequested: true } })
    expect(await a.trySeal(b, 'rotates')).toMatchObject({ ok: false, code: 'IdentityChanged' })
    expect(await readPeer(a.context, b.id)).toMatchObject({ pendingFingerprint: fingerprint(b.core.identity.signKey) })
    const before = await readPeer(a.context, b.id)
    expect(await offerCertificate(a.context, b.id, plain(byOldKey))).toMatchObject({ ok: false, code: 'IdentityChanged' })
    expect(await pinPeer(a.context, a.id, plain(byOldKey))).toMatchObject({ ok: false, code: 'IdentityChanged' })
    expect(await pinPeer(a.context, a.id, plain(await b.certificate()))).toMatchObject({ ok: false, code: 'IdentityChanged' })
    expect(await readPeer(a.context, b.id)).toEqual(before)
  })

  it('of a removed peer is pinned by the certificate that a person brings', async () => {
    await converse()
    await renewed(b)
    await offer(a, b)
    await setPeerTrust(a.context, { fleetId: b.id, trust: 'removed' })
    expect(
      await setPeerTrust(a.context, { fleetId: b.id, trust: 'verified', fingerprint: fingerprint(b.core.identity.signKey) }),
    ).toMatchObject({
      code: 'Conflict',
    })
    expect(await pinPeer(a.context, a.id, plain(await b.certificate()))).toMatchObject({ ok: true, sequence: 2 })
    expect(await readPeer(a.context, b.id)).toMatchObject({ trust: 'pinned', pendingFingerprint: null })
    expect(await a.context.db.session.count({ where: { state: { not: null } } })).toBe(0)
    await converse()
  })

  it('twice in a row: the later one is what waits, in whichever order they are shown', async () => {
    await converse()
    await renewed(b)
    const second = plain(await b.certificate())
    const { fingerprint: compared } = await renewed(b)
    const third = plain(await b.certificate())
    for (const shown of [second, third, second])
      expect(await offerCertificate(a.context, b.id, shown)).toEqual({ ok: true, outcome: 'pending' })
    expect(await readPeer(a.context, b.id)).toMatchObject({ pendingFingerprint: compared })
    expect(await setPeerTrust(a.context, { fleetId: b.id, trust: 'verified', fingerprint: compared })).toEqual({ ok: true })
    await converse()
  })
})

describe('renewIdentity', () => {
  it('answers a repeated request the same and does nothing twice; at once, later, and after a restart', async () => {
    await converse()
    const requestId = randomUUID()
    const other = await b.again()
    const answers = await Promise.all([renew(b, requestId), renew(other, requestId), renew(b, requestId), renew(other, requestId)])
    answers.push(await renew(b, requestId))
    const restarted = await b.again()
    answers.push(await renew(restarted, requestId))
    for (const answer of answers) expect(answer).toEqual(answers[0])
    expect(await b.context.db.certificate.count()).toBe(2)
    expect(await b.context.db.identityRenewal.count()).toBe(1)
    expect(restarted.id).toBe(b.id)
    const another = await renewed(restarted)
    expect(another).toMatchObject({ fleetId: b.id, sequence: 3, sessionsWiped: 0 })
    expect(await renew(b, requestId)).toEqual(answers[0])
    await other.stop()
    await restarted.stop()
  })

  it(`can be done ${MAX_SUCCESSION} times; then a new fleet is needed, and nothing changes`, async () => {
    for (let i = 0; i < MAX_SUCCESSION; i++) await renewed(b)
    const certificate = readCertificate(await b.certificate(), clock.now())
    expect(certificate).toMatchObject({ fleetId: b.id, sequence: MAX_SUCCESSION + 1 })
    expect(certificate.succession).toHaveLength(MAX_SUCCESSION)
    const before = await snapshot(b)
    expect(await renew(b)).toMatchObject({ ok: false, code: 'Conflict' })
    expect(await snapshot(b)).toBe(before)
    // A certificate that is issued later for another reason goes on with the chain.
    await b.certify()
    expect(readCertificate(await b.certificate(), clock.now())).toMatchObject({ fleetId: b.id, succession: certificate.succession })
  })

  it('cut off at any point, nothing has happened and nothing is left in the arena', { timeout: 120_000 }, async () => {
    await converse()
    const before = await snapshot(b)
    const used = b.context.arena.usedBytes
    let points = 0
    for (;;) {
      const answer = await renewIdentity(failingAt(b.context, points), b.core.identity, randomUUID()).catch((error: unknown) => error)
      if (!(answer instanceof Error)) break
      expect(answer.message).toBe('cut off')
      expect(await snapshot(b)).toBe(before)
      expect(b.context.arena.usedBytes).toBe(used)
      points += 1
    }
    console.log(`renewal cut off at ${points} points: nothing changed, 0 bytes left in the arena`)
    expect(points).toBeGreaterThan(10)
    expect(b.context.arena.usedBytes).toBe(used)
    await offer(a, b)
    await setPeerTrust(a.context, { fleetId: b.id, trust: 'verified', fingerprint: fingerprint(b.core.identity.signKey) })
    await converse()
  })

  it('waits for a certificate', async () => {
    const { urls } = await postgres.createFleet(`bare${round}`)
    const fleet = await TestFleet.start({ url: urls.session, clock })
    const empty = { ...fleet.context, db: withoutCertificates(fleet.context) }
    const used = fleet.context.arena.usedBytes
    expect(await renewIdentity(empty, fleet.core.identity, randomUUID())).toMatchObject({ ok: false, code: 'NotReady' })
    expect(fleet.context.arena.usedBytes).toBe(used)
    await fleet.stop()
  })
})

describe('a succession', () => {
  it('that a stranger forges is refused as a signature that does not verify, and changes nothing', async () => {
    await converse()
    const mallory = generateSigningKey(arena)
    const { payload } = decode(await b.certificate()) as { payload: Uint8Array }
    const fields = decode(payload) as { signKey: Uint8Array }
    const signature = sign(mallory.secret, successionMessage(mallory.publicKey, b.id))
    const changed = encode({ ...fields, signKey: mallory.publicKey, sequence: 9, succession: [{ key: fields.signKey, signature }] })
    const forged = encode({ payload: changed, signature: sign(mallory.secret, changed) })
    expect(await offerCertificate(a.context, b.id, plain(forged))).toMatchObject({ ok: false, code: 'InvalidSignature' })
    expect(await pinPeer(a.context, a.id, plain(forged))).toMatchObject({ ok: false, code: 'InvalidSignature' })
    expect(await readPeer(a.context, b.id)).toMatchObject({ pendingFingerprint: null })
    await converse()
    mallory.secret.destroy()
  })

  it('by a key that was stolen earlier, past the identity that is pinned now: IdentityChanged, nothing is kept', async () => {
    const thief = generateSigningKey(arena)
    const first = readCertificate(await b.certificate(), clock.now())
    const stolen = b.core.identity.sign(successionMessage(thief.publicKey, b.id))
    const { fingerprint: compared } = await renewed(b)
    await offer(a, b)
    await setPeerTrust(a.context, { fleetId: b.id, trust: 'verified', fingerprint: compared })
    const { digest: _digest, fleetId: _fleetId, ...fields } = first
    const forged = issueCertificate(
      { ...fields, signKey: thief.publicKey, sequence: 99, succession: [{ key: first.signKey, signature: stolen }] },
      (message) => sign(thief.secret, message),
    )
    expect(readCertificate(forged, clock.now()).fleetId).toBe(b.id)
    expect(await offerCertificate(a.context, b.id, plain(forged))).toMatchObject({ ok: false, code: 'IdentityChanged' })
    expect(await pinPeer(a.context, a.id, plain(forged))).toMatchObject({ ok: false, code: 'IdentityChanged' })
    expect(await readPeer(a.context, b.id)).toMatchObject({ pendingFingerprint: null, certificate: await b.certificate() })
    await converse()
    thief.secret.destroy()
  })

  it('by a key that has just been stolen waits like any other, and another fingerprint is not its', async () => {
    await converse()
    const thief = generateSigningKey(arena)
    const { digest: _digest, fleetId: _fleetId, ...fields } = readCertificate(await b.certificate(), clock.now())
    const succession = [{ key: fields.signKey, signature: b.core.identity.sign(successionMessage(thief.publicKey, b.id)) }]
    const forged = issueCertificate({ ...fields, signKey: thief.publicKey, sequence: 2, succession }, (message) =>
      sign(thief.secret, message),
    )
    expect(await offerCertificate(a.context, b.id, plain(forged))).toEqual({ ok: true, outcome: 'pending' })
    const { fingerprint: genuine } = await renewed(b)
    expect(await setPeerTrust(a.context, { fleetId: b.id, trust: 'verified', fingerprint: genuine })).toMatchObject({ code: 'Conflict' })
    // The genuine one is shown: it takes the place, and the person's fingerprint fits.
    expect(await offer(a, b)).toEqual({ ok: true, outcome: 'pending' })
    expect(await setPeerTrust(a.context, { fleetId: b.id, trust: 'verified', fingerprint: genuine })).toEqual({ ok: true })
    expect(await offerCertificate(a.context, b.id, plain(forged))).toMatchObject({ ok: false, code: 'IdentityChanged' })
    await converse()
    thief.secret.destroy()
  })
})

describe('two replicas', () => {
  it('the other one signs and agrees with nothing that was replaced', async () => {
    await converse()
    const other = await b.again()
    const old = other.core.identity.signKey
    await renewed(b)
    const present = b.core.identity.signKey
    expect(other.core.identity.signKey).toEqual(old)

    const bundle = await other.take(a.id)
    if (!bundle.ok) throw new Error(bundle.code)
    const { spk, certificate } = decodeBundle(bundle.bundle)
    expect(certificate).toEqual(await b.certificate())
    expect(verify(present, spkMessage(spk.id, spk.key), spk.signature)).toBe(true)

    const signed = await other.core.signer.sign({
      kind: 'invoice',
      documentId: other.newId(),
      contentDigest: plain(new Uint8Array(32)),
      audience: null,
      issuedAt: clock.now(),
      expiresAt: clock.now() + 60_000,
    })
    if (!signed.ok) throw new Error(signed.code)
    const { payload, signature } = readStatement(signed.statement)
    expect(verify(old, payload, signature)).toBe(false)
    expect(verify(present, payload, signature)).toBe(true)
    expect(toHex(other.core.identity.signKey)).toBe(toHex(present))
    await other.stop()
  })

  it('seals with the new identity although it has not looked', async () => {
    await converse()
    const other = await b.again()
    await renewed(b)
    const envelope = await other.seal(a, 'by the other replica')
    const { digest } = (await currentCertificate(b.context.db))!
    expect(toHex(decodeEnvelope(envelope).handshake!.certificateDigest)).toBe(toHex(digest))
    await offer(a, b)
    await setPeerTrust(a.context, { fleetId: b.id, trust: 'verified', fingerprint: fingerprint(b.core.identity.signKey) })
    expect(await a.open(b, envelope)).toBe('by the other replica')
    expect(await other.open(a, await a.seal(b, 'an answer'))).toBe('an answer')
    await other.stop()
  })

  it('a storm of seals on both while one renews: no session of the old identity is left', { timeout: 120_000 }, async () => {
    await converse()
    const other = await b.again()
    let sealed = 0
    let stop = false
    const workers = [b, other, b, other].map(async (replica) => {
      for (let i = 0; !stop && i < 60; i++) if ((await replica.trySeal(a, `message ${i}`)).ok) sealed += 1
    })
    const answer = await renewed(other)
    await Promise.all(workers)
    stop = true
    const { digest } = (await currentCertificate(b.context.db))!
    const left = await b.context.db.session.findMany({ where: { state: { not: null } } })
    const ofOldIdentity = left.filter(({ handshake }) => toHex(decodeHandshake(handshake!).certificateDigest) !== toHex(digest))
    console.log(
      `${sealed} sealed on two replicas during a renewal, ${left.length} live session(s), ${ofOldIdentity.length} of the old identity`,
    )
    expect(left.length).toBeGreaterThan(0)
    expect(ofOldIdentity).toEqual([])
    await offer(a, b)
    await setPeerTrust(a.context, { fleetId: b.id, trust: 'verified', fingerprint: answer.fingerprint })
    await converse()
    await other.stop()
  })
})

describe('loading the identity', () => {
  it('leaves nothing in the arena when it fails half-way, neither reading nor making', async () => {
    const used = b.context.arena.usedBytes
    const broken = { ...b.context, custody: failingCustody(b.context, 'openSecret') }
    await expect(loadIdentity(broken)).rejects.toThrow('cut off')
    expect(b.context.arena.usedBytes).toBe(used)

    const { urls } = await postgres.createFleet(`late${round}`)
    let failed = 0
    const fleet = await TestFleet.start({
      url: urls.session,
      clock,
      before: async (context) => {
        await context.custody.open(context)
        const empty = context.arena.usedBytes
        for (let at = 0; at < 2; at++) {
          await expect(loadIdentity(failingAt(context, at))).rejects.toThrow('cut off')
          failed += 1
        }
        await expect(loadIdentity({ ...context, custody: failingCustody(context, 'sealSecret') })).rejects.toThrow('cut off')
        expect(context.arena.usedBytes).toBe(empty)
      },
    })
    expect(failed).toBe(2)
    await fleet.stop()
  })
})

/** The same context, whose n-th audit event cannot be written. */
function failingAt(context: Context, at: number): Context {
  let count = 0
  const { audit } = context
  return {
    ...context,
    audit: {
      committed: () => audit.committed(),
      record: async (tx, type, body) => {
        if (count++ === at) throw new Error('cut off')
        await audit.record(tx, type, body)
      },
    },
  }
}

function failingCustody({ custody }: Context, method: 'openSecret' | 'sealSecret'): Context['custody'] {
  return new Proxy(custody, {
    get(target, name) {
      if (name === method)
        return () => {
          throw new Error('cut off')
        }
      const value: unknown = Reflect.get(target, name, target)
      return typeof value === 'function' ? (value.bind(target) as unknown) : value
    },
  })
}

/** A database that has no certificate yet, as far as the code can see. */
function withoutCertificates({ db }: Context): Context['db'] {
  return db.$extends({ query: { certificate: { findFirst: async () => null } } }) as unknown as Context['db']
}

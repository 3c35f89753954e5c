import { generateSigningKey, sign, verify } from '@tallystick/primitives/ed25519'
import { pqMessage, spkMessage } from '@tallystick/ratchet/labels'
import { decodeBundle } from '@tallystick/wire/bundle'
import { issueCertificate, peerIdFromKey } from '@tallystick/wire/certificate'
import { decodeEnvelope } from '@tallystick/wire/envelope'
import { describe, expect, it } from 'vitest'
import { SecretScope } from '../src/custody/secret-scope.js'
import { ensureCertificate } from '../src/identity/certificates.js'
import { pinPeer } from '../src/peers/pin-peer.js'
import { renewAllPrekeys } from '../src/prekeys/make-prekeys.js'
import { bundleOf, drain, oneTimeOf } from './drain.js'
import { introduce, plain, TestFleet } from './fleet.js'
import { a, b, clock, postgres, round, twoFleetsForEachTest } from './two-fleets.js'

const DAY = 86_400_000
const WEEK = 7 * DAY

twoFleetsForEachTest()

const newFleet = async (name: string) => TestFleet.start({ url: (await postgres.createFleet(`${name}${round}`)).urls.session, clock })

const bundleFor = async (peer: TestFleet, from: TestFleet = a) => bundleOf(from, peer)

/** Pins a fleet that exists on paper only. @returns its fleet id */
async function pinPaperFleet(): Promise<string> {
  const keys = Array.from({ length: 3 }, () => generateSigningKey(a.context.arena))
  const [root, relay, log] = keys.map(({ publicKey }) => publicKey) as [Uint8Array, Uint8Array, Uint8Array]
  const certificate = issueCertificate(
    {
      displayName: 'paper',
      signKey: root,
      dhKey: a.core.identity.dhKey,
      peerIds: [peerIdFromKey(relay)],
      logKey: log,
      suites: ['TS1'],
      notBefore: clock.now(),
      notAfter: clock.now() + DAY,
      sequence: 1,
    },
    (message) => sign(keys[0]!.secret, message),
  )
  for (const { secret } of keys) secret.destroy()
  const pinned = await pinPeer(a.context, a.id, plain(certificate))
  if (!pinned.ok) throw new Error(pinned.code)
  return pinned.fleetId
}

/** The next handshake with a uses its last-resort key. */
async function onlyLastResort(): Promise<void> {
  await a.core.stock.ensure()
  await a.context.db.prekey.deleteMany({ where: { kind: { in: ['one-time', 'pq-one-time'] }, handedAt: null } })
}

const idsOf = async (kind: 'signed' | 'last-resort') =>
  (await a.context.db.prekey.findMany({ where: { kind }, orderBy: { id: 'asc' } })).map(({ id }) => id)

/** Private halves that should not exist any more, by the rule of the specification. */
async function overdue(): Promise<number> {
  const before = new Date(clock.now() - 14 * DAY)
  return a.context.db.prekey.count({ where: { OR: [{ retiredAt: { lte: before } }, { handedAt: { lte: before } }] } })
}

describe('the stock', () => {
  it('is one signed and one last-resort key and a hundred one-time keys of each kind, all signed by IK_sign', async () => {
    const rows = await a.context.db.prekey.findMany()
    const counts = Object.fromEntries([...Map.groupBy(rows, ({ kind }) => kind)].map(([kind, of]) => [kind, of.length]))
    expect(counts).toEqual({ signed: 1, 'last-resort': 1, 'one-time': 100, 'pq-one-time': 100 })
    const { signKey } = a.core.identity
    for (const { id, kind, publicKey, signature } of rows) {
      if (kind === 'one-time') expect(signature).toBeNull()
      else {
        const message = kind === 'signed' ? spkMessage(id, publicKey) : pqMessage(kind === 'last-resort' ? kind : 'one-time', id, publicKey)
        expect(verify(signKey, message, signature!)).toBe(true)
      }
    }
  })

  it('50 fetchers of ten peers at once on two replicas get nothing twice, and the stock is refilled', { timeout: 60_000 }, async () => {
    const other = await a.again()
    const peers = await Promise.all(Array.from({ length: 10 }, pinPaperFleet))
    const answers = await Promise.all(Array.from({ length: 50 }, (_, i) => (i % 2 === 0 ? a : other).take(peers[i % 10]!)))
    const bundles = answers.map((answer) => decodeBundle(answer.ok ? answer.bundle : new Uint8Array()))
    const keys = bundles.flatMap(oneTimeOf)
    console.log(`50 concurrent fetchers: ${keys.length} one-time keys handed out, ${keys.length - new Set(keys).size} twice`)
    expect(keys).toHaveLength(100)
    expect(new Set(keys).size).toBe(100)
    for (const bundle of bundles) expect(bundle.spk.id).toBe(bundles[0]!.spk.id)
    await a.core.stock.ensure()
    await other.core.stock.ensure()
    for (const kind of ['one-time', 'pq-one-time'])
      expect(await a.context.db.prekey.count({ where: { kind, handedAt: null } })).toBeGreaterThanOrEqual(a.context.limits.refillBelow)
    await other.stop()
  })

  it('1,000 fetches of one peer take its quota at most, and another peer still gets one-time keys', { timeout: 120_000 }, async () => {
    const c = await newFleet('initech')
    await introduce(a, c)
    await drain({ a, greedy: b, other: c, clock }, 1_000)
    await c.stop()
  })
})

describe('used keys', () => {
  it('one-time keys go in the transaction of the first message: not when it is undone, not before, and never later', async () => {
    const envelope = await b.seal(a, 'first')
    const { handshake } = decodeEnvelope(envelope)
    const ids = [handshake!.opkId!, handshake!.pqId]
    const left = () => a.context.db.prekey.count({ where: { id: { in: ids } } })
    expect(await left()).toBe(2)
    // The plaintext is sealed last, when the keys have been deleted and the session has been stored.
    const dying = await a.again()
    Object.defineProperty(dying.context.custody, 'sealBytes', {
      value: () => {
        throw new Error('the process died here')
      },
    })
    await expect(dying.open(b, envelope)).rejects.toThrow('the process died here')
    expect(await left()).toBe(2)
    expect(await a.context.db.handshakeSeen.count()).toBe(0)
    expect(await a.open(b, envelope)).toBe('first')
    expect(await left()).toBe(0)
    expect(await a.audited()).toContain('KeysZeroized')
    await dying.stop()
  })

  it('a handshake with the last-resort key is not answered twice, also after a restart and without its session', async () => {
    await onlyLastResort()
    const envelope = await b.seal(a, 'with the last resort')
    expect(decodeEnvelope(envelope).handshake).toMatchObject({ pqKind: 'last-resort' })
    expect(await a.open(b, envelope)).toBe('with the last resort')
    const restarted = await a.again()
    // Another envelope of the same handshake, and nothing is left of the session but the memory of it.
    const second = await b.seal(a, 'the same handshake')
    expect(decodeEnvelope(second).handshake!.ek).toEqual(decodeEnvelope(envelope).handshake!.ek)
    await a.context.db.session.updateMany({ data: { ephemeralKey: new Uint8Array(32), sid: new Uint8Array(16), active: false } })
    expect(await restarted.tryOpen(b, second)).toMatchObject({ ok: false, code: 'ReplayDetected' })
    // For as long as the key exists.
    clock.advance(20 * DAY)
    await restarted.core.stock.rotate()
    expect(await restarted.context.db.handshakeSeen.count()).toBe(1)
    clock.advance(14 * DAY)
    await restarted.core.stock.rotate()
    expect(await restarted.context.db.handshakeSeen.count()).toBe(0)
    await restarted.stop()
  })
})

describe('signed and last-resort keys', () => {
  it('are replaced at an age of a week, not a millisecond earlier, and audited', async () => {
    const [[signed], [lastResort]] = [await idsOf('signed'), await idsOf('last-resort')]
    clock.advance(WEEK - 1)
    await a.core.stock.rotate()
    expect(await idsOf('signed')).toEqual([signed])
    clock.advance(1)
    const other = await a.again()
    await Promise.all([a.core.stock.rotate(), other.core.stock.rotate(), a.core.stock.rotate()])
    expect(await idsOf('signed')).toEqual([signed, expect.any(Number)])
    expect(await idsOf('last-resort')).toEqual([lastResort, expect.any(Number)])
    expect((await a.audited()).filter((type) => type === 'KeyRotated')).toHaveLength(2)
    const { spk } = await bundleFor(b)
    expect(spk.id).toBe((await idsOf('signed'))[1])
    expect(verify(a.core.identity.signKey, spkMessage(spk.id, spk.key), spk.signature)).toBe(true)
    await other.stop()
  })

  it.each(['one-time', 'last-resort'])(
    'a handshake in flight (%s) opens a week later, after its prekeys were replaced; fifteen days later it is refused',
    async (kind) => {
      const c = await newFleet('initech')
      await introduce(a, c)
      if (kind === 'last-resort') await onlyLastResort()
      const early = await b.seal(a, 'a week in flight')
      if (kind === 'last-resort') await onlyLastResort()
      const late = await c.seal(a, 'three weeks in flight')
      expect(decodeEnvelope(late).handshake).toMatchObject({ pqKind: kind })
      clock.advance(WEEK)
      await a.core.stock.rotate()
      expect(await overdue()).toBe(0)
      expect(await a.open(b, early)).toBe('a week in flight')
      clock.advance(15 * DAY)
      await a.core.stock.rotate()
      expect(await overdue()).toBe(0)
      expect(await a.tryOpen(c, late)).toMatchObject({ ok: false, code: 'Decryption' })
      expect(await a.context.db.session.count({ where: { fleetId: c.id } })).toBe(0)
      await c.stop()
    },
  )

  it('a handshake in flight opens 14 days after its prekeys were replaced, and no longer', async () => {
    const c = await newFleet('initech')
    await introduce(a, c)
    await onlyLastResort()
    const just = await b.seal(a, 'just in time')
    await onlyLastResort()
    const late = await c.seal(a, 'a moment too late')
    for (const envelope of [just, late]) expect(decodeEnvelope(envelope).handshake).toMatchObject({ pqKind: 'last-resort' })
    clock.advance(WEEK)
    await a.core.stock.rotate()
    clock.advance(14 * DAY - 1)
    await a.core.stock.rotate()
    expect(await a.open(b, just)).toBe('just in time')
    clock.advance(1)
    const before = await idsOf('signed')
    await a.core.stock.rotate()
    expect(await idsOf('signed')).toEqual(before.slice(1))
    expect(await a.tryOpen(c, late)).toMatchObject({ ok: false, code: 'Decryption' })
    await c.stop()
  })

  it('a year of weeks leaves no private half that is older than the rule allows', { timeout: 60_000 }, async () => {
    let most = 0
    for (let week = 0; week < 52; week++) {
      clock.advance(WEEK)
      await a.core.stock.rotate()
      await bundleFor(b)
      expect(await overdue()).toBe(0)
      most = Math.max(most, (await idsOf('signed')).length)
    }
    console.log(`52 weekly rotations: ${most} private halves of signed prekeys at most, 0 overdue`)
    expect(most).toBe(3)
  })

  it('are replaced early when the clock has gone back, and live no longer for it', async () => {
    clock.advance(30 * DAY)
    await a.core.stock.rotate()
    const ahead = await idsOf('signed')
    await bundleFor(b)
    clock.advance(-60 * DAY)
    await a.core.stock.rotate()
    expect(await idsOf('signed')).toHaveLength(ahead.length + 1)
    expect(
      await a.context.db.prekey.count({
        where: { OR: [{ retiredAt: { gt: new Date(clock.now()) } }, { handedAt: { gt: new Date(clock.now()) } }] },
      }),
    ).toBe(0)
    clock.advance(14 * DAY)
    await a.core.stock.rotate()
    expect(await overdue()).toBe(0)
    expect(await a.context.db.prekey.count({ where: { id: { in: ahead } } })).toBe(0)
  })

  it('a certificate of a clock that was ahead is issued again', async () => {
    const { peerIds, logKey, sequence } = (await a.context.db.certificate.findFirst())!
    const keys = { peerId: peerIds[0]!, logKey }
    expect(await ensureCertificate(a.context, a.core.identity, 'test fleet', keys)).toBe(false)
    clock.advance(-60_000)
    expect(await ensureCertificate(a.context, a.core.identity, 'test fleet', keys)).toBe(false)
    clock.advance(-2 * DAY)
    expect(await ensureCertificate(a.context, a.core.identity, 'test fleet', keys)).toBe(true)
    expect(await a.context.db.certificate.findMany({ select: { sequence: true } })).toEqual([{ sequence }, { sequence: sequence + 1 }])
  })
})

describe('renewAllPrekeys', () => {
  it('destroys every key, handed out or not, and makes a full stock; undone, everything is as before', async () => {
    const late = await b.seal(a, 'to keys that are gone')
    clock.advance(WEEK)
    await a.core.stock.rotate()
    const ids = async () => (await a.context.db.prekey.findMany({ orderBy: { id: 'asc' } })).map(({ id }) => id)
    const before = await ids()
    const used = a.context.arena.usedBytes
    const renew = (fail: boolean) =>
      SecretScope.run((scope) =>
        a.context.db.$transaction(async (tx) => {
          const destroyed = await renewAllPrekeys(a.context, a.core.identity, tx, scope)
          if (fail) throw new Error('undone')
          return destroyed
        }),
      )
    await expect(renew(true)).rejects.toThrow('undone')
    expect(await ids()).toEqual(before)
    expect(await renew(false)).toBe(before.length)
    const after = await ids()
    expect(after).toHaveLength(202)
    expect(after.filter((id) => before.includes(id))).toEqual([])
    expect(a.context.arena.usedBytes).toBe(used)
    expect(await a.tryOpen(b, late)).toMatchObject({ ok: false, code: 'Decryption' })
    expect(oneTimeOf(await bundleFor(b))).toHaveLength(2)
  })
})

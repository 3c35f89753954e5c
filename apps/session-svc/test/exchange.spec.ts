import { encodeEnvelope, decodeEnvelope } from '@tallystick/wire/envelope'
import { describe, expect, it } from 'vitest'
import { setPeerTrust } from '../src/peers/peer-trust.js'
import { bytes, digestOf, plain, TestFleet } from './fleet.js'
import { a, b, twoFleetsForEachTest } from './two-fleets.js'

twoFleetsForEachTest()

describe('seal and open', () => {
  it('carries messages both ways, ten times', async () => {
    for (let i = 0; i < 10; i++) {
      expect(await b.open(a, await a.seal(b, `there ${i}`))).toBe(`there ${i}`)
      expect(await a.open(b, await b.seal(a, `back ${i}`))).toBe(`back ${i}`)
    }
    const [session] = await a.sessions()
    expect(session).toMatchObject({ epoch: 1, role: 'initiator', confirmed: true, handshake: null, sentApplication: 10, received: 10 })
    expect(await b.sessions()).toHaveLength(1)
    expect(await a.audited()).toContain('SessionCreated')
    expect(await b.audited()).toEqual(expect.arrayContaining(['SessionCreated', 'KeysZeroized', 'KeyStored']))
  })

  it('returns identical bytes for the same message id, and burns no key', async () => {
    const messageId = a.newId()
    const first = await a.seal(b, 'once', { messageId })
    const again = await a.seal(b, 'once', { messageId })
    expect(again).toEqual(first)
    expect((await a.sessions())[0]!.sentApplication).toBe(1)
    expect(await a.trySeal(b, 'something else', { messageId })).toMatchObject({ ok: false, code: 'Conflict', messageId })
  })

  it('does a batch under one lock, a repeated id inside it included', async () => {
    const ids = Array.from({ length: 8 }, () => a.newId())
    const items = [...ids, ids[0]!].map((messageId) => ({
      messageId,
      fleetId: b.id,
      class: 'application' as const,
      payload: bytes(`item ${ids.indexOf(messageId)}`),
    }))
    const sealed = await a.core.sealing.seal(items)
    expect(sealed.map((outcome) => outcome.ok)).toEqual(Array(9).fill(true))
    expect(sealed[8]).toEqual(sealed[0])
    expect(a.fetched).toBe(1)
    const envelopes = sealed.slice(0, 8).map((outcome) => (outcome.ok ? outcome.envelope : new Uint8Array()))
    const shuffled = [5, 2, 7, 0, 1, 6, 4, 3]
    const opened = await b.core.opening.open(
      shuffled.map((i) => ({ fleetId: a.id, envelopeDigest: digestOf(envelopes[i]!), envelope: plain(envelopes[i]!) })),
    )
    expect(opened.map((outcome) => (outcome.ok ? Buffer.from(outcome.payload).toString() : outcome.code))).toEqual(
      shuffled.map((i) => `item ${i}`),
    )
  })

  it('gives the same answer until acknowledged, then DuplicateMessage, audited once', async () => {
    const envelope = await a.seal(b, 'keep me')
    expect(await b.open(a, envelope)).toBe('keep me')
    expect(await b.open(a, envelope)).toBe('keep me')
    expect((await b.sessions())[0]!.received).toBe(1)
    await b.acknowledge(envelope)
    await b.acknowledge(envelope)
    expect(await b.tryOpen(a, envelope)).toMatchObject({ ok: false, code: 'DuplicateMessage', envelopeDigest: digestOf(envelope) })
    expect(await b.tryOpen(a, envelope)).toMatchObject({ ok: false, code: 'DuplicateMessage' })
    expect((await b.audited()).filter((type) => type === 'ReplayRejected')).toHaveLength(1)
    const kept = await b.context.db.openedEnvelope.findFirst()
    expect(kept).toMatchObject({ plaintext: null, replays: 2 })
  })

  it('refuses a changed commitment as VerificationFailed; the genuine envelope still opens', async () => {
    for (const when of ['with a handshake', 'later']) {
      const envelope = await a.seal(b, when)
      const { headerBytes, handshakeBytes, ciphertext, commit } = decodeEnvelope(envelope)
      const edited = encodeEnvelope({
        headerBytes,
        handshakeBytes,
        ciphertext,
        commit: commit.map((byte, i) => (i === 3 ? byte ^ 1 : byte)),
      })
      const before = await b.context.db.session.findMany()
      expect(await b.tryOpen(a, edited)).toMatchObject({ ok: false, code: 'VerificationFailed' })
      expect(await b.context.db.session.findMany()).toEqual(before)
      expect(await b.open(a, envelope)).toBe(when)
      expect(await a.open(b, await b.seal(a, 'reply'))).toBe('reply')
    }
    expect((await b.audited()).filter((type) => type === 'VerificationFailed')).toHaveLength(2)
  })

  it('changes nothing for garbage, another peer’s envelope, a wrong digest or an unknown session', async () => {
    const envelope = await a.seal(b, 'genuine')
    const damaged = plain(envelope)
    damaged[damaged.length - 5]! ^= 1
    expect(await b.tryOpen(a, bytes('not an envelope'))).toMatchObject({ ok: false, code: 'Serialization' })
    expect(await b.tryOpen(a, damaged)).toMatchObject({ ok: false, code: 'Decryption' })
    expect(await b.tryOpen({ id: `tsf1${'a'.repeat(52)}` }, envelope)).toMatchObject({ ok: false, code: 'UnauthorizedPeer' })
    const [wrong] = await b.core.opening.open([{ fleetId: a.id, envelopeDigest: digestOf(damaged), envelope: plain(envelope) }])
    expect(wrong).toMatchObject({ ok: false, code: 'InvalidRequest' })
    expect(await b.sessions()).toHaveLength(0)
    expect(await b.open(a, envelope)).toBe('genuine')
    expect(await a.open(b, await b.seal(a, 'confirm'))).toBe('confirm')
    const bare = await a.seal(b, 'no handshake any more')
    const { headerBytes, ciphertext, commit } = decodeEnvelope(bare)
    const elsewhere = headerBytes.slice()
    const at = Buffer.from(elsewhere).indexOf(Buffer.from(decodeEnvelope(bare).header.sid))
    elsewhere[at]! ^= 1
    expect(
      await b.tryOpen(a, encodeEnvelope({ headerBytes: elsewhere, handshakeBytes: new Uint8Array(), ciphertext, commit })),
    ).toMatchObject({ ok: false, code: 'ResyncRequired' })
    expect(await b.open(a, bare)).toBe('no handshake any more')
  })

  it('refuses blocked and unknown peers in both directions', async () => {
    const envelope = await a.seal(b, 'on its way')
    expect(await setPeerTrust(b.context, { fleetId: a.id, trust: 'blocked' })).toEqual({ ok: true })
    expect(await b.tryOpen(a, envelope)).toMatchObject({ ok: false, code: 'UnauthorizedPeer' })
    expect(await b.trySeal(a, 'no')).toMatchObject({ ok: false, code: 'PeerBlocked' })
    expect(await a.bundles.fetch(b.id)).toMatchObject({ ok: false, code: 'UnauthorizedPeer' })
    expect(await b.trySeal({ id: `tsf1${'b'.repeat(52)}` } as TestFleet, 'who')).toMatchObject({ ok: false, code: 'NotFound' })
    expect(await b.audited()).toEqual(expect.arrayContaining(['AdminAction', 'AuthFailed']))
    await setPeerTrust(b.context, { fleetId: a.id, trust: 'verified' })
    expect(await b.open(a, envelope)).toBe('on its way')
  })

  it('refuses with Network and leaves no trace when no bundle can be had; other peers go on', async () => {
    const { peers } = a
    a.peers = undefined
    const messageId = a.newId()
    expect(await a.trySeal(b, 'later', { messageId })).toMatchObject({
      ok: false,
      code: 'Network',
      retryAfterMs: expect.any(Number) as number,
    })
    expect(await a.sessions()).toHaveLength(0)
    a.peers = peers
    expect(await b.open(a, await a.seal(b, 'later', { messageId }))).toBe('later')
  })
})

describe('simultaneous start', () => {
  it('converges on the session with the lower ephemeral key; nothing is lost', async () => {
    const [fromA, fromB] = await Promise.all([a.seal(b, 'from a'), b.seal(a, 'from b')])
    const lateA = await a.seal(b, 'late from a')
    expect(await b.open(a, fromA)).toBe('from a')
    expect(await a.open(b, fromB)).toBe('from b')
    const lateB = await b.seal(a, 'late from b')
    expect(await a.open(b, lateB)).toBe('late from b')
    expect(await b.open(a, lateA)).toBe('late from a')
    const [ofA, ofB] = [await a.sessions(), await b.sessions()]
    expect([ofA.length, ofB.length]).toEqual([2, 2])
    const active = [ofA, ofB].map((sessions) => sessions.find((session) => session.active)!)
    expect(active[0]!.sid).toEqual(active[1]!.sid)
    const lowest = [...ofA].sort((x, y) => Buffer.compare(x.ephemeralKey, y.ephemeralKey))[0]!
    expect(active[0]!.sid).toEqual(lowest.sid)
    expect(await b.open(a, await a.seal(b, 'one'))).toBe('one')
    expect(await a.open(b, await b.seal(a, 'two'))).toBe('two')
  })
})

describe('a restart', () => {
  it('continues the session on the same database with the same key file', async () => {
    expect(await b.open(a, await a.seal(b, 'before'))).toBe('before')
    const restarted = await a.again()
    expect(restarted.id).toBe(a.id)
    expect(await restarted.open(b, await b.seal(a, 'reply'))).toBe('reply')
    expect(await b.open(a, await restarted.seal(b, 'after'))).toBe('after')
    expect(await a.sessions()).toHaveLength(1)
    await restarted.stop()
  })

  it('refuses another key file instead of making a second identity', async () => {
    await expect(a.again({ kek: new Uint8Array(32) })).rejects.toMatchObject({ code: 'KeyStorage', reason: 'accessControlFailed' })
  })
})

import { decodeEnvelope, encodeEnvelope } from '@tallystick/wire/envelope'
import { describe, expect, it } from 'vitest'
import { AUDITED_FAILURES_PER_PEER, EARLY_EPOCH_MS, ID_RETENTION_MS, RESYNC_ANSWER_MS, RESYNCS_PER_DAY } from '../src/limits.js'
import { attention, requestResync, requestRotation } from '../src/recovery/requests.js'
import { readPeer } from '../src/peers/read-peer.js'
import { expire } from '../src/session-core.js'
import { SessionStore } from '../src/sessions/sessions.store.js'
import { bytes, digestOf, introduce, plain, TestFleet } from './fleet.js'
import { a, b, clock, postgres, round, twoFleetsForEachTest } from './two-fleets.js'

const HOUR = 3_600_000

twoFleetsForEachTest()

const headerOf = (envelope: Uint8Array) => decodeEnvelope(envelope).header
const handshakeOf = (envelope: Uint8Array) => decodeEnvelope(envelope).handshake

/** One message each way. */
async function talk(one: TestFleet, other: TestFleet): Promise<void> {
  expect(await other.open(one, await one.seal(other, 'ping'))).toBe('ping')
  expect(await one.open(other, await other.seal(one, 'pong', { class: 'control' }))).toBe('pong')
}

/** A message of the right session that does not decrypt. */
async function spoilt(from: TestFleet, to: TestFleet): Promise<Uint8Array> {
  const envelope = decodeEnvelope(await from.seal(to, 'spoilt', { class: 'control' }))
  const ciphertext = envelope.ciphertext.slice()
  ciphertext[0]! ^= 1
  return encodeEnvelope({ ...envelope, ciphertext })
}

/** As if this fleet could not read what comes any more. */
async function failTimes(count: number, at: TestFleet, from: TestFleet): Promise<void> {
  for (let i = 0; i < count; i++) expect(await at.tryOpen(from, await spoilt(from, at))).toMatchObject({ ok: false, code: 'Decryption' })
}

const stateOf = async (at: TestFleet, of: TestFleet) => (await at.peer(of)).recovery
const named = async (at: TestFleet) => (await attention(at.context)).items.map(({ need }) => need)

describe('the understanding with a peer', () => {
  it('ok, suspect, ok again; three failures: a new session that continues the old one, and both are ok', async () => {
    await talk(a, b)
    await failTimes(1, a, b)
    expect(await stateOf(a, b)).toBe('suspect')
    expect(await readPeer(a.context, b.id)).toMatchObject({ keyState: 'suspect', recovery: { state: 'suspect', since: clock.now() } })
    await talk(a, b)
    expect(await stateOf(a, b)).toBe('ok')
    await failTimes(3, a, b)
    expect(await stateOf(a, b)).toBe('resync_required')
    expect(await named(a)).toEqual(['resync'])
    expect(await readPeer(a.context, b.id)).toMatchObject({ keyState: 'resync' })

    const first = await a.seal(b, 'anew', { class: 'control' })
    expect(headerOf(first).epoch).toBe(2)
    expect(handshakeOf(first)).toMatchObject({ continuity: expect.any(Uint8Array) as Uint8Array })
    expect(await stateOf(a, b)).toBe('resync_sent')
    expect(await named(a)).toEqual([])
    expect(await b.open(a, first)).toBe('anew')
    expect(await a.open(b, await b.seal(a, 'welcome', { class: 'control' }))).toBe('welcome')
    expect([await stateOf(a, b), await stateOf(b, a)]).toEqual(['ok', 'ok'])
    const audited = await a.audited()
    expect(audited.filter((type) => type.startsWith('Resync'))).toEqual(['ResyncStarted', 'ResyncCompleted'])
    expect((await a.sessions()).map(({ epoch, lost, active }) => [epoch, lost, active])).toEqual([
      [1, true, false],
      [2, false, true],
    ])
  })

  it('without an answer for a minute it starts over; then both are ok, and what the old session brings does not count', async () => {
    await talk(a, b)
    const late = [await spoilt(b, a), await spoilt(b, a), await spoilt(b, a)]
    await failTimes(3, a, b)
    const first = await a.seal(b, 'lost on the way', { class: 'control' })
    clock.advance(RESYNC_ANSWER_MS - 1)
    expect(headerOf(await a.seal(b, 'same session', { class: 'control' })).sid).toEqual(headerOf(first).sid)
    clock.advance(1)
    expect(await named(a)).toEqual(['resync'])
    const second = await a.seal(b, 'started over', { class: 'control' })
    expect(handshakeOf(second)).toMatchObject({ reset: true })
    expect(headerOf(second).epoch).toBe(3)
    expect(await b.open(a, second)).toBe('started over')
    expect(await a.open(b, await b.seal(a, 'yes', { class: 'control' }))).toBe('yes')
    for (const envelope of late) expect(await a.tryOpen(b, envelope)).toMatchObject({ ok: false, code: 'Decryption' })
    expect([await stateOf(a, b), await stateOf(b, a)]).toEqual(['ok', 'ok'])
    const bodies = (await b.context.db.auditOutbox.findMany()).map(({ event }) => event as { type: string; body: object })
    expect(bodies.find(({ type }) => type === 'ResyncCompleted')!.body).toMatchObject({ epoch: 3, continuity: 'lost' })
    await talk(a, b)
  })

  it('both start over at once: both accept, both send on the same one, nothing is lost', async () => {
    await talk(a, b)
    for (const [one, other] of [
      [a, b],
      [b, a],
    ] as const)
      await requestResync(one.context, other.id)
    const [fromA, fromB] = [await a.seal(b, 'from a'), await b.seal(a, 'from b')]
    expect([handshakeOf(fromA)!.reset, handshakeOf(fromB)!.reset]).toEqual([true, true])
    expect(await b.open(a, fromA)).toBe('from a')
    expect(await a.open(b, fromB)).toBe('from b')
    expect((await a.active()).sid).toEqual((await b.active()).sid)
    await talk(a, b)
    expect([await stateOf(a, b), await stateOf(b, a)]).toEqual(['ok', 'ok'])
  })
})

describe('policy', () => {
  it('manual: nothing is begun and nothing accepted until a person asks, on either side', async () => {
    await talk(a, b)
    const [manualA, manualB] = [
      await a.again({ limits: { resyncPolicy: 'manual' } }),
      await b.again({ limits: { resyncPolicy: 'manual' } }),
    ]
    await failTimes(3, manualA, b)
    expect(await named(manualA)).toEqual([])
    expect(await manualA.trySeal(b, 'x')).toMatchObject({ ok: false, code: 'ResyncRequired', retryAfterMs: expect.any(Number) as number })
    expect(await requestResync(manualA.context, b.id)).toEqual({ ok: true, state: 'resync_required' })
    expect(await named(manualA)).toEqual(['resync'])
    const reset = await manualA.seal(b, 'x')
    expect(handshakeOf(reset)).toMatchObject({ reset: true })
    const before = await manualB.sessions()
    expect(await manualB.tryOpen(a, reset)).toMatchObject({ ok: false, code: 'ResyncRequired', retryAfterMs: expect.any(Number) as number })
    expect(await manualB.sessions()).toEqual(before)
    await requestResync(manualB.context, a.id)
    expect(await manualB.open(a, reset)).toBe('x')
    expect(await manualA.open(b, await manualB.seal(a, 'y'))).toBe('y')
    expect([await stateOf(a, b), await stateOf(b, a)]).toEqual(['ok', 'ok'])
    for (const fleet of [a, b]) expect(await fleet.audited()).toContain('AdminAction')
    await manualA.stop()
    await manualB.stop()
  })

  it('at most 10 a day by itself, then it waits for a person or the next day', { timeout: 60_000 }, async () => {
    await talk(a, b)
    let begun = 0
    for (; begun < 20; begun++) {
      await failTimes(3, a, b)
      const outcome = await a.trySeal(b, 'anew')
      if (!outcome.ok) {
        expect(outcome).toMatchObject({ code: 'ResyncRequired', retryAfterMs: expect.any(Number) as number })
        break
      }
      await b.open(a, outcome.envelope)
      await a.open(b, await b.seal(a, 'yes', { class: 'control' }))
      expect(await stateOf(a, b)).toBe('ok')
      clock.advance(11 * 60_000)
    }
    console.log(`resyncs in one day without a person: ${begun}`)
    expect(begun).toBe(RESYNCS_PER_DAY)
    expect(await named(a)).toEqual([])
    clock.advance(24 * HOUR)
    expect(await named(a)).toEqual(['resync'])
  })
})

describe('a damaged row', () => {
  const damage = (fleet: TestFleet) =>
    fleet.context.db.$executeRaw`UPDATE session.session SET state = set_byte(state, 20, get_byte(state, 20) # 1) WHERE active`

  it('of the session that is sent on: made anew with its peer, the other peers of the call are not touched', async () => {
    const c = await TestFleet.start({ url: (await postgres.createFleet(`initech${round}`)).urls.session, clock })
    await introduce(a, c)
    await talk(a, b)
    await damage(a)
    await talk(a, c)
    const items = [b, c].map((peer) => ({ messageId: a.newId(), fleetId: peer.id, class: 'application' as const, payload: bytes('x') }))
    const outcomes = await a.core.sealing.seal(items)
    expect(outcomes.map(({ ok }) => ok)).toEqual([true, true])
    const [toB, toC] = outcomes.map((outcome) => (outcome.ok ? outcome.envelope : new Uint8Array()))
    expect(handshakeOf(toB!)).toMatchObject({ reset: true })
    expect(handshakeOf(toC!)).toBeUndefined()
    expect(await b.open(a, toB!)).toBe('x')
    expect(await c.open(a, toC!)).toBe('x')
    expect(await a.open(b, await b.seal(a, 'yes'))).toBe('yes')
    expect([await stateOf(a, b), await stateOf(a, c)]).toEqual(['ok', 'ok'])
    await c.stop()
  })

  it('met by a message: refused, its session given up, what else is in the batch opens', async () => {
    await talk(a, b)
    const old = await b.seal(a, 'of the first epoch')
    clock.advance(24 * HOUR)
    const anew = await b.seal(a, 'of the second epoch')
    await damage(a)
    const items = [old, anew].map((envelope) => ({ fleetId: b.id, envelopeDigest: digestOf(envelope), envelope: plain(envelope) }))
    const [first, second] = await a.core.opening.open(items)
    expect(first).toMatchObject({ ok: false, code: 'ResyncRequired' })
    // Without the damaged state nothing says that the peer continues what was.
    expect(second).toMatchObject({ ok: false, code: 'ContinuityBroken' })
    expect(await stateOf(a, b)).toBe('resync_required')
    const reset = await a.seal(b, 'anew')
    expect(await b.open(a, reset)).toBe('anew')
    expect(await a.open(b, await b.seal(a, 'yes'))).toBe('yes')
    expect(await stateOf(a, b)).toBe('ok')
  })
})

describe('continuity', () => {
  it('a rotation whose exporter this side has lost is refused, and makes the peer suspect', async () => {
    await talk(a, b)
    // B has lost its newest epoch's state, and A goes on to the next.
    await b.context.db.session.updateMany({ data: { state: null, active: false, wipedAt: new Date(clock.now()) } })
    clock.advance(24 * HOUR)
    const next = await a.seal(b, 'next')
    expect(handshakeOf(next)!.continuity).toBeDefined()
    expect(await b.tryOpen(a, next)).toMatchObject({ ok: false, code: 'ContinuityBroken' })
    expect(await stateOf(b, a)).toBe('suspect')
  })

  it('a handshake ahead of one that has not come waits for it, ten minutes long', async () => {
    await talk(a, b)
    await requestRotation(a.context, b.id)
    await talk(a, b)
    await requestRotation(a.context, b.id)
    await talk(a, b)
    await requestRotation(a.context, b.id)
    const fourth = await a.seal(b, 'epoch 4')
    expect(headerOf(fourth).epoch).toBe(4)
    await b.context.db.session.updateMany({ data: { epoch: 1 } })
    expect(await b.tryOpen(a, fourth)).toMatchObject({ ok: false, code: 'NotReady', retryAfterMs: expect.any(Number) as number })
    clock.advance(EARLY_EPOCH_MS - 1)
    expect(await b.tryOpen(a, fourth)).toMatchObject({ ok: false, code: 'NotReady' })
    expect(await stateOf(b, a)).toBe('ok')
    clock.advance(1)
    expect(await b.tryOpen(a, fourth)).toMatchObject({ ok: false, code: 'ContinuityBroken' })
    expect(await stateOf(b, a)).toBe('suspect')
  })

  it('a reset below what both have had is refused, and one that leaps too far', async () => {
    await talk(a, b)
    await requestResync(a.context, b.id)
    const reset = await a.seal(b, 'reset to epoch 2')
    expect(headerOf(reset).epoch).toBe(2)
    await b.context.db.session.updateMany({ data: { epoch: 2 } })
    expect(await b.tryOpen(a, reset)).toMatchObject({ ok: false, code: 'ContinuityBroken' })
    await b.context.db.session.updateMany({ data: { epoch: 2 ** 20 + 3 } })
    await requestResync(a.context, b.id)
    expect(await a.trySeal(b, 'x')).toMatchObject({ ok: false, code: 'VerificationFailed' })
  })
})

describe('again', () => {
  it('gives the stored bytes while their session is the present one, and encrypts anew when it is over', async () => {
    await talk(a, b)
    const messageId = a.newId()
    const sealed = await a.seal(b, 'invoice', { messageId })
    expect(await a.seal(b, 'invoice', { messageId, again: true })).toEqual(sealed)
    await requestRotation(a.context, b.id)
    await talk(a, b)
    // Superseded: without being asked the same bytes, asked for again in the present session.
    expect(await a.seal(b, 'invoice', { messageId })).toEqual(sealed)
    const resent = await a.seal(b, 'invoice', { messageId, again: true })
    expect(headerOf(resent).epoch).toBe(2)
    expect(await a.seal(b, 'invoice', { messageId })).toEqual(resent)
    expect(await a.seal(b, 'invoice', { messageId, again: true })).toEqual(resent)
    expect(await b.open(a, resent)).toBe('invoice')
    expect(await a.trySeal(b, 'other', { messageId, again: true })).toMatchObject({ ok: false, code: 'Conflict' })
    // Lost: the same call begins the new session.
    await requestResync(a.context, b.id)
    const third = await a.seal(b, 'invoice', { messageId, again: true })
    expect(handshakeOf(third)).toMatchObject({ reset: true })
    expect(await b.open(a, third)).toBe('invoice')
  })
})

describe('what is kept, and for how long', () => {
  it('ids and digests of thirty days ago are gone, unacknowledged messages are not', async () => {
    await talk(a, b)
    const [done, open] = [await a.seal(b, 'done'), await a.seal(b, 'open')]
    for (const envelope of [done, open]) await b.open(a, envelope)
    await b.acknowledge(done)
    clock.advance(ID_RETENTION_MS)
    await expire(a.context)
    await expire(b.context)
    expect([await a.context.db.sealedEnvelope.count(), await b.context.db.openedEnvelope.count()]).toEqual([3, 3])
    clock.advance(1)
    await expire(a.context)
    await expire(b.context)
    // Of three opened by b, the greeting was never acknowledged either.
    expect([await a.context.db.sealedEnvelope.count(), await b.context.db.openedEnvelope.count()]).toEqual([0, 2])
    expect(await b.open(a, open)).toBe('open')
  })

  it('forged duplicates without end leave ten events and one number', async () => {
    await talk(a, b)
    const envelope = await b.seal(a, 'x')
    await a.open(b, envelope)
    // Other bytes of the same message each time: to the ratchet a duplicate, to the store a new digest.
    const forge = (i: number) => {
      const decoded = decodeEnvelope(envelope)
      const ciphertext = decoded.ciphertext.slice()
      ciphertext[i % ciphertext.length]! ^= 1
      return encodeEnvelope({ ...decoded, ciphertext })
    }
    for (let i = 0; i < 30; i++) expect(await a.tryOpen(b, forge(i))).toMatchObject({ ok: false, code: 'DuplicateMessage' })
    const rejected = async () => (await a.audited()).filter((type) => type === 'ReplayRejected').length
    expect(await rejected()).toBe(AUDITED_FAILURES_PER_PEER)
    clock.advance(60_000)
    await a.tryOpen(b, forge(31))
    expect(await rejected()).toBe(AUDITED_FAILURES_PER_PEER + 1)
    const events = (await a.context.db.auditOutbox.findMany()).map(({ event }) => event as { type: string; body: object })
    expect(events.find(({ type }) => type === 'RateLimitTriggered')!.body).toMatchObject({ peer: b.id, count: 20 })
  })
})

describe('one call for several peers', () => {
  it('a peer whose part fails is refused for itself; a fault of all parts is a fault', async () => {
    class Failing extends SessionStore {
      only: string | undefined
      override async active(tx: Parameters<SessionStore['active']>[0], fleetId: string) {
        if (this.only === undefined || this.only === fleetId) throw new Error('broken on purpose')
        return super.active(tx, fleetId)
      }
    }
    const store = new Failing()
    const failing = await a.again({ store })
    const c = await TestFleet.start({ url: (await postgres.createFleet(`umbrella${round}`)).urls.session, clock })
    await introduce(failing, c)
    const items = () =>
      [b, c].map((peer) => ({ messageId: a.newId(), fleetId: peer.id, class: 'application' as const, payload: bytes('x') }))
    store.only = b.id
    expect(await failing.core.sealing.seal(items())).toMatchObject([
      { ok: false, code: 'Internal', retryAfterMs: expect.any(Number) as number },
      { ok: true },
    ])
    store.only = undefined
    await expect(failing.core.sealing.seal(items())).rejects.toThrow('broken on purpose')
    await failing.stop()
    await c.stop()
  })
})

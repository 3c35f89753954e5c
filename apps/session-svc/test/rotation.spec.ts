import { decodeEnvelope } from '@tallystick/wire/envelope'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { startPostgres, type TestPostgres } from '../../../tools/testing/postgres.ts'
import { expire } from '../src/session-core.js'
import { bytes, introduce, TestClock, TestFleet } from './fleet.js'

const HOUR = 3_600_000
let postgres: TestPostgres
let clock: TestClock
let a: TestFleet
let b: TestFleet
let round = 0

beforeAll(async () => {
  postgres = await startPostgres()
})
afterAll(() => postgres.stop())

beforeEach(async () => {
  round += 1
  clock = new TestClock()
  const [first, second] = [await postgres.createFleet(`acme${round}`), await postgres.createFleet(`globex${round}`)]
  a = await TestFleet.start({ url: first.urls.session, clock })
  b = await TestFleet.start({ url: second.urls.session, clock })
  await introduce(a, b)
  return async () => {
    await a.stop()
    await b.stop()
  }
})

const epochOf = (envelope: Uint8Array) => decodeEnvelope(envelope).header.epoch

async function sealMany(from: TestFleet, to: TestFleet, count: number): Promise<Uint8Array[]> {
  const envelopes: Uint8Array[] = []
  while (envelopes.length < count) {
    const items = Array.from({ length: Math.min(50, count - envelopes.length) }, () => ({
      messageId: from.newId(),
      fleetId: to.id,
      class: 'application' as const,
      payload: bytes('x'),
    }))
    for (const outcome of await from.core.sealing.seal(items)) {
      if (!outcome.ok) throw new Error(outcome.code)
      envelopes.push(outcome.envelope)
    }
  }
  return envelopes
}

/** Only with an answer there is an exporter that the next epoch can be bound to. */
async function answered(): Promise<void> {
  await b.open(a, await a.seal(b, 'hello', { class: 'control' }))
  await a.open(b, await b.seal(a, 'hello back', { class: 'control' }))
}

describe('rotation by count', () => {
  it('messages 1 to 100 use epoch 1, message 101 epoch 2, continued from it; both directions', { timeout: 60_000 }, async () => {
    for (const [from, to, epoch] of [
      [a, b, 1],
      [b, a, 2],
    ] as const) {
      expect(await to.open(from, await from.seal(to, 'first'))).toBe('first')
      expect(await from.open(to, await to.seal(from, 'receipt', { class: 'control' }))).toBe('receipt')
      const rest = await sealMany(from, to, 100)
      expect(rest.slice(0, 99).every((envelope) => epochOf(envelope) === epoch)).toBe(true)
      expect(epochOf(rest[99]!)).toBe(epoch + 1)
      const { handshake } = decodeEnvelope(rest[99]!)
      expect(handshake!.continuity).toHaveLength(32)
      for (const envelope of rest) await to.open(from, envelope)
      expect(await from.open(to, await to.seal(from, 'in the new epoch', { class: 'control' }))).toBe('in the new epoch')
      expect((await from.sessions()).find((session) => session.active)).toMatchObject({
        epoch: epoch + 1,
        confirmed: true,
        sentApplication: 1,
      })
    }
    for (const fleet of [a, b]) expect((await fleet.audited()).filter((type) => type === 'SessionRotated')).toHaveLength(2)
  })

  it(
    'a burst to a peer that has not answered waits for its first receipt, and then goes on in the next epoch',
    { timeout: 60_000 },
    async () => {
      const envelopes = await sealMany(a, b, 100)
      const item = { messageId: a.newId(), fleetId: b.id, class: 'application' as const, payload: bytes('x') }
      expect((await a.core.sealing.seal([item]))[0]).toMatchObject({
        ok: false,
        code: 'NotReady',
        retryAfterMs: expect.any(Number) as number,
      })
      for (const envelope of envelopes) expect(await b.open(a, envelope)).toBe('x')
      await a.open(b, await b.seal(a, 'receipt', { class: 'control' }))
      const [next] = await a.core.sealing.seal([item])
      if (!next?.ok) throw new Error(next?.code)
      expect(decodeEnvelope(next.envelope)).toMatchObject({
        header: { epoch: 2 },
        handshake: { continuity: expect.any(Uint8Array) as Uint8Array },
      })
      expect(await b.open(a, next.envelope)).toBe('x')
    },
  )

  it('control messages do not count, and have a cap of their own', async () => {
    await answered()
    const small = await a.again({ limits: { rotateAfterMessages: 2, controlMessagesPerEpoch: 4 } })
    const epochs: number[] = []
    for (const kind of ['application', 'control', 'control', 'application', 'control', 'control'] as const)
      epochs.push(epochOf(await small.seal(b, 'x', { class: kind })))
    expect(epochs).toEqual([1, 1, 1, 1, 1, 2])
    await small.stop()
  })

  it('queues instead of exceeding the limit when no bundle can be had, and counts the failure', async () => {
    await answered()
    const small = await a.again({ limits: { rotateAfterMessages: 2 } })
    await small.seal(b, 'one')
    await small.seal(b, 'two')
    small.peers = undefined
    const batch = await small.core.sealing.seal(
      (['application', 'control'] as const).map((kind) => ({ messageId: small.newId(), fleetId: b.id, class: kind, payload: bytes('x') })),
    )
    expect(batch.map((outcome) => outcome.ok)).toEqual([false, false])
    expect(batch[0]).toMatchObject({ code: 'Network', retryAfterMs: expect.any(Number) as number })
    expect((await a.sessions())[0]!.sentApplication).toBe(2)
    expect(await small.registry.getSingleMetricAsString('tallystick_session_rotation_failures_total')).toMatch(/ 1$/m)
    small.peers = a.peers
    expect(epochOf(await small.seal(b, 'three'))).toBe(2)
    await small.stop()
  })
})

describe('rotation by age', () => {
  it('the first message at an age of 24 h uses the next epoch, a millisecond earlier the old one', async () => {
    await answered()
    expect(await b.open(a, await a.seal(b, 'start'))).toBe('start')
    clock.advance(24 * HOUR - 1)
    expect(epochOf(await a.seal(b, 'just in time'))).toBe(1)
    clock.advance(1)
    expect(epochOf(await a.seal(b, 'a day', { class: 'control' }))).toBe(2)
  })

  it('a clock that goes back rotates early; a small correction does not', async () => {
    await answered()
    await a.seal(b, 'start')
    clock.advance(HOUR)
    await a.seal(b, 'an hour later')
    clock.advance(-60_000)
    expect(epochOf(await a.seal(b, 'corrected'))).toBe(1)
    clock.advance(-HOUR)
    expect(epochOf(await a.seal(b, 'set back'))).toBe(2)
    expect(epochOf(await a.seal(b, 'no second time'))).toBe(2)
  })
})

describe('old epochs', () => {
  it('both sides rotate at once: same winner, nothing lost', async () => {
    expect(await b.open(a, await a.seal(b, 'hello'))).toBe('hello')
    expect(await a.open(b, await b.seal(a, 'hello back'))).toBe('hello back')
    clock.advance(24 * HOUR)
    const [fromA, fromB] = await Promise.all([a.seal(b, 'new from a'), b.seal(a, 'new from b')])
    expect([epochOf(fromA), epochOf(fromB)]).toEqual([2, 2])
    expect(await a.open(b, fromB)).toBe('new from b')
    expect(await b.open(a, fromA)).toBe('new from a')
    const active = [await a.sessions(), await b.sessions()].map((sessions) => sessions.find((session) => session.active)!.sid)
    expect(active[0]).toEqual(active[1])
    expect(await a.open(b, await b.seal(a, 'one'))).toBe('one')
    expect(await b.open(a, await a.seal(b, 'two'))).toBe('two')
  })

  it('a late message of the old epoch still opens; after the grace time the state is gone', async () => {
    await answered()
    expect(await b.open(a, await a.seal(b, 'hello'))).toBe('hello')
    const [late, later] = [await a.seal(b, 'late'), await a.seal(b, 'later')]
    clock.advance(24 * HOUR)
    expect(await b.open(a, await a.seal(b, 'new epoch'))).toBe('new epoch')
    expect(await b.open(a, late)).toBe('late')
    clock.advance(72 * HOUR + 1)
    await expire(b.context)
    expect(await b.tryOpen(a, later)).toMatchObject({ ok: false, code: 'EpochExpired' })
    expect((await b.sessions())[0]).toMatchObject({ state: null, wipedAt: new Date(clock.now()) })
    expect(await b.audited()).toContain('KeysZeroized')
  })

  it('keeps five superseded epochs at most', { timeout: 60_000 }, async () => {
    const eager = await a.again({ limits: { rotateAfterMessages: 1 } })
    for (let i = 1; i <= 8; i++) {
      const envelope = await eager.seal(b, `message ${i}`)
      expect(epochOf(envelope)).toBe(i)
      expect(await b.open(a, envelope)).toBe(`message ${i}`)
      expect(await eager.open(b, await b.seal(a, 'ok', { class: 'control' }))).toBe('ok')
    }
    for (const fleet of [a, b]) {
      const kept = (await fleet.sessions()).filter((session) => session.state !== null).map((session) => session.epoch)
      expect(kept).toEqual([3, 4, 5, 6, 7, 8])
    }
    await eager.stop()
  })

  it('a handshake that does not continue the old epoch is refused', async () => {
    expect(await b.open(a, await a.seal(b, 'hello'))).toBe('hello')
    expect(await a.open(b, await b.seal(a, 'hello back'))).toBe('hello back')
    // As if a had lost its database but not its identity: it starts over, and b must not follow without a person.
    const { db } = a.context
    await db.session.updateMany({ data: { active: false, epoch: 0 } })
    const envelope = await a.seal(b, 'from nowhere')
    expect(epochOf(envelope)).toBe(1)
    expect(await b.tryOpen(a, envelope)).toMatchObject({ ok: false, code: 'ContinuityBroken' })
    expect((await b.sessions()).filter((session) => session.active)).toHaveLength(1)
  })
})

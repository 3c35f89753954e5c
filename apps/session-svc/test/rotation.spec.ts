import { decodeBundle, encodeBundle } from '@tallystick/wire/bundle'
import { decodeEnvelope } from '@tallystick/wire/envelope'
import { describe, expect, it } from 'vitest'
import { PREFETCH_RETRY_MS } from '../src/limits.js'
import { readPeer } from '../src/peers/read-peer.js'
import { attention, requestRotation, setPeerPolicy } from '../src/recovery/requests.js'
import { expire, tidy } from '../src/session-core.js'
import { bytes, plain, TestFleet } from './fleet.js'
import { a, b, clock, twoFleetsForEachTest } from './two-fleets.js'

const HOUR = 3_600_000

twoFleetsForEachTest()

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

describe('99, 100, 101', () => {
  it('a restart between message 100 and 101 changes nothing about it', { timeout: 60_000 }, async () => {
    await answered()
    const sent = await sealMany(a, b, 99)
    const before = await a.again()
    sent.push(await before.seal(b, 'the hundredth'))
    await before.stop()
    const after = await a.again()
    sent.push(await after.seal(b, 'the first of the next'))
    const epochs = sent.slice(98).map(epochOf)
    console.log(`message 99, 100, 101 in epochs ${epochs.join(', ')}, with a restart before 100 and one before 101`)
    expect(epochs).toEqual([1, 1, 2])
    for (const envelope of sent) await b.open(a, envelope)
    await after.stop()
  })
})

describe('prefetch', () => {
  it('the bundle is fetched with message 80, and message 101 uses it although the peer is away', { timeout: 60_000 }, async () => {
    await answered()
    const before = a.fetched
    await sealMany(a, b, 79)
    await a.core.prefetcher.settled()
    expect(a.fetched).toBe(before)
    await sealMany(a, b, 1)
    await a.core.prefetcher.settled()
    expect(a.fetched).toBe(before + 1)
    await sealMany(a, b, 20)
    await a.core.prefetcher.settled()
    expect(a.fetched).toBe(before + 1)
    const { peers } = a
    a.peers = undefined
    const next = await a.seal(b, 'the first of the next')
    a.peers = peers
    expect(epochOf(next)).toBe(2)
    expect(await b.open(a, next)).toBe('the first of the next')
    expect(await a.context.db.prefetchedBundle.count()).toBe(0)
    expect(a.fetched).toBe(before + 1)
  })

  it('at an age of 20 h, also without a message; a millisecond earlier not', async () => {
    await answered()
    const before = a.fetched
    clock.advance(20 * HOUR - 1)
    await a.seal(b, 'x')
    await tidy(a.core)
    await a.core.prefetcher.settled()
    expect(a.fetched).toBe(before)
    clock.advance(1)
    await tidy(a.core)
    await a.core.prefetcher.settled()
    expect(a.fetched).toBe(before + 1)
    clock.advance(4 * HOUR)
    a.peers = undefined
    expect(epochOf(await a.seal(b, 'the next'))).toBe(2)
  })

  it('one that is too old, or refused, is thrown away and another fetched', { timeout: 60_000 }, async () => {
    await answered()
    const small = await a.again({ limits: { rotateAfterMessages: 1 } })
    expect(epochOf(await small.seal(b, 'one'))).toBe(1)
    await small.core.prefetcher.settled()
    const before = small.fetched
    clock.advance(24 * HOUR + 1)
    expect(epochOf(await small.seal(b, 'two'))).toBe(2)
    expect(small.fetched).toBe(before + 1)
    await small.core.prefetcher.settled()
    await small.context.db.prefetchedBundle.deleteMany()
    await small.context.db.prefetchedBundle.create({
      data: { fleetId: b.id, bundle: bytes('no bundle'), fetchedAt: new Date(clock.now()) },
    })
    for (const envelope of [await small.seal(b, 'answer me', { class: 'control' })]) await b.open(a, envelope)
    await small.open(b, await b.seal(a, 'yes', { class: 'control' }))
    expect(epochOf(await small.seal(b, 'three'))).toBe(3)
    await small.stop()
  })

  it('a fetch that fails is a warning, and tried again after a minute; messages that wait are critical', { timeout: 60_000 }, async () => {
    await answered()
    const small = await a.again({ limits: { rotateAfterMessages: 2 } })
    const failures = async () => {
      const text = await small.registry.getSingleMetricAsString('tallystick_session_rotation_failures_total')
      return ['warning', 'critical'].map((severity) => Number(new RegExp(`severity="${severity}"} (\\d+)`).exec(text)![1]))
    }
    small.peers = undefined
    await small.seal(b, 'one')
    await small.seal(b, 'two')
    await small.core.prefetcher.settled()
    expect(await failures()).toEqual([1, 0])
    expect(await readPeer(small.context, b.id)).toMatchObject({ keyState: 'rotation-due', session: { messagesLeft: 0 } })
    expect(await small.trySeal(b, 'three')).toMatchObject({ ok: false, code: 'Network' })
    expect(await failures()).toEqual([1, 1])
    expect(await readPeer(small.context, b.id)).toMatchObject({ keyState: 'rotation-blocked' })
    clock.advance(PREFETCH_RETRY_MS)
    await small.seal(b, 'a receipt', { class: 'control' })
    await small.core.prefetcher.settled()
    expect(await failures()).toEqual([2, 1])
    small.peers = a.peers
    expect(epochOf(await small.seal(b, 'three'))).toBe(2)
    expect(await readPeer(small.context, b.id)).toMatchObject({ keyState: 'ok' })
    await small.stop()
  })
})

describe('what a person decides', () => {
  it('rotateEvery 1: a session of its own for every document, in both directions', { timeout: 60_000 }, async () => {
    await setPeerPolicy(a.context, { fleetId: b.id, rotateEvery: 1 })
    await setPeerPolicy(b.context, { fleetId: a.id, rotateEvery: 1 })
    const epochs: number[] = []
    for (let i = 0; i < 6; i++) {
      // Three from each side, one after the other; each is answered.
      const [from, to] = i < 3 ? ([a, b] as const) : ([b, a] as const)
      const envelope = await from.seal(to, `document ${i}`)
      epochs.push(epochOf(envelope))
      expect(await to.open(from, envelope)).toBe(`document ${i}`)
      await from.open(to, await to.seal(from, 'receipt', { class: 'control' }))
    }
    console.log(`rotateEvery 1: six documents in epochs ${epochs.join(', ')}`)
    // The fourth is the first that b sends in the epoch that a has begun.
    expect(epochs).toEqual([1, 2, 3, 3, 4, 5])
    await setPeerPolicy(b.context, { fleetId: a.id, rotateEvery: null })
    expect(await readPeer(a.context, b.id)).toMatchObject({ rotateEvery: 1, session: { messagesLeft: 1 } })
    await setPeerPolicy(a.context, { fleetId: b.id, rotateEvery: null })
    expect([epochOf(await a.seal(b, 'x')), epochOf(await a.seal(b, 'y'))]).toEqual([5, 5])
  })

  it('a rotation that was asked for begins with the next message, once, and is in the audit log', async () => {
    expect(await requestRotation(a.context, b.id)).toEqual({ ok: true, epoch: 0 })
    await answered()
    expect(await requestRotation(a.context, b.id)).toEqual({ ok: true, epoch: 1 })
    expect(await attention(a.context)).toEqual({ ok: true, items: [{ fleetId: b.id, need: 'rotation' }] })
    expect([epochOf(await a.seal(b, 'x', { class: 'control' })), epochOf(await a.seal(b, 'y'))]).toEqual([2, 2])
    expect(await attention(a.context)).toEqual({ ok: true, items: [] })
    const events = (await a.context.db.auditOutbox.findMany()).map(({ event }) => event as { type: string; body: object })
    expect(events.find(({ type }) => type === 'SessionRotated')!.body).toMatchObject({ reason: 'manual', epoch: 2 })
    expect(await requestRotation(a.context, a.id)).toMatchObject({ ok: false, code: 'NotFound' })
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

  it('goes after an hour of quiet once the new one is confirmed, not before, and not while it is in use', { timeout: 60_000 }, async () => {
    await answered()
    const late = [await b.seal(a, 'late'), await b.seal(a, 'later')]
    await requestRotation(a.context, b.id)
    const next = await a.seal(b, 'next')
    const kept = async () => (await a.sessions()).filter(({ state }) => state !== null).map(({ epoch }) => epoch)
    clock.advance(2 * HOUR)
    await expire(a.context)
    expect(await kept()).toEqual([1, 2])
    await b.open(a, next)
    await a.open(b, await b.seal(a, 'confirmed', { class: 'control' }))
    expect(await a.open(b, late[0]!)).toBe('late')
    clock.advance(HOUR)
    await expire(a.context)
    expect(await kept()).toEqual([1, 2])
    clock.advance(1)
    await expire(a.context)
    expect(await kept()).toEqual([2])
    expect(await a.tryOpen(b, late[1]!)).toMatchObject({ ok: false, code: 'EpochExpired' })
    expect(await a.audited()).toContain('KeysZeroized')
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
    // As if a had lost its database but not its identity; with a bundle that does not say that there was a session it
    // begins with a first handshake, and b must not follow.
    const { db } = a.context
    await db.session.updateMany({ data: { active: false, epoch: 0 } })
    const { peers } = a
    a.peers = (fleetId) => {
      const giver = peers?.(fleetId)
      return giver && { take: async (forFleetId) => withoutEpoch(await giver.take(forFleetId)) }
    }
    const envelope = await a.seal(b, 'from nowhere')
    expect(epochOf(envelope)).toBe(1)
    expect(await b.tryOpen(a, envelope)).toMatchObject({ ok: false, code: 'ContinuityBroken' })
    expect((await b.sessions()).filter((session) => session.active)).toHaveLength(1)
  })

  it('a fleet that has lost its sessions learns so from the bundle, and starts over if policy or a person allows it', async () => {
    expect(await b.open(a, await a.seal(b, 'hello'))).toBe('hello')
    expect(await a.open(b, await b.seal(a, 'hello back'))).toBe('hello back')
    await a.context.db.session.updateMany({ data: { active: false, epoch: 0 } })
    const envelope = await a.seal(b, 'from nowhere')
    expect(decodeEnvelope(envelope)).toMatchObject({ header: { epoch: 2 }, handshake: { reset: true } })
    const strict = await b.again({ limits: { resyncPolicy: 'manual' } })
    expect(await strict.tryOpen(a, envelope)).toMatchObject({ ok: false, code: 'ResyncRequired' })
    expect((await b.sessions()).map(({ epoch, active }) => [epoch, active])).toEqual([[1, true]])
    expect(await b.open(a, envelope)).toBe('from nowhere')
    expect((await b.sessions()).map(({ epoch, active, lost }) => [epoch, active, lost])).toEqual([
      [1, false, true],
      [2, true, false],
    ])
    await strict.stop()
  })
})

function withoutEpoch(answer: Awaited<ReturnType<TestFleet['take']>>): typeof answer {
  if (!answer.ok) return answer
  const { epoch: _, ...bundle } = decodeBundle(answer.bundle)
  return { ...answer, bundle: plain(encodeBundle(bundle)) }
}

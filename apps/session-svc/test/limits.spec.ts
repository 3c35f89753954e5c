import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { startPostgres, type TestPostgres } from '../../../tools/testing/postgres.ts'
import { currentCertificate, ensureCertificate } from '../src/identity/certificates.js'
import { ARENA_BYTES, limitsEnv, limitsFrom, ROTATE_AFTER_MESSAGES } from '../src/limits.js'
import { ServiceKeySource } from '../src/service-keys.js'
import { expire } from '../src/session-core.js'
import { introduce, TestClock, TestFleet } from './fleet.js'

const DAY = 86_400_000

describe('limits from the environment', () => {
  it('have defaults, can be overridden, and refuse nonsense', () => {
    const limits = limitsFrom(limitsEnv.parse({ TALLYSTICK_SESSION_ROTATE_AFTER_MESSAGES: '1' }))
    expect(limits).toMatchObject({ rotateAfterMessages: 1, arenaBytes: ARENA_BYTES })
    expect(limitsFrom(limitsEnv.parse({})).rotateAfterMessages).toBe(ROTATE_AFTER_MESSAGES)
    for (const value of ['0', '-1', '1.5', 'many', ''])
      expect(limitsEnv.safeParse({ TALLYSTICK_SESSION_ARENA_BYTES: value }).success, value).toBe(false)
  })
})

describe('asking the other services for their keys', () => {
  const fault = () => Promise.reject(new Error('nobody there'))

  it('spends four attempts a minute on a service that is not there, below the five that open a circuit', async () => {
    let now = 0
    let calls = 0
    const source = new ServiceKeySource(
      {
        call: () => {
          calls += 1
          return fault()
        },
      },
      () => true,
      () => now,
    )
    for (; now < 60_000; now += 100) expect(await source.peerId()).toBeUndefined()
    expect(calls).toBe(4)
    source.seen('relay')
    for (; now < 120_000; now += 100) await source.peerId()
    expect(calls).toBeLessThanOrEqual(8)
  })

  it('asks at once when the service shows itself, and never while the bus is away', async () => {
    let calls = 0
    let connected = false
    const source = new ServiceKeySource(
      {
        call: () => {
          calls += 1
          return fault()
        },
      },
      () => connected,
      () => 0,
    )
    await source.logKey()
    expect(calls).toBe(0)
    connected = true
    await source.logKey()
    await source.logKey()
    expect(calls).toBe(1)
    source.seen('audit')
    await source.logKey()
    expect(calls).toBe(2)
  })
})

describe('with a database', () => {
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
    a = await TestFleet.start({ url: (await postgres.createFleet(`acme${round}`)).urls.session, clock })
    b = await TestFleet.start({ url: (await postgres.createFleet(`globex${round}`)).urls.session, clock })
    await introduce(a, b)
    return async () => {
      await a.stop()
      await b.stop()
    }
  })

  it('stored envelopes answer retries for a week; then the id answers DuplicateMessage', async () => {
    const messageId = a.newId()
    const envelope = await a.seal(b, 'once', { messageId })
    clock.advance(7 * DAY)
    await expire(a.context)
    expect(await a.seal(b, 'once', { messageId })).toEqual(envelope)
    clock.advance(1)
    await expire(a.context)
    expect(await a.trySeal(b, 'once', { messageId })).toMatchObject({ ok: false, code: 'DuplicateMessage' })
  })

  it('a certificate is renewed when less than a month is left, with a higher sequence and the same keys', async () => {
    const first = (await currentCertificate(a.context.db))!
    const keys = { peerId: first.peerIds[0]!, logKey: first.logKey }
    clock.advance(335 * DAY - 1)
    expect(await ensureCertificate(a.context, a.core.identity, 'test fleet', keys)).toBe(false)
    clock.advance(1)
    const replicas = [a, await a.again()]
    const issued = await Promise.all(replicas.map(({ context, core }) => ensureCertificate(context, core.identity, 'test fleet', keys)))
    expect(issued.filter(Boolean)).toHaveLength(1)
    expect(await currentCertificate(a.context.db)).toMatchObject({ sequence: 2, peerIds: first.peerIds })
    await replicas[1]!.stop()
  })

  it('refills one-time prekeys only when fewer than twenty are left', async () => {
    const { db, limits } = b.context
    const left = (kind: string) => db.prekey.count({ where: { kind, handedAt: null } })
    const take = async (count: number) => {
      const rows = await db.prekey.findMany({ where: { kind: 'one-time', handedAt: null }, take: count, select: { id: true } })
      await db.prekey.updateMany({ where: { id: { in: rows.map(({ id }) => id) } }, data: { handedAt: new Date(clock.now()) } })
    }
    await take(limits.oneTimePrekeys - limits.refillBelow)
    await b.core.stock.ensure()
    expect(await left('one-time')).toBe(limits.refillBelow)
    await take(1)
    await Promise.all([b.core.stock.ensure(), b.core.stock.ensure()])
    expect([await left('one-time'), await left('pq-one-time')]).toEqual([limits.oneTimePrekeys, limits.oneTimePrekeys])
    expect(await b.registry.getSingleMetricAsString('tallystick_prekeys_available')).toContain(`{kind="one-time"} ${limits.oneTimePrekeys}`)
  })

  it('a full arena is a fault that changes nothing', async () => {
    await a.seal(b, 'the session exists')
    const { arena } = a.context
    const before = await a.sessions()
    const rest = arena.allocate(arena.size - arena.usedBytes - 32)
    await expect(a.seal(b, 'no room')).rejects.toMatchObject({ code: 'KeyStorage', reason: 'locked' })
    expect(await a.sessions()).toEqual(before)
    rest.destroy()
    expect(await b.open(a, await a.seal(b, 'room again'))).toBe('room again')
  })

  it('two replicas that start at once on an empty database make one identity', async () => {
    const { urls } = await postgres.createFleet(`fresh${round}`)
    const kek = new Uint8Array(32).fill(7)
    const replicas = await Promise.all([1, 2, 3].map(() => TestFleet.start({ url: urls.session, clock, kek })))
    expect(new Set(replicas.map(({ id }) => id)).size).toBe(1)
    expect(await replicas[0]!.context.db.prekey.count({ where: { kind: 'signed' } })).toBe(1)
    for (const replica of replicas) await replica.stop()
  })
})

import { toHex } from '@tallystick/primitives/bytes'
import { decodeBundle } from '@tallystick/wire/bundle'
import { decodeEnvelope } from '@tallystick/wire/envelope'
import { describe, expect, it } from 'vitest'
import type { Context } from '../src/context.js'
import type { Tx } from '../src/db.js'
import { type SessionRow, SessionStore, StaleSession } from '../src/sessions/sessions.store.js'
import { plainBytes } from '../src/plain-bytes.js'
import { takeBundle } from '../src/prekeys/take-bundle.js'
import type { SecretBytes } from '@tallystick/secret-bytes/arena'
import { introduce, TestFleet } from './fleet.js'
import { a, b, clock, postgres, round, twoFleetsForEachTest } from './two-fleets.js'

twoFleetsForEachTest({ bundlesPerPeer: 1_000, rotateAfterMessages: 1_000 })

/** `sid ‖ ratchet key ‖ n` of each envelope: the name of a message key. */
function keysOf(envelopes: readonly Uint8Array[]): string[] {
  return envelopes.map((envelope) => {
    const { sid, dh, n } = decodeEnvelope(envelope).header
    return `${toHex(sid)}/${toHex(dh)}/${n}`
  })
}

const WORKERS = 8
const EACH = 25

/** Eight workers on two replicas of a, each seals 25 messages to b, one call at a time. */
async function storm(replicas: readonly TestFleet[]): Promise<Uint8Array[]> {
  const workers = Array.from({ length: WORKERS }, async (_, worker) => {
    const envelopes: Uint8Array[] = []
    for (let i = 0; i < EACH; i++) envelopes.push(await replicas[worker % replicas.length]!.seal(b, `worker ${worker} message ${i}`))
    return envelopes
  })
  return (await Promise.all(workers)).flat()
}

/** The fault that the locks are there to prevent: read, change and write back, whoever else does the same. */
class UnlockedStore extends SessionStore {
  override async active(tx: Tx, fleetId: string): Promise<SessionRow | undefined> {
    const row = await tx.session.findFirst({ where: { fleetId, active: true } })
    return row ? { ...row, role: row.role as SessionRow['role'] } : undefined
  }

  override async save(context: Context, tx: Tx, row: SessionRow, state: SecretBytes): Promise<void> {
    const value = context.custody.sealSecret(state, { table: 'session', row: toHex(row.sid), version: row.version + 1 })
    await tx.session.update({
      where: { sid: plainBytes(row.sid) },
      data: { state: plainBytes(value.sealed), version: row.version + 1, sentApplication: row.sentApplication },
    })
  }
}

describe('one writer per session', () => {
  it(`${WORKERS} workers on two replicas × ${EACH} seals: no key twice, all open`, { timeout: 120_000 }, async () => {
    const second = await a.again()
    const envelopes = await storm([a, second])
    expect(new Set(keysOf(envelopes)).size).toBe(WORKERS * EACH)
    expect(await a.sessions()).toHaveLength(1)
    expect((await a.sessions())[0]!.sentApplication).toBe(WORKERS * EACH)
    const texts = new Set<string>()
    for (const envelope of envelopes) texts.add(await b.open(a, envelope))
    expect(texts.size).toBe(WORKERS * EACH)
    await second.stop()
  })

  it('the same storm without the lock hands out keys twice: the test above can fail', { timeout: 120_000 }, async () => {
    await a.seal(b, 'the session exists')
    const mutants = [
      withoutLocks(await a.again({ store: new UnlockedStore() })),
      withoutLocks(await a.again({ store: new UnlockedStore() })),
    ]
    const keys = keysOf(await storm(mutants))
    expect(new Set(keys).size).toBeLessThan(keys.length)
    for (const mutant of mutants) await mutant.stop()
  })

  it('a stale write finds no row and undoes its transaction', async () => {
    await a.seal(b, 'version 2')
    const store = new SessionStore()
    await expect(
      a.context.db.$transaction(async (tx) => {
        const row = (await store.active(tx, b.id))!
        const state = store.openState(a.context, row)
        await store.save(a.context, tx, row, state)
        await store.save(a.context, tx, row, state).finally(() => state.destroy())
      }),
    ).rejects.toThrow(StaleSession)
    expect(await b.open(a, await a.seal(b, 'still works'))).toBe('still works')
  })
})

/** Takes `FOR UPDATE` out of every raw query of a replica. */
function withoutLocks(fleet: TestFleet): TestFleet {
  const { db } = fleet.context
  const transaction = db.$transaction.bind(db) as (work: (tx: Tx) => Promise<unknown>) => Promise<unknown>
  const unlockedTransaction = (work: (tx: Tx) => Promise<unknown>) =>
    transaction((tx) =>
      work(
        new Proxy(tx, {
          get(target, property, receiver) {
            if (property !== '$queryRaw') return Reflect.get(target, property, receiver) as unknown
            return (strings: TemplateStringsArray, ...values: unknown[]) => {
              const cut = strings.map((text) => text.replace(' FOR UPDATE', ''))
              return target.$queryRaw(Object.assign(cut, { raw: cut }) as unknown as TemplateStringsArray, ...values)
            }
          },
        }),
      ),
    )
  Object.defineProperty(db, '$transaction', { value: unlockedTransaction })
  return fleet
}

describe('a crash between encryption and commit', () => {
  class CrashingStore extends SessionStore {
    crashes = 0
    override async save(context: Context, tx: Tx, row: SessionRow, state: SecretBytes): Promise<void> {
      await super.save(context, tx, row, state)
      if (this.crashes > 0) {
        this.crashes -= 1
        throw new Error('the process died here')
      }
    }
  }

  it('leaves nothing behind; the retry yields one envelope and no key is used twice', async () => {
    expect(await b.open(a, await a.seal(b, 'first'))).toBe('first')
    const store = new CrashingStore()
    const replica = await a.again({ store })
    const messageId = a.newId()
    const before = await a.sessions()
    store.crashes = 1
    await expect(replica.seal(b, 'second', { messageId })).rejects.toThrow('the process died here')
    expect(await a.sessions()).toEqual(before)
    expect(await a.context.db.sealedEnvelope.findUnique({ where: { messageId } })).toBeNull()

    const retried = await a.seal(b, 'second', { messageId })
    expect(await replica.seal(b, 'second', { messageId })).toEqual(retried)
    const third = await replica.seal(b, 'third')
    expect(new Set(keysOf([retried, third])).size).toBe(2)
    expect(await b.open(a, retried)).toBe('second')
    expect(await b.open(a, third)).toBe('third')
    expect(await a.context.db.sealedEnvelope.count()).toBe(3)
    await replica.stop()
  })

  it('while opening: the same envelope opens afterwards, and one-time prekeys are still there', async () => {
    const store = new CrashingStore()
    const replica = await b.again({ store })
    const first = await a.seal(b, 'first')
    const prekeys = await b.context.db.prekey.count()
    const original = replica.context.custody.sealBytes.bind(replica.context.custody)
    Object.defineProperty(replica.context.custody, 'sealBytes', {
      configurable: true,
      value: () => {
        throw new Error('the process died here')
      },
    })
    await expect(replica.open(a, first)).rejects.toThrow('the process died here')
    expect(await b.context.db.prekey.count()).toBe(prekeys)
    expect(await b.sessions()).toHaveLength(0)
    Object.defineProperty(replica.context.custody, 'sealBytes', { value: original })
    expect(await replica.open(a, first)).toBe('first')
    expect(await b.context.db.prekey.count()).toBe(prekeys - 2)
    await replica.stop()
  })
})

describe('bundles', () => {
  it('50 callers at once on two replicas never get a one-time key twice', { timeout: 60_000 }, async () => {
    const fast = await b.again({ limits: { bundlesPerPeer: 1_000, refillBelow: 1 } })
    const faster = await b.again({ limits: { bundlesPerPeer: 1_000, refillBelow: 1 } })
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, i) => takeBundle((i % 2 ? fast : faster).context, fast.core.stock, a.id)),
    )
    const bundles = answers.map((answer) => {
      if (!answer.ok) throw new Error(answer.code)
      return decodeBundle(answer.bundle)
    })
    expect(new Set(bundles.map(({ opk }) => opk!.id)).size).toBe(50)
    expect(new Set(bundles.map(({ pq }) => pq.id)).size).toBe(50)
    expect(bundles.every(({ pq }) => pq.kind === 'one-time')).toBe(true)
    await fast.stop()
    await faster.stop()
  })

  it('limits one peer, says when it may come again, and leaves the others alone', async () => {
    const strict = await b.again({ limits: { bundlesPerPeer: 3, bundleWindowMs: 60_000 } })
    const take = () => takeBundle(strict.context, strict.core.stock, a.id)
    for (let i = 0; i < 3; i++) expect((await take()).ok).toBe(true)
    clock.advance(10_000)
    expect(await take()).toMatchObject({ ok: false, code: 'RateLimited', retryAfterMs: 50_000 })
    expect(await take()).toMatchObject({ ok: false, code: 'RateLimited' })
    expect((await b.audited()).filter((type) => type === 'RateLimitTriggered')).toHaveLength(1)
    const c = await TestFleet.start({ url: (await postgres.createFleet(`third${round}`)).urls.session, clock })
    await introduce(strict, c)
    expect((await takeBundle(strict.context, strict.core.stock, c.id)).ok).toBe(true)
    clock.advance(50_000)
    expect((await take()).ok).toBe(true)
    await c.stop()
    await strict.stop()
  })

  it('hands out the last-resort key when the stock is empty, refuses its replay, and refills', async () => {
    const { db } = b.context
    await db.prekey.updateMany({ where: { kind: { in: ['one-time', 'pq-one-time'] } }, data: { handedAt: new Date(0) } })
    const envelope = await a.seal(b, 'without one-time keys')
    expect(decodeEnvelope(envelope).handshake).toMatchObject({ pqKind: 'last-resort' })
    expect(decodeEnvelope(envelope).handshake!.opkId).toBeUndefined()
    expect(await b.open(a, envelope)).toBe('without one-time keys')
    await b.core.stock.ensure()
    expect(await db.prekey.count({ where: { kind: 'one-time', handedAt: null } })).toBe(b.context.limits.oneTimePrekeys)
    // As if session and digest had been lost: the memory of last-resort handshakes alone refuses it.
    await db.openedEnvelope.updateMany({ data: { digest: new Uint8Array(32) } })
    await db.session.updateMany({ data: { sid: new Uint8Array(16), ephemeralKey: new Uint8Array(32) } })
    expect(await b.tryOpen(a, envelope)).toMatchObject({ ok: false, code: 'ReplayDetected' })
    expect(await b.audited()).toContain('ReplayRejected')
  })
})

/** Guards of the log that a quiet day never meets, on a real PostgreSQL. */
import { newAuditEvent } from '@tallystick/audit-outbox/outbox'
import type { AuditEvent } from '@tallystick/contracts/audit-events'
import { leafHash } from '@tallystick/merkle-log/tree'
import { toHex } from '@tallystick/primitives/bytes'
import { systemRandom } from '@tallystick/primitives/random'
import { pino } from 'pino'
import { Registry } from 'prom-client'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { startPostgres, type TestPostgres } from '../../../tools/testing/postgres.ts'
import { auditEnv } from '../src/app.js'
import { Appender } from '../src/appender.js'
import { openDatabase, type Db } from '../src/db.js'
import { Halt } from '../src/halt.js'
import { uuidv7 } from '../src/ids.js'
import { decodeLeaf, encodeLeaf, LEAF_MAX_BYTES } from '../src/leaf.js'
import { AUDIT_LIMIT_VARIABLES, AUDIT_LIMITS, auditLimitsFrom, type AuditLimitName, type AuditLimits } from '../src/limits.js'
import { readHead } from '../src/log.store.js'
import { AuditMetrics } from '../src/metrics.js'
import { Scan } from '../src/scan.js'

let postgres: TestPostgres
let db: Db
let fleets = 0
beforeAll(async () => {
  postgres = await startPostgres()
})
beforeEach(async () => {
  await db?.$disconnect()
  db = openDatabase((await postgres.createFleet(`limits${++fleets}`)).urls.audit, AUDIT_LIMITS)
})
afterAll(async () => {
  await db?.$disconnect()
  await postgres?.stop()
})

const event = (): AuditEvent =>
  newAuditEvent({
    type: 'DocumentShredded',
    actor: 'invoice-svc',
    body: { documentId: uuidv7(1, systemRandom) },
    at: Date.now(),
    id: uuidv7(Date.now(), systemRandom),
  })
const events = (count: number) => Array.from({ length: count }, event)

function appender(limits: Partial<AuditLimits>) {
  const metrics = new Registry()
  const sizes: number[] = []
  const auditMetrics = new AuditMetrics(metrics)
  const made = new Appender({
    db,
    halt: new Halt(db, pino({ level: 'silent' }), metrics),
    metrics: auditMetrics,
    limits: { ...AUDIT_LIMITS, ...limits },
    onGrown: () => void auditMetrics.treeSize.get().then(({ values }) => sizes.push(values[0]!.value)),
  })
  return { append: (batch: readonly AuditEvent[]) => made.append(batch), sizes }
}

describe('appends', () => {
  it('share a transaction up to the limit of events; a single call is never cut', async () => {
    const { append, sizes } = appender({ groupEvents: 10 })
    const calls = [4, 4, 4, 12, 1]
    const answers = await Promise.all(calls.map((count) => append(events(count))))
    expect(answers.map((answer) => answer.ok && answer.items.length)).toEqual(calls)
    expect(answers.flatMap((answer) => (answer.ok ? answer.items : [])).map((item) => item.index)).toEqual(
      Array.from({ length: 25 }, (_, index) => index),
    )
    // 4 + 4, then 4 alone because of the 12, the 12 alone, the last.
    expect(sizes).toEqual([8, 12, 24, 25])
  })

  it('beyond the calls that may wait are told to come again, and those that wait are not disturbed', async () => {
    const { append } = appender({ waitingCalls: 3 })
    const answers = await Promise.all(Array.from({ length: 5 }, () => append([event()])))
    expect(answers.map((answer) => answer.ok)).toEqual([true, true, true, false, false])
    expect(answers.slice(3)).toMatchObject(Array(2).fill({ code: 'RateLimited', retryAfterMs: 500 }))
    expect((await append([event()])).ok).toBe(true)
    expect((await readHead(db)).size).toBe(4)
  })

  it('of an event that is larger than a leaf are refused, and nothing of their call is kept', async () => {
    const { append } = appender({})
    const small = event()
    const grown = (length: number): AuditEvent => ({ ...small, eventId: uuidv7(2, systemRandom), actor: 'x'.repeat(length) })
    const room = LEAF_MAX_BYTES - encodeLeaf(grown(1_000)).length + 1_000
    expect(encodeLeaf(grown(room))).toHaveLength(LEAF_MAX_BYTES)
    expect(await append([event(), grown(room + 1)])).toMatchObject({ ok: false, code: 'InvalidRequest' })
    expect((await readHead(db)).size).toBe(0)
    expect((await append([grown(room)])).ok).toBe(true)
    expect(() => decodeLeaf(encodeLeaf(grown(room + 1)))).toThrow(/bytes/)
  })
})

describe('a scan', () => {
  it('reads no more leaves at a time than its step, and finds the same root', async () => {
    const { append } = appender({})
    await append(events(25))
    const head = await readHead(db)
    const steps: number[] = []
    const counted = new Proxy(db, {
      get(target, name: keyof Db) {
        if (name !== '$queryRaw') return target[name]
        return async (...query: Parameters<Db['$queryRaw']>) => {
          const rows = await target.$queryRaw<Array<Record<string, unknown>>>(...query)
          if (rows[0] !== undefined && 'leaf' in rows[0]) steps.push(rows.length)
          return rows
        }
      },
    })
    expect(toHex(await new Scan(counted, 10).advance(head.size))).toBe(toHex(head.root))
    expect(steps).toEqual([10, 10, 5])
    expect(toHex(await new Scan(db, 1).advance(head.size))).toBe(toHex(head.root))
    const [first] = await db.$queryRaw<Array<{ leaf: Uint8Array }>>`SELECT leaf FROM audit_leaf WHERE idx = 0`
    expect(toHex(await new Scan(db, 1).advance(1))).toBe(toHex(leafHash(first!.leaf)))
  })
})

describe('variables', () => {
  it('override each limit by its name, and refuse what would defeat it', () => {
    for (const [n, name] of (Object.keys(AUDIT_LIMITS) as AuditLimitName[]).entries()) {
      const variable = AUDIT_LIMIT_VARIABLES[name]
      expect(variable).toBe(`TALLYSTICK_AUDIT_${name.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`)
      expect(auditLimitsFrom(auditEnv.parse({ [variable]: String(5_000 + n) }))).toEqual({ ...AUDIT_LIMITS, [name]: 5_000 + n })
      expect(() => auditEnv.parse({ [variable]: '0' })).toThrow()
    }
    expect(auditLimitsFrom(auditEnv.parse({}))).toEqual(AUDIT_LIMITS)
    expect(() => auditEnv.parse({ TALLYSTICK_AUDIT_RESCAN_MS: '999' })).toThrow()
    expect(() => auditEnv.parse({ TALLYSTICK_AUDIT_CHECKPOINT_EVENT_EVERY: '1' })).toThrow()
  })
})

import type { AuditEvent } from '@tallystick/contracts/audit-events'
import { RpcFault } from '@tallystick/nats-rpc/fault'
import pg from 'pg'
import { Registry } from 'prom-client'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { startPostgres, type TestPostgres } from '../../../tools/testing/postgres.ts'
import { newAuditEvent, recordAuditEvents } from '../src/outbox.js'
import { AuditPump, type OutboxDb, type SqlTransaction } from '../src/pump.js'

let server: TestPostgres
let owner: pg.Client
let pool: pg.Pool
const pumps: AuditPump[] = []

/** A login role with a schema of its own, as the services have, and exactly the rights that the outbox needs. */
beforeAll(async () => {
  server = await startPostgres()
  owner = new pg.Client({ connectionString: server.url })
  await owner.connect()
  await owner.query(`
    CREATE SCHEMA outbox_test;
    CREATE TABLE outbox_test.audit_outbox (id bigserial PRIMARY KEY, event_id uuid NOT NULL UNIQUE, event jsonb NOT NULL, created_at timestamptz NOT NULL DEFAULT now());
    CREATE ROLE outbox_test LOGIN PASSWORD 'outbox-test';
    ALTER ROLE outbox_test SET search_path = outbox_test;
    GRANT USAGE ON SCHEMA outbox_test TO outbox_test;
    GRANT SELECT, INSERT, DELETE ON outbox_test.audit_outbox TO outbox_test;
    GRANT USAGE ON SEQUENCE outbox_test.audit_outbox_id_seq TO outbox_test`)
  const url = new URL(server.url)
  url.username = 'outbox_test'
  url.password = 'outbox-test'
  pool = new pg.Pool({ connectionString: url.href, max: 6 })
  // The server may stop while a connection is still saying goodbye; that is nobody's failure.
  pool.on('error', () => undefined)
  pool.on('connect', (client) => client.on('error', () => undefined))
})
afterAll(async () => {
  await pool?.end()
  await owner?.end()
  await server?.stop()
})
beforeEach(() => owner.query('TRUNCATE outbox_test.audit_outbox'))
afterEach(async () => {
  for (const pump of pumps.splice(0)) await pump.stop()
})

/** The tagged-template interface of a Prisma client over pg. */
const db: OutboxDb = {
  async $transaction<T>(work: (tx: SqlTransaction) => Promise<T>): Promise<T> {
    const client = await pool.connect()
    const text = (query: TemplateStringsArray) => query.reduce((sql, part, i) => `${sql}$${i}${part}`)
    try {
      await client.query('BEGIN')
      const result = await work({
        $executeRaw: async (query, ...values) => (await client.query(text(query), values)).rowCount ?? 0,
        $queryRaw: async <R>(query: TemplateStringsArray, ...values: string[]) => (await client.query(text(query), values)).rows as R,
      })
      await client.query('COMMIT')
      return result
    } catch (error) {
      await client.query('ROLLBACK')
      throw error
    } finally {
      client.release()
    }
  },
}

const idOf = (n: number) => `01890a5d-ac96-774b-bcce-${n.toString(16).padStart(12, '0')}`
const event = (n: number): AuditEvent =>
  newAuditEvent({ type: 'KeyStored', actor: 'session-svc', body: { keyKind: 'one-time-prekeys', count: n }, at: n, id: idOf(n) })
const record = (from: number, to: number) =>
  db.$transaction((tx) =>
    recordAuditEvents(
      tx,
      Array.from({ length: to - from }, (_, i) => event(from + i)),
    ),
  )
const waiting = async () =>
  (await owner.query<{ event_id: string }>('SELECT event_id FROM outbox_test.audit_outbox ORDER BY id')).rows.map((row) => row.event_id)

/** audit-svc in memory: idempotent by event id, with faults on demand. */
class FakeAudit {
  readonly log: AuditEvent[] = []
  readonly batches: number[] = []
  readonly #index = new Map<string, number>()
  before: () => Promise<void> = async () => undefined
  after: () => Promise<void> = async () => undefined
  refuse = 0
  readonly rpc = { call: (_: unknown, request: unknown) => this.#append(request as { events: AuditEvent[] }) } as never

  async #append({ events }: { events: AuditEvent[] }): Promise<unknown> {
    await this.before()
    if (this.refuse > 0) {
      this.refuse--
      return { ok: false, code: 'NotReady', message: 'not yet' }
    }
    this.batches.push(events.length)
    for (const e of events) {
      if (this.#index.has(e.eventId)) continue
      this.#index.set(e.eventId, this.log.length)
      this.log.push(e)
    }
    await this.after()
    return { ok: true, items: events.map((e) => ({ eventId: e.eventId, index: this.#index.get(e.eventId)! })) }
  }
}

function startPump(audit: FakeAudit) {
  const metrics = new Registry()
  const lines: string[] = []
  const add = (fields: object, message: string) => void lines.push(`${message} ${JSON.stringify(fields)}`)
  const pump = new AuditPump({
    db,
    rpc: audit.rpc,
    log: { debug: add, info: add, warn: add, error: add },
    metrics,
    clock: { now: () => Date.now() },
  })
  pumps.push(pump)
  pump.start()
  return { pump, metrics, lines }
}

describe('recording', () => {
  it('keeps the order of the batch, and an event that is there already', async () => {
    await record(0, 50)
    await record(25, 75)
    expect(await waiting()).toEqual(Array.from({ length: 75 }, (_, i) => idOf(i)))
  })

  it('belongs to the transaction: a rollback leaves no event', async () => {
    await expect(
      db.$transaction(async (tx) => {
        await recordAuditEvents(tx, [event(1)])
        throw new Error('the effect failed')
      }),
    ).rejects.toThrow('the effect failed')
    expect(await waiting()).toEqual([])
  })

  it('cannot change an event: the role has no right to UPDATE', async () => {
    await record(0, 1)
    await expect(pool.query(`UPDATE audit_outbox SET event = '{}'`)).rejects.toThrow(/permission denied/)
  })
})

describe('the pump', () => {
  it('carries everything in order, in batches of 256, and leaves nothing behind', async () => {
    await record(0, 600)
    const audit = new FakeAudit()
    startPump(audit)
    await expect.poll(waiting, { timeout: 5_000 }).toEqual([])
    expect(audit.log.map((e) => e.at)).toEqual(Array.from({ length: 600 }, (_, i) => i))
    expect(audit.batches).toEqual([256, 256, 88])
  })

  it('wakes after a commit, faster than its poll', async () => {
    const audit = new FakeAudit()
    const { pump } = startPump(audit)
    await record(0, 1)
    await expect.poll(waiting, { timeout: 5_000 }).toEqual([])
    const startedAt = performance.now()
    for (let i = 1; i <= 5; i++) {
      const taken = new Promise<void>((resolve) => {
        audit.after = async () => resolve()
      })
      await record(i, i + 1)
      pump.wake()
      await taken
    }
    expect(performance.now() - startedAt).toBeLessThan(3_000)
  })

  it('repeats a batch whose acknowledgement was lost, and the log has each event once', async () => {
    await record(0, 10)
    const audit = new FakeAudit()
    let lost = 2
    audit.after = async () => {
      if (lost-- > 0) throw new RpcFault('Network', 'audit.v1.append', 'no answer', { origin: 'transport' })
    }
    const { lines } = startPump(audit)
    await expect.poll(waiting, { timeout: 5_000 }).toEqual([])
    expect(audit.batches).toEqual([10, 10, 10])
    expect(audit.log.map((e) => e.at)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    expect(lines.filter((line) => line.startsWith('audit events wait'))).toHaveLength(2)
  })

  it('waits while audit-svc refuses', async () => {
    await record(0, 3)
    const audit = new FakeAudit()
    audit.refuse = 2
    startPump(audit)
    await expect.poll(waiting, { timeout: 5_000 }).toEqual([])
    expect(audit.log).toHaveLength(3)
  })

  it('of two replicas, one carries at a time: order is kept and no event is sent twice', async () => {
    await record(0, 1000)
    const audit = new FakeAudit()
    let inside = 0
    let most = 0
    audit.before = async () => {
      most = Math.max(most, ++inside)
      await new Promise((resolve) => setImmediate(resolve))
    }
    audit.after = async () => void inside--
    startPump(audit)
    startPump(audit)
    await expect.poll(waiting, { timeout: 10_000 }).toEqual([])
    expect(most).toBe(1)
    expect(audit.log.map((e) => e.at)).toEqual(Array.from({ length: 1000 }, (_, i) => i))
    expect(audit.batches.reduce((a, b) => a + b)).toBe(1000)
  })

  it('an event that the schema refuses stays, is reported, and holds nothing up', async () => {
    await record(0, 2)
    await owner.query(`INSERT INTO outbox_test.audit_outbox (event_id, event) VALUES ($1, '{"type":"FromTheFuture","secret":"hunter2"}')`, [
      idOf(9999),
    ])
    await record(2, 4)
    const audit = new FakeAudit()
    const { metrics, lines } = startPump(audit)
    await expect.poll(waiting, { timeout: 5_000 }).toEqual([idOf(9999)])
    expect(audit.log.map((e) => e.at)).toEqual([0, 1, 2, 3])
    expect(await metrics.metrics()).toContain('tallystick_audit_outbox_stuck_events 1')
    expect(lines.join('')).toContain(idOf(9999))
    expect(lines.join('')).not.toContain('hunter2')
  })

  it('tells the age of the oldest event, and survives the database going away', async () => {
    await record(0, 1)
    await owner.query(`UPDATE outbox_test.audit_outbox SET created_at = now() - interval '90 seconds'`)
    const audit = new FakeAudit()
    const { metrics, lines } = startPump(audit)
    const taken = new Promise<void>((resolve) => {
      audit.after = async () => resolve()
    })
    await taken
    const lag = /tallystick_outbox_lag_seconds\{outbox="audit"\} ([0-9.]+)/.exec(await metrics.metrics())
    expect(Number(lag?.[1])).toBeGreaterThan(85)
    await expect.poll(waiting, { timeout: 5_000 }).toEqual([])
    await owner.query('ALTER TABLE outbox_test.audit_outbox RENAME TO away')
    await expect.poll(() => lines.some((line) => line.startsWith('audit events wait')), { timeout: 5_000 }).toBe(true)
    await owner.query('ALTER TABLE outbox_test.away RENAME TO audit_outbox')
    await record(1, 2)
    await expect.poll(waiting, { timeout: 8_000 }).toEqual([])
  })

  it('stops after the batch under way', async () => {
    await record(0, 300)
    const audit = new FakeAudit()
    const entered = Promise.withResolvers<void>()
    const release = Promise.withResolvers<void>()
    audit.before = async () => {
      entered.resolve()
      await release.promise
    }
    const { pump } = startPump(audit)
    await entered.promise
    const stopped = pump.stop()
    release.resolve()
    await stopped
    expect(audit.batches).toEqual([256])
    expect(await waiting()).toHaveLength(44)
  })
})

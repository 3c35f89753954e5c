/** Queries on the inbound queue: stored before it is acknowledged, kept until invoice-svc has taken or refused it. */
import type { ErrorCode } from '@tallystick/contracts/codes'
import { Prisma, type PrismaClient } from './gen/client.js'
import { hex, octets } from './octets.js'

export interface InboundEnvelope {
  readonly digest: Uint8Array
  readonly envelope: Uint8Array
  readonly receipt: Uint8Array
  readonly receivedAt: number
}

export interface DueEnvelope {
  readonly id: bigint
  readonly fleetId: string
  readonly digest: Uint8Array<ArrayBuffer>
  readonly envelope: Uint8Array<ArrayBuffer>
  readonly receivedAt: number
  readonly attempts: number
  readonly failures: number
  readonly alone: boolean
}

export interface DeliveryResult {
  readonly id: bigint
  readonly state: 'taken' | 'refused' | 'quarantined'
  readonly code: ErrorCode | null
}

export class InboundStore {
  readonly #db: PrismaClient

  constructor(db: PrismaClient) {
    this.#db = db
  }

  /**
   * One statement for the batch, durable when it returns.
   * @returns hex digest → the receipt that is stored, and whether it was there before
   */
  async store(fleetId: string, items: readonly InboundEnvelope[]): Promise<Map<string, { receipt: Uint8Array; duplicate: boolean }>> {
    const rows = items.map(
      (i) =>
        Prisma.sql`(${fleetId}, ${octets(i.digest)}, ${octets(i.envelope)}, ${i.envelope.length}, ${octets(i.receipt)}, ${new Date(i.receivedAt)})`,
    )
    const inserted = await this.#db.$queryRaw<{ digest: Uint8Array; receipt: Uint8Array }[]>`
      INSERT INTO inbound (fleet_id, digest, envelope, size, receipt, received_at) VALUES ${Prisma.join(rows)}
      ON CONFLICT (fleet_id, digest) DO NOTHING RETURNING digest, receipt`
    const result = new Map(inserted.map((row) => [hex(row.digest), { receipt: row.receipt, duplicate: false }]))
    const known = items.filter((item) => !result.has(hex(item.digest)))
    if (known.length > 0) {
      const before = await this.#db.$queryRaw<{ digest: Uint8Array; receipt: Uint8Array }[]>`
        SELECT digest, receipt FROM inbound WHERE fleet_id = ${fleetId} AND digest IN (${Prisma.join(known.map((item) => octets(item.digest)))})`
      for (const row of before) result.set(hex(row.digest), { receipt: row.receipt, duplicate: true })
    }
    return result
  }

  /** Receipts of those among `digests` that are stored already: a duplicate costs no quota. */
  async receipts(fleetId: string, digests: readonly Uint8Array[]): Promise<Map<string, Uint8Array>> {
    if (digests.length === 0) return new Map()
    const rows = await this.#db.$queryRaw<{ digest: Uint8Array; receipt: Uint8Array }[]>`
      SELECT digest, receipt FROM inbound WHERE fleet_id = ${fleetId} AND digest IN (${Prisma.join(digests.map(octets))})`
    return new Map(rows.map((row) => [hex(row.digest), row.receipt]))
  }

  async queuedBytes(fleetId: string): Promise<number> {
    const [row] = await this.#db.$queryRaw<
      { total: bigint }[]
    >`SELECT coalesce(sum(size), 0)::bigint AS total FROM inbound WHERE fleet_id = ${fleetId} AND state = 'queued'`
    return Number(row!.total)
  }

  async depth(): Promise<number> {
    const [row] = await this.#db.$queryRaw<{ total: bigint }[]>`SELECT count(*) AS total FROM inbound WHERE state = 'queued'`
    return Number(row!.total)
  }

  /**
   * Claim what is due for delivery in one lane: oldest first, at most `count` and `maxBytes` (one always fits). The
   * claim lasts `claimMs`, after which another replica may deliver again.
   */
  async claim(owner: string, lane: { alone: boolean; count: number; maxBytes: number; claimMs: number }): Promise<DueEnvelope[]> {
    const rows = await this.#db.$queryRaw<
      {
        id: bigint
        fleet_id: string
        digest: Uint8Array<ArrayBuffer>
        envelope: Uint8Array<ArrayBuffer>
        received_at: Date
        attempts: number
        failures: number
      }[]
    >`
      WITH due AS MATERIALIZED (
        SELECT id, size FROM inbound WHERE state = 'queued' AND alone = ${lane.alone} AND next_attempt_at <= now() ORDER BY id LIMIT ${lane.count} FOR UPDATE SKIP LOCKED),
      counted AS (SELECT id, sum(size) OVER (ORDER BY id) AS through, row_number() OVER (ORDER BY id) AS place FROM due)
      UPDATE inbound i SET next_attempt_at = now() + make_interval(secs => ${lane.claimMs / 1000}), lease_owner = ${owner}, attempts = i.attempts + 1
      FROM counted c WHERE i.id = c.id AND (c.place = 1 OR c.through <= ${lane.maxBytes})
      RETURNING i.id, i.fleet_id, i.digest, i.envelope, i.received_at, i.attempts, i.failures`
    return rows
      .map((row) => ({
        id: row.id,
        fleetId: row.fleet_id,
        digest: row.digest,
        envelope: row.envelope,
        receivedAt: row.received_at.getTime(),
        attempts: row.attempts,
        failures: row.failures,
        alone: lane.alone,
      }))
      .sort((a, b) => (a.id < b.id ? -1 : 1))
  }

  /** What this replica had claimed before it died is due at once. */
  async reclaim(owner: string): Promise<void> {
    await this.#db
      .$executeRaw`UPDATE inbound SET next_attempt_at = now(), lease_owner = NULL WHERE lease_owner = ${owner} AND state = 'queued'`
  }

  /** Milliseconds until the next delivery is due; undefined when nothing is queued. */
  async dueInMs(alone: boolean): Promise<number | undefined> {
    const [row] = await this.#db.$queryRaw<{ wait: number | null }[]>`
      SELECT (extract(epoch FROM min(next_attempt_at) - now()) * 1000)::float8 AS wait FROM inbound WHERE state = 'queued' AND alone = ${alone}`
    return row === undefined || row.wait === null ? undefined : Math.max(0, Math.ceil(row.wait))
  }

  /** Final outcomes. Taken envelopes lose their bytes; refused and quarantined ones keep them for inspection. */
  async settle(tx: Pick<PrismaClient, '$executeRaw'>, results: readonly DeliveryResult[], at: number): Promise<void> {
    if (results.length === 0) return
    const rows = results.map((r) => Prisma.sql`(${r.id}::bigint, ${r.state}::text, ${r.code}::text)`)
    await tx.$executeRaw`
      UPDATE inbound i SET state = v.state, code = v.code, settled_at = ${new Date(at)}, lease_owner = NULL,
        envelope = CASE WHEN v.state = 'taken' THEN NULL ELSE i.envelope END
      FROM (VALUES ${Prisma.join(rows)}) AS v (id, state, code) WHERE i.id = v.id AND i.state = 'queued'`
  }

  async postpone(items: readonly { id: bigint; code: ErrorCode; delayMs: number; blamed: boolean; alone: boolean }[]): Promise<void> {
    if (items.length === 0) return
    const rows = items.map(
      (i) => Prisma.sql`(${i.id}::bigint, ${i.code}::text, ${i.delayMs / 1000}::float8, ${i.blamed ? 1 : 0}::int, ${i.alone}::boolean)`,
    )
    await this.#db.$executeRaw`
      UPDATE inbound i SET code = v.code, next_attempt_at = now() + make_interval(secs => v.delay), failures = i.failures + v.blamed, alone = v.alone, lease_owner = NULL
      FROM (VALUES ${Prisma.join(rows)}) AS v (id, code, delay, blamed, alone) WHERE i.id = v.id AND i.state = 'queued'`
  }

  /** Old rows go; of what is kept for inspection, each peer's oldest lose their bytes above `quarantineBytes`. */
  async prune(retentionMs: number, quarantineBytes: number): Promise<void> {
    await this.#db
      .$executeRaw`DELETE FROM inbound WHERE state <> 'queued' AND settled_at < now() - make_interval(secs => ${retentionMs / 1000})`
    await this.#db.$executeRaw`
      UPDATE inbound SET envelope = NULL WHERE id IN (
        SELECT id FROM (
          SELECT id, sum(size) OVER (PARTITION BY fleet_id ORDER BY id DESC) AS through FROM inbound
          WHERE state IN ('refused', 'quarantined') AND envelope IS NOT NULL) AS kept
        WHERE through > ${quarantineBytes})`
  }
}

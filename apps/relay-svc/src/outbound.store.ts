/** Queries on the outbound queue. Batches are one statement each. */
import type { ErrorCode } from '@tallystick/contracts/codes'
import { Prisma, type PrismaClient } from './gen/client.js'
import { octets } from './octets.js'

export interface OutboundItem {
  readonly messageId: string
  readonly fleetId: string
  readonly envelope: Uint8Array<ArrayBuffer>
  readonly digest: Uint8Array<ArrayBuffer>
}

export interface QueuedEnvelope extends OutboundItem {
  readonly id: bigint
}

export type FinalReport =
  | { state: 'stored'; messageId: string; at: number; hopReceipt: Uint8Array<ArrayBuffer> }
  | { state: 'refused'; messageId: string; at: number; code: ErrorCode; cause: string }

/** Digests of what is stored under the ids asked for, after an insert that skipped what was there. */
type StoredDigest = { message_id: string; digest: Uint8Array<ArrayBuffer>; fleet_id: string }

export class OutboundStore {
  readonly #db: PrismaClient

  constructor(db: PrismaClient) {
    this.#db = db
  }

  /** Idempotent by message id. @returns what is now stored under each id, which may be an earlier, other envelope */
  async enqueue(items: readonly OutboundItem[]): Promise<Map<string, { digest: Uint8Array<ArrayBuffer>; fleetId: string }>> {
    if (items.length === 0) return new Map()
    const rows = items.map(
      (item) =>
        Prisma.sql`(${item.messageId}::uuid, ${item.fleetId}, ${octets(item.envelope)}, ${octets(item.digest)}, ${item.envelope.length})`,
    )
    return this.#db.$transaction(async (tx) => {
      await tx.$executeRaw`INSERT INTO outbound (message_id, fleet_id, envelope, digest, size) VALUES ${Prisma.join(rows)} ON CONFLICT (message_id) DO NOTHING`
      const ids = items.map((item) => Prisma.sql`${item.messageId}::uuid`)
      const stored = await tx.$queryRaw<
        StoredDigest[]
      >`SELECT message_id, digest, fleet_id FROM outbound WHERE message_id IN (${Prisma.join(ids)})`
      return new Map(stored.map((row) => [row.message_id, { digest: row.digest, fleetId: row.fleet_id }]))
    })
  }

  async queuedBytes(fleetId: string): Promise<number> {
    const [row] = await this.#db.$queryRaw<
      { total: bigint }[]
    >`SELECT coalesce(sum(size), 0)::bigint AS total FROM outbound WHERE fleet_id = ${fleetId} AND state = 'queued'`
    return Number(row!.total)
  }

  async depth(): Promise<number> {
    const [row] = await this.#db.$queryRaw<{ total: bigint }[]>`SELECT count(*) AS total FROM outbound WHERE state = 'queued'`
    return Number(row!.total)
  }

  async peersWithWork(): Promise<string[]> {
    const rows = await this.#db.$queryRaw<{ fleet_id: string }[]>`SELECT DISTINCT fleet_id FROM outbound WHERE state = 'queued'`
    return rows.map((row) => row.fleet_id)
  }

  /** The oldest that are due and not in flight, as many as there is room for; with `atLeastOne` the first, whatever its size. */
  async due(
    fleetId: string,
    inFlight: readonly bigint[],
    room: { frames: number; bytes: number; atLeastOne: boolean },
  ): Promise<QueuedEnvelope[]> {
    const skip = inFlight.length === 0 ? Prisma.empty : Prisma.sql`AND id NOT IN (${Prisma.join([...inFlight])})`
    const rows = await this.#db.$queryRaw<
      { id: bigint; message_id: string; envelope: Uint8Array<ArrayBuffer>; digest: Uint8Array<ArrayBuffer> }[]
    >`
      WITH candidates AS (
        SELECT id, sum(size) OVER (ORDER BY id) AS through, row_number() OVER (ORDER BY id) AS nth FROM (
          SELECT id, size FROM outbound WHERE fleet_id = ${fleetId} AND state = 'queued' AND next_attempt_at <= now() ${skip} ORDER BY id LIMIT ${room.frames}) AS head)
      SELECT o.id, o.message_id, o.envelope, o.digest FROM outbound o JOIN candidates c USING (id)
      WHERE c.through <= ${room.bytes} OR (c.nth = 1 AND ${room.atLeastOne}) ORDER BY o.id`
    return rows.map((row) => ({ id: row.id, messageId: row.message_id, fleetId, envelope: row.envelope, digest: row.digest }))
  }

  /** Milliseconds until the next queued message of the peer is due; 0 when one is, undefined when none is queued. */
  async dueInMs(fleetId: string): Promise<number | undefined> {
    const [row] = await this.#db.$queryRaw<{ wait: number | null }[]>`
      SELECT (extract(epoch FROM min(next_attempt_at) - now()) * 1000)::float8 AS wait FROM outbound WHERE fleet_id = ${fleetId} AND state = 'queued'`
    return row?.wait === null || row === undefined ? undefined : Math.max(0, Math.ceil(row.wait))
  }

  async settleStored(items: readonly { id: bigint; receipt: Uint8Array<ArrayBuffer>; at: number }[]): Promise<void> {
    if (items.length === 0) return
    const rows = items.map((item) => Prisma.sql`(${item.id}::bigint, ${octets(item.receipt)}::bytea, ${new Date(item.at)}::timestamptz)`)
    await this.#db.$executeRaw`
      UPDATE outbound o SET state = 'stored', hop_receipt = v.receipt, settled_at = v.at, envelope = NULL, attempts = o.attempts + 1, code = NULL, cause = NULL
      FROM (VALUES ${Prisma.join(rows)}) AS v (id, receipt, at) WHERE o.id = v.id AND o.state = 'queued'`
  }

  async settleRefused(id: bigint, code: ErrorCode, cause: string, at: number): Promise<void> {
    await this.#db.$executeRaw`
      UPDATE outbound SET state = 'refused', code = ${code}, cause = ${cause}, settled_at = ${new Date(at)}, envelope = NULL, attempts = attempts + 1
      WHERE id = ${id} AND state = 'queued'`
  }

  /** Everything that waits for a peer which is no longer ours to send to. */
  async refuseAll(fleetId: string, code: ErrorCode, cause: string, at: number): Promise<number> {
    return this.#db.$executeRaw`
      UPDATE outbound SET state = 'refused', code = ${code}, cause = ${cause}, settled_at = ${new Date(at)}, envelope = NULL WHERE fleet_id = ${fleetId} AND state = 'queued'`
  }

  async postpone(
    id: bigint,
    code: ErrorCode,
    cause: string,
    delayMs: number,
  ): Promise<{ messageId: string; attempts: number } | undefined> {
    const [row] = await this.#db.$queryRaw<{ message_id: string; attempts: number }[]>`
      UPDATE outbound SET attempts = attempts + 1, code = ${code}, cause = ${cause}, next_attempt_at = now() + make_interval(secs => ${delayMs / 1000})
      WHERE id = ${id} AND state = 'queued' RETURNING message_id, attempts`
    return row && { messageId: row.message_id, attempts: row.attempts }
  }

  /** Oldest first; for reports that a peer cannot be reached. */
  async waiting(fleetId: string, limit: number): Promise<{ messageId: string; attempts: number }[]> {
    const rows = await this.#db.$queryRaw<{ message_id: string; attempts: number }[]>`
      SELECT message_id, attempts FROM outbound WHERE fleet_id = ${fleetId} AND state = 'queued' ORDER BY id LIMIT ${limit}`
    return rows.map((row) => ({ messageId: row.message_id, attempts: row.attempts }))
  }

  async unreported(limit: number): Promise<FinalReport[]> {
    const rows = await this.#db.$queryRaw<
      {
        message_id: string
        state: string
        settled_at: Date
        hop_receipt: Uint8Array<ArrayBuffer> | null
        code: string | null
        cause: string | null
      }[]
    >`
      SELECT message_id, state, settled_at, hop_receipt, code, cause FROM outbound
      WHERE state <> 'queued' AND reported_at IS NULL AND report_after <= now() ORDER BY id LIMIT ${limit}`
    return rows.map((row) =>
      row.state === 'stored'
        ? { state: 'stored', messageId: row.message_id, at: row.settled_at.getTime(), hopReceipt: row.hop_receipt! }
        : {
            state: 'refused',
            messageId: row.message_id,
            at: row.settled_at.getTime(),
            code: row.code as ErrorCode,
            cause: (row.cause ?? '').slice(0, 300),
          },
    )
  }

  async markReported(messageIds: readonly string[]): Promise<void> {
    if (messageIds.length === 0) return
    await this.#db
      .$executeRaw`UPDATE outbound SET reported_at = now() WHERE message_id IN (${Prisma.join(messageIds.map((id) => Prisma.sql`${id}::uuid`))})`
  }

  async reportLater(messageId: string, delayMs: number): Promise<void> {
    await this.#db
      .$executeRaw`UPDATE outbound SET report_after = now() + make_interval(secs => ${delayMs / 1000}) WHERE message_id = ${messageId}::uuid`
  }

  async prune(retentionMs: number): Promise<number> {
    return this.#db.$executeRaw`
      DELETE FROM outbound WHERE state <> 'queued' AND reported_at IS NOT NULL AND settled_at < now() - make_interval(secs => ${retentionMs / 1000})`
  }
}

/** How far a peer's sequence has come here, kept in its row. @see docs/spec/payload.md §6 */
import { RECEIPT_MAX_RANGES, type PositionRange, type ReceivedPart, type ReceivedRun } from '@tallystick/wire/messages'
import type { App, Tx } from '../app.js'
import { owned } from '../http/page.js'
import { describeReceived, mergeRuns, reachOf, runsAbove, settledOf, type Head, type Reach } from '../messages/positions.js'

/** Rows that one look along the chain reads. */
const LOOK = 1_000

interface Row {
  readonly seq: bigint
  readonly prev_hash: Uint8Array
  readonly payload_hash: Uint8Array
}
interface Run {
  readonly first: bigint
  readonly last: bigint
}

/**
 * What a receipt to this peer can say now. Moves the head that is kept in the peer's row, which the caller has locked.
 * @returns the statement, undefined while nothing has come; how many positions are missing; whether a contradiction is new
 */
export async function receivedFrom(
  app: Pick<App, 'limits' | 'metrics' | 'log'>,
  tx: Tx,
  peer: string,
  at: Date,
): Promise<{ part: ReceivedPart | undefined; missing: number; broke: boolean }> {
  const row = await tx.peer.findUniqueOrThrow({ where: { fleetId: peer }, select: { inBase: true, inSeq: true, inHash: true } })
  const { head, broke, above } = await follow(tx, peer, { from: Number(row.inBase), seq: Number(row.inSeq), hash: row.inHash })
  const missing = await missingAbove(tx, peer, head.seq)
  if (broke) {
    app.metrics.sequenceBreaks.inc()
    app.log.warn({ peer, seq: head.from }, 'a message does not follow the one before it')
  }
  const hash = head.hash === null ? null : owned(head.hash)
  await tx.$executeRaw`
    UPDATE peer SET in_base = ${BigInt(head.from)}, in_seq = ${BigInt(head.seq)}, in_hash = ${hash}, in_missing = ${BigInt(missing)},
      ask_at = CASE WHEN ${missing}::bigint > 0 THEN COALESCE(ask_at, ${new Date(at.getTime() + app.limits.askAfterMs)}) ELSE ask_at END
    WHERE fleet_id = ${peer} AND (in_base, in_seq, in_hash, in_missing)
      IS DISTINCT FROM (${BigInt(head.from)}::bigint, ${BigInt(head.seq)}::bigint, ${hash}::bytea, ${BigInt(missing)}::bigint)`
  return { part: describeReceived(head, above, await refusedPlaces(tx, peer)), missing, broke }
}

/** The chain from there on, and what is above its end, as far as one look goes: a claim that is not made is no lie. */
async function follow(tx: Tx, peer: string, from: Head): Promise<Reach & { above: ReceivedRun[] }> {
  for (let head = from, broke = false; ;) {
    const rows = await tx.$queryRaw<Row[]>`
      SELECT seq, prev_hash, payload_hash FROM inbound WHERE peer = ${peer} AND seq > ${BigInt(head.seq)} AND payload_hash IS NOT NULL
      ORDER BY seq, (outcome = 'taken'), received_at LIMIT ${LOOK}`
    const settled = settledOf(
      rows.map((row) => ({ seq: Number(row.seq), prevHash: row.prev_hash, hash: row.payload_hash })),
      await voidsAbove(tx, peer, head.seq),
    )
    const reach = reachOf(head, settled)
    broke ||= reach.broke
    if (rows.length < LOOK || reach.head.seq === head.seq) return { head: reach.head, broke, above: runsAbove(reach.head, settled) }
    head = reach.head
  }
}

async function voidsAbove(tx: Tx, peer: string, seq: number): Promise<PositionRange[]> {
  const rows = await tx.$queryRaw<Run[]>`
    SELECT from_seq AS first, to_seq AS last FROM inbound_void WHERE peer = ${peer} AND to_seq > ${BigInt(seq)} ORDER BY from_seq LIMIT ${LOOK}`
  return mergeRuns(rows.map((row) => [Math.max(seq + 1, Number(row.first)), Number(row.last)]))
}

/** Positions that nothing is known of, below the highest that has come. */
async function missingAbove(tx: Tx, peer: string, seq: number): Promise<number> {
  const [row] = await tx.$queryRaw<Array<{ top: bigint | null; settled: bigint }>>`
    SELECT max(seq) AS top, count(DISTINCT seq) AS settled FROM inbound WHERE peer = ${peer} AND seq > ${BigInt(seq)} AND payload_hash IS NOT NULL`
  if (row === undefined || row.top === null) return 0
  let voided = 0
  for (const [from, to] of await voidsAbove(tx, peer, seq)) {
    if (from > Number(row.top)) break
    const last = Math.min(to, Number(row.top))
    const [inside] = await tx.$queryRaw<Array<{ count: bigint }>>`
      SELECT count(DISTINCT seq) FROM inbound WHERE peer = ${peer} AND seq BETWEEN ${BigInt(from)} AND ${BigInt(last)} AND payload_hash IS NOT NULL`
    voided += last - from + 1 - Number(inside?.count ?? 0n)
  }
  return Number(row.top) - seq - Number(row.settled) - voided
}

/** Where the payload that came last was refused. */
async function refusedPlaces(tx: Tx, peer: string): Promise<PositionRange[]> {
  const rows = await tx.$queryRaw<Array<{ seq: bigint }>>`
    SELECT DISTINCT seq FROM inbound r WHERE peer = ${peer} AND outcome = 'refused' AND seq IS NOT NULL
      AND NOT EXISTS (SELECT 1 FROM inbound t WHERE t.peer = r.peer AND t.seq = r.seq AND t.outcome = 'taken' AND t.received_at >= r.received_at)
    ORDER BY seq DESC LIMIT ${4 * RECEIPT_MAX_RANGES}`
  return mergeRuns(rows.map((row) => [Number(row.seq), Number(row.seq)])).slice(-RECEIPT_MAX_RANGES)
}

/** The peer's word that these positions hold nothing. Only those below the message that says so. */
export async function insertVoids(tx: Tx, peer: string, below: number, voids: readonly PositionRange[]): Promise<void> {
  for (const [from, to] of voids) {
    if (from >= below) continue
    await tx.$executeRaw`
      INSERT INTO inbound_void (peer, from_seq, to_seq) VALUES (${peer}, ${BigInt(from)}, ${BigInt(Math.min(to, below - 1))}) ON CONFLICT DO NOTHING`
  }
}

/**
 * To be called with each payload that could be read: should another one have come for its position, the chain is
 * followed anew from before the lowest position that two payloads claim.
 * @returns whether there is another one: the peer's database was put back
 */
export async function noteClaim(tx: Tx, peer: string, seq: number, hash: Uint8Array): Promise<boolean> {
  const [other] = await tx.$queryRaw<unknown[]>`
    SELECT 1 FROM inbound WHERE peer = ${peer} AND seq = ${BigInt(seq)} AND payload_hash <> ${owned(hash)} LIMIT 1`
  if (other === undefined) return false
  await tx.$executeRaw`UPDATE peer SET in_fork = LEAST(in_fork, ${BigInt(seq)}) WHERE fleet_id = ${peer}`
  await tx.$executeRaw`
    UPDATE peer p SET in_seq = COALESCE(b.seq, -1), in_hash = b.payload_hash, in_base = LEAST(p.in_base, COALESCE(b.seq, 0))
    FROM peer q LEFT JOIN LATERAL (
      SELECT seq, payload_hash FROM inbound WHERE peer = q.fleet_id AND seq < q.in_fork AND payload_hash IS NOT NULL ORDER BY seq DESC LIMIT 1) b ON true
    WHERE p.fleet_id = ${peer} AND q.fleet_id = p.fleet_id AND p.in_seq >= q.in_fork`
  return true
}

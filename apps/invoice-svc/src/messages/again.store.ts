/** What was sent and is not confirmed: which of it the peer has, and when the rest goes again. @see docs/spec/payload.md §6 */
import { RECEIPT_MAX_RANGES, type PositionRange } from '@tallystick/wire/messages'
import type { App, Tx } from '../app.js'
import { owned } from '../http/page.js'
import { mergeRuns } from './positions.js'

/** Messages that one receipt can bring back at most: the next one brings the others. */
const BROUGHT_BACK = 256

const ends = (ranges: readonly PositionRange[]) => ({ from: ranges.map(([from]) => from), to: ranges.map(([, to]) => to) })

/** SHA-256 of the own payloads at these positions, as far as they are still known. */
export async function payloadHashes(tx: Tx, peer: string, places: readonly number[]): Promise<Map<number, Uint8Array>> {
  if (places.length === 0) return new Map()
  const rows = await tx.$queryRaw<Array<{ seq: bigint; hash: Uint8Array }>>`
    SELECT seq, sha256(payload) AS hash FROM message WHERE peer = ${peer} AND seq = ANY(${[...places]}::bigint[]) AND payload IS NOT NULL`
  return new Map(rows.map((row) => [Number(row.seq), row.hash]))
}

export async function confirmNamed(tx: Tx, ids: readonly string[], at: Date): Promise<void> {
  if (ids.length === 0) return
  await tx.$executeRaw`
    UPDATE message SET confirmed_at = COALESCE(confirmed_at, ${at}), again_at = NULL
    WHERE id IN (SELECT id FROM message WHERE id = ANY(${[...ids]}::uuid[]) ORDER BY id FOR UPDATE)`
}

/** @returns the messages that are confirmed by this and were not before */
export async function confirmByPlace(
  tx: Tx,
  peer: string,
  ranges: readonly PositionRange[],
  at: Date,
): Promise<Array<{ id: string; seq: number }>> {
  const { from, to } = ends(ranges)
  const rows = await tx.$queryRaw<Array<{ id: string; seq: bigint }>>`
    UPDATE message SET confirmed_at = ${at}, again_at = NULL WHERE id IN (
      SELECT id FROM message WHERE peer = ${peer} AND confirmed_at IS NULL AND seq IS NOT NULL AND NOT off_chain AND state IN ('queued', 'sealed', 'relayed', 'stored')
        AND EXISTS (SELECT 1 FROM unnest(${from}::bigint[], ${to}::bigint[]) AS r(first, last) WHERE seq BETWEEN r.first AND r.last)
      ORDER BY id FOR UPDATE)
    RETURNING id, seq`
  return rows.map((row) => ({ id: row.id, seq: Number(row.seq) }))
}

/** The peer has it and will never take it. @returns the messages that this ends */
export async function notTaken(tx: Tx, ids: readonly string[], cause: string): Promise<string[]> {
  if (ids.length === 0) return []
  const rows = await tx.$queryRaw<Array<{ id: string }>>`
    UPDATE message SET state = 'refused', again_at = NULL, last_code = 'VerificationFailed', cause = ${cause}, lease_until = NULL, lease_token = NULL
    WHERE id = ANY(${[...ids]}::uuid[]) AND state IN ('queued', 'sealed', 'relayed', 'stored') RETURNING id`
  return rows.map((row) => row.id)
}

/**
 * This side's database was put back: the positions up to there belong to messages that it no longer knows, and the chain
 * goes on from the last of them. What this side has sent in the meantime is not part of it.
 */
export async function continueAt(tx: Tx, peer: string, next: number, hash: Uint8Array): Promise<void> {
  await tx.$executeRaw`UPDATE peer SET out_seq = ${BigInt(next)}, out_hash = ${owned(hash)} WHERE fleet_id = ${peer} AND out_seq < ${BigInt(next)}`
  await tx.$executeRaw`
    UPDATE message SET off_chain = true
    WHERE id IN (SELECT id FROM message WHERE peer = ${peer} AND seq < ${BigInt(next)} AND confirmed_at IS NULL AND NOT off_chain ORDER BY id FOR UPDATE)`
}

/**
 * Puts what the peer lacks back into the queue: of the gaps soon, of what is above everything that it has only what
 * was sent long enough ago. A message that the own relay still holds is left to it. What was confirmed before and is
 * missing now was lost by the peer.
 * @returns messages put back
 */
export async function sendMissingAgain(
  limits: Pick<App['limits'], 'resendAfterMs' | 'resendGapMs' | 'resendMaxMs'>,
  tx: Tx,
  peer: string,
  gaps: readonly PositionRange[],
  top: number,
  at: Date,
): Promise<number> {
  const { from, to } = ends(gaps)
  const inGaps = await tx.$executeRaw`
    UPDATE message m SET confirmed_at = NULL, again_at = LEAST(m.again_at, GREATEST(${at}::timestamptz, s.sent_at + LEAST(${limits.resendMaxMs}::float8, ${limits.resendGapMs}::float8 * 2 ^ LEAST(m.agains, 20)) * interval '1 ms'))
    FROM (SELECT id, COALESCE(sent_at, relayed_at, ${at}::timestamptz) AS sent_at FROM message WHERE peer = ${peer} AND state = 'stored' AND lease_token IS NULL
        AND EXISTS (SELECT 1 FROM unnest(${from}::bigint[], ${to}::bigint[]) AS r(first, last) WHERE seq BETWEEN r.first AND r.last)
      ORDER BY id LIMIT ${BROUGHT_BACK} FOR UPDATE) AS s
    WHERE m.id = s.id`
  const above = await tx.$executeRaw`
    UPDATE message SET confirmed_at = NULL, again_at = ${at} WHERE id IN (
      SELECT id FROM message WHERE peer = ${peer} AND state = 'stored' AND lease_token IS NULL AND seq > ${BigInt(top)}
        AND COALESCE(sent_at, relayed_at) + LEAST(${limits.resendMaxMs}::float8, ${limits.resendAfterMs}::float8 * 2 ^ LEAST(agains, 20)) * interval '1 ms' <= ${at}
      ORDER BY id LIMIT ${BROUGHT_BACK} FOR UPDATE)`
  return inGaps + above
}

/** Positions in the gaps whose message cannot be sent: it was refused or is not known here. */
export async function unsendable(tx: Tx, peer: string, gaps: readonly PositionRange[]): Promise<PositionRange[]> {
  const voids: PositionRange[] = []
  for (const [from, to] of gaps) {
    const rows = await tx.$queryRaw<Array<{ seq: bigint }>>`
      SELECT DISTINCT seq FROM message WHERE peer = ${peer} AND seq BETWEEN ${BigInt(from)} AND ${BigInt(to)} AND state NOT IN ('refused', 'cancelled') ORDER BY seq LIMIT ${BROUGHT_BACK}`
    let next = from
    for (const row of rows) {
      const seq = Number(row.seq)
      if (seq > next) voids.push([next, seq - 1])
      next = seq + 1
    }
    if (next <= to && rows.length < BROUGHT_BACK) voids.push([next, to])
  }
  return mergeRuns(voids).slice(0, RECEIPT_MAX_RANGES)
}

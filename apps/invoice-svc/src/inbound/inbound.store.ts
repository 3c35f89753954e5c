/** What came in and was decided on: one row per envelope, so that its replay gets the same answer. */
import type { ErrorCode } from '@tallystick/contracts/codes'
import type { Payload } from '@tallystick/wire/payload'
import type { Db, Tx } from '../app.js'
import type { InboundModel } from '../gen/models.js'
import { hex, owned } from '../http/page.js'

export type InboundRow = InboundModel

export async function decidedEnvelopes(
  db: Pick<Tx, 'inbound'>,
  peer: string,
  digests: readonly Uint8Array[],
): Promise<Map<string, InboundRow>> {
  const rows = await db.inbound.findMany({ where: { peer, envelopeDigest: { in: digests.map(owned) } } })
  return new Map(rows.map((row) => [hex(row.envelopeDigest), row]))
}

export interface TakenEnvelope {
  readonly peer: string
  readonly envelopeDigest: Uint8Array
  readonly messageId: string
  readonly kind: string
  readonly contentDigest: Uint8Array
  readonly seq: number
  readonly prevHash: Uint8Array
  readonly payloadHash: Uint8Array
  readonly receiptMessageId: string | null
  readonly at: Date
}

/** @returns false when this envelope or its message was taken before */
export async function insertTaken(tx: Tx, taken: TakenEnvelope): Promise<boolean> {
  const inserted = await tx.$executeRaw`
    INSERT INTO inbound (peer, envelope_digest, message_id, kind, content_digest, seq, prev_hash, payload_hash, outcome, receipt_message_id, received_at)
    VALUES (${taken.peer}, ${owned(taken.envelopeDigest)}, ${taken.messageId}::uuid, ${taken.kind}, ${owned(taken.contentDigest)}, ${BigInt(taken.seq)}, ${owned(taken.prevHash)},
      ${owned(taken.payloadHash)}, 'taken', ${taken.receiptMessageId}::uuid, ${taken.at})
    ON CONFLICT DO NOTHING`
  return inserted === 1
}

/**
 * @param place of a payload that could be read: its position is settled, and nothing is missing there
 * @returns false when it was refused before: it has been audited then
 */
export async function insertRefused(
  tx: Tx,
  peer: string,
  envelopeDigest: Uint8Array,
  code: ErrorCode,
  at: Date,
  place?: { readonly payload: Payload; readonly hash: Uint8Array },
): Promise<boolean> {
  const { seq, prevHash } = place?.payload ?? {}
  const inserted = await tx.$executeRaw`
    INSERT INTO inbound (peer, envelope_digest, outcome, code, received_at, seq, prev_hash, payload_hash)
    VALUES (${peer}, ${owned(envelopeDigest)}, 'refused', ${code}, ${at}, ${seq === undefined ? null : BigInt(seq)}::bigint,
      ${prevHash === undefined ? null : owned(prevHash)}::bytea, ${place === undefined ? null : owned(place.hash)}::bytea) ON CONFLICT DO NOTHING`
  return inserted === 1
}

/** The message under whichever envelope it was taken. */
export async function takenMessage(tx: Pick<Tx, 'inbound'>, peer: string, messageId: string): Promise<InboundRow | null> {
  return await tx.inbound.findFirst({ where: { peer, messageId, outcome: 'taken' } })
}

/**
 * The receipt of a message that came again. Under way it arrives by itself, and with its hop acknowledged the peer has
 * it: nothing is to do. One that the peer's relay refused is given another message id, since its own has ended.
 * @returns whether `next` is now the receipt of what `refused` was: each refusal is followed once
 */
export async function replaceRefusedReceipt(tx: Tx, peer: string, refused: string, next: string, notAfter: Date): Promise<boolean> {
  return (
    (await tx.$executeRaw`
      UPDATE inbound i SET receipt_message_id = ${next}::uuid FROM message m
      WHERE i.peer = ${peer} AND i.receipt_message_id = ${refused}::uuid AND m.id = i.receipt_message_id AND m.state = 'refused' AND m.created_at < ${notAfter}`) >
    0
  )
}

/** The first answer again, as it was: the same message, at most once in a while. @returns how many of them go */
export async function repeatReceipt(tx: Tx, peer: string, receipt: string, notAfter: Date, at: Date): Promise<number> {
  return await tx.$executeRaw`
    UPDATE message SET again_at = ${at} WHERE id = ${receipt}::uuid AND peer = ${peer} AND state = 'stored' AND lease_token IS NULL AND COALESCE(sent_at, relayed_at) < ${notAfter}`
}

/**
 * A message that was taken before has come at another position: its sender's database was put back to before it was
 * sent. The position is settled; the message stays where it was.
 */
export async function settlePlace(
  tx: Tx,
  first: InboundRow,
  envelopeDigest: Uint8Array,
  { payload, hash }: { readonly payload: Payload; readonly hash: Uint8Array },
  at: Date,
): Promise<void> {
  await tx.$executeRaw`
    INSERT INTO inbound (peer, envelope_digest, kind, content_digest, seq, prev_hash, payload_hash, outcome, receipt_message_id, received_at)
    SELECT ${first.peer}, ${owned(envelopeDigest)}, ${payload.kind}, ${owned(payload.contentDigest)}, ${BigInt(payload.seq)}, ${owned(payload.prevHash)},
      ${owned(hash)}, 'taken', ${first.receiptMessageId}::uuid, ${at}
    WHERE NOT EXISTS (SELECT 1 FROM inbound WHERE peer = ${first.peer} AND seq = ${BigInt(payload.seq)} AND payload_hash = ${owned(hash)})
    ON CONFLICT DO NOTHING`
}

/** A nonce is good once. The row count is the verdict, so that two at a time cannot both win. */
export async function useNonce(tx: Tx, peer: string, nonce: Uint8Array, keepUntil: Date): Promise<boolean> {
  return (
    (await tx.$executeRaw`INSERT INTO statement_nonce (peer, nonce, expires_at) VALUES (${peer}, ${owned(nonce)}, ${keepUntil}) ON CONFLICT DO NOTHING`) ===
    1
  )
}

export async function sweepNonces(db: Db, now: Date): Promise<number> {
  return await db.$executeRaw`DELETE FROM statement_nonce WHERE (peer, nonce) IN (SELECT peer, nonce FROM statement_nonce WHERE expires_at < ${now} LIMIT 5000)`
}

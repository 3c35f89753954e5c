/** Sealed envelopes by message id: what makes `seal` safe to retry. */
import type { Tx } from '../db.js'
import { plainBytes } from '../plain-bytes.js'
import type { MessageClass } from './rotation.js'

export interface SealedEnvelopeRow {
  readonly messageId: string
  readonly fleetId: string
  readonly sid: Uint8Array
  readonly epoch: number
  readonly class: MessageClass
  /** null after the retention time. */
  readonly envelope: Uint8Array | null
  /** 32 bytes, from `KeyCustody.fingerprint` of the payload. */
  readonly fingerprint: Uint8Array
  /** Which key the fingerprint was made under: after a change of the key it says nothing. */
  readonly kekId: string
  readonly sealedAt: Date
}

export async function findSealed(tx: Tx, messageIds: readonly string[]): Promise<Map<string, SealedEnvelopeRow>> {
  const rows = await tx.sealedEnvelope.findMany({ where: { messageId: { in: [...messageIds] } } })
  return new Map(rows.map((row) => [row.messageId, { ...row, class: row.class as MessageClass }]))
}

/**
 * @param again ids among `rows` that were sealed before: what is stored for them is replaced
 */
export async function storeSealed(tx: Tx, rows: readonly SealedEnvelopeRow[], again: ReadonlySet<string>): Promise<void> {
  if (rows.length === 0) return
  if (again.size > 0) await tx.sealedEnvelope.deleteMany({ where: { messageId: { in: [...again] } } })
  await tx.sealedEnvelope.createMany({
    data: rows.map((row) => ({
      ...row,
      sid: plainBytes(row.sid),
      envelope: row.envelope && plainBytes(row.envelope),
      fingerprint: plainBytes(row.fingerprint),
    })),
  })
}

/** As if these had never been sealed: their bytes were made on a state that must not be used, and have not left. */
export async function forgetSealed(tx: Tx, messageIds: readonly string[]): Promise<void> {
  await tx.sealedEnvelope.deleteMany({ where: { messageId: { in: [...messageIds] } } })
}

/** Rows deleted in one statement: housekeeping must not hold up messages. */
const MOST_AT_ONCE = 5_000

/** Ids go in the end: whoever asks for one again has long stopped. */
export async function dropOldIds(tx: Tx, before: Date): Promise<number> {
  return tx.$executeRaw`
    DELETE FROM session.sealed_envelope WHERE message_id IN (
      SELECT message_id FROM session.sealed_envelope WHERE sealed_at < ${before} LIMIT ${MOST_AT_ONCE}::int)`
}

/** Ciphertext bytes go after the retention time; the id stays and answers a late retry with DuplicateMessage. */
export async function dropOldEnvelopes(tx: Tx, before: Date): Promise<number> {
  return tx.$executeRaw`UPDATE session.sealed_envelope SET envelope = NULL WHERE sealed_at < ${before} AND envelope IS NOT NULL`
}

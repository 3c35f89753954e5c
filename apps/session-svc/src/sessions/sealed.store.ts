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

export async function insertSealed(tx: Tx, rows: readonly SealedEnvelopeRow[]): Promise<void> {
  if (rows.length === 0) return
  await tx.sealedEnvelope.createMany({
    data: rows.map((row) => ({
      ...row,
      sid: plainBytes(row.sid),
      envelope: row.envelope && plainBytes(row.envelope),
      fingerprint: plainBytes(row.fingerprint),
    })),
  })
}

/** Ciphertext bytes go after the retention time; the id stays and answers a late retry with DuplicateMessage. */
export async function dropOldEnvelopes(tx: Tx, before: Date): Promise<number> {
  return tx.$executeRaw`UPDATE session.sealed_envelope SET envelope = NULL WHERE sealed_at < ${before} AND envelope IS NOT NULL`
}

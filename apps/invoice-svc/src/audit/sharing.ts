/**
 * MessageSent and MessageReceived: written only under a consent of purpose "log" for that peer and kind. The log gets a
 * salted commitment; the salt stays here, so that the log alone discloses neither content nor equality.
 * @see docs/spec/audit-log.md §3
 */
import { randomBytes } from 'node:crypto'
import { newAuditEvent } from '@tallystick/audit-outbox/outbox'
import type { AuditEvent } from '@tallystick/contracts/audit-events'
import { isConsented } from '@tallystick/invoice-domain/consent'
import type { DocumentKind } from '@tallystick/wire/document'
import { contentCommitment } from '@tallystick/wire/payload'
import { SERVICE_ACTOR, type Tx } from '../app.js'
import { consentsWith } from '../consents/consent.store.js'
import { hex, owned } from '../http/page.js'
import { newId } from '../ids.js'

export interface Sharing {
  readonly type: 'MessageSent' | 'MessageReceived'
  readonly peer: string
  readonly messageId: string
  readonly documentId: string
  readonly kind: DocumentKind
  readonly contentDigest: Uint8Array
  readonly at: Date
}

/** @returns the event to record in the same transaction, or nothing without consent or for a repetition */
export async function recordSharing(tx: Tx, sharing: Sharing): Promise<AuditEvent[]> {
  const { type, peer, messageId, documentId, kind, contentDigest, at } = sharing
  if (!isConsented(await consentsWith(tx, peer), 'log', kind, at.getTime())) return []
  const eventId = newId()
  const salt = owned(randomBytes(32))
  const inserted = await tx.$executeRaw`
    INSERT INTO sharing_event (event_id, type, peer, document_id, message_id, kind, content_digest, salt, created_at)
    VALUES (${eventId}::uuid, ${type}, ${peer}, ${documentId}::uuid, ${messageId}::uuid, ${kind}, ${owned(contentDigest)}, ${salt}, ${at})
    ON CONFLICT (type, peer, message_id) DO NOTHING`
  if (inserted === 0) return []
  const commitment = hex(contentCommitment(salt, contentDigest))
  return [newAuditEvent({ type, actor: SERVICE_ACTOR, at: at.getTime(), id: eventId, body: { peer, messageId, kind, commitment } })]
}

/**
 * A leaf is the deterministic CBOR of one event, and nothing else: whoever has the event can compute the leaf.
 * @see docs/spec/audit-log.md §3
 */
import { type AuditEvent, auditEvent } from '@tallystick/contracts/audit-events'
import { decode, encode } from '@tallystick/wire/cbor'

export const LEAF_MAX_BYTES = 4_096

/** @throws ProtocolError Serialization if a body holds what CBOR leaves cannot */
export function encodeLeaf(event: AuditEvent): Uint8Array {
  const { eventId, stream, type, at, actor, body } = event
  return encode({ eventId, stream, type, at, actor, body })
}

/** @throws if the bytes are not an event of the closed schema */
export function decodeLeaf(leaf: Uint8Array): AuditEvent {
  return auditEvent.parse(decode(leaf, { maxBytes: LEAF_MAX_BYTES }))
}

/**
 * The payload: what travels inside an envelope's ciphertext. A registry by version: 1 is current, 0 (the unversioned
 * legacy record) migrates forward, anything else is `UnsupportedVersion`.
 * @see docs/spec/payload.md §2
 */
import { equalConstantTime } from '@tallystick/primitives/bytes'
import { ProtocolError } from '@tallystick/primitives/errors'
import { blake3, sha256 } from '@tallystick/primitives/hash'
import { decode, encode } from './cbor.js'
import { isLegacyRecord, migrateLegacyRecord } from './payload-v0.js'
import { bytes, epochMs, fixedBytes, integer, oneOf, optional, record, refuse, uuid } from './shape.js'

export const PAYLOAD_KINDS = ['document', 'receipt', 'verdict', 'log-proof'] as const
export type PayloadKind = (typeof PAYLOAD_KINDS)[number]

export interface Payload {
  readonly v: 1
  readonly kind: PayloadKind
  /** Message id, UUID in lower case. */
  readonly id: string
  /** Position in this direction between the two fleets, from 0 without gaps. */
  readonly seq: number
  /** `payloadHash` of the payload with `seq − 1`, or `PAYLOAD_GENESIS`; 32 bytes. */
  readonly prevHash: Uint8Array
  /** Milliseconds. */
  readonly issuedAt: number
  /** BLAKE3-256 of `body`, 32 bytes. */
  readonly contentDigest: Uint8Array
  /** The frozen bytes of a document, or the encoded body of a control message. */
  readonly body: Uint8Array
  /** A document's or verdict's signed statement. @see docs/spec/documents.md §3 */
  readonly statement?: Uint8Array
}

/** Largest encoded payload: a document with attachments. */
export const PAYLOAD_MAX_BYTES = 4 * 1024 * 1024
export const STATEMENT_MAX_BYTES = 2048
/** `prevHash` of the first payload in a direction. Treat as constant. */
export const PAYLOAD_GENESIS = new Uint8Array(32)

const shape = record({
  v: oneOf(1),
  kind: oneOf(...PAYLOAD_KINDS),
  id: uuid,
  seq: integer(0),
  prevHash: fixedBytes(32),
  issuedAt: epochMs,
  contentDigest: fixedBytes(32),
  body: bytes(PAYLOAD_MAX_BYTES),
  statement: optional(bytes(STATEMENT_MAX_BYTES)),
})

/** Content digest of a body: BLAKE3-256, 32 bytes. @see docs/spec/payload.md §3 */
export function contentDigest(body: Uint8Array): Uint8Array {
  return blake3(body)
}

/** What the next payload in the same direction names as `prevHash`: SHA-256 of the encoded payload. */
export function payloadHash(encoded: Uint8Array): Uint8Array {
  return sha256(encoded)
}

/**
 * What the audit log holds instead of a content digest: SHA-256(salt ‖ digest).
 * @param salt 32 random bytes, kept by the owner and opened in evidence
 * @param digest 32 bytes
 * @see docs/spec/audit-log.md §3
 */
export function contentCommitment(salt: Uint8Array, digest: Uint8Array): Uint8Array {
  if (salt.length !== 32 || digest.length !== 32) throw new ProtocolError('Serialization', 'commitment: salt and digest have 32 bytes each')
  return sha256(salt, digest)
}

/**
 * @returns at most 4 MiB
 * @throws ProtocolError Serialization; VerificationFailed if `contentDigest` is not the digest of `body`
 */
export function encodePayload(payload: Payload): Uint8Array {
  const encoded = encode(checked(payload))
  if (encoded.length > PAYLOAD_MAX_BYTES) refuse('payload', `more than ${PAYLOAD_MAX_BYTES} bytes`)
  return encoded
}

/**
 * @returns a payload of version 1; a legacy record comes back migrated, as a document without a statement
 * @throws ProtocolError Serialization, UnsupportedVersion, InvalidAmount (legacy), VerificationFailed (content digest)
 * @see docs/spec/payload.md §2
 */
export function decodePayload(encoded: Uint8Array): Payload {
  if (encoded.length > PAYLOAD_MAX_BYTES) refuse('payload', `more than ${PAYLOAD_MAX_BYTES} bytes`)
  if (isLegacyRecord(encoded)) {
    const { id, body } = migrateLegacyRecord(encoded)
    return { v: 1, kind: 'document', id, seq: 0, prevHash: PAYLOAD_GENESIS, issuedAt: 0, contentDigest: contentDigest(body), body }
  }
  const value = decode(encoded, { maxBytes: PAYLOAD_MAX_BYTES, maxDepth: 2, maxItems: 32 })
  const version = (value as { v?: unknown } | null)?.v
  if (typeof version === 'number' && version !== 1) throw new ProtocolError('UnsupportedVersion', `payload version ${version}`)
  return checked(value)
}

function checked(value: unknown): Payload {
  const payload = shape(value, 'payload')
  if (!equalConstantTime(contentDigest(payload.body), payload.contentDigest))
    throw new ProtocolError('VerificationFailed', 'payload: content digest does not match the body')
  return payload
}

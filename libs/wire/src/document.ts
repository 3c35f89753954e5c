/**
 * The document statement: what a fleet signs when a document or verdict must bind it. It names the content by digest,
 * the addressee, and the span in which it may be accepted; the domain string inside keeps it from being taken for any
 * other signature of the same key.
 * @see docs/spec/documents.md §3
 */
import { equalConstantTime } from '@tallystick/primitives/bytes'
import { verify } from '@tallystick/primitives/ed25519'
import { ProtocolError } from '@tallystick/primitives/errors'
import { decode, encode } from './cbor.js'
import { CLOCK_SKEW_MS, type FleetCertificate } from './certificate.js'
import { bytes, epochMs, fixedBytes, fleetIdText, nullable, oneOf, record, refuse, uuid } from './shape.js'

export const DOCUMENT_KINDS = ['invoice', 'credit-note', 'quote', 'payment-request', 'receipt', 'verdict'] as const
export type DocumentKind = (typeof DOCUMENT_KINDS)[number]

export interface StatementFields {
  readonly kind: DocumentKind
  /** UUID in lower case. */
  readonly documentId: string
  /** BLAKE3-256 of the body, 32 bytes. */
  readonly contentDigest: Uint8Array
  /** Fleet id of the signer. */
  readonly signer: string
  /** Fleet id of the addressee; null for a document frozen before one is known. */
  readonly audience: string | null
  /** Milliseconds. */
  readonly issuedAt: number
  /** Milliseconds; the span is not when the document ends, but until when a receiver may first accept it. */
  readonly expiresAt: number
  /** 32 random bytes: single use at the receiver. */
  readonly nonce: Uint8Array
}

export interface Statement extends StatementFields {
  /** The signed bytes. */
  readonly payload: Uint8Array
  /** 64 bytes. */
  readonly signature: Uint8Array
}

export interface StatementExpectation {
  /** The signer's, already verified. */
  readonly certificate: Pick<FleetCertificate, 'fleetId' | 'signKey'>
  readonly audience: string | null
  /** Milliseconds. */
  readonly now: number
  readonly contentDigest: Uint8Array
  readonly kind: DocumentKind
  readonly documentId: string
}

const DOMAIN = 'tallystick/document/v1'
const MAX_BYTES = 2048
/** How long a receiver keeps nonces at most; a peer may be out of reach for weeks, not for a year. */
export const STATEMENT_MAX_LIFETIME_MS = 90 * 24 * 3_600_000

const outer = record({ payload: bytes(MAX_BYTES), signature: fixedBytes(64) })
const inner = record({
  v: oneOf(1),
  domain: oneOf(DOMAIN),
  kind: oneOf(...DOCUMENT_KINDS),
  documentId: uuid,
  contentDigest: fixedBytes(32),
  signer: fleetIdText,
  audience: nullable(fleetIdText),
  issuedAt: epochMs,
  expiresAt: epochMs,
  nonce: fixedBytes(32),
})

function checked(value: unknown): StatementFields {
  const { v: _v, domain: _domain, ...fields } = inner(value, 'statement')
  if (fields.expiresAt <= fields.issuedAt) refuse('statement.expiresAt', 'not after issuedAt')
  if (fields.expiresAt - fields.issuedAt > STATEMENT_MAX_LIFETIME_MS) refuse('statement.expiresAt', 'lifetime beyond 90 days')
  return fields
}

/**
 * The bytes to sign with IK_sign.
 * @throws ProtocolError Serialization
 * @see docs/spec/documents.md §3
 */
export function encodeStatementPayload(fields: StatementFields): Uint8Array {
  const { kind, documentId, contentDigest, signer, audience, issuedAt, expiresAt, nonce } = fields
  const value = { v: 1, domain: DOMAIN, kind, documentId, contentDigest, signer, audience, issuedAt, expiresAt, nonce }
  checked(value)
  return encode(value)
}

/**
 * @param payload from `encodeStatementPayload`
 * @param signature 64 bytes
 */
export function assembleStatement(payload: Uint8Array, signature: Uint8Array): Uint8Array {
  return encode(outer({ payload, signature }, 'statement'))
}

/**
 * Decode without verifying: for display, and to learn whose certificate to verify with.
 * @throws ProtocolError Serialization, UnsupportedVersion
 */
export function readStatement(statement: Uint8Array): Statement {
  const { payload, signature } = outer(decode(statement, { maxBytes: MAX_BYTES, maxItems: 8 }), 'statement')
  const value = decode(payload, { maxBytes: MAX_BYTES, maxItems: 32 })
  const version = (value as { v?: unknown } | null)?.v
  if (typeof version === 'number' && version !== 1) throw new ProtocolError('UnsupportedVersion', `statement version ${version}`)
  return { ...checked(value), payload, signature }
}

/**
 * @returns the verified statement; the caller still has to use up its nonce
 * @throws ProtocolError Serialization, UnsupportedVersion; InvalidSignature (another signer, audience, kind or document,
 *   or the signature itself); VerificationFailed (another content); ExpiredSignature (issued in the future beyond 120 s
 *   of skew, or past its end)
 * @see docs/spec/documents.md §3
 */
export function verifyStatement(statement: Uint8Array, expected: StatementExpectation): Statement {
  const read = readStatement(statement)
  if (read.signer !== expected.certificate.fleetId) throw new ProtocolError('InvalidSignature', 'statement: another signer')
  if (!verify(expected.certificate.signKey, read.payload, read.signature))
    throw new ProtocolError('InvalidSignature', 'statement: signature does not verify')
  if (read.audience !== expected.audience) throw new ProtocolError('InvalidSignature', 'statement: made for another audience')
  if (read.kind !== expected.kind || read.documentId !== expected.documentId)
    throw new ProtocolError('InvalidSignature', 'statement: made for another document')
  if (!equalConstantTime(read.contentDigest, expected.contentDigest))
    throw new ProtocolError('VerificationFailed', 'statement: made for another content')
  if (read.issuedAt > expected.now + CLOCK_SKEW_MS) throw new ProtocolError('ExpiredSignature', 'statement: issued in the future')
  if (expected.now > read.expiresAt + CLOCK_SKEW_MS) throw new ProtocolError('ExpiredSignature', 'statement: expired')
  return read
}

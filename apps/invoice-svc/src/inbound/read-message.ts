/**
 * An opened payload, checked as far as it can be without the database: form and content digest, the signed statement
 * against the pinned certificate, the domain's rules. Nothing of it is stored before this has passed.
 */
import type { AuditEventBody } from '@tallystick/contracts/audit-events'
import { ERROR_CODES, type ErrorCode } from '@tallystick/contracts/codes'
import { DomainError } from '@tallystick/invoice-domain/errors'
import type { BillingDocument } from '@tallystick/invoice-domain/model'
import { fromRecord } from '@tallystick/invoice-domain/record'
import { validate } from '@tallystick/invoice-domain/validate'
import { checkVerdict } from '@tallystick/invoice-domain/verdict'
import { verifyCheckpoint } from '@tallystick/merkle-log/checkpoint'
import { decodeVkey } from '@tallystick/merkle-log/note'
import { leafHash, verifyInclusion } from '@tallystick/merkle-log/tree'
import { ProtocolError } from '@tallystick/primitives/errors'
import { decode } from '@tallystick/wire/cbor'
import { CLOCK_SKEW_MS, logOrigin, logVkey, type ReadCertificate, readCertificate, succeeds } from '@tallystick/wire/certificate'
import { readStatement, verifyStatement, type Statement } from '@tallystick/wire/document'
import {
  decodeLogProof,
  decodeReceipt,
  decodeVerdict,
  type LogProofBody,
  type ReceiptBody,
  type VerdictBody,
} from '@tallystick/wire/messages'
import { decodePayload, payloadHash, type Payload } from '@tallystick/wire/payload'

export type ReceivedMessage =
  | {
      readonly kind: 'document'
      readonly payload: Payload
      readonly hash: Uint8Array
      readonly documentId: string
      readonly document: BillingDocument
      readonly statement: Statement
      readonly statementBytes: Uint8Array
      /** Under which the statement verifies: the pinned one, or the one before a new identity. */
      readonly certificate: Uint8Array
    }
  | { readonly kind: 'receipt'; readonly payload: Payload; readonly hash: Uint8Array; readonly body: ReceiptBody }
  | {
      readonly kind: 'verdict'
      readonly payload: Payload
      readonly hash: Uint8Array
      readonly body: VerdictBody
      readonly statement: Statement
      readonly statementBytes: Uint8Array
      readonly certificate: Uint8Array
    }
  | { readonly kind: 'log-proof'; readonly payload: Payload; readonly hash: Uint8Array; readonly body: LogProofBody }

export type WhatFailed = AuditEventBody<'VerificationFailed'>['what']

/** A message that will never be acceptable. `what` is set where something did not verify: that is audited. */
export class Unacceptable extends Error {
  constructor(
    readonly code: ErrorCode,
    readonly what: WhatFailed | undefined,
    message: string,
    readonly messageId?: string,
    /** Where it stands in its sequence, if it could be read that far. */
    readonly place?: { readonly payload: Payload; readonly hash: Uint8Array },
  ) {
    super(message)
    this.name = 'Unacceptable'
  }
}

export interface Reader {
  /** Bytes of the peer's pinned certificate. */
  readonly certificate: Uint8Array
  /** Of the peer's identity before the present one. */
  readonly previous?: Uint8Array | null
  readonly ownFleetId: string
  /** Milliseconds. */
  readonly now: number
}

/** Items of the largest document: more than its bytes can hold lines. */
const DOCUMENT_ITEMS = 400_000

/** @throws Unacceptable */
export function readMessage(bytes: Uint8Array, reader: Reader): ReceivedMessage {
  const payload = attempt('content-digest', () => decodePayload(bytes))
  const hash = payloadHash(bytes)
  try {
    return readKind(payload, hash, reader)
  } catch (error) {
    if (!(error instanceof Unacceptable)) throw error
    throw new Unacceptable(error.code, error.what, error.message, payload.id, { payload, hash })
  }
}

function readKind(payload: Payload, hash: Uint8Array, reader: Reader): ReceivedMessage {
  switch (payload.kind) {
    case 'document':
      return { kind: 'document', payload, hash, ...readDocument(payload, reader) }
    case 'receipt':
      return { kind: 'receipt', payload, hash, body: attempt(undefined, () => decodeReceipt(payload.body), payload.id) }
    case 'verdict':
      return { kind: 'verdict', payload, hash, ...readVerdict(payload, reader) }
    case 'log-proof':
      return { kind: 'log-proof', payload, hash, body: readLogProof(payload, reader) }
  }
}

function readDocument(payload: Payload, reader: Reader) {
  const document = attempt(undefined, () => fromRecord(decode(payload.body, { maxItems: DOCUMENT_ITEMS })), payload.id)
  const statementBytes = statementOf(payload)
  const { documentId } = attempt('document-signature', () => readStatement(statementBytes), payload.id)
  const signed = verified(payload, statementBytes, reader, { kind: document.kind, documentId })
  const [broken] = validate(document)
  if (broken !== undefined)
    throw new Unacceptable('InvalidRequest', undefined, `${broken.rule} ${broken.pointer}: ${broken.message}`, payload.id)
  return { documentId, document, statementBytes, ...signed }
}

function readVerdict(payload: Payload, reader: Reader) {
  const body = attempt(
    undefined,
    () => {
      const verdict = decodeVerdict(payload.body)
      checkVerdict({ verdict: verdict.verdict, code: verdict.code, note: verdict.note })
      return verdict
    },
    payload.id,
  )
  // Also more than a column of times holds: such a message could never be stored, and would come again for ever.
  if (body.at > reader.now + CLOCK_SKEW_MS) throw new Unacceptable('InvalidRequest', undefined, 'a verdict given in the future', payload.id)
  const statementBytes = statementOf(payload)
  return { body, statementBytes, ...verified(payload, statementBytes, reader, { kind: 'verdict', documentId: body.documentId }) }
}

/** Every entry must be in the log that the peer's certificate names; its meaning is judged when evidence is read. */
function readLogProof(payload: Payload, reader: Reader): LogProofBody {
  return attempt(
    'certificate',
    () => {
      const body = decodeLogProof(payload.body)
      const certificate = readCertificate(reader.certificate, reader.now)
      const vkey = logVkey(certificate)
      if (body.vkey !== vkey) throw new ProtocolError('VerificationFailed', 'log proof of another log')
      for (const { leaf, index, size, proof, note } of body.entries) {
        const checkpoint = verifyCheckpoint(note, [decodeVkey(vkey)], logOrigin(certificate.fleetId))
        if (checkpoint.size !== size || !verifyInclusion(leafHash(leaf), index, size, proof, checkpoint.root))
          throw new ProtocolError('VerificationFailed', 'log proof does not lead to its checkpoint')
      }
      return body
    },
    payload.id,
  )
}

function statementOf(payload: Payload): Uint8Array {
  if (payload.statement === undefined) throw new Unacceptable('InvalidSignature', 'document-signature', 'no signed statement', payload.id)
  return payload.statement
}

interface Signed {
  readonly statement: Statement
  readonly certificate: Uint8Array
}

function verified(
  payload: Payload,
  statement: Uint8Array,
  reader: Reader,
  expected: { kind: BillingDocument['kind'] | 'verdict'; documentId: string },
): Signed {
  const { certificate: bytes, ownFleetId: audience, now } = reader
  const certificate = attempt('certificate', () => readCertificate(bytes, now), payload.id)
  const { contentDigest } = payload
  return attempt(
    'document-signature',
    () => {
      try {
        return { statement: verifyStatement(statement, { certificate, audience, now, contentDigest, ...expected }), certificate: bytes }
      } catch (error) {
        const earlier = earlierCertificate(error, statement, certificate, reader.previous)
        if (earlier === undefined) throw error
        const before = { certificate: earlier, audience, now, contentDigest, ...expected }
        return { statement: verifyStatement(statement, before), certificate: reader.previous! }
      }
    },
    payload.id,
  )
}

/**
 * What was signed before the peer's identity was renewed, and came through the session of the new one: nobody but the
 * peer can have sent it. Anything that claims to be signed later must be signed with the new key.
 */
function earlierCertificate(
  error: unknown,
  statement: Uint8Array,
  present: ReadCertificate,
  previous: Uint8Array | null | undefined,
): ReadCertificate | undefined {
  if (!(error instanceof ProtocolError) || error.code !== 'InvalidSignature' || previous === undefined || previous === null)
    return undefined
  const { issuedAt } = readStatement(statement)
  if (issuedAt > present.notBefore + CLOCK_SKEW_MS) return undefined
  const earlier = readCertificate(previous, issuedAt)
  return succeeds(present, earlier.signKey) ? earlier : undefined
}

const VERIFICATION: readonly string[] = ['VerificationFailed', 'InvalidSignature', 'ExpiredSignature']

function attempt<T>(what: WhatFailed | undefined, read: () => T, messageId?: string): T {
  try {
    return read()
  } catch (error) {
    if (error instanceof ProtocolError || error instanceof DomainError) {
      const code: ErrorCode = (ERROR_CODES as readonly string[]).includes(error.code) ? (error.code as ErrorCode) : 'Serialization'
      throw new Unacceptable(code, VERIFICATION.includes(code) ? (what ?? 'content-digest') : undefined, error.message, messageId)
    }
    throw error
  }
}

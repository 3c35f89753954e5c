/**
 * Bodies of the control messages: delivery receipts, verdicts, proofs from a counterparty's audit log.
 * @see docs/spec/payload.md §5
 */
import { decode, encode } from './cbor.js'
import {
  bytes,
  displayLines,
  epochMs,
  fixedBytes,
  integer,
  list,
  oneOf,
  optional,
  record,
  type Shape,
  text,
  uuid,
  type ValueOf,
} from './shape.js'

/** A signed note: at most a few lines of base64 and one per witness. */
const note = text(8192)
/** Longest audit leaf. @see docs/spec/audit-log.md §3 */
export const LEAF_MAX_BYTES = 4096
/** A proof in a tree of 2^63 leaves. */
export const PROOF_MAX_HASHES = 63

const receiptBody = record({
  items: list(record({ messageId: uuid, contentDigest: fixedBytes(32), status: oneOf('stored', 'duplicate'), at: epochMs }), 1, 256),
  checkpoint: optional(note),
})
/** Delivery receipt: sent after the documents are durable; never acknowledged itself. */
export type ReceiptBody = ValueOf<typeof receiptBody>

const verdictBody = record({
  documentId: uuid,
  contentDigest: fixedBytes(32),
  verdict: oneOf('accepted', 'rejected', 'disputed', 'paid'),
  code: optional(text(32, /^[A-Za-z0-9._-]{1,32}$/)),
  note: optional(displayLines(2000)),
  at: epochMs,
})
/** The only terminal answer to a document; travels with a statement of kind `verdict`. */
export type VerdictBody = ValueOf<typeof verdictBody>

const logProofEntry = record({
  leaf: bytes(LEAF_MAX_BYTES),
  index: integer(0),
  size: integer(1),
  proof: list(fixedBytes(32), 0, PROOF_MAX_HASHES),
  note,
  salt: fixedBytes(32),
})
/** One leaf of an audit log, its path to a checkpoint, and the salt that opens its commitment. */
export type LogProofEntry = ValueOf<typeof logProofEntry>

const logProofBody = record({ documentId: uuid, entries: list(logProofEntry, 1, 16), vkey: text(400) })
/** Sent to the counterparty once the events are under a checkpoint and consent "log" stands. */
export type LogProofBody = ValueOf<typeof logProofBody>

const RECEIPT_LIMITS = { maxBytes: 65_536, maxDepth: 3, maxItems: 4_096 }
const VERDICT_LIMITS = { maxBytes: 16_384, maxDepth: 1, maxItems: 16 }
const LOG_PROOF_LIMITS = { maxBytes: 512 * 1024, maxDepth: 4, maxItems: 4_096 }

function codec<T>(
  shape: Shape<T>,
  name: string,
  limits: { maxBytes: number; maxDepth: number; maxItems: number },
): { encode(body: T): Uint8Array; decode(encoded: Uint8Array): T } {
  return {
    encode: (body) => encode(shape(body, name)),
    decode: (encoded) => shape(decode(encoded, limits), name),
  }
}

const receipt = codec(receiptBody, 'receipt', RECEIPT_LIMITS)
const verdict = codec(verdictBody, 'verdict', VERDICT_LIMITS)
const logProof = codec(logProofBody, 'log-proof', LOG_PROOF_LIMITS)

/** @throws ProtocolError Serialization */
export const encodeReceipt: (body: ReceiptBody) => Uint8Array = receipt.encode
/** @throws ProtocolError Serialization */
export const decodeReceipt: (encoded: Uint8Array) => ReceiptBody = receipt.decode
/** @throws ProtocolError Serialization */
export const encodeVerdict: (body: VerdictBody) => Uint8Array = verdict.encode
/** @throws ProtocolError Serialization */
export const decodeVerdict: (encoded: Uint8Array) => VerdictBody = verdict.decode
/** @throws ProtocolError Serialization */
export const encodeLogProof: (body: LogProofBody) => Uint8Array = logProof.encode
/** @throws ProtocolError Serialization */
export const decodeLogProof: (encoded: Uint8Array) => LogProofBody = logProof.decode

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
  refuse,
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

/** Items of one receipt. */
export const RECEIPT_MAX_ITEMS = 256
/** Pairs of one list of positions. */
export const RECEIPT_MAX_RANGES = 32

/** Positions of one direction, both ends included. */
export type PositionRange = [from: number, to: number]

const pair = list(integer(0), 2, 2)
/** Ascending, apart from each other, none empty: one set of positions has one spelling. */
const positionRanges: Shape<PositionRange[]> = (value, path) => {
  const ranges = list(pair, 1, RECEIPT_MAX_RANGES)(value, path) as PositionRange[]
  let last = -2
  for (const [from, to] of ranges) {
    if (from > to || from <= last + 1) refuse(path, 'ranges are not ascending and apart')
    last = to
  }
  return ranges
}

const run = record({ from: integer(0), to: integer(0), hash: optional(fixedBytes(32)) })
/** Settled positions, both ends included; `hash` is that of the payload at `to`. Without it they are void. */
export type ReceivedRun = ValueOf<typeof run>

const receivedFields = record({
  from: optional(integer(1)),
  seq: optional(integer(0)),
  hash: optional(fixedBytes(32)),
  ranges: optional(list(run, 1, RECEIPT_MAX_RANGES)),
  refused: optional(positionRanges),
})
/** What of a direction is stored, as its receiver says it: every statement stands by itself and never becomes untrue. */
export type ReceivedPart = ValueOf<typeof receivedFields>

const receivedPart: Shape<ReceivedPart> = (value, path) => {
  const received = receivedFields(value, path)
  if ((received.seq === undefined) !== (received.hash === undefined)) refuse(path, 'a position without its hash, or the reverse')
  if (received.from !== undefined && received.from > (received.seq ?? -1)) refuse(path, 'a head below where its chain begins')
  let last = received.seq ?? -1
  for (const { from, to } of received.ranges ?? []) {
    if (from > to || from <= last) refuse(path, 'ranges are not ascending above the head')
    last = to
  }
  return received
}

const receiptBody = record({
  items: list(
    record({ messageId: uuid, contentDigest: fixedBytes(32), status: oneOf('stored', 'duplicate', 'refused'), at: epochMs }),
    0,
    RECEIPT_MAX_ITEMS,
  ),
  received: optional(receivedPart),
  void: optional(positionRanges),
  checkpoint: optional(note),
})
/** Delivery receipt: sent after what it names is durable; never acknowledged itself. */
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

const RECEIPT_LIMITS = { maxBytes: 65_536, maxDepth: 4, maxItems: 4_096 }
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

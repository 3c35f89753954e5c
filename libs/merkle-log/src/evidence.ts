/**
 * The evidence file: what two fleets exchanged about one document, as JSON that anybody can check offline, with
 * nothing but the file. `buildEvidence` writes it, `verifyEvidence` reads it; neither trusts the other.
 * @see docs/spec/evidence.md
 */
import { fromBase64Url, fromHex, toBase64Url, toHex } from '@tallystick/primitives/bytes'
import { ProtocolError } from '@tallystick/primitives/errors'
import type { DocumentKind } from '@tallystick/wire/document'
import { DOCUMENT_KINDS } from '@tallystick/wire/document'
import { bytes, fixedBytes, integer, list, oneOf, optional, record, type Shape, text, uuid, type ValueOf } from '@tallystick/wire/shape'

export const EVIDENCE_FORMAT = 'tallystick-evidence/v1'
/** Longest file, characters: a document of 4 MiB in base64url and room for the proofs. */
export const EVIDENCE_MAX_CHARS = 8 * 1024 * 1024

/** One leaf of an audit log, its path to a signed checkpoint, and the salt that opens its commitment. */
export interface EvidenceLogEntry {
  readonly leaf: Uint8Array
  readonly index: number
  /** Size of the tree that `note` is the checkpoint of. */
  readonly size: number
  readonly proof: readonly Uint8Array[]
  readonly note: string
  readonly salt: Uint8Array
}

/** The parts in binary form, as invoice-svc holds them. */
export interface EvidenceParts {
  readonly kind: Exclude<DocumentKind, 'verdict'>
  readonly documentId: string
  /** The frozen bytes that were signed and sent. */
  readonly body: Uint8Array
  /** Statement over `body` for the recipient, by the sender. */
  readonly statement: Uint8Array
  readonly senderCertificate: Uint8Array
  readonly recipientCertificate: Uint8Array
  /** Body of the recipient's delivery receipt. */
  readonly receipt?: { readonly messageId: string; readonly body: Uint8Array }
  /** In the order given: a document may be accepted first and paid later. */
  readonly verdicts?: readonly { readonly body: Uint8Array; readonly statement: Uint8Array }[]
  readonly senderLog?: { readonly vkey: string; readonly entries: readonly EvidenceLogEntry[] }
  readonly recipientLog?: { readonly vkey: string; readonly entries: readonly EvidenceLogEntry[] }
}

/** Text to bytes, then the shape of the bytes: in the file, bytes are base64url and digests hex. */
function base64url(shape: Shape<Uint8Array>): Shape<Uint8Array> {
  return (value, path) => shape(typeof value === 'string' ? fromBase64Url(value) : value, path)
}
function hex(shape: Shape<Uint8Array>): Shape<Uint8Array> {
  return (value, path) => {
    if (typeof value !== 'string' || value !== value.toLowerCase()) throw new ProtocolError('Serialization', `${path}: not lower-case hex`)
    return shape(fromHex(value), path)
  }
}

const hash = hex(fixedBytes(32))
const logShape = record({
  vkey: text(400),
  entries: list(
    record({ leaf: base64url(bytes(4096)), index: integer(0), size: integer(1), proof: list(hash, 0, 63), note: text(8192), salt: hash }),
    1,
    64,
  ),
})
const fileShape = record({
  format: oneOf(EVIDENCE_FORMAT),
  document: record({
    kind: oneOf(...DOCUMENT_KINDS.filter((kind) => kind !== 'verdict')),
    documentId: uuid,
    contentDigest: hash,
    body: base64url(bytes(4 * 1024 * 1024)),
    statement: base64url(bytes(2048)),
  }),
  sender: record({ certificate: base64url(bytes(4096)), log: optional(logShape) }),
  recipient: record({ certificate: base64url(bytes(4096)), log: optional(logShape) }),
  receipt: optional(record({ messageId: uuid, body: base64url(bytes(65_536)) })),
  verdicts: optional(list(record({ body: base64url(bytes(16_384)), statement: base64url(bytes(2048)) }), 1, 16)),
})

/** The file's parts after its form has been checked; nothing of it is verified yet. */
export type EvidenceFile = ValueOf<typeof fileShape>

/**
 * The evidence file as an object for JSON.stringify.
 * @param contentDigest of `parts.body`, 32 bytes
 */
export function buildEvidence(parts: EvidenceParts, contentDigest: Uint8Array): Record<string, unknown> {
  const log = (given: EvidenceParts['senderLog']) =>
    given === undefined || given.entries.length === 0
      ? {}
      : {
          log: {
            vkey: given.vkey,
            entries: given.entries.map((entry) => ({
              leaf: toBase64Url(entry.leaf),
              index: entry.index,
              size: entry.size,
              proof: entry.proof.map(toHex),
              note: entry.note,
              salt: toHex(entry.salt),
            })),
          },
        }
  return {
    format: EVIDENCE_FORMAT,
    document: {
      kind: parts.kind,
      documentId: parts.documentId,
      contentDigest: toHex(contentDigest),
      body: toBase64Url(parts.body),
      statement: toBase64Url(parts.statement),
    },
    sender: { certificate: toBase64Url(parts.senderCertificate), ...log(parts.senderLog) },
    recipient: { certificate: toBase64Url(parts.recipientCertificate), ...log(parts.recipientLog) },
    ...(parts.receipt === undefined ? {} : { receipt: { messageId: parts.receipt.messageId, body: toBase64Url(parts.receipt.body) } }),
    ...(parts.verdicts === undefined || parts.verdicts.length === 0
      ? {}
      : { verdicts: parts.verdicts.map(({ body, statement }) => ({ body: toBase64Url(body), statement: toBase64Url(statement) })) }),
  }
}

/** Check the form of an evidence file. @throws ProtocolError Serialization that names the field */
export function readEvidence(json: unknown): EvidenceFile {
  return fileShape(json, 'evidence')
}

/**
 * The JSON value of an evidence file's text. JSON.parse keeps the last of two fields with one name and other readers the
 * first, so such a file could mean two things: it is refused.
 * @param text at most {@link EVIDENCE_MAX_CHARS} UTF-16 units
 * @throws ProtocolError Serialization: longer, not JSON, or an object with a name twice
 * @see docs/spec/evidence.md §2
 */
export function parseEvidence(text: string): unknown {
  if (text.length > EVIDENCE_MAX_CHARS) throw new ProtocolError('Serialization', `evidence: more than ${EVIDENCE_MAX_CHARS} characters`)
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (cause) {
    throw new ProtocolError('Serialization', 'evidence: not JSON', { cause })
  }
  if (namesWritten(text) !== namesKept(json)) throw new ProtocolError('Serialization', 'evidence: a name is given twice')
  return json
}

const [QUOTE, BACKSLASH, COLON] = [0x22, 0x5c, 0x3a]

/** How many names of fields valid JSON text holds: texts that a colon follows. */
function namesWritten(json: string): number {
  let names = 0
  let start = json.indexOf('"')
  while (start >= 0) {
    let end = start + 1
    while (json.charCodeAt(end) !== QUOTE) end += json.charCodeAt(end) === BACKSLASH ? 2 : 1
    let next = end + 1
    while (next < json.length && json.charCodeAt(next) <= 0x20) next++
    if (json.charCodeAt(next) === COLON) names++
    start = json.indexOf('"', next)
  }
  return names
}

/** How many of them the parsed value kept. Iterative: JSON.parse nests deeper than the stack of a recursion. */
function namesKept(json: unknown): number {
  let names = 0
  const open = [json]
  while (open.length > 0) {
    const value = open.pop()
    if (value === null || typeof value !== 'object') continue
    const inner = Object.values(value)
    if (!Array.isArray(value)) names += inner.length
    for (const each of inner) if (typeof each === 'object') open.push(each)
  }
  return names
}

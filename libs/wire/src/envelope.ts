/**
 * The envelope: what travels between two fleets. Everything in it is public or encrypted; nothing in it is signed.
 * Decoding is strict (one encoding per envelope), so an envelope's digest names it.
 * @see docs/spec/envelope.md §1–§3
 */
import { ProtocolError } from '@tallystick/primitives/errors'
import { sha256 } from '@tallystick/primitives/hash'
import { decode, encode } from './cbor.js'
import { readPlainEnvelope, readPlainHeader } from './envelope-layout.js'
import { fields, fixedBytes, optionalUint32, uint32, variableBytes } from './envelope-fields.js'

export const ENVELOPE_VERSION = 1
/** X25519, ML-KEM-1024, Ed25519, HKDF- and HMAC-SHA256, ChaCha20-Poly1305, BLAKE3. */
export const SUITE = 'TS1'

/** Largest plaintext of one message, bytes: a document with attachments. @see docs/spec/envelope.md §4 */
export const MAX_PLAINTEXT_BYTES = 4 * 1024 * 1024
/** Largest envelope, bytes: the plaintext, its padding (below 32 KiB) and everything around it (below 4 KiB). */
export const MAX_ENVELOPE_BYTES = MAX_PLAINTEXT_BYTES + 64 * 1024
/** Four fields and their keys; anything that counts more items is no envelope. */
const ENVELOPE_ITEMS = 8
const HEADER_ITEMS = 16
const HANDSHAKE_ITEMS = 16
const MAX_HEADER_BYTES = 256
const MAX_HANDSHAKE_BYTES = 2048
/** 16-byte tag over at least the smallest size bucket. */
const MIN_CIPHERTEXT_BYTES = 1024 + 16

export const SID_BYTES = 16
export const SALT_BYTES = 32
export const COMMIT_BYTES = 32

/** @see docs/spec/envelope.md §2 */
export interface Header {
  readonly v: 1
  readonly suite: 'TS1'
  /** 16 bytes: which session, from the handshake transcript. */
  readonly sid: Uint8Array
  readonly epoch: number
  /** 32 bytes: the sender's ratchet key. */
  readonly dh: Uint8Array
  /** Number of messages in the sender's previous sending chain. */
  readonly pn: number
  /** Number of this message in its chain, from 0. */
  readonly n: number
  /** 32 random bytes for the derivation of key and nonce. */
  readonly salt: Uint8Array
}

/** The initiator's half of PQXDH, repeated until the first reply decrypts. @see docs/spec/envelope.md §3 */
export interface Handshake {
  /** 32 bytes: the ephemeral key EK_A. */
  readonly ek: Uint8Array
  readonly spkId: number
  readonly pqId: number
  readonly pqKind: PrekeyKind
  readonly opkId?: number
  /** 1568 bytes. */
  readonly kemCiphertext: Uint8Array
  /** 32 bytes: digest of the initiator's fleet certificate. */
  readonly certificateDigest: Uint8Array
  /** 32 bytes: SHA-256 of the old session's exporter that salts this handshake; absent in a first session. */
  readonly continuity?: Uint8Array
  /** This session starts over and continues nothing; never together with `continuity`. @see docs/spec/session.md §7.2 */
  readonly reset?: true
}

export type PrekeyKind = 'one-time' | 'last-resort'

export interface Envelope {
  readonly header: Header
  /** Exactly what was received: the associated data holds these bytes, not a re-encoding. */
  readonly headerBytes: Uint8Array
  /** 32 bytes: keyed commitment to the plaintext, outside the associated data. */
  readonly commit: Uint8Array
  readonly handshake?: Handshake
  /** Exactly what was received; empty when there is no handshake. */
  readonly handshakeBytes: Uint8Array
  /** Ciphertext ‖ tag. */
  readonly ciphertext: Uint8Array
}

/** What the ratchet has when it has encrypted. */
export interface EnvelopeParts {
  readonly headerBytes: Uint8Array
  readonly commit: Uint8Array
  /** Empty when there is no handshake. */
  readonly handshakeBytes: Uint8Array
  readonly ciphertext: Uint8Array
}

/** @throws ProtocolError Serialization when a field has the wrong size or type */
export function encodeHeader(header: Header): Uint8Array {
  const bytes = encode({ ...header })
  decodeHeader(bytes)
  return bytes
}

/** @throws ProtocolError Serialization, UnsupportedVersion */
export function decodeHeader(bytes: Uint8Array): Header {
  const plain = readPlainHeader(bytes)
  if (plain !== undefined) return plain
  const raw = fields(decode(bytes, { maxBytes: MAX_HEADER_BYTES, maxDepth: 1, maxItems: HEADER_ITEMS }), 'header')
  // Before the other fields: another version may have others.
  const version = uint32(raw, 'v')
  if (typeof raw['suite'] !== 'string') throw new ProtocolError('Serialization', 'header: no suite')
  if (version !== ENVELOPE_VERSION || raw['suite'] !== SUITE)
    throw new ProtocolError('UnsupportedVersion', 'header: this version or suite is unknown here')
  const header: Header = {
    v: 1,
    suite: 'TS1',
    sid: fixedBytes(raw, 'sid', SID_BYTES),
    epoch: uint32(raw, 'epoch'),
    dh: fixedBytes(raw, 'dh', 32),
    pn: uint32(raw, 'pn'),
    n: uint32(raw, 'n'),
    salt: fixedBytes(raw, 'salt', SALT_BYTES),
  }
  return onlyKnown(raw, header, 'header')
}

/** @throws ProtocolError Serialization when a field has the wrong size or type */
export function encodeHandshake(handshake: Handshake): Uint8Array {
  const bytes = encode(Object.fromEntries(Object.entries(handshake).filter(([, value]) => value !== undefined)))
  decodeHandshake(bytes)
  return bytes
}

/** @throws ProtocolError Serialization */
export function decodeHandshake(bytes: Uint8Array): Handshake {
  const raw = fields(decode(bytes, { maxBytes: MAX_HANDSHAKE_BYTES, maxDepth: 1, maxItems: HANDSHAKE_ITEMS }), 'handshake')
  const pqKind = raw['pqKind']
  if (pqKind !== 'one-time' && pqKind !== 'last-resort') throw new ProtocolError('Serialization', 'handshake: pqKind')
  const opkId = optionalUint32(raw, 'opkId')
  const handshake: Handshake = {
    ek: fixedBytes(raw, 'ek', 32),
    spkId: uint32(raw, 'spkId'),
    pqId: uint32(raw, 'pqId'),
    pqKind,
    ...(opkId === undefined ? {} : { opkId }),
    kemCiphertext: fixedBytes(raw, 'kemCiphertext', 1568),
    certificateDigest: fixedBytes(raw, 'certificateDigest', 32),
    ...('continuity' in raw ? { continuity: fixedBytes(raw, 'continuity', 32) } : {}),
    ...('reset' in raw ? { reset: isReset(raw) } : {}),
  }
  return onlyKnown(raw, handshake, 'handshake')
}

/** `false` would be a second encoding of its absence, and a session that starts over continues nothing. */
function isReset(raw: Record<string, unknown>): true {
  if (raw['reset'] !== true || 'continuity' in raw) throw new ProtocolError('Serialization', 'handshake: reset')
  return true
}

/** @throws ProtocolError Serialization */
export function encodeEnvelope(parts: EnvelopeParts): Uint8Array {
  const { headerBytes: header, commit, handshakeBytes, ciphertext } = parts
  return encode(handshakeBytes.length === 0 ? { header, commit, ciphertext } : { header, commit, handshake: handshakeBytes, ciphertext })
}

/**
 * Strict and bounded: nothing is allocated beyond the input's own size, and every accepted input is the one encoding
 * of what it holds.
 * @param bytes at most 4 MiB + 64 KiB; header and ciphertext of the result may be views into them
 * @throws ProtocolError Serialization; UnsupportedVersion for a version or suite this code does not know
 * @see docs/spec/envelope.md §1
 */
export function decodeEnvelope(bytes: Uint8Array): Envelope {
  const plain = readPlainEnvelope(bytes)
  if (plain !== undefined && bytes.length <= MAX_ENVELOPE_BYTES && plain.ciphertext.length >= MIN_CIPHERTEXT_BYTES) {
    const { headerBytes, commit, ciphertext } = plain
    if (headerBytes.length > 0)
      return { header: decodeHeader(headerBytes), headerBytes, commit, handshakeBytes: new Uint8Array(0), ciphertext }
  }
  const raw = fields(decode(bytes, { maxBytes: MAX_ENVELOPE_BYTES, maxDepth: 1, maxItems: ENVELOPE_ITEMS }), 'envelope')
  const headerBytes = variableBytes(raw, 'header', 1, MAX_HEADER_BYTES)
  const header = decodeHeader(headerBytes)
  const hasHandshake = 'handshake' in raw
  const handshakeBytes = hasHandshake ? variableBytes(raw, 'handshake', 1, MAX_HANDSHAKE_BYTES) : new Uint8Array(0)
  const known: Record<string, unknown> = {
    header: headerBytes,
    commit: fixedBytes(raw, 'commit', COMMIT_BYTES),
    ciphertext: variableBytes(raw, 'ciphertext', MIN_CIPHERTEXT_BYTES, MAX_ENVELOPE_BYTES),
    ...(hasHandshake ? { handshake: handshakeBytes } : {}),
  }
  onlyKnown(raw, known, 'envelope')
  return {
    header,
    headerBytes,
    commit: known['commit'] as Uint8Array,
    ...(hasHandshake ? { handshake: decodeHandshake(handshakeBytes) } : {}),
    handshakeBytes,
    ciphertext: known['ciphertext'] as Uint8Array,
  }
}

/** SHA-256 over the envelope's bytes: its name in inbound queues, receipts and the wire tap. */
export function envelopeDigest(bytes: Uint8Array): Uint8Array {
  return sha256(bytes)
}

/** Refuses what a future version might mean by a field that this one would silently drop. */
function onlyKnown<T extends object>(raw: Record<string, unknown>, known: T, what: string): T {
  for (const key of Object.keys(raw)) if (!Object.hasOwn(known, key)) throw new ProtocolError('Serialization', `${what}: unknown field`)
  return known
}

/**
 * The envelope without a handshake, and its header, written and read at fixed places: what every message of a running
 * session pays for. The encoding is the one of envelope.ts, byte for byte. The readers know this one layout only and
 * give undefined for anything else, which the general decoder then refuses with a reason, or reads.
 * @see docs/spec/envelope.md §1, §2
 */
import { concat } from '@tallystick/primitives/bytes'
import { ProtocolError } from '@tallystick/primitives/errors'
import { encode } from './cbor.js'
import type { Header } from './envelope.js'

/** Heads: a byte string with its length inside, or in the next byte; an integer in the next 1, 2 or 4 bytes; a map. */
const BYTES = 0x40
const BYTES_8 = 0x58
const UINT_8 = 0x18,
  UINT_16 = 0x19,
  UINT_32 = 0x1a
const MAP = 0xa0
const SID = 16
const KEY = 32

const piece = (...parts: (number | string)[]): Uint8Array =>
  concat(...parts.map((part) => (typeof part === 'number' ? Uint8Array.of(part) : encode(part))))

const N = piece(MAP + 8, 'n')
const DH = piece('v', 1, 'dh', BYTES_8, KEY)
const PN = piece('pn')
const SID_KEY = piece('sid', BYTES + SID)
const SALT = piece('salt', BYTES_8, KEY)
const EPOCH = piece('epoch')
const SUITE = piece('suite', 'TS1')
const HEADER_BYTES = [N, DH, PN, SID_KEY, SALT, EPOCH, SUITE].reduce((sum, { length }) => sum + length, KEY + SID + KEY)

const COMMIT_3 = piece(MAP + 3, 'commit', BYTES_8, KEY)
const COMMIT_4 = piece(MAP + 4, 'commit', BYTES_8, KEY)
const HEADER = piece('header', BYTES_8)
const HANDSHAKE = piece('handshake')
const CIPHERTEXT = piece('ciphertext')

/** An envelope whose commitment and ciphertext are still to be written; the parts are views into `bytes`. */
export interface LaidOutEnvelope {
  readonly bytes: Uint8Array
  readonly headerBytes: Uint8Array
  /** 32 bytes. */
  readonly commit: Uint8Array
  readonly ciphertext: Uint8Array
}

/**
 * @param handshake encoded; empty when there is none
 * @param ciphertextLength bytes, the tag included
 * @throws ProtocolError Serialization when a field of the header has the wrong size
 */
export function layOutEnvelope(header: Header, handshake: Uint8Array, ciphertextLength: number): LaidOutEnvelope {
  const { n, pn, epoch, sid, dh, salt } = header
  if (sid.length !== SID || dh.length !== KEY || salt.length !== KEY) throw new ProtocolError('Serialization', 'header: wrong length')
  const headerLength = HEADER_BYTES + uintBytes(n) + uintBytes(pn) + uintBytes(epoch)
  const first = handshake.length === 0 ? COMMIT_3 : COMMIT_4
  const between = handshake.length === 0 ? 0 : HANDSHAKE.length + uintBytes(handshake.length) + handshake.length
  const headerAt = first.length + KEY + HEADER.length + 1
  const ciphertextAt = headerAt + headerLength + between + CIPHERTEXT.length + uintBytes(ciphertextLength)
  const bytes = new Uint8Array(ciphertextAt + ciphertextLength)

  let at = put(bytes, 0, first) + KEY
  at = put(bytes, at, HEADER)
  bytes[at++] = headerLength
  at = putUint(bytes, put(bytes, at, N), n, 0)
  at = put(bytes, put(bytes, at, DH), dh)
  at = putUint(bytes, put(bytes, at, PN), pn, 0)
  at = put(bytes, put(bytes, at, SID_KEY), sid)
  at = put(bytes, put(bytes, at, SALT), salt)
  at = putUint(bytes, put(bytes, at, EPOCH), epoch, 0)
  at = put(bytes, at, SUITE)
  if (handshake.length > 0) at = put(bytes, putUint(bytes, put(bytes, at, HANDSHAKE), handshake.length, BYTES), handshake)
  putUint(bytes, put(bytes, at, CIPHERTEXT), ciphertextLength, BYTES)
  return {
    bytes,
    headerBytes: bytes.subarray(headerAt, headerAt + headerLength),
    commit: bytes.subarray(first.length, first.length + KEY),
    ciphertext: bytes.subarray(ciphertextAt),
  }
}

/** Views into the bytes of an envelope without a handshake, or undefined when they are laid out in another way. */
export function readPlainEnvelope(
  bytes: Uint8Array,
): { readonly headerBytes: Uint8Array; readonly commit: Uint8Array; readonly ciphertext: Uint8Array } | undefined {
  const commitAt = COMMIT_3.length
  const headerAt = commitAt + KEY + HEADER.length + 1
  if (!isAt(bytes, 0, COMMIT_3) || !isAt(bytes, commitAt + KEY, HEADER)) return undefined
  const headerEnd = headerAt + bytes[headerAt - 1]!
  const lengthAt = headerEnd + CIPHERTEXT.length
  if (!isAt(bytes, headerEnd, CIPHERTEXT)) return undefined
  const length = uintAt(bytes, lengthAt, BYTES)
  const ciphertextAt = lengthAt + uintBytes(length)
  if (length < 0 || ciphertextAt + length !== bytes.length) return undefined
  return {
    headerBytes: bytes.subarray(headerAt, headerEnd),
    commit: bytes.subarray(commitAt, commitAt + KEY),
    ciphertext: bytes.subarray(ciphertextAt),
  }
}

/** The header, its byte fields copied, or undefined when the bytes are laid out in another way. */
export function readPlainHeader(bytes: Uint8Array): Header | undefined {
  const n = uintAt(bytes, N.length, 0)
  let at = N.length + uintBytes(n)
  const dhAt = at + DH.length
  const pn = uintAt(bytes, dhAt + KEY + PN.length, 0)
  if (n < 0 || pn < 0 || !isAt(bytes, 0, N) || !isAt(bytes, at, DH) || !isAt(bytes, dhAt + KEY, PN)) return undefined
  at = dhAt + KEY + PN.length + uintBytes(pn)
  const sidAt = at + SID_KEY.length
  const saltAt = sidAt + SID + SALT.length
  const epochAt = saltAt + KEY + EPOCH.length
  const epoch = uintAt(bytes, epochAt, 0)
  if (epoch < 0 || !isAt(bytes, at, SID_KEY) || !isAt(bytes, sidAt + SID, SALT) || !isAt(bytes, saltAt + KEY, EPOCH)) return undefined
  at = epochAt + uintBytes(epoch)
  if (!isAt(bytes, at, SUITE) || at + SUITE.length !== bytes.length) return undefined
  return {
    v: 1,
    suite: 'TS1',
    sid: bytes.slice(sidAt, sidAt + SID),
    epoch,
    dh: bytes.slice(dhAt, dhAt + KEY),
    pn,
    n,
    salt: bytes.slice(saltAt, saltAt + KEY),
  }
}

/** @returns the place behind what was written */
function put(bytes: Uint8Array, at: number, part: Uint8Array): number {
  bytes.set(part, at)
  return at + part.length
}

function isAt(bytes: Uint8Array, at: number, expected: Uint8Array): boolean {
  for (let i = 0; i < expected.length; i++) if (bytes[at + i] !== expected[i]) return false
  return true
}

/** Bytes that an integer or a length takes in its shortest form. */
function uintBytes(value: number): number {
  if (value < 24) return 1
  return value <= 0xff ? 2 : value <= 0xffff ? 3 : 5
}

/** @throws ProtocolError Serialization outside 0 … 2³²−1; @param major 0 for an integer, BYTES for the length of a byte string */
function putUint(bytes: Uint8Array, at: number, value: number, major: number): number {
  if (!Number.isInteger(value) || value < 0 || value > 0xffff_ffff) throw new ProtocolError('Serialization', 'header: not a 32-bit integer')
  const width = uintBytes(value) - 1
  bytes[at++] = major | (width === 0 ? value : width === 1 ? UINT_8 : width === 2 ? UINT_16 : UINT_32)
  for (let shift = 8 * (width - 1); shift >= 0; shift -= 8) bytes[at++] = value >>> shift
  return at
}

/**
 * @returns −1 when no integer or length is there in its shortest form. A longer form must not pass: read past its own
 * end, the first byte of what follows could make it a value whose shortest form fits (`19 00`, then `61 76`).
 */
function uintAt(bytes: Uint8Array, at: number, major: number): number {
  const head = bytes[at]! ^ major
  if (head < 24) return head
  const width = head === UINT_8 ? 1 : head === UINT_16 ? 2 : head === UINT_32 ? 4 : 0
  if (width === 0 || at + width >= bytes.length) return -1
  let value = 0
  for (let i = 1; i <= width; i++) value = value * 256 + bytes[at + i]!
  return uintBytes(value) === width + 1 ? value : -1
}

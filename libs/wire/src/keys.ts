/**
 * Public keys as text: fleet id, fingerprint, libp2p PeerId, verifier key of a signed note. All are one-way or
 * self-describing forms of 32-byte Ed25519 public keys.
 * @see docs/spec/identity.md §1
 */
import { concat, toBase32Lower, utf8 } from '@tallystick/primitives/bytes'
import { ProtocolError } from '@tallystick/primitives/errors'
import { blake3, sha256 } from '@tallystick/primitives/hash'

const FLEET_ID_LABEL = utf8('tallystick/fleet-id/v1')
const FINGERPRINT_LABEL = utf8('tallystick/fingerprint/v1')
const KEY_BYTES = 32

function checkKey(publicKey: Uint8Array): void {
  if (publicKey.length !== KEY_BYTES) throw new ProtocolError('InvalidPublicKey', 'an Ed25519 public key has 32 bytes')
}

/**
 * `tsf1` + base32 of SHA-256(label ‖ IK_sign): 56 characters.
 * @param signKey 32 bytes
 * @throws ProtocolError InvalidPublicKey
 */
export function fleetIdOf(signKey: Uint8Array): string {
  checkKey(signKey)
  return `tsf1${toBase32Lower(sha256(FLEET_ID_LABEL, signKey))}`
}

/**
 * Twelve groups of five digits (199 bits) that two people can read to each other. Group i is the 40-bit big-endian
 * integer of bytes 5i … 5i+4 of BLAKE3(label ‖ IK_sign, 60 bytes), modulo 100,000.
 * @param signKey 32 bytes
 * @throws ProtocolError InvalidPublicKey
 */
export function fingerprint(signKey: Uint8Array): string {
  checkKey(signKey)
  const stream = blake3(concat(FINGERPRINT_LABEL, signKey), 60)
  const groups: string[] = []
  for (let at = 0; at < 60; at += 5) {
    let value = 0
    for (let i = 0; i < 5; i++) value = value * 256 + stream[at + i]!
    groups.push(String(value % 100_000).padStart(5, '0'))
  }
  return groups.join(' ')
}

// ---------------------------------------------------------------------------------------------------------- PeerId

const BASE58 = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz'
/** Identity multihash (0x00) of 36 bytes: protobuf { Type: Ed25519 (1), Data: 32 bytes }. */
const PEER_ID_PREFIX = Uint8Array.of(0x00, 0x24, 0x08, 0x01, 0x12, 0x20)
const PEER_ID_BYTES = PEER_ID_PREFIX.length + KEY_BYTES

/**
 * libp2p PeerId of an Ed25519 key in its text form, `12D3KooW…`.
 * @param publicKey 32 bytes
 * @throws ProtocolError InvalidPublicKey
 * @see libp2p specs, peer-ids
 */
export function peerIdFromKey(publicKey: Uint8Array): string {
  checkKey(publicKey)
  const input = concat(PEER_ID_PREFIX, publicKey)
  const digits: number[] = [] // base 58, least significant first
  for (const byte of input) {
    let carry = byte
    for (let i = 0; i < digits.length; i++) {
      carry += digits[i]! * 256
      digits[i] = carry % 58
      carry = Math.floor(carry / 58)
    }
    for (; carry > 0; carry = Math.floor(carry / 58)) digits.push(carry % 58)
  }
  // The input begins with one zero byte, which base58btc writes as one leading '1'.
  return (
    '1' +
    digits
      .reverse()
      .map((digit) => BASE58[digit])
      .join('')
  )
}

/**
 * The Ed25519 key inside a PeerId.
 * @returns 32 bytes
 * @throws ProtocolError InvalidPeerId for any other text, other key types included
 */
export function keyFromPeerId(text: string): Uint8Array {
  if (!/^12D3KooW[1-9A-HJ-NP-Za-km-z]{44}$/.test(text)) throw new ProtocolError('InvalidPeerId', 'not an Ed25519 PeerId')
  const out = new Uint8Array(PEER_ID_BYTES)
  for (const character of text) {
    let carry = BASE58.indexOf(character)
    for (let i = PEER_ID_BYTES - 1; i >= 0; i--) {
      carry += out[i]! * 58
      out[i] = carry & 0xff
      carry >>>= 8
    }
    if (carry !== 0) throw new ProtocolError('InvalidPeerId', 'not an Ed25519 PeerId')
  }
  const key = out.slice(PEER_ID_PREFIX.length)
  // One text per key: the prefix, and with it the length, must come back exactly.
  if (peerIdFromKey(key) !== text) throw new ProtocolError('InvalidPeerId', 'not an Ed25519 PeerId')
  return key
}

// ----------------------------------------------------------------------------------------- verifier keys of notes

/** Algorithm byte of a plain Ed25519 note signature. @see https://c2sp.org/signed-note */
const NOTE_ED25519 = 0x01

export interface VerifierKey {
  /** Key name; for a log this is its origin. */
  readonly name: string
  /** First 4 bytes of SHA-256(name ‖ 0x0A ‖ 0x01 ‖ public key). */
  readonly keyId: Uint8Array
  /** 32 bytes. */
  readonly publicKey: Uint8Array
}

/** C2SP signed-note: not empty, no white space, no plus. */
export function isNoteKeyName(name: string): boolean {
  return name.length > 0 && name.length <= 255 && name.isWellFormed() && !/[\s\p{White_Space}+\p{Cc}]/u.test(name)
}

/**
 * @param publicKey 32 bytes
 * @throws ProtocolError Serialization for a name that a note cannot carry, InvalidPublicKey
 */
export function verifierKey(name: string, publicKey: Uint8Array): VerifierKey {
  checkKey(publicKey)
  if (!isNoteKeyName(name)) throw new ProtocolError('Serialization', 'a key name has no white space and no plus')
  const keyId = sha256(utf8(name), Uint8Array.of(0x0a, NOTE_ED25519), publicKey).slice(0, 4)
  return { name, keyId, publicKey }
}

/** `<name>+<key id, 8 hex digits>+<base64 of 0x01 ‖ public key>`. @see https://c2sp.org/signed-note */
export function encodeVkey(key: VerifierKey): string {
  const id = Array.from(key.keyId, (byte) => byte.toString(16).padStart(2, '0')).join('')
  return `${key.name}+${id}+${toBase64(concat(Uint8Array.of(NOTE_ED25519), key.publicKey))}`
}

/** @throws ProtocolError Serialization unless it is a vkey of an Ed25519 key whose id matches its name and key */
export function decodeVkey(text: string): VerifierKey {
  const match = /^([^+]{1,255})\+([0-9a-f]{8})\+([A-Za-z0-9+/]+=*)$/.exec(text)
  const material = match === null ? undefined : fromBase64(match[3]!)
  if (match === null || material === undefined || material.length !== 1 + KEY_BYTES || material[0] !== NOTE_ED25519) {
    throw new ProtocolError('Serialization', 'not the vkey of an Ed25519 key')
  }
  const key = verifierKey(match[1]!, material.slice(1))
  if (encodeVkey(key) !== text) throw new ProtocolError('Serialization', 'vkey with a key id of another key')
  return key
}

/** RFC 4648 §4 with padding, as signed notes use it. */
export function toBase64(bytes: Uint8Array): string {
  let binary = ''
  for (const byte of bytes) binary += String.fromCharCode(byte)
  return btoa(binary)
}

/** RFC 4648 §4 with padding; undefined for anything that is not exactly what `toBase64` writes. */
export function fromBase64(text: string): Uint8Array | undefined {
  if (text.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(text)) return undefined
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0))
  return toBase64(bytes) === text ? bytes : undefined
}

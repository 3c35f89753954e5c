/**
 * HMAC-SHA256 (RFC 2104, FIPS 198-1) and HKDF-SHA256 (RFC 5869), built on libsodium's SHA-256 so that key blocks and
 * intermediate values stay in memory outside V8's heap. @noble/hashes is the oracle of the differential test.
 *
 * The `…Into` forms write where the caller says: into the arena for keys.
 */
import { sha256Into } from './hash.js'
import { native } from './sodium.js'

const BLOCK = 64
const HASH = 32
/** Messages up to this many bytes are hashed where they lie behind the pad, in one call: every one of the ratchet is. */
const SHORT = 160
/** RFC 5869 §2.3. */
const HKDF_MAX = 255 * HASH

// Key block and message of the inner hash, then key block and digest of the outer one, then what HKDF keeps.
const OUTER = BLOCK + SHORT
const END = OUTER + BLOCK + HASH
const region = native.sodium_malloc(END + 2 * HASH)
const workspace = new Uint8Array(region.buffer, region.byteOffset, region.length)
const words = new Int32Array(region.buffer, region.byteOffset, (OUTER + BLOCK) / 4)
const innerBlock = workspace.subarray(0, BLOCK)
const innerDigest = workspace.subarray(OUTER + BLOCK, END)
const outer = workspace.subarray(OUTER, END)
const pseudoRandomKey = workspace.subarray(END, END + HASH)
const previous = workspace.subarray(END + HASH)

/** Both key blocks; they stay until the next key. */
function takeKey(key: Uint8Array): void {
  words.fill(0, 0, BLOCK / 4)
  if (key.length > BLOCK) sha256Into(innerBlock.subarray(0, HASH), key)
  else innerBlock.set(key)
  for (let i = 0; i < BLOCK / 4; i++) {
    const word = words[i]!
    words[i] = word ^ 0x36363636
    words[OUTER / 4 + i] = word ^ 0x5c5c5c5c
  }
}

/** HMAC under the key that was taken last. */
function hmacOfParts(out: Uint8Array, parts: readonly Uint8Array[]): void {
  let end = BLOCK
  for (const part of parts) end += part.length
  if (end > OUTER) {
    sha256Into(innerDigest, innerBlock, ...parts)
  } else {
    let at = BLOCK
    for (const part of parts) {
      workspace.set(part, at)
      at += part.length
    }
    native.crypto_hash_sha256(innerDigest, workspace.subarray(0, end))
  }
  native.crypto_hash_sha256(out, outer)
}

/** HMAC-SHA256 over the concatenation of `parts`, written into `out` (32 bytes; may be the key's own place). */
export function hmacSha256Into(out: Uint8Array, key: Uint8Array, ...parts: readonly Uint8Array[]): void {
  if (out.length !== HASH) throw new RangeError('out must be 32 bytes')
  try {
    takeKey(key)
    hmacOfParts(out, parts)
  } finally {
    native.sodium_memzero(workspace)
  }
}

/** @returns 32 bytes */
export function hmacSha256(key: Uint8Array, message: Uint8Array): Uint8Array {
  const out = new Uint8Array(HASH)
  hmacSha256Into(out, key, message)
  return out
}

/** One output of HKDF: `out` must not overlap the input key material or the salt. */
export interface HkdfOutput {
  readonly out: Uint8Array
  readonly info: Uint8Array
}

/**
 * HKDF-SHA256, extract then expand, written into `out`; `out` must not overlap `ikm` or `salt`.
 * @throws RangeError when `out` is longer than 8160 bytes
 */
export function hkdfSha256Into(out: Uint8Array, ikm: Uint8Array, salt: Uint8Array, info: Uint8Array): void {
  hkdfSha256EachInto([{ out, info }], ikm, salt)
}

/**
 * The same for several outputs that differ in their info only: extracts once.
 * @throws RangeError when an output is longer than 8160 bytes
 */
export function hkdfSha256EachInto(outputs: readonly HkdfOutput[], ikm: Uint8Array, salt: Uint8Array): void {
  for (const { out } of outputs) if (out.length > HKDF_MAX) throw new RangeError(`HKDF-SHA256 gives at most ${HKDF_MAX} bytes`)
  try {
    takeKey(salt)
    hmacOfParts(pseudoRandomKey, [ikm])
    takeKey(pseudoRandomKey)
    for (const { out, info } of outputs) expandInto(out, info)
  } finally {
    native.sodium_memzero(workspace)
  }
}

/** RFC 5869 §2.3 under the pseudorandom key that was taken. */
function expandInto(out: Uint8Array, info: Uint8Array): void {
  for (let offset = 0, counter = 1; offset < out.length; offset += HASH, counter++) {
    const number = Uint8Array.of(counter)
    hmacOfParts(previous, counter === 1 ? [info, number] : [previous, info, number])
    out.set(out.length - offset >= HASH ? previous : previous.subarray(0, out.length - offset), offset)
  }
}

/** @param length bytes, at most 8160; @throws RangeError beyond that */
export function hkdfSha256(ikm: Uint8Array, salt: Uint8Array, info: Uint8Array, length: number): Uint8Array {
  const out = new Uint8Array(length)
  hkdfSha256Into(out, ikm, salt, info)
  return out
}

/**
 * HMAC-SHA256 (RFC 2104, FIPS 198-1) and HKDF-SHA256 (RFC 5869), built on libsodium's SHA-256 so that key blocks and
 * intermediate values stay in memory outside V8's heap. @noble/hashes is the oracle of the differential test.
 *
 * The `…Into` forms write where the caller says: into the arena for keys.
 */
import { native } from './sodium.js'
import { sha256Into } from './hash.js'

const BLOCK = 64
const HASH = 32
/** RFC 5869 §2.3. */
const HKDF_MAX = 255 * HASH

const workspace = native.sodium_malloc(BLOCK + 3 * HASH)
const pad = workspace.subarray(0, BLOCK)
const inner = workspace.subarray(BLOCK, BLOCK + HASH)
const pseudoRandomKey = workspace.subarray(BLOCK + HASH, BLOCK + 2 * HASH)
const previous = workspace.subarray(BLOCK + 2 * HASH)

/** HMAC-SHA256 over the concatenation of `parts`, written into `out` (32 bytes; may be the key's own place). */
export function hmacSha256Into(out: Uint8Array, key: Uint8Array, ...parts: readonly Uint8Array[]): void {
  if (out.length !== HASH) throw new RangeError('out must be 32 bytes')
  try {
    pad.fill(0)
    if (key.length > BLOCK) sha256Into(pad.subarray(0, HASH), key)
    else pad.set(key)
    for (let i = 0; i < BLOCK; i++) pad[i]! ^= 0x36
    sha256Into(inner, pad, ...parts)
    for (let i = 0; i < BLOCK; i++) pad[i]! ^= 0x36 ^ 0x5c
    sha256Into(out, pad, inner)
  } finally {
    native.sodium_memzero(pad)
    native.sodium_memzero(inner)
  }
}

/** @returns 32 bytes */
export function hmacSha256(key: Uint8Array, message: Uint8Array): Uint8Array {
  const out = new Uint8Array(HASH)
  hmacSha256Into(out, key, message)
  return out
}

/**
 * HKDF-SHA256, extract then expand, written into `out`; `out` must not overlap `ikm` or `salt`.
 * @throws RangeError when `out` is longer than 8160 bytes
 */
export function hkdfSha256Into(out: Uint8Array, ikm: Uint8Array, salt: Uint8Array, info: Uint8Array): void {
  if (out.length > HKDF_MAX) throw new RangeError(`HKDF-SHA256 gives at most ${HKDF_MAX} bytes`)
  try {
    hmacSha256Into(pseudoRandomKey, salt, ikm)
    for (let offset = 0, counter = 1; offset < out.length; offset += HASH, counter++) {
      if (counter === 1) hmacSha256Into(previous, pseudoRandomKey, info, Uint8Array.of(counter))
      else hmacSha256Into(previous, pseudoRandomKey, previous, info, Uint8Array.of(counter))
      out.set(previous.subarray(0, Math.min(HASH, out.length - offset)), offset)
    }
  } finally {
    native.sodium_memzero(pseudoRandomKey)
    native.sodium_memzero(previous)
  }
}

/** @param length bytes, at most 8160; @throws RangeError beyond that */
export function hkdfSha256(ikm: Uint8Array, salt: Uint8Array, info: Uint8Array, length: number): Uint8Array {
  const out = new Uint8Array(length)
  hkdfSha256Into(out, ikm, salt, info)
  return out
}

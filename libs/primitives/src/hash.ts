/**
 * SHA-256 (FIPS 180-4) for key chains, digests of encoded structures and the Merkle log; BLAKE3 for content digests
 * and commitments.
 * @see docs/spec/session.md §1
 */
import { blake3 as nobleBlake3 } from '@noble/hashes/blake3.js'
import { blake3Hash } from './blake3.js'
import { native } from './sodium.js'

/** Hash state outside V8's heap: a key block may pass through it. Used within one synchronous call at a time. */
const state = native.sodium_malloc(native.crypto_hash_sha256_STATEBYTES)

/** SHA-256 of the concatenation of `parts`, written into `out` (32 bytes). */
export function sha256Into(out: Uint8Array, ...parts: readonly Uint8Array[]): void {
  if (parts.length === 1) return native.crypto_hash_sha256(out, parts[0]!)
  native.crypto_hash_sha256_init(state)
  for (const part of parts) if (part.length > 0) native.crypto_hash_sha256_update(state, part)
  native.crypto_hash_sha256_final(state, out)
}

/** SHA-256 of the concatenation of `parts`: 32 bytes. */
export function sha256(...parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(32)
  sha256Into(out, ...parts)
  return out
}

/** @param size bytes of output, 32 unless told */
export function blake3(bytes: Uint8Array, size = 32): Uint8Array {
  return size === 32 ? blake3Hash(bytes) : nobleBlake3(bytes, { dkLen: size })
}

/** @param key 32 bytes; @param size bytes of output, 32 unless told */
export function blake3Keyed(key: Uint8Array, bytes: Uint8Array, size = 32): Uint8Array {
  if (key.length !== 32) throw new RangeError('key must be 32 bytes')
  return size === 32 ? blake3Hash(bytes, key) : nobleBlake3(bytes, { key, dkLen: size })
}

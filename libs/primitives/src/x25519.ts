/**
 * X25519 (RFC 7748) by libsodium, secret keys and results in the arena.
 *
 * Stricter than RFC 7748 §5 and §6.1 on purpose: a public key must be the canonical encoding of its u (bit 255 clear,
 * value below 2²⁵⁵ − 19) and the result must not be zero. An honest peer never sends anything else, and each second
 * spelling of a key would make two transcripts of one handshake.
 * @see docs/spec/session.md §1.1
 */
import { type SecretArena, type SecretBytes, withSecret } from '@tallystick/secret-bytes/arena'
import { ProtocolError } from './errors.js'
import { fillRandom, type RandomSource } from './random.js'
import { native } from './sodium.js'

export const KEY_BYTES = 32

export interface KeyPair {
  readonly secret: SecretBytes
  readonly publicKey: Uint8Array
}

/**
 * @param random for reproducible vectors; when absent the key is made inside the arena
 * @returns the caller owns and destroys `secret` (32 bytes)
 */
export function generateKeyPair(arena: SecretArena, random?: RandomSource): KeyPair {
  const publicKey = new Uint8Array(KEY_BYTES)
  const secret = arena.allocate(KEY_BYTES)
  try {
    withSecret(secret, (key) => {
      if (random === undefined) fillRandom(key)
      else takeFrom(random, key)
      native.crypto_scalarmult_base(publicKey, key)
    })
    return { secret, publicKey }
  } catch (error) {
    secret.destroy()
    throw error
  }
}

/** @param secret 32 bytes; @returns the public key that belongs to it, 32 bytes */
export function publicKeyOf(secret: SecretBytes): Uint8Array {
  const publicKey = new Uint8Array(KEY_BYTES)
  withSecret(secret, (key) => native.crypto_scalarmult_base(publicKey, key))
  return publicKey
}

/**
 * @param secret 32 bytes
 * @param publicKey 32 bytes, canonical
 * @returns 32 bytes in the arena, owned by the caller
 * @throws ProtocolError InvalidPublicKey for a wrong length, a non-canonical u, or an all-zero result
 */
export function agree(arena: SecretArena, secret: SecretBytes, publicKey: Uint8Array): SecretBytes {
  const shared = arena.allocate(KEY_BYTES)
  try {
    withSecret(secret, (key) => withSecret(shared, (out) => agreeInto(out, key, publicKey)))
    return shared
  } catch (error) {
    shared.destroy()
    throw error
  }
}

/**
 * The same, for callers that already have the bytes in the arena.
 * @throws ProtocolError InvalidPublicKey
 */
export function agreeInto(out: Uint8Array, secretKey: Uint8Array, publicKey: Uint8Array): void {
  if (!isCanonicalU(publicKey)) throw new ProtocolError('InvalidPublicKey', 'not a canonical X25519 public key')
  try {
    native.crypto_scalarmult(out, secretKey, publicKey)
  } catch (cause) {
    native.sodium_memzero(out)
    throw new ProtocolError('InvalidPublicKey', 'X25519 gave the all-zero value', { cause })
  }
}

/** True for 32 bytes that encode u < 2²⁵⁵ − 19 in the one way the field allows. */
export function isCanonicalU(publicKey: Uint8Array): boolean {
  if (publicKey.length !== KEY_BYTES) return false
  if (publicKey[31]! !== 0x7f) return publicKey[31]! < 0x7f
  for (let i = 30; i > 0; i--) if (publicKey[i]! !== 0xff) return true
  return publicKey[0]! < 0xed
}

function takeFrom(random: RandomSource, key: Uint8Array): void {
  const bytes = random(key.length)
  try {
    if (bytes.length !== key.length) throw new RangeError('the random source gave the wrong number of bytes')
    key.set(bytes)
  } finally {
    if (bytes.length > 0) native.sodium_memzero(bytes)
  }
}

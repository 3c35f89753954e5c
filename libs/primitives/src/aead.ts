/**
 * ChaCha20-Poly1305 (RFC 8439) with the full 16-byte tag at the end, by libsodium.
 * Callers derive a key and nonce for one use only.
 * @see docs/spec/session.md §6
 */
import { ProtocolError } from './errors.js'
import { native } from './sodium.js'

export const AEAD_KEY_BYTES = 32
export const AEAD_NONCE_BYTES = 12
export const AEAD_TAG_BYTES = 16

/**
 * @param key 32 bytes; @param nonce 12 bytes, never used twice with this key
 * @returns ciphertext ‖ tag
 */
export function seal(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, plaintext: Uint8Array): Uint8Array {
  const out = new Uint8Array(plaintext.length + AEAD_TAG_BYTES)
  out.set(plaintext)
  sealInPlace(key, nonce, aad, out)
  return out
}

/**
 * The same where the plaintext lies, without a copy.
 * @param buffer plaintext ‖ 16 bytes of room; holds ciphertext ‖ tag afterwards
 */
export function sealInPlace(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, buffer: Uint8Array): void {
  if (key.length !== AEAD_KEY_BYTES) throw new RangeError('key must be 32 bytes')
  if (nonce.length !== AEAD_NONCE_BYTES) throw new RangeError('nonce must be 12 bytes')
  const plaintext = buffer.subarray(0, buffer.length - AEAD_TAG_BYTES)
  native.crypto_aead_chacha20poly1305_ietf_encrypt(buffer, plaintext, orNull(aad), null, nonce, key)
}

/**
 * @param ciphertext ciphertext ‖ tag
 * @throws ProtocolError Decryption when the tag does not fit, or nonce or input have a length that cannot be right; nothing else is said
 */
export function open(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, ciphertext: Uint8Array): Uint8Array {
  if (key.length !== AEAD_KEY_BYTES) throw new RangeError('key must be 32 bytes')
  if (nonce.length !== AEAD_NONCE_BYTES || ciphertext.length < AEAD_TAG_BYTES) throw new ProtocolError('Decryption', 'cannot be decrypted')
  const out = new Uint8Array(ciphertext.length - AEAD_TAG_BYTES)
  try {
    native.crypto_aead_chacha20poly1305_ietf_decrypt(out, null, ciphertext, orNull(aad), nonce, key)
  } catch (cause) {
    throw new ProtocolError('Decryption', 'cannot be decrypted', { cause })
  }
  return out
}

/** The binding has its own spelling for "no associated data"; an empty view can be refused. */
function orNull(aad: Uint8Array): Uint8Array | null {
  return aad.length === 0 ? null : aad
}

/**
 * XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha) by libsodium, for what is kept: its nonces of 192 bits may be random for
 * as long as the key lives. It writes where the caller says, so a secret goes from the arena into its ciphertext and
 * back without a copy anywhere else, which node:crypto cannot do: that decrypts into a buffer of its own and frees a
 * larger one unwiped.
 */
import { native } from './sodium.js'

export const XAEAD_KEY_BYTES = 32
export const XAEAD_NONCE_BYTES = 24
export const XAEAD_TAG_BYTES = 16

/**
 * @param out plaintext's length and 16 bytes more: ciphertext ‖ tag; must not overlap it
 * @param key 32 bytes
 * @param nonce 24 bytes, random
 * @param aad at least one byte
 */
export function xsealInto(out: Uint8Array, key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, plaintext: Uint8Array): void {
  checkLengths(key, nonce, aad)
  if (out.length !== plaintext.length + XAEAD_TAG_BYTES) throw new RangeError('out must have room for the tag and no more')
  native.crypto_aead_xchacha20poly1305_ietf_encrypt(out, plaintext, aad, null, nonce, key)
}

/**
 * @param out ciphertext's length less 16 bytes; zeros when the tag does not fit
 * @returns false when the tag does not fit
 */
export function xopenInto(out: Uint8Array, key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, ciphertext: Uint8Array): boolean {
  checkLengths(key, nonce, aad)
  if (ciphertext.length !== out.length + XAEAD_TAG_BYTES) throw new RangeError('out must have the length of the plaintext')
  try {
    native.crypto_aead_xchacha20poly1305_ietf_decrypt(out, null, ciphertext, aad, nonce, key)
    return true
  } catch {
    if (out.length > 0) native.sodium_memzero(out) // the binding has one error for a tag that does not fit
    return false
  }
}

function checkLengths(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array): void {
  if (key.length !== XAEAD_KEY_BYTES) throw new RangeError('key must be 32 bytes')
  if (nonce.length !== XAEAD_NONCE_BYTES) throw new RangeError('nonce must be 24 bytes')
  if (aad.length === 0) throw new RangeError('aad must not be empty')
}

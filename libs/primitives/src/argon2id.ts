/** Argon2id (RFC 9106, version 1.3) with one lane, by libsodium: a passphrase becomes a key. */
import { type SecretArena, type SecretBytes, withSecret } from '@tallystick/secret-bytes/arena'
import { native } from './sodium.js'

export const ARGON2_SALT_BYTES = 16

/**
 * @param passphrase any length; the caller wipes it
 * @param salt 16 bytes
 * @param passes at least 1
 * @param memoryKiB at least 8; taken from the system for the length of the call
 * @returns 32 bytes in the arena, owned by the caller
 * @throws Error when the memory cannot be had
 */
export function argon2id(arena: SecretArena, passphrase: Uint8Array, salt: Uint8Array, passes: number, memoryKiB: number): SecretBytes {
  if (salt.length !== ARGON2_SALT_BYTES) throw new RangeError('salt must be 16 bytes')
  const key = arena.allocate(32)
  try {
    withSecret(key, (out) => native.crypto_pwhash(out, passphrase, salt, passes, memoryKiB * 1024, native.crypto_pwhash_ALG_ARGON2ID13))
    return key
  } catch (error) {
    key.destroy()
    throw error
  }
}

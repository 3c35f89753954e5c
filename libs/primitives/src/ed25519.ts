/**
 * Ed25519 (RFC 8032) by libsodium. `verify` is the only signature check of the product, because libraries differ on
 * the edge cases and a signature that one part of a system accepts must not be refused by another.
 *
 * The rule is libsodium's: cofactorless equation; small-order A and R refused; non-canonical A, R and S refused.
 * @see docs/spec/session.md §1.2
 */
import { type SecretArena, type SecretBytes, withSecret } from '@tallystick/secret-bytes/arena'
import { fillRandom } from './random.js'
import { native } from './sodium.js'

export const SIGNATURE_BYTES = 64
export const PUBLIC_KEY_BYTES = 32
export const SEED_BYTES = 32

export interface SigningKey {
  /** 64 bytes, seed ‖ public key, as libsodium keeps it. */
  readonly secret: SecretBytes
  readonly publicKey: Uint8Array
}

/**
 * @param seed 32 bytes (RFC 8032 private key); fresh randomness when absent. The caller wipes its own copy.
 * @returns the caller owns and destroys `secret`
 */
export function generateSigningKey(arena: SecretArena, seed?: Uint8Array): SigningKey {
  if (seed !== undefined && seed.length !== SEED_BYTES) throw new RangeError('seed must be 32 bytes')
  const publicKey = new Uint8Array(PUBLIC_KEY_BYTES)
  const secret = arena.allocate(64)
  let seedCopy: SecretBytes | undefined
  try {
    // A place of its own for the seed: libsodium writes the key before it reads the seed for the last time.
    const copy = (seedCopy = arena.allocate(SEED_BYTES))
    withSecret(secret, (key) =>
      withSecret(copy, (from) => {
        if (seed === undefined) fillRandom(from)
        else from.set(seed)
        native.crypto_sign_seed_keypair(publicKey, key, from)
      }),
    )
    return { secret, publicKey }
  } catch (error) {
    secret.destroy()
    throw error
  } finally {
    seedCopy?.destroy()
  }
}

/** @returns 64 bytes */
export function sign(secret: SecretBytes, message: Uint8Array): Uint8Array {
  if (secret.length !== 64) throw new RangeError('secret must be a signing key of 64 bytes')
  const signature = new Uint8Array(SIGNATURE_BYTES)
  withSecret(secret, (key) => native.crypto_sign_detached(signature, message, key))
  return signature
}

/** False for every fault, wrong lengths included; never throws on input. */
export function verify(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  if (publicKey.length !== PUBLIC_KEY_BYTES || signature.length !== SIGNATURE_BYTES) return false
  return native.crypto_sign_verify_detached(signature, message, publicKey)
}

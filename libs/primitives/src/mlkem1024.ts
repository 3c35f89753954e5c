/**
 * ML-KEM-1024 (FIPS 203). `node:crypto` does the work (twenty times faster than JavaScript, constant time);
 * @noble/post-quantum is the oracle of the differential test and encapsulates with given coins for the vectors.
 *
 * A decapsulation key is kept as its 64-byte seed d ‖ z (FIPS 203 §7.1), fifty times smaller than the expanded form;
 * the expanded form of 3168 bytes is accepted too. Raw key import copies the key into OpenSSL's heap, where it is
 * cleansed when the key object is collected: see docs/spec/session.md §12.
 */
import {
  createPrivateKey,
  createPublicKey,
  decapsulate as nodeDecapsulate,
  encapsulate as nodeEncapsulate,
  type KeyObject,
} from 'node:crypto'
import { ml_kem1024 } from '@noble/post-quantum/ml-kem.js'
import { type SecretArena, type SecretBytes, secretFrom, wipe, withSecret } from '@tallystick/secret-bytes/arena'
import { ProtocolError } from './errors.js'
import { fillRandom, type RandomSource } from './random.js'

export const KEM_PUBLIC_KEY_BYTES = 1568
export const KEM_CIPHERTEXT_BYTES = 1568
export const KEM_SEED_BYTES = 64
export const KEM_EXPANDED_KEY_BYTES = 3168

const NAME = 'ml-kem-1024'

export interface KemKeyPair {
  /** 64 bytes, d ‖ z. */
  readonly secret: SecretBytes
  /** 1568 bytes. */
  readonly publicKey: Uint8Array
}

export interface Encapsulation {
  /** 1568 bytes. */
  readonly ciphertext: Uint8Array
  /** 32 bytes, owned by the caller. */
  readonly sharedSecret: SecretBytes
}

/** @param random for reproducible vectors; when absent the seed is made inside the arena */
export function generateKeyPair(arena: SecretArena, random?: RandomSource): KemKeyPair {
  const secret = arena.allocate(KEM_SEED_BYTES)
  try {
    const publicKey = withSecret(secret, (seed) => {
      if (random === undefined) {
        fillRandom(seed)
      } else {
        const bytes = random(KEM_SEED_BYTES)
        try {
          if (bytes.length !== KEM_SEED_BYTES) throw new RangeError('the random source gave the wrong number of bytes')
          seed.set(bytes)
        } finally {
          wipe(bytes)
        }
      }
      return asPlainArray(createPublicKey(importSeed(seed)).export({ format: 'raw-public' } as never) as unknown as Uint8Array)
    })
    return { secret, publicKey }
  } catch (error) {
    secret.destroy()
    throw error
  }
}

/** @throws ProtocolError InvalidPublicKey for a wrong length or a key that fails FIPS 203 §7.2's modulus check */
export function encapsulate(arena: SecretArena, publicKey: Uint8Array): Encapsulation {
  const key = importPublic(publicKey)
  const { ciphertext, sharedKey } = nodeEncapsulate(key) as unknown as { ciphertext: Uint8Array; sharedKey: Uint8Array }
  return { ciphertext: asPlainArray(ciphertext), sharedSecret: secretFrom(arena, sharedKey) }
}

/**
 * Encapsulation with given coins m, for vectors and tests only: a repeated m repeats the shared secret.
 * @param coins 32 bytes
 * @throws ProtocolError InvalidPublicKey
 */
export function encapsulateWithCoins(arena: SecretArena, publicKey: Uint8Array, coins: Uint8Array): Encapsulation {
  importPublic(publicKey)
  const { cipherText, sharedSecret } = ml_kem1024.encapsulate(publicKey, coins)
  return { ciphertext: cipherText, sharedSecret: secretFrom(arena, sharedSecret) }
}

/**
 * A ciphertext that was not made for this key gives a pseudorandom secret (implicit rejection), not an error.
 *
 * @param secret 64 bytes (seed) or 3168 bytes (expanded)
 * @param ciphertext 1568 bytes
 * @returns 32 bytes in the arena, owned by the caller
 * @throws ProtocolError Decryption for a ciphertext of the wrong length
 * @throws ProtocolError KeyStorage(storeFailed) for a decapsulation key that is no key
 */
export function decapsulate(arena: SecretArena, secret: SecretBytes, ciphertext: Uint8Array): SecretBytes {
  if (ciphertext.length !== KEM_CIPHERTEXT_BYTES) throw new ProtocolError('Decryption', 'cannot be decrypted')
  const key = withSecret(secret, (bytes) => (bytes.length === KEM_SEED_BYTES ? importSeed(bytes) : importExpanded(bytes)))
  return secretFrom(arena, nodeDecapsulate(key, ciphertext) as unknown as Uint8Array)
}

function importSeed(seed: Uint8Array): KeyObject {
  return createPrivateKey({ key: seed, format: 'raw-seed', asymmetricKeyType: NAME } as never)
}

function importPublic(publicKey: Uint8Array): KeyObject {
  if (publicKey.length !== KEM_PUBLIC_KEY_BYTES) throw new ProtocolError('InvalidPublicKey', 'an ML-KEM-1024 public key is 1568 bytes')
  try {
    return createPublicKey({ key: publicKey, format: 'raw-public', asymmetricKeyType: NAME } as never)
  } catch (cause) {
    throw new ProtocolError('InvalidPublicKey', 'not an ML-KEM-1024 public key', { cause })
  }
}

/** PKCS#8 with the expanded key alone: SEQUENCE { 0, id-alg-ml-kem-1024, OCTET STRING { OCTET STRING dk } }. */
const PKCS8_PREFIX = Uint8Array.of(
  0x30,
  0x82,
  0x0c,
  0x78,
  0x02,
  0x01,
  0x00,
  0x30,
  0x0b,
  0x06,
  0x09,
  0x60,
  0x86,
  0x48,
  0x01,
  0x65,
  0x03,
  0x04,
  0x04,
  0x03,
  0x04,
  0x82,
  0x0c,
  0x64,
  0x04,
  0x82,
  0x0c,
  0x60,
)

function importExpanded(expanded: Uint8Array): KeyObject {
  if (expanded.length !== KEM_EXPANDED_KEY_BYTES)
    throw new ProtocolError('KeyStorage', 'an ML-KEM-1024 decapsulation key is 64 or 3168 bytes', { reason: 'storeFailed' })
  const der = new Uint8Array(PKCS8_PREFIX.length + expanded.length)
  der.set(PKCS8_PREFIX)
  der.set(expanded, PKCS8_PREFIX.length)
  try {
    return createPrivateKey({ key: der as Buffer, format: 'der', type: 'pkcs8' })
  } catch (cause) {
    throw new ProtocolError('KeyStorage', 'not an ML-KEM-1024 decapsulation key', { reason: 'storeFailed', cause })
  } finally {
    wipe(der)
  }
}

/** `Buffer`s from node:crypto may share a pool and print differently: the project's byte strings are plain arrays. */
function asPlainArray(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes)
}

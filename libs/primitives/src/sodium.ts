/**
 * The functions of sodium-native that the product uses, typed for what the binding takes: any `Uint8Array`, in the
 * arena or not. Nothing outside this library calls libsodium, so a primitive has one implementation in the product.
 */
import sodium from 'sodium-native'

interface NativeCrypto {
  sodium_memzero(bytes: Uint8Array): void
  sodium_memcmp(a: Uint8Array, b: Uint8Array): boolean
  sodium_malloc(size: number): Uint8Array
  randombytes_buf(out: Uint8Array): void
  crypto_hash_sha256(out: Uint8Array, input: Uint8Array): void
  crypto_hash_sha256_STATEBYTES: number
  crypto_hash_sha256_init(state: Uint8Array): void
  crypto_hash_sha256_update(state: Uint8Array, part: Uint8Array): void
  crypto_hash_sha256_final(state: Uint8Array, out: Uint8Array): void
  crypto_sign_seed_keypair(publicKey: Uint8Array, secretKey: Uint8Array, seed: Uint8Array): void
  crypto_sign_detached(signature: Uint8Array, message: Uint8Array, secretKey: Uint8Array): void
  crypto_sign_verify_detached(signature: Uint8Array, message: Uint8Array, publicKey: Uint8Array): boolean
  crypto_pwhash_ALG_ARGON2ID13: number
  /** Throws when it cannot have the memory. */
  crypto_pwhash(out: Uint8Array, passphrase: Uint8Array, salt: Uint8Array, passes: number, memoryBytes: number, algorithm: number): void
  crypto_scalarmult_base(publicKey: Uint8Array, secretKey: Uint8Array): void
  /** Throws on an all-zero result. */
  crypto_scalarmult(out: Uint8Array, secretKey: Uint8Array, publicKey: Uint8Array): void
  crypto_aead_xchacha20poly1305_ietf_encrypt(
    out: Uint8Array,
    plaintext: Uint8Array,
    aad: Uint8Array | null,
    nsec: null,
    nonce: Uint8Array,
    key: Uint8Array,
  ): number
  /** Throws when the tag does not fit. */
  crypto_aead_xchacha20poly1305_ietf_decrypt(
    out: Uint8Array,
    nsec: null,
    ciphertext: Uint8Array,
    aad: Uint8Array | null,
    nonce: Uint8Array,
    key: Uint8Array,
  ): number
  crypto_aead_chacha20poly1305_ietf_encrypt(
    out: Uint8Array,
    plaintext: Uint8Array,
    aad: Uint8Array | null,
    nsec: null,
    nonce: Uint8Array,
    key: Uint8Array,
  ): number
  /** Throws when the tag does not fit. */
  crypto_aead_chacha20poly1305_ietf_decrypt(
    out: Uint8Array,
    nsec: null,
    ciphertext: Uint8Array,
    aad: Uint8Array | null,
    nonce: Uint8Array,
    key: Uint8Array,
  ): number
}

export const native = sodium as unknown as NativeCrypto

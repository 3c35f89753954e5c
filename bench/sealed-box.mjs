// The ratchet beside a sealed box, that is one ephemeral X25519 key and one ChaCha20-Poly1305 for each message, keyed by
// BLAKE2b over the shared secret and both public keys, as libsodium's crypto_box_seal is built. No session, no forward
// secrecy for the receiver, no padding, no commitment: the least that any encrypted message to a key costs.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { chacha20poly1305 } from '@noble/ciphers/chacha.js'
import { x25519 } from '@noble/curves/ed25519.js'
import { blake2b } from '@noble/hashes/blake2.js'
import { blake3Keyed } from '@tallystick/primitives/hash'
import { SecretArena } from '@tallystick/secret-bytes/arena'
import sodium from 'sodium-native'
import { establish, fleet, pass } from './conversation.mjs'
import { compare } from './interleave.mjs'

const NONCE = Buffer.alloc(12) // the key is of one use
const TAG = 16

const SIZES = [
  ['2 KiB', 2 * 1024],
  ['256 KiB', 256 * 1024],
]

export async function benchSealedBox() {
  const arena = SecretArena.open(1024 * 1024, { allowUnlocked: true })
  for (const [name, size] of SIZES) {
    const payload = new Uint8Array(randomBytes(size))
    const stream = establish(arena, fleet(arena, 'acme'), fleet(arena, 'globex'), payload)
    const turns = establish(arena, fleet(arena, 'acme'), fleet(arena, 'globex'), payload)
    const native = sodiumSealedBox()
    const script = nobleSealedBox()
    const contenders = {
      'ratchet, one way': () => pass(stream.a, stream.b, payload),
      'ratchet, in turns': () => {
        const opened = pass(turns.a, turns.b, payload)
        ;[turns.a, turns.b] = [turns.b, turns.a]
        return opened
      },
      'sealed box, libsodium': () => native.open(native.seal(payload)),
      'sealed box, noble': () => script.open(script.seal(payload)),
    }
    for (const [who, call] of Object.entries(contenders)) assert.deepEqual(Buffer.from(call()), Buffer.from(payload), who)
    // Every message has its commitment made and checked: BLAKE3 is JavaScript, all else that grows with size is libsodium.
    const key = new Uint8Array(randomBytes(32))
    const commitment = () => [blake3Keyed(key, payload), blake3Keyed(key, payload)]
    await compare(`seal and open, ${name}`, { ...contenders, 'keyed BLAKE3, twice': commitment }, { bytes: size })
  }
  arena.close()
}

function sodiumSealedBox() {
  const secret = Buffer.alloc(32)
  const key = Buffer.alloc(32)
  sodium.crypto_box_keypair(key, secret)
  const derive = (shared, ephemeral) => {
    const out = Buffer.alloc(32)
    sodium.crypto_generichash_batch(out, [shared, ephemeral, key])
    return out
  }
  return {
    seal(plaintext) {
      const ephemeral = Buffer.alloc(32)
      const ephemeralSecret = Buffer.alloc(32)
      sodium.crypto_box_keypair(ephemeral, ephemeralSecret)
      const shared = Buffer.alloc(32)
      sodium.crypto_scalarmult(shared, ephemeralSecret, key)
      const out = Buffer.alloc(32 + plaintext.length + TAG)
      ephemeral.copy(out)
      sodium.crypto_aead_chacha20poly1305_ietf_encrypt(out.subarray(32), plaintext, null, null, NONCE, derive(shared, ephemeral))
      return out
    },
    open(sealed) {
      const ephemeral = sealed.subarray(0, 32)
      const shared = Buffer.alloc(32)
      sodium.crypto_scalarmult(shared, secret, ephemeral)
      const out = Buffer.alloc(sealed.length - 32 - TAG)
      sodium.crypto_aead_chacha20poly1305_ietf_decrypt(out, null, sealed.subarray(32), null, NONCE, derive(shared, ephemeral))
      return out
    },
  }
}

function nobleSealedBox() {
  const secret = new Uint8Array(randomBytes(32))
  const key = x25519.getPublicKey(secret)
  const derive = (shared, ephemeral) => blake2b.create({ dkLen: 32 }).update(shared).update(ephemeral).update(key).digest()
  return {
    seal(plaintext) {
      const ephemeralSecret = new Uint8Array(randomBytes(32))
      const ephemeral = x25519.getPublicKey(ephemeralSecret)
      const shared = x25519.getSharedSecret(ephemeralSecret, key)
      const out = new Uint8Array(32 + plaintext.length + TAG)
      out.set(ephemeral)
      out.set(chacha20poly1305(derive(shared, ephemeral), NONCE).encrypt(plaintext), 32)
      return out
    },
    open(sealed) {
      const ephemeral = sealed.subarray(0, 32)
      const shared = x25519.getSharedSecret(secret, ephemeral)
      return chacha20poly1305(derive(shared, ephemeral), NONCE).decrypt(sealed.subarray(32))
    },
  }
}

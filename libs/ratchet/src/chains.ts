/**
 * The key derivations of the ratchet and the encryption of one message. Every input and output that is secret lies in
 * the arena; the callers own it.
 * @see docs/spec/session.md §5, §6
 */
import { AEAD_TAG_BYTES, open, sealInPlace } from '@tallystick/primitives/aead'
import { equalConstantTime } from '@tallystick/primitives/bytes'
import { ProtocolError } from '@tallystick/primitives/errors'
import { blake3Keyed, sha256 } from '@tallystick/primitives/hash'
import { hkdfSha256EachInto, hkdfSha256Into, hmacSha256Into } from '@tallystick/primitives/kdf'
import { type SecretArena, withSecret } from '@tallystick/secret-bytes/arena'
import { COMMIT_BYTES } from '@tallystick/wire/envelope'
import { info, label } from './labels.js'
import { paddedLength, padInto, unpad } from './padding.js'

const ROOT_INFO = info('root')
const MESSAGE_INFO = info('message')
const COMMITMENT_INFO = info('commitment')
const MESSAGE_KEY = Uint8Array.of(0x01)
const NEXT_CHAIN = Uint8Array.of(0x02)

/** Runs `fn` on `length` zeroed bytes of the arena, which are wiped afterwards whatever happens. */
export function withScratch<T>(arena: SecretArena, length: number, fn: (bytes: Uint8Array) => T): T {
  const scratch = arena.allocate(length)
  try {
    return withSecret(scratch, fn)
  } finally {
    scratch.destroy()
  }
}

/**
 * KDF_RK: one DH step. `root` is replaced.
 * @param root, chain, exporter 32 bytes each in the arena
 * @see docs/spec/session.md §5.1
 */
export function kdfRoot(arena: SecretArena, root: Uint8Array, dhOutput: Uint8Array, chain: Uint8Array, exporter: Uint8Array): void {
  withScratch(arena, 96, (out) => {
    hkdfSha256Into(out, dhOutput, root, ROOT_INFO)
    root.set(out.subarray(0, 32))
    chain.set(out.subarray(32, 64))
    exporter.set(out.subarray(64, 96))
  })
}

/** KDF_CK: writes the message key and replaces the chain key. @see docs/spec/session.md §5.2 */
export function kdfChain(chain: Uint8Array, messageKey: Uint8Array): void {
  hmacSha256Into(messageKey, chain, MESSAGE_KEY)
  hmacSha256Into(chain, chain, NEXT_CHAIN)
}

/** Public name of an exporter, 32 bytes: what a handshake carries instead of it. @see docs/spec/session.md §7 */
export function nameExporter(exporter: Uint8Array): Uint8Array {
  return sha256(label('exporter-name'), exporter)
}

export interface SealedMessage {
  readonly ciphertext: Uint8Array
  /** 32 bytes. */
  readonly commit: Uint8Array
}

/** @returns bytes of the ciphertext, tag included. @throws ProtocolError Encryption when the plaintext exceeds 4 MiB */
export function sealedLength(plaintext: Uint8Array): number {
  return paddedLength(plaintext) + AEAD_TAG_BYTES
}

/**
 * Encrypts under a message key that is used for this message only.
 * @param salt 32 random bytes, from the header: a restored state that repeats a message key still gets another AEAD key
 * @param out zeros in, message out: `commit` of 32 bytes, `ciphertext` of {@link sealedLength}
 * @see docs/spec/session.md §6
 */
export function sealMessageInto(
  out: SealedMessage,
  arena: SecretArena,
  messageKey: Uint8Array,
  salt: Uint8Array,
  aad: Uint8Array,
  plaintext: Uint8Array,
): void {
  padInto(out.ciphertext, plaintext)
  withMessageKeys(arena, messageKey, salt, (key, nonce, commitmentKey) => {
    sealInPlace(key, nonce, aad, out.ciphertext)
    out.commit.set(blake3Keyed(commitmentKey, plaintext))
  })
}

/** The same in memory of its own. @throws ProtocolError Encryption when the plaintext exceeds 4 MiB */
export function sealMessage(
  arena: SecretArena,
  messageKey: Uint8Array,
  salt: Uint8Array,
  aad: Uint8Array,
  plaintext: Uint8Array,
): SealedMessage {
  const out = { ciphertext: new Uint8Array(sealedLength(plaintext)), commit: new Uint8Array(COMMIT_BYTES) }
  sealMessageInto(out, arena, messageKey, salt, aad, plaintext)
  return out
}

/**
 * @returns the plaintext, owned by the caller
 * @throws ProtocolError Decryption when tag or padding do not fit
 * @throws ProtocolError VerificationFailed when they do and the commitment does not
 * @see docs/spec/session.md §6
 */
export function openMessage(
  arena: SecretArena,
  messageKey: Uint8Array,
  salt: Uint8Array,
  aad: Uint8Array,
  message: SealedMessage,
): Uint8Array {
  return withMessageKeys(arena, messageKey, salt, (key, nonce, commitmentKey) => {
    const plaintext = unpad(open(key, nonce, aad, message.ciphertext))
    if (!equalConstantTime(blake3Keyed(commitmentKey, plaintext), message.commit)) {
      throw new ProtocolError('VerificationFailed', 'the commitment does not fit the plaintext')
    }
    return plaintext
  })
}

function withMessageKeys<T>(
  arena: SecretArena,
  messageKey: Uint8Array,
  salt: Uint8Array,
  fn: (key: Uint8Array, nonce: Uint8Array, commitmentKey: Uint8Array) => T,
): T {
  return withScratch(arena, 44 + 32, (out) => {
    const keyAndNonce = out.subarray(0, 44)
    const commitmentKey = out.subarray(44)
    const outputs = [
      { out: keyAndNonce, info: MESSAGE_INFO },
      { out: commitmentKey, info: COMMITMENT_INFO },
    ]
    hkdfSha256EachInto(outputs, messageKey, salt)
    return fn(keyAndNonce.subarray(0, 32), keyAndNonce.subarray(32), commitmentKey)
  })
}

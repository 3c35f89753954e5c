/** What wraps data keys: a key file, or a key in a token. Asked when the service starts and when keys are rotated. */
import { utf8 } from '@tallystick/primitives/bytes'
import type { SecretBytes } from '@tallystick/secret-bytes/arena'
import type { DataKey, DataKeyCipher } from './data-key.js'
import type { SigningKey } from './key-custody.js'

/** Names a wrapped data key; enters the associated data. */
export interface WrapBinding {
  readonly id: string
  readonly version: number
  readonly cipher: DataKeyCipher
}

export interface KeyEncryptionKey {
  /** At most 64 characters; not secret. */
  readonly id: string
  /** For error messages: which file, which label. */
  readonly label: string
  /** @returns nonce ‖ ciphertext ‖ tag */
  wrap(key: Uint8Array, binding: WrapBinding): Uint8Array
  /**
   * @returns in the arena, owned by the caller
   * @throws ProtocolError KeyStorage(accessControlFailed) when it was changed or belongs elsewhere
   */
  unwrap(wrapped: Uint8Array, binding: WrapBinding): SecretBytes
  /** The data key of an installation made before there were any; only a key file has one. */
  formerDataKey?(): DataKey
  close(): void
}

/** Makes and finds signing keys outside the database. */
export interface SigningKeySource {
  /** @returns the key, and a reference under which it is found again */
  create(): { key: SigningKey; reference: Uint8Array }
  find(reference: Uint8Array): SigningKey
  erase(reference: Uint8Array): void
}

/** The provider-dependent half of a custody. `connect` may be called again after it failed. */
export interface KekProvider {
  readonly provider: 'file' | 'pkcs11'
  /** @throws ProtocolError KeyStorage(locked) when it cannot be reached now, (accessControlFailed) when it refuses us */
  connect(): ConnectedKeks
  close(): void
}

export interface ConnectedKeks {
  /** Wraps, unless a next one has taken over. A token makes it now if it has none: call under the lock of the data keys only. */
  primary(): KeyEncryptionKey
  /** Configured to take over at the next rotation; made like the primary one. */
  next(): KeyEncryptionKey | undefined
  /** Every key that is there and can open. */
  readonly all: readonly KeyEncryptionKey[]
  /** For messages, when `all` does not have the one that is needed. */
  readonly found: string
  readonly signing?: SigningKeySource
}

export function wrapAssociatedData(binding: WrapBinding, kekId: string): Uint8Array {
  return utf8(JSON.stringify(['tallystick/data-key/v1', binding.id, binding.version, binding.cipher, kekId]))
}

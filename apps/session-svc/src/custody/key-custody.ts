/**
 * How secrets are kept at rest. A provider holds the key-encryption key and seals rows under it; nothing else in the
 * service knows which provider it is. The `file` provider is in file-custody.ts; a PKCS#11 or cloud provider unwraps
 * its data key when it opens and implements the same synchronous calls.
 * @see docs/spec/custody.md §1
 */
import type { SecretBytes } from '@tallystick/secret-bytes/arena'

/** Where a ciphertext belongs. It enters the associated data: a row copied elsewhere, or an old one put back under a newer version, does not open. */
export interface SealBinding {
  readonly table: string
  /** Primary key of the row as text, bytes in hex. */
  readonly row: string
  /** Grows with every write of the row. */
  readonly version: number
}

export interface SealedValue {
  /** nonce (12) ‖ AES-256-GCM ciphertext ‖ tag (16) */
  readonly sealed: Uint8Array
  /** Names the key-encryption key, stored beside the ciphertext: rotation re-seals row by row. */
  readonly kekId: string
}

export interface KeyCustody {
  /** The key that new values are sealed under. */
  readonly kekId: string
  sealSecret(secret: SecretBytes, binding: SealBinding): SealedValue
  /**
   * @returns in the arena, owned by the caller
   * @throws ProtocolError KeyStorage(accessControlFailed): another key, another row, or changed bytes
   */
  openSecret(value: SealedValue, binding: SealBinding): SecretBytes
  /** For documents, which are too large for the arena and leave as bytes anyway. */
  sealBytes(plain: Uint8Array, binding: SealBinding): SealedValue
  /** @throws ProtocolError KeyStorage(accessControlFailed) */
  openBytes(value: SealedValue, binding: SealBinding): Uint8Array
  /** 32 bytes that identify content to this fleet only: a plain digest in a row would disclose equality, and short contents. */
  fingerprint(content: Uint8Array): Uint8Array
  /** Wipes what the provider holds. */
  close(): void
}

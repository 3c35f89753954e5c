/**
 * How secrets are kept at rest. A key-encryption key, in a file or in a token, wraps data keys; rows are sealed under a
 * data key. The data keys are opened once at the start, so sealing and opening a row is a synchronous call that asks
 * nobody, whatever the provider.
 * @see docs/spec/custody.md §1
 */
import type { SecretBytes } from '@tallystick/secret-bytes/arena'
import type { Clock } from '@tallystick/service-host/clock'
import type { AuditTrail } from '../audit.js'
import type { Db } from '../db.js'
import type { Limits } from '../limits.js'

/** Where a ciphertext belongs. It enters the associated data: a row copied elsewhere, or an old one put back under a newer version, does not open. */
export interface SealBinding {
  readonly table: string
  /** Primary key of the row as text, bytes in hex. */
  readonly row: string
  /** Grows with every write of the row. */
  readonly version: number
}

export interface SealedValue {
  /** nonce (24) ‖ XChaCha20-Poly1305 ciphertext ‖ tag (16); of rows from before data keys nonce (12) ‖ AES-256-GCM ‖ tag (16) */
  readonly sealed: Uint8Array
  /**
   * Names the data key, stored beside the ciphertext in a column that is called kek_id for its history: rows of
   * installations without data keys named the key file there, and the keys derived from it kept that name.
   */
  readonly kekId: string
}

/** An Ed25519 key that signs; where its secret half is, is the custody's business. */
export interface SigningKey {
  /** 32 bytes */
  readonly publicKey: Uint8Array
  readonly location: 'sealed' | 'in-token'
  /**
   * @returns 64 bytes, Ed25519 as in RFC 8032
   * @throws ProtocolError KeyStorage(locked) when the token does not answer
   */
  sign(message: Uint8Array): Uint8Array
  /** Wipes what is held in memory. A key in a token stays in the token. */
  destroy(): void
}

/** A signing key that was just made, and what has to be stored to find it again. */
export interface NewSigningKey {
  readonly key: SigningKey
  readonly stored: SealedValue
}

export interface DataKeyInfo {
  readonly id: string
  readonly version: number
  /** The key-encryption key that wraps it. */
  readonly kekId: string
  readonly createdAt: number
}

export interface KekRotation {
  readonly from: string
  readonly to: string
  /** Data keys that were wrapped anew. */
  readonly rewrapped: number
}

/** What a custody needs of the service. */
export interface CustodyHost {
  readonly db: Db
  readonly clock: Clock
  readonly audit: AuditTrail
  readonly limits: Pick<Limits, 'dataKeyLifetimeMs' | 'dataKeySpreadMs'>
}

export interface KeyCustody {
  readonly provider: 'file' | 'pkcs11'
  /** The key-encryption key that wraps new data keys. @throws ProtocolError KeyStorage(locked) before {@link open} */
  readonly wrappingKekId: string
  /** The data key that new values are sealed under. @throws ProtocolError KeyStorage(locked) before {@link open} */
  readonly kekId: string
  /** Newest first. */
  readonly dataKeys: readonly DataKeyInfo[]

  /**
   * Opens the data keys of this database, and makes the first one if there is none. A second call does nothing.
   * @throws ProtocolError KeyStorage(accessControlFailed) when the key-encryption key at hand is not theirs
   * @throws ProtocolError KeyStorage(locked) when the token cannot be reached: may be tried again
   */
  open(host: CustodyHost): Promise<void>
  /** Takes up data keys that another replica has made, and makes a new one when the newest is old. For upkeep. */
  refresh(): Promise<void>
  /**
   * Wraps every data key under the next key-encryption key. No row is sealed anew.
   * @returns undefined when no next key is configured and nothing is left under another one
   */
  rotateKek(): Promise<KekRotation | undefined>

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
  /**
   * 32 bytes that identify content to this fleet only: a plain digest in a row would disclose equality, and short contents.
   * @param kekId of the row to compare with; the present data key when absent
   */
  fingerprint(content: Uint8Array, kekId?: string): Uint8Array

  /** A new Ed25519 key: sealed with the `file` provider, made inside the token with `pkcs11`. */
  createSigningKey(binding: SealBinding): NewSigningKey
  /** @throws ProtocolError KeyStorage(accessControlFailed), also when the key does not belong to `publicKey` */
  openSigningKey(stored: SealedValue, publicKey: Uint8Array, binding: SealBinding): SigningKey
  /** Where the secret half of a stored key is. */
  locationOf(stored: SealedValue, binding: SealBinding): SigningKey['location']
  /** Destroys a key that will never sign again: in a token its object, elsewhere nothing, since the row goes. */
  eraseSigningKey(stored: SealedValue, binding: SealBinding): void
  /** Wipes what the provider holds. */
  close(): void
}

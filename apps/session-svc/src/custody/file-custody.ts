/**
 * Custody with a key file: 32 raw bytes, mode 0400, mounted as a secret. The bytes go straight into the arena and the
 * buffer they came in is wiped; what is kept are three keys derived from them, one per purpose.
 *
 * AES-256-GCM with random 96-bit nonces: at most 2^32 seals under one key file, some four thousand million messages.
 * node:crypto copies the raw key into OpenSSL's heap for each call and cleanses it there.
 */
import { createCipheriv, createDecipheriv, randomFillSync } from 'node:crypto'
import { hkdfSha256, hkdfSha256Into, hmacSha256 } from '@tallystick/primitives/kdf'
import { toHex, utf8 } from '@tallystick/primitives/bytes'
import { ProtocolError } from '@tallystick/primitives/errors'
import { sha256 } from '@tallystick/primitives/hash'
import { type SecretArena, type SecretBytes, secretFrom, wipe, withSecret } from '@tallystick/secret-bytes/arena'
import type { KeyCustody, SealBinding, SealedValue } from './key-custody.js'

export const KEK_BYTES = 32
const NONCE = 12
const TAG = 16
const NO_SALT = new Uint8Array(32)

export class FileCustody implements KeyCustody {
  readonly kekId: string
  readonly #arena: SecretArena
  readonly #sealing: SecretBytes
  readonly #fingerprinting: SecretBytes

  private constructor(arena: SecretArena, kek: SecretBytes) {
    this.#arena = arena
    this.#sealing = derive(arena, kek, 'tallystick/at-rest/v1')
    this.#fingerprinting = derive(arena, kek, 'tallystick/fingerprint/v1')
    this.kekId = withSecret(kek, (bytes) => toHex(hkdfSha256(bytes, NO_SALT, utf8('tallystick/kek-id/v1'), 8)))
  }

  /**
   * @param kek 32 raw bytes as read from the file; wiped here, whatever happens
   * @throws ProtocolError KeyStorage(accessControlFailed) for any other length
   */
  static open(arena: SecretArena, kek: Uint8Array): FileCustody {
    if (kek.length !== KEK_BYTES) {
      wipe(kek)
      throw new ProtocolError('KeyStorage', `the key file "kek" must hold exactly ${KEK_BYTES} bytes`, { reason: 'accessControlFailed' })
    }
    const secret = secretFrom(arena, kek)
    try {
      return new FileCustody(arena, secret)
    } finally {
      secret.destroy()
    }
  }

  sealSecret(secret: SecretBytes, binding: SealBinding): SealedValue {
    return withSecret(secret, (bytes) => this.sealBytes(bytes, binding))
  }

  openSecret(value: SealedValue, binding: SealBinding): SecretBytes {
    // Cipher output is a Buffer of its own outside V8's heap; secretFrom wipes it after the copy.
    return secretFrom(this.#arena, this.openBytes(value, binding))
  }

  sealBytes(plain: Uint8Array, binding: SealBinding): SealedValue {
    const sealed = new Uint8Array(NONCE + plain.length + TAG)
    const nonce = randomFillSync(sealed.subarray(0, NONCE))
    withSecret(this.#sealing, (key) => {
      const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG })
      cipher.setAAD(associatedData(binding, this.kekId))
      sealed.set(cipher.update(plain), NONCE)
      cipher.final()
      sealed.set(cipher.getAuthTag(), NONCE + plain.length)
    })
    return { sealed, kekId: this.kekId }
  }

  openBytes(value: SealedValue, binding: SealBinding): Uint8Array {
    if (value.kekId !== this.kekId) {
      throw new ProtocolError('KeyStorage', `sealed under key ${value.kekId}, but the key file is ${this.kekId}`, {
        reason: 'accessControlFailed',
      })
    }
    const { sealed } = value
    if (sealed.length < NONCE + TAG) throw damaged(binding)
    return withSecret(this.#sealing, (key) => {
      const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, NONCE), { authTagLength: TAG })
      decipher.setAAD(associatedData(binding, value.kekId))
      decipher.setAuthTag(sealed.subarray(sealed.length - TAG))
      const plain = decipher.update(sealed.subarray(NONCE, sealed.length - TAG))
      try {
        decipher.final()
      } catch (cause) {
        wipe(plain)
        throw damaged(binding, cause)
      }
      return new Uint8Array(plain.buffer, plain.byteOffset, plain.length)
    })
  }

  fingerprint(content: Uint8Array): Uint8Array {
    return withSecret(this.#fingerprinting, (key) => hmacSha256(key, sha256(content)))
  }

  close(): void {
    this.#sealing.destroy()
    this.#fingerprinting.destroy()
  }
}

function derive(arena: SecretArena, kek: SecretBytes, info: string): SecretBytes {
  const key = arena.allocate(32)
  withSecret(kek, (ikm) => withSecret(key, (out) => hkdfSha256Into(out, ikm, NO_SALT, utf8(info))))
  return key
}

function associatedData(binding: SealBinding, kekId: string): Uint8Array {
  return utf8(JSON.stringify(['tallystick/at-rest/v1', binding.table, binding.row, binding.version, kekId]))
}

function damaged(binding: SealBinding, cause?: unknown): ProtocolError {
  return new ProtocolError('KeyStorage', `a sealed value of table ${binding.table} does not open: changed, or from another row`, {
    reason: 'accessControlFailed',
    cause,
  })
}

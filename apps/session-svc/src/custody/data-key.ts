/**
 * A data key: what rows are sealed under. 64 bytes in the arena, sealing key ‖ fingerprint key.
 *
 * XChaCha20-Poly1305 by libsodium, from the arena into the ciphertext and back. Rows of installations from before data
 * keys are AES-256-GCM: node:crypto opens them, which leaves a copy in freed memory; they become fewer with each write.
 * @see docs/spec/custody.md §1
 */
import { createDecipheriv } from 'node:crypto'
import { toHex, utf8 } from '@tallystick/primitives/bytes'
import { ProtocolError } from '@tallystick/primitives/errors'
import { sha256 } from '@tallystick/primitives/hash'
import { hmacSha256 } from '@tallystick/primitives/kdf'
import { fillRandom, systemRandom } from '@tallystick/primitives/random'
import { XAEAD_NONCE_BYTES, XAEAD_TAG_BYTES, xopenInto, xsealInto } from '@tallystick/primitives/xaead'
import { type SecretArena, type SecretBytes, secretFrom, wipe, withSecret } from '@tallystick/secret-bytes/arena'
import type { SealBinding, SealedValue } from './key-custody.js'

export const DATA_KEY_BYTES = 64
/** How values are sealed under a key; stored with it. */
export type DataKeyCipher = 'xchacha20-poly1305' | 'aes-256-gcm'

const SEALING = 32
const ID_BYTES = 8
const OVERHEAD = XAEAD_NONCE_BYTES + XAEAD_TAG_BYTES
const GCM = { nonce: 12, tag: 16 } as const

export class DataKey {
  readonly id: string
  readonly cipher: DataKeyCipher
  readonly #arena: SecretArena
  readonly #secret: SecretBytes

  /** @param secret 64 bytes; owned by the data key from now on */
  constructor(arena: SecretArena, id: string, secret: SecretBytes, cipher: DataKeyCipher = 'xchacha20-poly1305') {
    if (secret.length !== DATA_KEY_BYTES) {
      secret.destroy()
      throw new ProtocolError('KeyStorage', `data key ${id} does not have ${DATA_KEY_BYTES} bytes`, { reason: 'accessControlFailed' })
    }
    this.#arena = arena
    this.id = id
    this.cipher = cipher
    this.#secret = secret
  }

  /** A random one, under a random name. */
  static generate(arena: SecretArena): DataKey {
    const secret = arena.allocate(DATA_KEY_BYTES)
    withSecret(secret, fillRandom)
    return new DataKey(arena, toHex(systemRandom(ID_BYTES)), secret)
  }

  /** For whoever wraps it; the bytes must not leave `fn`. */
  withBytes<T>(fn: (bytes: Uint8Array) => T): T {
    return withSecret(this.#secret, fn)
  }

  sealSecret(secret: SecretBytes, binding: SealBinding): SealedValue {
    return withSecret(secret, (bytes) => this.sealBytes(bytes, binding))
  }

  openSecret(value: SealedValue, binding: SealBinding): SecretBytes {
    if (this.cipher === 'aes-256-gcm') return secretFrom(this.#arena, this.openBytes(value, binding))
    if (value.sealed.length < OVERHEAD) throw damaged(binding)
    const secret = this.#arena.allocate(value.sealed.length - OVERHEAD)
    if (withSecret(secret, (out) => this.#openInto(out, value, binding))) return secret
    secret.destroy()
    throw damaged(binding)
  }

  /** Under a key from before data keys nothing is sealed any more. */
  sealBytes(plain: Uint8Array, binding: SealBinding): SealedValue {
    return { sealed: withSecret(this.#secret, (key) => xseal(sealingKey(key), associatedData(binding, this.id), plain)), kekId: this.id }
  }

  openBytes(value: SealedValue, binding: SealBinding): Uint8Array {
    if (this.cipher === 'aes-256-gcm') return withSecret(this.#secret, (key) => gcmOpen(sealingKey(key), value, binding))
    if (value.sealed.length < OVERHEAD) throw damaged(binding)
    const plain = new Uint8Array(value.sealed.length - OVERHEAD)
    if (!this.#openInto(plain, value, binding)) throw damaged(binding)
    return plain
  }

  fingerprint(content: Uint8Array): Uint8Array {
    return withSecret(this.#secret, (key) => hmacSha256(key.subarray(SEALING), sha256(content)))
  }

  destroy(): void {
    this.#secret.destroy()
  }

  #openInto(out: Uint8Array, { sealed }: SealedValue, binding: SealBinding): boolean {
    return withSecret(this.#secret, (key) => xopen(out, sealingKey(key), associatedData(binding, this.id), sealed))
  }
}

/** @returns nonce (24, random) ‖ XChaCha20-Poly1305 ciphertext ‖ tag (16) */
export function xseal(key: Uint8Array, aad: Uint8Array, plain: Uint8Array): Uint8Array {
  const sealed = new Uint8Array(OVERHEAD + plain.length)
  const nonce = sealed.subarray(0, XAEAD_NONCE_BYTES)
  fillRandom(nonce)
  xsealInto(sealed.subarray(XAEAD_NONCE_BYTES), key, nonce, aad, plain)
  return sealed
}

/**
 * @param out 40 bytes shorter than `sealed`
 * @returns false when the tag does not fit
 */
export function xopen(out: Uint8Array, key: Uint8Array, aad: Uint8Array, sealed: Uint8Array): boolean {
  return xopenInto(out, key, sealed.subarray(0, XAEAD_NONCE_BYTES), aad, sealed.subarray(XAEAD_NONCE_BYTES))
}

function sealingKey(key: Uint8Array): Uint8Array {
  return key.subarray(0, SEALING)
}

/** nonce (12) ‖ AES-256-GCM ciphertext ‖ tag (16) */
function gcmOpen(key: Uint8Array, { sealed, kekId }: SealedValue, binding: SealBinding): Uint8Array {
  if (sealed.length < GCM.nonce + GCM.tag) throw damaged(binding)
  const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, GCM.nonce), { authTagLength: GCM.tag })
  decipher.setAAD(associatedData(binding, kekId))
  decipher.setAuthTag(sealed.subarray(sealed.length - GCM.tag))
  const plain = decipher.update(sealed.subarray(GCM.nonce, sealed.length - GCM.tag))
  try {
    decipher.final()
  } catch (cause) {
    wipe(plain)
    throw damaged(binding, cause)
  }
  return new Uint8Array(plain.buffer, plain.byteOffset, plain.length)
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

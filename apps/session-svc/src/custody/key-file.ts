/**
 * The `file` provider: a key-encryption key of 32 raw bytes in a file of mode 0400, mounted as a secret, or the same
 * protected by a passphrase. The bytes go straight into the arena and the buffer they came in is wiped; what is kept is
 * what was derived from them.
 * @see docs/spec/custody.md §2
 */
import { toHex, utf8 } from '@tallystick/primitives/bytes'
import { ProtocolError } from '@tallystick/primitives/errors'
import { hkdfSha256, hkdfSha256Into } from '@tallystick/primitives/kdf'
import { type SecretArena, type SecretBytes, secretFrom, wipe, withSecret } from '@tallystick/secret-bytes/arena'
import { DATA_KEY_BYTES, DataKey, xopen, xseal } from './data-key.js'
import { type ConnectedKeks, type KekProvider, type KeyEncryptionKey, type WrapBinding, wrapAssociatedData } from './key-encryption-key.js'
import { isProtectedKeyFile, openProtectedKeyFile } from './protected-key-file.js'

export const KEK_BYTES = 32
/** nonce (24) ‖ data key ‖ tag (16) */
const WRAPPED_BYTES = 24 + DATA_KEY_BYTES + 16
const NO_SALT = new Uint8Array(32)

export class KeyFile implements KeyEncryptionKey {
  readonly id: string
  readonly label: string
  readonly #arena: SecretArena
  readonly #wrapping: SecretBytes
  /** Kept until `close`: which of them a database needs is known when it answers. */
  readonly #former: SecretBytes

  private constructor(arena: SecretArena, label: string, kek: SecretBytes) {
    this.#arena = arena
    this.label = label
    const derive = (out: Uint8Array, info: string) => withSecret(kek, (ikm) => hkdfSha256Into(out, ikm, NO_SALT, utf8(info)))
    this.id = withSecret(kek, (bytes) => toHex(hkdfSha256(bytes, NO_SALT, utf8('tallystick/kek-id/v1'), 8)))
    this.#wrapping = arena.allocate(32)
    this.#former = arena.allocate(DATA_KEY_BYTES)
    withSecret(this.#wrapping, (out) => derive(out, 'tallystick/wrap/v1'))
    withSecret(this.#former, (out) => {
      derive(out.subarray(0, 32), 'tallystick/at-rest/v1')
      derive(out.subarray(32), 'tallystick/fingerprint/v1')
    })
  }

  /**
   * @param label how messages call it
   * @param content 32 raw bytes, or a protected key file; wiped here, whatever happens
   * @param passphrase needed for a protected file; wiped here, whatever happens
   * @throws ProtocolError KeyStorage(accessControlFailed) for any other content, or a passphrase that does not open it
   */
  static open(arena: SecretArena, label: string, content: Uint8Array, passphrase?: Uint8Array): KeyFile {
    const secret = readKek(arena, label, content, passphrase)
    try {
      return new KeyFile(arena, label, secret)
    } finally {
      secret.destroy()
    }
  }

  wrap(key: Uint8Array, binding: WrapBinding): Uint8Array {
    return withSecret(this.#wrapping, (kek) => xseal(kek, wrapAssociatedData(binding, this.id), key))
  }

  unwrap(wrapped: Uint8Array, binding: WrapBinding): SecretBytes {
    const key = this.#arena.allocate(DATA_KEY_BYTES)
    const opened =
      wrapped.length === WRAPPED_BYTES &&
      withSecret(key, (out) => withSecret(this.#wrapping, (kek) => xopen(out, kek, wrapAssociatedData(binding, this.id), wrapped)))
    if (opened) return key
    key.destroy()
    throw new ProtocolError('KeyStorage', `data key ${binding.id} does not open: its row was changed`, { reason: 'accessControlFailed' })
  }

  formerDataKey(): DataKey {
    const copy = this.#arena.allocate(DATA_KEY_BYTES)
    withSecret(copy, (to) => withSecret(this.#former, (from) => to.set(from)))
    return new DataKey(this.#arena, this.id, copy, 'aes-256-gcm')
  }

  close(): void {
    this.#wrapping.destroy()
    this.#former.destroy()
  }
}

/** `kek`, and `kek.next` while a rotation is under way. */
export class FileKeks implements KekProvider {
  readonly provider = 'file'
  readonly #primary: KeyFile
  readonly #next: KeyFile | undefined

  constructor(primary: KeyFile, next?: KeyFile) {
    this.#primary = primary
    this.#next = next?.id === primary.id ? undefined : next
  }

  connect(): ConnectedKeks {
    const [primary, next] = [this.#primary, this.#next]
    const all = next ? [primary, next] : [primary]
    return { primary: () => primary, next: () => next, all, found: all.map(({ id, label }) => `${label} is ${id}`).join(', ') }
  }

  close(): void {
    this.#primary.close()
    this.#next?.close()
  }
}

function readKek(arena: SecretArena, label: string, content: Uint8Array, passphrase?: Uint8Array): SecretBytes {
  try {
    if (isProtectedKeyFile(content)) {
      if (passphrase === undefined)
        throw new ProtocolError('KeyStorage', `${label} is protected: put its passphrase into the secret "kek.passphrase"`, {
          reason: 'accessControlFailed',
        })
      return openProtectedKeyFile(arena, label, content, passphrase)
    }
    if (content.length !== KEK_BYTES) {
      throw new ProtocolError('KeyStorage', `${label} must hold exactly ${KEK_BYTES} bytes`, {
        reason: 'accessControlFailed',
      })
    }
    return secretFrom(arena, content)
  } finally {
    wipe(content)
    if (passphrase) wipe(passphrase)
  }
}

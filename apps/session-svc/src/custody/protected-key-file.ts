/**
 * A key file that opens with a passphrase:
 *
 *   "TSKEK1" ‖ passes (uint32) ‖ memory in KiB (uint32) ‖ salt (16) ‖ nonce (12) ‖ ChaCha20-Poly1305(kek) (48)
 *
 * The key is Argon2id (version 1.3, one lane) of the passphrase; everything before the ciphertext is associated data.
 * @see docs/spec/custody.md §2
 */
import { AEAD_TAG_BYTES, open, sealInPlace } from '@tallystick/primitives/aead'
import { argon2id } from '@tallystick/primitives/argon2id'
import { concat, u32be, utf8 } from '@tallystick/primitives/bytes'
import { ProtocolError } from '@tallystick/primitives/errors'
import { systemRandom } from '@tallystick/primitives/random'
import { type SecretArena, type SecretBytes, secretFrom, withSecret } from '@tallystick/secret-bytes/arena'

const MAGIC = utf8('TSKEK1')
const PASSES_AT = 6
const MEMORY_AT = 10
const SALT_AT = 14
const NONCE_AT = 30
const SEALED_AT = 42
const FILE_BYTES = 90

export interface Argon2Cost {
  readonly passes: number
  readonly memoryKiB: number
}

/** OWASP's and RFC 9106's range: a quarter of a second and 256 MiB for each guess. Written into new files. */
export const ARGON2_COST: Argon2Cost = { passes: 3, memoryKiB: 256 * 1024 }
/** A file that asks for more is refused: it would end the process instead of opening. */
export const ARGON2_MOST: Argon2Cost = { passes: 16, memoryKiB: 512 * 1024 }
/** Less would make guessing cheap while the file still looks protected. */
const ARGON2_LEAST: Argon2Cost = { passes: 1, memoryKiB: 8 * 1024 }

export function isProtectedKeyFile(content: Uint8Array): boolean {
  return content.length > MAGIC.length && MAGIC.every((byte, i) => content[i] === byte)
}

/**
 * @param kek 32 bytes
 * @param passphrase as typed, UTF-8; a line end is no part of it
 * @returns the file's content, 90 bytes
 */
export function protectKeyFile(arena: SecretArena, kek: SecretBytes, passphrase: Uint8Array, cost: Argon2Cost = ARGON2_COST): Uint8Array {
  const header = concat(MAGIC, u32be(cost.passes), u32be(cost.memoryKiB), systemRandom(16), systemRandom(12))
  const key = keyOf(arena, header, passphrase)
  const place = arena.allocate(kek.length + AEAD_TAG_BYTES)
  try {
    return withSecret(place, (out) => {
      withSecret(kek, (plain) => out.set(plain))
      withSecret(key, (k) => sealInPlace(k, header.subarray(NONCE_AT), header, out))
      return concat(header, out)
    })
  } finally {
    key.destroy()
    place.destroy()
  }
}

/** @throws ProtocolError KeyStorage(accessControlFailed): another passphrase, a changed file, or a cost out of bounds */
export function openProtectedKeyFile(arena: SecretArena, label: string, content: Uint8Array, passphrase: Uint8Array): SecretBytes {
  if (content.length !== FILE_BYTES) throw refused(label, 'is cut off')
  const header = content.slice(0, SEALED_AT)
  const key = keyOf(arena, header, passphrase, label)
  try {
    return secretFrom(
      arena,
      withSecret(key, (k) => open(k, header.subarray(NONCE_AT), header, content.subarray(SEALED_AT))),
    )
  } catch (cause) {
    if (cause instanceof ProtocolError && cause.code === 'Decryption') throw refused(label, 'does not open with this passphrase')
    throw cause
  } finally {
    key.destroy()
  }
}

function keyOf(arena: SecretArena, header: Uint8Array, passphrase: Uint8Array, label = 'the key file'): SecretBytes {
  const view = new DataView(header.buffer, header.byteOffset)
  const passes = view.getUint32(PASSES_AT)
  const memoryKiB = view.getUint32(MEMORY_AT)
  if (passes < ARGON2_LEAST.passes || passes > ARGON2_MOST.passes) throw refused(label, `asks for ${passes} passes of Argon2id`)
  if (memoryKiB < ARGON2_LEAST.memoryKiB || memoryKiB > ARGON2_MOST.memoryKiB)
    throw refused(label, `asks for ${memoryKiB} KiB of Argon2id memory`)
  return argon2id(arena, withoutLineEnd(passphrase), header.subarray(SALT_AT, NONCE_AT), passes, memoryKiB)
}

/** Editors add one; nobody means it. */
function withoutLineEnd(passphrase: Uint8Array): Uint8Array {
  let end = passphrase.length
  while (end > 0 && (passphrase[end - 1] === 0x0a || passphrase[end - 1] === 0x0d)) end -= 1
  return passphrase.subarray(0, end)
}

function refused(label: string, what: string): ProtocolError {
  return new ProtocolError('KeyStorage', `${label} ${what}`, { reason: 'accessControlFailed' })
}

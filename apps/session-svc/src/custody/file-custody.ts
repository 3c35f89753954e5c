/** A custody whose key-encryption key is in a file. */
import type { SecretArena } from '@tallystick/secret-bytes/arena'
import { Custody } from './custody.js'
import { FileKeks, KeyFile } from './key-file.js'

export interface KeyFileContents {
  /** 32 raw bytes or a protected key file; wiped here. */
  readonly kek: Uint8Array
  readonly passphrase?: Uint8Array | undefined
  /** The key that takes over at the next rotation, while there is one. */
  readonly next?: Uint8Array | undefined
  readonly nextPassphrase?: Uint8Array | undefined
}

/** @throws ProtocolError KeyStorage(accessControlFailed) for a file that is no key file, or does not open */
export function fileCustody(arena: SecretArena, contents: KeyFileContents): Custody {
  const primary = KeyFile.open(arena, 'the key file "kek"', contents.kek, contents.passphrase)
  try {
    const next = contents.next && KeyFile.open(arena, 'the key file "kek.next"', contents.next, contents.nextPassphrase)
    return new Custody(arena, new FileKeks(primary, next))
  } catch (error) {
    primary.close()
    throw error
  }
}

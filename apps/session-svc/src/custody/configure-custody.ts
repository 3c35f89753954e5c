/** From environment and secret files to a custody. Nothing is asked of a token yet: that is `open`'s business. */
import { existsSync } from 'node:fs'
import path from 'node:path'
import { ProtocolError } from '@tallystick/primitives/errors'
import type { SecretArena } from '@tallystick/secret-bytes/arena'
import { z } from 'zod'
import type { Custody } from './custody.js'
import { fileCustody, type KeyFileContents } from './file-custody.js'

/** @see docs/spec/custody.md §2 */
export const custodyEnv = z.object({
  TALLYSTICK_CUSTODY: z.enum(['file', 'pkcs11']).default('file'),
  /** The token's library, a shared object that speaks PKCS#11 2.40. */
  TALLYSTICK_PKCS11_MODULE: z.string().min(1).optional(),
  /** Label of the token. */
  TALLYSTICK_PKCS11_TOKEN: z.string().min(1).max(32).optional(),
  /** Label of the key-encryption key in the token. */
  TALLYSTICK_PKCS11_KEY: z.string().min(1).max(64).default('tallystick-kek'),
  /** Label of the key that takes over at the next rotation. */
  TALLYSTICK_PKCS11_NEXT_LABEL: z.string().min(1).max(64).optional(),
})

/** Where secrets come from: the mounted folder and how a file of it is read. */
export interface SecretFiles {
  readonly directory: string
  /** @returns bytes that the taker wipes; @throws when the file is absent or readable by others */
  read(name: string): Uint8Array
}

/** @throws ProtocolError KeyStorage(accessControlFailed), or Error for a variable or file that is missing */
export async function configureCustody(env: z.output<typeof custodyEnv>, arena: SecretArena, files: SecretFiles): Promise<Custody> {
  if (env.TALLYSTICK_CUSTODY === 'file') return fileCustody(arena, readKeyFiles(files))
  const { TALLYSTICK_PKCS11_MODULE: module, TALLYSTICK_PKCS11_TOKEN: token } = env
  if (module === undefined || token === undefined) {
    throw new ProtocolError('KeyStorage', 'TALLYSTICK_CUSTODY=pkcs11 needs TALLYSTICK_PKCS11_MODULE and TALLYSTICK_PKCS11_TOKEN', {
      reason: 'accessControlFailed',
    })
  }
  // Only here: without a token nobody needs the native module behind it.
  const { tokenCustody } = await import('./token-custody.js')
  return tokenCustody(arena, {
    module,
    token,
    keyLabel: env.TALLYSTICK_PKCS11_KEY,
    nextLabel: env.TALLYSTICK_PKCS11_NEXT_LABEL,
    pin: files.read('pkcs11.pin'),
    // A fleet that moves from a key file to a token needs both until its data keys have been wrapped anew.
    former: has(files, 'kek') ? readKeyFiles(files) : undefined,
  })
}

function readKeyFiles(files: SecretFiles): KeyFileContents {
  const optional = (name: string) => (has(files, name) ? files.read(name) : undefined)
  const next = optional('kek.next')
  return {
    kek: files.read('kek'),
    passphrase: optional('kek.passphrase'),
    next,
    nextPassphrase: next && (optional('kek.next-passphrase') ?? optional('kek.passphrase')),
  }
}

function has(files: SecretFiles, name: string): boolean {
  return existsSync(path.join(files.directory, name))
}

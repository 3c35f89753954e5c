/**
 * Protects a key file with a passphrase, in place:
 *
 *   node apps/session-svc/dist/custody/protect-key-file-main.js DIR
 *
 * DIR is a secrets folder with `kek` (32 raw bytes) and `kek.passphrase`. The passphrase never is an argument or a
 * variable of the environment, where others could read it.
 */
import { renameSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { SecretArena, secretFrom } from '@tallystick/secret-bytes/arena'
import { readSecretFile } from '@tallystick/service-host/secrets'
import { isProtectedKeyFile, protectKeyFile } from './protected-key-file.js'
import { KEK_BYTES } from './key-file.js'

const directory = process.argv[2]
if (directory === undefined) end('usage: protect-key-file-main.js DIR')
const arena = SecretArena.open(4096, { allowUnlocked: true })
try {
  const kek = readSecretFile(directory, 'kek')
  if (isProtectedKeyFile(kek)) end('kek: is protected already')
  if (kek.length !== KEK_BYTES) end(`kek: does not hold exactly ${KEK_BYTES} bytes`)
  const passphrase = readSecretFile(directory, 'kek.passphrase')
  const secret = secretFrom(arena, kek)
  const half = path.join(directory, `kek-protected.${process.pid}`)
  writeFileSync(half, protectKeyFile(arena, secret, passphrase), { mode: 0o400, flag: 'wx', flush: true })
  passphrase.fill(0)
  // The old content stays on the disk until its blocks are used again: where that matters, make a new key instead.
  renameSync(half, path.join(directory, 'kek'))
  process.stdout.write('kek: protected; the passphrase is needed from now on\n')
} catch (error) {
  end((error as Error).message)
} finally {
  arena.close()
}

function end(text: string): never {
  process.stderr.write(`${text}\n`)
  process.exit(1)
}

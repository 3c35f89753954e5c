/**
 * `tallystick keys restore`: lays a backup of identity keys where session-svc looks for it at its next start with an
 * empty database. Works on files alone; the service opens the backup, not this command.
 * @see docs/runbooks/restore.md
 */
import { chownSync, existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { CommandError, EXIT, type ExitCode, type Printer } from '../outcome.js'

export interface RestoreOptions {
  /** File with an age identity, `AGE-SECRET-KEY-1…`. */
  readonly identity: string
  /** session-svc's secrets directory. */
  readonly secrets: string
}

const BACKUP = 'restore.age'
const IDENTITY = 'restore.identity'
/** As large as the contract lets a backup be; armor adds a third. */
const MAX_BACKUP_BYTES = 350_000
const MAX_IDENTITY_BYTES = 8_192
const MODE = 0o400

export function keysRestore(file: string, options: RestoreOptions, print: Printer): Promise<ExitCode> {
  const directory = options.secrets
  if (!existsSync(directory) || !statSync(directory).isDirectory())
    throw new CommandError(EXIT.usage, `${directory} is not a directory: --secrets takes session-svc's own.`)
  const backup = read(file, 'backup', MAX_BACKUP_BYTES)
  const identity = read(options.identity, 'identity file', MAX_IDENTITY_BYTES)
  try {
    if (!/^(age-encryption\.org\/v1\n|-----BEGIN AGE ENCRYPTED FILE-----\s)/.test(backup.subarray(0, 64).toString('latin1')))
      throw new CommandError(EXIT.validation, `${file} is not an age file.`)
    if (!identity.includes('AGE-SECRET-KEY-')) throw new CommandError(EXIT.validation, `${options.identity} holds no age identity.`)
    const targets = [join(directory, IDENTITY), join(directory, BACKUP)] as const
    for (const target of targets)
      if (existsSync(target)) throw new CommandError(EXIT.validation, `${target} exists: it is not overwritten.`)
    place(directory, targets[0], identity)
    try {
      // Last: the service begins when it finds the backup.
      place(directory, targets[1], backup)
    } catch (error) {
      rmSync(targets[0], { force: true })
      throw error
    }
  } finally {
    identity.fill(0)
  }
  print.line(`${BACKUP} and ${IDENTITY} are in ${directory}.`)
  print.line('Start session-svc with an empty database: it takes the identity keys from the backup and makes everything else anew.')
  print.line('Then remove both files: the identity opens every backup made for it.')
  print.result({ ok: true, files: [BACKUP, IDENTITY], directory })
  return Promise.resolve(EXIT.ok)
}

function read(file: string, what: string, maxBytes: number): Buffer {
  let bytes: Buffer
  try {
    bytes = readFileSync(file)
  } catch (error) {
    throw new CommandError(EXIT.usage, `The ${what} ${file} cannot be read (${(error as NodeJS.ErrnoException).code ?? 'error'}).`)
  }
  if (bytes.length > maxBytes) throw new CommandError(EXIT.validation, `${file} is larger than any ${what} is.`)
  return bytes
}

/** Mode 0400 from the first byte on, and owned like the directory: an administrator may run this for another user. */
function place(directory: string, target: string, bytes: Uint8Array): void {
  try {
    writeFileSync(target, bytes, { mode: MODE, flag: 'wx' })
    const { uid, gid } = statSync(directory)
    if (process.getuid?.() === 0) chownSync(target, uid, gid)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'EEXIST') rmSync(target, { force: true })
    throw new CommandError(EXIT.usage, `${target} cannot be written (${code ?? 'error'}).`)
  }
}

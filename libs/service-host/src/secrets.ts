/** Secrets are mounted files, never environment variables. */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'
import { join } from 'node:path'

/** Largest secret: a list of API tokens; keys have 32 bytes. */
const MAX_SECRET_BYTES = 64 * 1024
const NAME = /^[a-z][a-z0-9-]*(\.[a-z0-9-]+)?$/

/**
 * @param name file name inside the directory
 * @returns the raw bytes in a buffer of their own (not Node's shared pool); the caller wipes it with `fill(0)`
 * @throws Error that names the file's name, never its content: absent, not a regular file, readable by group or others, too large
 */
export function readSecretFile(directory: string, name: string): Buffer {
  if (!NAME.test(name)) throw new Error('not the name of a secret')
  const file = openSecret(directory, name)
  try {
    // The open descriptor is checked, not the path: nothing can be exchanged in between.
    const stat = fstatSync(file)
    if (!stat.isFile()) throw new Error(`secret ${name}: not a regular file`)
    if ((stat.mode & 0o077) !== 0) throw new Error(`secret ${name}: readable by group or others; set its mode to 0400`)
    if (stat.size > MAX_SECRET_BYTES) throw new Error(`secret ${name}: more than ${MAX_SECRET_BYTES} bytes`)
    const bytes = Buffer.allocUnsafeSlow(stat.size)
    let read = 0
    while (read < bytes.length) {
      const count = readSync(file, bytes, read, bytes.length - read, read)
      if (count === 0) throw new Error(`secret ${name}: shorter than its size`)
      read += count
    }
    return bytes
  } finally {
    closeSync(file)
  }
}

function openSecret(directory: string, name: string): number {
  try {
    return openSync(join(directory, name), constants.O_RDONLY | constants.O_NOCTTY | constants.O_NONBLOCK)
  } catch (error) {
    throw new Error(`secret ${name}: cannot be opened (${(error as NodeJS.ErrnoException).code ?? 'unknown'})`)
  }
}

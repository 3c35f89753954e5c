/** Secret files: mode 0400 in folders of mode 0700, written whole or not at all. */
import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, writeSync } from 'node:fs'
import path from 'node:path'

/** Survives a power loss: a key that is lost while the database keeps what it sealed would be lost for good. */
export function writeSecret(file: string, content: string | Uint8Array): void {
  mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 })
  const half = `${file}.${process.pid}.tmp`
  const descriptor = openSync(half, 'w', 0o400)
  try {
    const bytes = typeof content === 'string' ? Buffer.from(content) : content
    writeSync(descriptor, bytes)
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
  renameSync(half, file)
  const folder = openSync(path.dirname(file), 'r')
  try {
    fsyncSync(folder)
  } finally {
    closeSync(folder)
  }
}

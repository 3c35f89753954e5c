/** The end of a log file, for messages about a process that did not start. */
import { closeSync, existsSync, fstatSync, openSync, readSync } from 'node:fs'

const TAIL_BYTES = 32 * 1024

export function lastLines(file: string, count = 5): string {
  if (!existsSync(file)) return '(no log)'
  const descriptor = openSync(file, 'r')
  try {
    const { size } = fstatSync(descriptor)
    const tail = Buffer.alloc(Math.min(size, TAIL_BYTES))
    readSync(descriptor, tail, 0, tail.length, size - tail.length)
    return tail.toString('utf8').trimEnd().split('\n').slice(-count).join('\n')
  } finally {
    closeSync(descriptor)
  }
}

/**
 * Kills (or stops) this process at one of its writes: to a socket (PostgreSQL), to a pipe (the answer), to a file (wire
 * tap, generation number). Works wherever node does; `strace` does the same from outside, and only where it is installed.
 *
 * Loaded before anything else that imports `node:fs`: the named imports of modules loaded later see the counted calls.
 */
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import net from 'node:net'

export interface Aim {
  /** Counted from 1, from the moment of arming; Infinity only counts. */
  readonly at: number
  /** `before`: the bytes of this write never leave. `after`: they have left, and nobody hears the answer. */
  readonly side: 'before' | 'after'
  readonly signal: 'SIGKILL' | 'SIGSTOP'
  /** Only writes that contain this text are counted. */
  readonly only?: string
}

let aim: Aim | undefined
let seen: string[] = []

/** Starts counting from zero. */
export function arm(next: Aim): void {
  seen = []
  aim = next
}

/** Stops counting. @returns what each write since `arm` was, in a word or two */
export function disarm(): string[] {
  aim = undefined
  return seen
}

function fire({ signal }: Aim): void {
  process.kill(process.pid, signal)
}

function counted<T>(what: string | undefined, bytes: () => Uint8Array, write: () => T): T {
  const mine = aim
  if (mine === undefined || (mine.only !== undefined && !Buffer.from(bytes()).includes(mine.only))) return write()
  seen.push(what ?? nameOf(bytes()))
  const hit = seen.length === mine.at
  if (hit && mine.side === 'before') fire(mine)
  const result = write()
  if (hit && mine.side === 'after') fire(mine)
  return result
}

type Chunk = string | Uint8Array
const asBytes = (chunk: Chunk): Uint8Array => (typeof chunk === 'string' ? Buffer.from(chunk) : chunk)

type Done = (error?: Error | null) => void
interface Writer {
  _write(chunk: Chunk, encoding: BufferEncoding, done: Done): void
  _writev(chunks: { chunk: Chunk; encoding: BufferEncoding }[], done: Done): void
}

/** A word or two for what goes into a socket or pipe: the SQL statement, or the answer. */
function nameOf(bytes: Uint8Array): string {
  const text = Buffer.from(bytes).toString('latin1')
  const sql = /\b(BEGIN|COMMIT|ROLLBACK|INSERT INTO|UPDATE|DELETE FROM|SELECT|SET)\b/.exec(text)
  if (sql) return sql[1]!.toLowerCase()
  return text.startsWith('{"id"') ? 'answer' : text.startsWith('{"ask"') ? 'ask' : 'socket'
}

/** Idempotent only per process: call once, first. */
export function loadGun(): void {
  const socket = net.Socket.prototype as unknown as Writer
  const { _write, _writev } = socket
  socket._write = function (this: Writer, chunk, encoding, done) {
    counted(
      undefined,
      () => asBytes(chunk),
      () => _write.call(this, chunk, encoding, done),
    )
  }
  socket._writev = function (this: Writer, chunks, done) {
    counted(
      undefined,
      () => Buffer.concat(chunks.map((one) => asBytes(one.chunk))),
      () => _writev.call(this, chunks, done),
    )
  }
  for (const name of ['writeSync', 'writevSync', 'writeFileSync', 'appendFileSync', 'renameSync', 'fsyncSync', 'fdatasyncSync'] as const) {
    const original = fs[name] as (...args: unknown[]) => unknown
    Object.defineProperty(fs, name, {
      value: (...args: unknown[]) => {
        // fs.appendFileSync calls fs.writeFileSync inside: one write, counted once.
        const inner = aim
        return counted(
          name,
          () => new Uint8Array(),
          () => {
            aim = undefined
            try {
              return original(...args)
            } finally {
              aim = inner
            }
          },
        )
      },
    })
  }
  for (const name of ['write', 'writev', 'writeFile', 'appendFile', 'rename'] as const) {
    const original = fs[name] as (...args: unknown[]) => unknown
    Object.defineProperty(fs, name, {
      value: (...args: unknown[]) =>
        counted(
          `fs.${name}`,
          () => new Uint8Array(),
          () => original(...args),
        ),
    })
    if (name in fs.promises) {
      const promised = fs.promises[name as 'writeFile'] as (...args: unknown[]) => unknown
      Object.defineProperty(fs.promises, name, {
        value: (...args: unknown[]) =>
          counted(
            `fs.promises.${name}`,
            () => new Uint8Array(),
            () => promised(...args),
          ),
      })
    }
  }
  syncBuiltinESMExports()
}

/** Looks for known keys in another process's memory and in a core dump, in every form that a program might keep them in. */
import { execFileSync } from 'node:child_process'
import { closeSync, existsSync, fstatSync, mkdtempSync, openSync, readFileSync, readSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'

export const FORMS = ['raw', 'hex', 'base64', 'base64url', 'clamped'] as const
export type Form = (typeof FORMS)[number]

export interface Finding {
  readonly key: number
  readonly form: Form
  /** Address in the process, or offset in the dump. */
  readonly at: number
  /** The line of /proc/PID/maps, where there is one. */
  readonly where: string
}

export interface ScanResult {
  readonly findings: readonly Finding[]
  readonly bytes: number
}

interface Pattern {
  readonly key: number
  readonly form: Form
  readonly bytes: Buffer
}

/** Largest piece read at once. */
const CHUNK = 4 << 20
const ZEROS = Buffer.alloc(CHUNK)

/**
 * What is searched for: a key as it is, as hex of either case, as base64 and base64url at each of the three positions
 * that it can have in a longer text, and with the bits set and cleared that X25519 wants.
 */
export class KeyScanner {
  readonly #byStart: (Pattern[] | undefined)[] = new Array<Pattern[] | undefined>(65_536)
  #longest = 0

  /** @param keys at least 16 bytes each */
  constructor(keys: readonly Uint8Array[]) {
    for (const [key, bytes] of keys.entries()) for (const [form, text] of formsOf(Buffer.from(bytes))) this.#add({ key, form, bytes: text })
  }

  /** Every readable mapping of a process. The process is stopped meanwhile. */
  process(pid: number): ScanResult {
    const findings: Finding[] = []
    let bytes = 0
    process.kill(pid, 'SIGSTOP')
    const memory = openSync(`/proc/${pid}/mem`, 'r')
    try {
      for (const line of readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n')) {
        const match = /^([0-9a-f]+)-([0-9a-f]+) (r\S{3}) /.exec(line)
        if (!match || line.includes('[vvar') || line.includes('[vsyscall]')) continue
        const [start, end] = [Number.parseInt(match[1]!, 16), Number.parseInt(match[2]!, 16)]
        bytes += this.#read(memory, start, end, line.trim(), findings)
      }
    } finally {
      closeSync(memory)
      process.kill(pid, 'SIGCONT')
    }
    return { findings, bytes }
  }

  file(name: string): ScanResult {
    const findings: Finding[] = []
    const file = openSync(name, 'r')
    try {
      const { size } = fstatSync(file)
      return { findings, bytes: this.#read(file, 0, size, path.basename(name), findings) }
    } finally {
      closeSync(file)
    }
  }

  /** A dump by gdb's gcore, which leaves out what the kernel would. */
  coreDump(pid: number): ScanResult {
    const folder = mkdtempSync(path.join(os.tmpdir(), 'tallystick-core-'))
    try {
      execFileSync('gcore', ['-o', path.join(folder, 'core'), String(pid)], { stdio: ['ignore', 'ignore', 'pipe'], timeout: 120_000 })
      return this.file(path.join(folder, `core.${pid}`))
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  }

  #add(pattern: Pattern): void {
    const at = pattern.bytes.readUInt16BE(0)
    ;(this.#byStart[at] ??= []).push(pattern)
    this.#longest = Math.max(this.#longest, pattern.bytes.length)
  }

  #read(file: number, start: number, end: number, where: string, findings: Finding[]): number {
    const overlap = this.#longest - 1
    const chunk = Buffer.allocUnsafeSlow(CHUNK + overlap)
    let kept = 0
    let at = start
    let bytes = 0
    while (at < end) {
      let read: number
      try {
        read = readSync(file, chunk, kept, Math.min(CHUNK, end - at), at)
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException
        if (code === 'EIO' || code === 'EFAULT') break // pages that nobody may read, or that lie behind the end of a file
        throw error
      }
      if (read === 0) break
      bytes += read
      // gdb writes reserved address space as zeros, gigabytes of it; no key is zero.
      if (kept === 0 && chunk.compare(ZEROS, 0, read, 0, read) === 0) {
        at += read
        continue
      }
      const filled = kept + read
      this.#search(chunk.subarray(0, filled), at - kept, where, findings)
      at += read
      const last = chunk.subarray(filled - Math.min(overlap, filled), filled)
      kept = last.every((byte) => byte === 0) ? 0 : last.length
      chunk.copyWithin(0, filled - kept, filled)
    }
    chunk.fill(0)
    return bytes
  }

  #search(bytes: Buffer, base: number, where: string, findings: Finding[]): void {
    const byStart = this.#byStart
    for (let i = 0; i + 1 < bytes.length; i++) {
      const candidates = byStart[(bytes[i]! << 8) | bytes[i + 1]!]
      if (candidates === undefined) continue
      for (const { key, form, bytes: wanted } of candidates) {
        if (i + wanted.length > bytes.length || bytes.compare(wanted, 0, wanted.length, i, i + wanted.length) !== 0) continue
        const at = base + i
        // What lies in the overlap of two pieces is seen twice.
        if (!findings.some((known) => known.at === at && known.key === key && known.form === form)) findings.push({ key, form, at, where })
      }
    }
  }
}

export const canDump = existsSync('/usr/bin/gcore')

function formsOf(key: Buffer): [Form, Buffer][] {
  const forms: [Form, Buffer][] = [
    ['raw', key],
    ['hex', Buffer.from(key.toString('hex'))],
    ['hex', Buffer.from(key.toString('hex').toUpperCase())],
  ]
  const clamped = Buffer.from(key)
  clamped[0]! &= 248
  clamped[31]! = (clamped[31]! & 127) | 64
  if (!clamped.equals(key)) forms.push(['clamped', clamped])
  for (const form of ['base64', 'base64url'] as const) {
    const texts = new Set<string>()
    for (let before = 0; before < 3; before++) {
      const text = Buffer.concat([Buffer.alloc(before), key])
        .toString(form)
        .replaceAll('=', '')
      // Only characters that are made of this key's bits alone.
      const first = Math.ceil((before * 8) / 6)
      const last = Math.floor(((before + key.length) * 8) / 6)
      texts.add(text.slice(first, last))
    }
    for (const text of texts) forms.push([form, Buffer.from(text, 'latin1')])
  }
  return forms
}

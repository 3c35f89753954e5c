/** What the kernel does with the arena, seen from outside: locked or refused, guarded, left out of core dumps. */
import { execFileSync, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { SecretArena } from '@tallystick/secret-bytes/arena'
import { describe, expect, it } from 'vitest'
import { lockedBytes, openLockedArena, regionFacts } from '../src/custody/locked-memory.js'
import { canDump, KeyScanner } from './memory-scan.ts'

const SIZE = 256 * 1024
const CHILD = path.join(import.meta.dirname, 'locked-memory-child.mjs')
const onLinux = process.platform === 'linux'
const hasGdb = existsSync('/usr/bin/gdb')
const isRoot = process.getuid?.() === 0

/** The key is handed over masked, so that the child's copy of its arguments is not the key. */
function open(options: { size?: number; key?: Uint8Array; allow?: boolean; under?: readonly string[] } = {}) {
  const { size = SIZE, key = randomBytes(32), allow = false, under = [] } = options
  const masked = Buffer.from(key.map((byte) => byte ^ 0x5a)).toString('hex')
  const [command, ...args] = [...under, process.execPath, CHILD, String(size), masked, allow ? 'allow' : 'refuse']
  return spawn(command!, args, { stdio: ['pipe', 'pipe', 'inherit'] })
}

async function firstLine(child: ReturnType<typeof open>): Promise<string> {
  const [text] = (await once(child.stdout, 'data')) as [Buffer]
  return text.toString().trim()
}

/** Where the arena's data pages are, by its size and its flags. */
function regionOf(pid: number): { start: bigint; end: bigint } {
  const entries = readFileSync(`/proc/${pid}/smaps`, 'utf8').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)
  const entry = entries.find((text) => text.includes(' rw-p ') && /^VmFlags:.* dd/m.test(text) && sizeOf(text) >= BigInt(SIZE))!
  const [start, end] = boundsOf(entry)
  return { start, end }
}
const boundsOf = (text: string) =>
  /^([0-9a-f]+)-([0-9a-f]+) /
    .exec(text)!
    .slice(1)
    .map((hex) => BigInt(`0x${hex}`)) as [bigint, bigint]
const sizeOf = (text: string) => {
  const [start, end] = boundsOf(text)
  return end - start
}

describe.runIf(onLinux)('the arena', { timeout: 60_000 }, () => {
  it('is locked at its full size, guarded on both sides and left out of dumps, as the kernel says', async () => {
    const child = open()
    try {
      expect(await firstLine(child)).toBe('open locked')
      expect(lockedBytes(`/proc/${child.pid}/status`)).toBeGreaterThanOrEqual(SIZE)
      expect(regionFacts(SIZE, `/proc/${child.pid}/smaps`)).toEqual({ guardPages: true, excludedFromCoreDumps: true })
      // Without such a region nothing of it is claimed.
      expect(regionFacts(1 << 30, `/proc/${child.pid}/smaps`)).toEqual({ guardPages: false, excludedFromCoreDumps: false })
      expect(regionFacts(SIZE, '/nonexistent/smaps')).toEqual({ guardPages: false, excludedFromCoreDumps: false })
    } finally {
      child.kill('SIGKILL')
    }
  })

  it(
    hasGdb ? 'ends the process with SIGSEGV at the first byte behind it, and at the last before it' : 'needs gdb for a write past its end',
    async () => {
      if (!hasGdb) return
      let survived = 0
      let died = 0
      for (const [at, within] of [
        [(end: bigint) => end - 1n, true],
        [(end: bigint) => end, false],
        [(_: bigint, start: bigint) => start, true],
        [(_: bigint, start: bigint) => start - 1n, false],
      ] as const) {
        const child = open()
        expect(await firstLine(child)).toBe('open locked')
        const { start, end } = regionOf(child.pid!)
        const exited = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>
        // The child itself calls memset on one byte, as a native overflow in it would.
        const address = `0x${at(end, start).toString(16)}`
        const output = execFileSync(
          'gdb',
          ['-p', String(child.pid), '-batch', '-nx', '-ex', `call (void*)memset((void*)${address}, 0, 1)`, '-ex', 'signal SIGSEGV'].slice(
            0,
            within ? -2 : undefined,
          ),
          { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] },
        )
        if (within) {
          expect(output).not.toContain('SIGSEGV')
          expect(child.exitCode ?? child.signalCode).toBeNull()
          survived += 1
          child.kill('SIGKILL')
          await exited
        } else {
          expect(output).toContain('SIGSEGV')
          expect((await exited)[1]).toBe('SIGSEGV')
          died += 1
        }
      }
      process.stdout.write(
        `arena: ${survived} of 2 writes to its first and last byte survived; ${died} of 2 one byte outside ended in SIGSEGV\n`,
      )
    },
  )

  it(canDump ? 'is in the memory of the process and not in its core dump' : 'needs gcore for a core dump', async () => {
    if (!canDump) return
    const key = randomBytes(32)
    const child = open({ key })
    try {
      expect(await firstLine(child)).toBe('open locked')
      const scanner = new KeyScanner([key])
      const { start, end } = regionOf(child.pid!)
      const inArena = scanner.process(child.pid!).findings.filter(({ at }) => BigInt(at) >= start && BigInt(at) < end)
      expect(inArena).toHaveLength(1)
      expect(scanner.process(child.pid!).findings).toHaveLength(1)
      const dumped = scanner.coreDump(child.pid!)
      expect(dumped.findings).toEqual([])
      process.stdout.write(`arena: key found once in memory; 0 times in a core dump of ${(dumped.bytes / 1e6).toFixed(0)} MB\n`)
    } finally {
      child.kill('SIGKILL')
    }
  })

  it('is refused where the kernel does not lock it, unless told otherwise', async () => {
    // Root may lock what it likes: as nobody, then, and without that capability.
    const asNobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--bounding-set=-ipc_lock']
    const under = ['prlimit', '--memlock=65536:65536', ...(isRoot ? asNobody : [])]
    const child = open({ under })
    expect(await firstLine(child)).toMatch(/^refused KeyStorage locked .*memlock limit/)
    const [code] = (await once(child, 'exit')) as [number]
    expect(code).toBe(3)
    const allowed = open({ allow: true, under })
    expect(await firstLine(allowed)).toBe('open unlocked')
    allowed.kill('SIGKILL')
  })

  it('is what VmLck counts in this process too', () => {
    const before = lockedBytes()
    const arena = openLockedArena(SIZE, true)
    if (arena.locked) expect(lockedBytes() - before).toBeGreaterThanOrEqual(SIZE)
    arena.close()
    expect(lockedBytes('/nonexistent/status')).toBe(0)
    expect(() => SecretArena.open(0)).toThrow(RangeError)
  })
})

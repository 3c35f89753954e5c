/**
 * The arena of this process, and proof that the kernel really treats it as promised: sodium's own answer is not trusted,
 * because it says yes even where nothing was locked.
 * @see docs/spec/custody.md §3
 */
import { readFileSync } from 'node:fs'
import { ProtocolError } from '@tallystick/primitives/errors'
import { SecretArena } from '@tallystick/secret-bytes/arena'

/** @returns bytes that the kernel counts as locked for this process; 0 where there is no /proc */
export function lockedBytes(statusFile = '/proc/self/status'): number {
  const match = /^VmLck:\s+(\d+) kB$/m.exec(readProc(statusFile))
  return match ? Number(match[1]) * 1024 : 0
}

/**
 * @param size bytes
 * @param allowUnlocked carry on without the lock; for test machines whose memlock limit is 0
 * @throws ProtocolError KeyStorage(locked) when less than `size` is locked
 */
export function openLockedArena(size: number, allowUnlocked: boolean): SecretArena {
  const arena = SecretArena.open(size, { allowUnlocked })
  const locked = lockedBytes()
  if (locked < size && !allowUnlocked) {
    arena.close()
    throw new ProtocolError(
      'KeyStorage',
      `only ${locked} of ${size} bytes are locked in memory: raise the memlock limit (ulimit -l), or lower TALLYSTICK_SESSION_ARENA_BYTES`,
      { reason: 'locked' },
    )
  }
  return arena
}

export interface RegionFacts {
  /** A page without any right on both sides: one byte too far ends the process. */
  readonly guardPages: boolean
  /** The kernel leaves the region out of core dumps (VmFlags `dd`). */
  readonly excludedFromCoreDumps: boolean
}

interface Mapping {
  readonly start: bigint
  readonly end: bigint
  readonly rights: string
  readonly flags: readonly string[]
}

/**
 * What the kernel says about the arena's mapping.
 * @param size of the arena, bytes: the mapping is the one that is writable, left out of dumps and large enough
 * @param smapsFile of a process on Linux; without it everything is false
 */
export function regionFacts(size: number, smapsFile = '/proc/self/smaps'): RegionFacts {
  const mappings = readMappings(readProc(smapsFile))
  const large = mappings.flatMap((mapping, index) =>
    mapping.rights.startsWith('rw') && mapping.end - mapping.start >= BigInt(size) && mapping.flags.includes('dd') ? [index] : [],
  )
  const guarded = large.some((index) => {
    const [before, region, after] = [mappings[index - 1], mappings[index]!, mappings[index + 1]]
    return before?.end === region.start && before.rights === '---p' && after?.start === region.end && after.rights === '---p'
  })
  return { guardPages: guarded, excludedFromCoreDumps: large.length > 0 }
}

function readMappings(smaps: string): Mapping[] {
  const mappings: (Mapping & { flags: string[] })[] = []
  for (const line of smaps.split('\n')) {
    const head = /^([0-9a-f]+)-([0-9a-f]+) (\S{4}) /.exec(line)
    if (head) mappings.push({ start: BigInt(`0x${head[1]}`), end: BigInt(`0x${head[2]}`), rights: head[3]!, flags: [] })
    else if (line.startsWith('VmFlags:')) mappings.at(-1)?.flags.push(...line.slice(8).trim().split(' '))
  }
  return mappings
}

/** Empty where there is no such file. */
function readProc(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return ''
    throw error
  }
}

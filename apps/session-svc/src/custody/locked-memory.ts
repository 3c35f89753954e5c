/**
 * The arena of this process, and proof that the kernel really locked it: sodium's own answer is not trusted, because it
 * says yes even where nothing was locked.
 */
import { readFileSync } from 'node:fs'
import { ProtocolError } from '@tallystick/primitives/errors'
import { SecretArena } from '@tallystick/secret-bytes/arena'

/** @returns bytes that the kernel counts as locked for this process; 0 where there is no /proc */
export function lockedBytes(statusFile = '/proc/self/status'): number {
  let status: string
  try {
    status = readFileSync(statusFile, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 0
    throw error
  }
  const match = /^VmLck:\s+(\d+) kB$/m.exec(status)
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

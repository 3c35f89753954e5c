/**
 * The same kill from outside: `strace` ends the process when it enters its nth write system call, whichever thread
 * makes it. Counting begins with the process, so its start is covered too.
 */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

const CALLS = ['write', 'writev', 'pwrite64', 'sendto', 'sendmsg', 'fsync', 'fdatasync'] as const

export interface SystemCall {
  readonly name: (typeof CALLS)[number]
  /** The nth of its thread. */
  readonly nth: number
}

export function hasStrace(): boolean {
  return spawnSync('strace', ['-V'], { stdio: 'ignore' }).status === 0
}

/** To start a process whose calls are written to `file`. */
export function watching(file: string): string[] {
  return ['strace', '-f', '-qq', '-s', '0', '-o', file, '-e', `trace=${CALLS.join(',')}`, '-e', 'signal=none']
}

/** To start a process that dies there; the call does not take effect. */
export function killedAt({ name, nth }: SystemCall): string[] {
  return ['strace', '-f', '-qq', '-o', '/dev/null', '-e', `trace=${name}`, '-e', `inject=${name}:signal=KILL:when=${nth}`]
}

/** @param file written by a process under `watching` @returns every call there was, as a place to die */
export function callsIn(file: string): SystemCall[] {
  const most = new Map<SystemCall['name'], number>()
  const byThread = new Map<string, number>()
  for (const [, thread, name] of readFileSync(file, 'utf8').matchAll(/^(\d+) +(?:<\.\.\. )?([a-z0-9]+)\(/gm)) {
    const key = `${thread} ${name}`
    const nth = (byThread.get(key) ?? 0) + 1
    byThread.set(key, nth)
    most.set(name as SystemCall['name'], Math.max(nth, most.get(name as SystemCall['name']) ?? 0))
  }
  return [...most].flatMap(([name, count]) => Array.from({ length: count }, (_, i) => ({ name, nth: i + 1 })))
}

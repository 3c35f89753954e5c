/** Child processes: start with a log file, wait, end; and whether a process id still names the same process. */
import { spawn } from 'node:child_process'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { guardProcess, releaseProcess } from './guard.ts'

export interface Child {
  readonly pid: number
  /** Resolves when it has ended; never rejects. */
  readonly exited: Promise<Exit>
  readonly running: boolean
  kill(signal?: NodeJS.Signals): void
  /** Ask with `signal`, insist with SIGKILL after `graceMs`. */
  end(signal?: NodeJS.Signals, graceMs?: number): Promise<Exit>
}

export interface Exit {
  code: number | null
  signal: NodeJS.Signals | null
}

export interface ChildOptions {
  command: string
  args: readonly string[]
  env?: NodeJS.ProcessEnv
  cwd?: string
  uid?: number
  gid?: number
  /** Output is appended here; without it the output is dropped. */
  logFile?: string
  /** What the guard sends when this process is gone. */
  guardSignal?: 'TERM' | 'INT' | 'KILL'
}

/** Start a process in a session of its own: a Ctrl-C of the terminal reaches only its parent, which ends it in order. */
export async function startChild(options: ChildOptions): Promise<Child> {
  const log = options.logFile === undefined ? undefined : openSync(options.logFile, 'a', 0o600)
  try {
    const child = spawn(options.command, [...options.args], {
      cwd: options.cwd,
      env: options.env ?? process.env,
      detached: true,
      stdio: ['ignore', log ?? 'ignore', log ?? 'ignore'],
      ...(options.uid === undefined ? {} : { uid: options.uid, gid: options.gid }),
    })
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve)
      child.once('error', reject)
    })
    const pid = child.pid as number
    guardProcess(pid, options.guardSignal ?? 'TERM')
    let running = true
    const exited = new Promise<Exit>((resolve) => {
      child.once('exit', (code, signal) => {
        running = false
        releaseProcess(pid)
        resolve({ code, signal })
      })
    })
    return {
      pid,
      exited,
      get running() {
        return running
      },
      kill(signal = 'SIGTERM') {
        child.kill(signal)
      },
      async end(signal = 'SIGTERM', graceMs = 10_000) {
        child.kill(signal)
        const timer = setTimeout(() => child.kill('SIGKILL'), graceMs)
        try {
          return await exited
        } finally {
          clearTimeout(timer)
        }
      },
    }
  } finally {
    if (log !== undefined) closeSync(log)
  }
}

/** Start time of a process in clock ticks since boot; undefined when there is none, or only its unburied remains (or no /proc). */
export function startTimeOf(pid: number): string | undefined {
  try {
    const [state, ...rest] = readFileSync(`/proc/${pid}/stat`, 'latin1')
      .replace(/^.*\) /s, '')
      .split(' ')
    return state === 'Z' || state === 'X' ? undefined : rest[18]
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' || (error as NodeJS.ErrnoException).code === 'ESRCH') return undefined
    throw error
  }
}

/** Names one process for good: the id alone is reused, after a power loss almost surely. */
export interface ProcessIdentity {
  pid: number
  start?: string
}

export function identityOf(pid: number): ProcessIdentity {
  const start = startTimeOf(pid)
  return start === undefined ? { pid } : { pid, start: `${bootId()}:${start}` }
}

function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim()
  } catch {
    return 'unknown-boot' // no Linux: the start time alone has to do
  }
}

export function isAlive(identity: ProcessIdentity): boolean {
  try {
    process.kill(identity.pid, 0)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return false
  }
  return identity.start === undefined || identityOf(identity.pid).start === identity.start
}

/** End a process that is not a child of this one. Returns false when it would not go. */
export async function endProcess(identity: ProcessIdentity, signal: NodeJS.Signals = 'SIGTERM', graceMs = 15_000): Promise<boolean> {
  for (const [how, waitMs] of [
    [signal, graceMs],
    ['SIGKILL', 3_000],
  ] as const) {
    if (!isAlive(identity)) return true
    try {
      process.kill(identity.pid, how)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
    const deadline = Date.now() + waitMs
    while (Date.now() < deadline) {
      if (!isAlive(identity)) return true
      await delay(50)
    }
  }
  return !isAlive(identity)
}

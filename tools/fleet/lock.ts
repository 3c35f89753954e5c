/** One supervisor per folder; what a lost one left behind is ended first. */
import { linkSync, rmSync, writeFileSync } from 'node:fs'
import { isDeepStrictEqual } from 'node:util'
import { endProcess, identityOf, isAlive, type ProcessIdentity } from '../process/child.ts'
import { readJson, writeJson, type Layout, type SupervisorState } from './layout.ts'

export class AlreadyRunning extends Error {
  readonly pid: number
  constructor(directory: string, pid: number) {
    super(`a fleet is already running in ${directory} (supervisor ${pid}): stop it with \`npm run fleet -- down --data ${directory}\``)
    this.pid = pid
  }
}

export interface Lock {
  /** Record a child, so that it is found when this process is lost. */
  record(name: string, pid: number): void
  release(): void
}

/** @throws AlreadyRunning */
export async function takeLock(layout: Layout): Promise<Lock> {
  const state: SupervisorState = { supervisor: identityOf(process.pid), children: {} }
  for (;;) {
    if (createWhole(layout.lock, state)) break
    const other = readJson<SupervisorState>(layout.lock)
    if (other !== undefined && isAlive(other.supervisor)) throw new AlreadyRunning(layout.root, other.supervisor.pid)
    if (other !== undefined) await endLeftovers(other)
    // Another one may have done the same meanwhile, and hold the lock by now: only what was looked at is removed.
    if (isDeepStrictEqual(readJson<SupervisorState>(layout.lock), other)) rmSync(layout.lock, { force: true })
  }
  return {
    record(name, pid) {
      state.children[name] = identityOf(pid)
      writeJson(layout.lock, state)
    },
    release() {
      rmSync(layout.lock, { force: true })
    },
  }
}

/** The file appears with its content, or not at all because another one is there. */
function createWhole(file: string, state: SupervisorState): boolean {
  const half = `${file}.${process.pid}.new`
  writeFileSync(half, JSON.stringify(state), { mode: 0o600 })
  try {
    linkSync(half, file)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  } finally {
    rmSync(half, { force: true })
  }
}

/** Services first, then NATS, then PostgreSQL. @returns names of what had to be ended */
export async function endLeftovers(state: SupervisorState): Promise<string[]> {
  const rank = (name: string) => (name === 'postgres' ? 2 : name === 'nats' ? 1 : 0)
  const alive = Object.entries(state.children).filter(([, identity]) => isAlive(identity))
  for (const level of [0, 1, 2]) {
    const some = alive.filter(([name]) => rank(name) === level)
    const ended = await Promise.all(some.map(([name, identity]) => endProcess(identity, name === 'postgres' ? 'SIGINT' : 'SIGTERM')))
    some.forEach(([name, identity], index) => {
      if (ended[index] !== true) throw new Error(`${name} (pid ${identity.pid}) does not end`)
    })
  }
  return alive.map(([name]) => name)
}

export type { ProcessIdentity }

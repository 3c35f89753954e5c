/** Kills acme's process at every write of an operation; after each kill a fresh process repeats the call. */
import { keysReused, openedAnew } from './checks.ts'
import type { Attempt, Operation } from './operations.ts'
import { Died, type ReplicaProcess } from './replica-process.ts'
import type { Stage } from './stage.ts'
import { callsIn, killedAt, watching } from './strace.ts'

export interface Killed {
  /** Where kills hit. */
  readonly points: readonly string[]
  /** How many were meant to hit. */
  readonly aimed: number
  /** How many there are: every write, before; every commit and the answer, after. */
  readonly places: number
  /** What did not hold, with the point it happened at. */
  readonly wrong: readonly string[]
  readonly keysReused: number
}

/** The nth write of the operation, or the nth write that contains a text. */
export interface Shot {
  readonly at: number
  readonly side: 'before' | 'after'
  readonly only?: string
  readonly name: string
}

/** The nth commit, or the answer: where there is nothing to count first. */
export const BEFORE_COMMIT: Shot = { at: 1, side: 'before', only: 'COMMIT', name: 'before commit 1' }
export const AFTER_ANSWER: Shot = { at: 1, side: 'after', only: '{"id"', name: 'after the answer' }

/**
 * `all`: before every write. `edges`: of the statements of a transaction only before the first and the last that change
 * something, since what they change is not there until the commit. Or the places themselves.
 */
export type Places = 'all' | 'edges' | readonly Shot[]

/** One attempt that is under way, and what it has been answered. */
class UnderWay {
  readonly answers: string[] = []
  readonly attempt: Attempt
  constructor(attempt: Attempt) {
    this.attempt = attempt
  }

  async run(replica: ReplicaProcess): Promise<void> {
    this.answers.push(await this.attempt.run(replica))
  }

  /** The same call again, by a fresh process. */
  async repeat(replica: ReplicaProcess): Promise<string[]> {
    return lost(async () => {
      await this.run(replica)
      return this.attempt.settle(replica, this.answers)
    })
  }

  async settle(replica: ReplicaProcess): Promise<string[]> {
    return lost(() => this.attempt.settle(replica, this.answers))
  }
}

/** A refusal or a fault where there must be an answer means that something is lost. */
async function lost(work: () => Promise<string[]>): Promise<string[]> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof Died) throw error
    return [`lost: ${(error as Error).message}`]
  }
}

/** One process per point: it repeats the call that the one before died in, makes ready, and dies in the next. */
export async function stepKill(stage: Stage, operation: Operation, places: Places): Promise<Killed> {
  const points: string[] = []
  const wrong: string[] = []
  let replica = await stage.start()
  await operation.ready(stage, replica)
  const planned = typeof places === 'string' ? await plan(stage, operation, replica) : { all: places, edges: places, wrong: [] }
  wrong.push(...planned.wrong)
  const shots = places === 'edges' ? planned.edges : planned.all
  for (const shot of shots) {
    // A version that is wrong on purpose may not get any further.
    if (typeof places !== 'string' && wrong.length > 0) break
    const underWay = new UnderWay(await operation.prepare(stage, replica))
    await stage.quiet(replica)
    await replica.call({ do: 'arm', aim: { ...shot, signal: 'SIGKILL' } })
    const died = await underWay.run(replica).then(
      () => replica.diesNow(),
      (error: unknown) => {
        if (error instanceof Died && error.signal === 'SIGKILL') return true
        throw error
      },
    )
    if (!died) {
      wrong.push(...(await underWay.settle(replica)).map((what) => `not killed at ${shot.name}: ${what}`))
      continue
    }
    points.push(shot.name)
    replica = await stage.start()
    wrong.push(...(await underWay.repeat(replica)).map((what) => `${shot.name}: ${what}`))
  }
  await replica.stop()
  const lines = stage.tapped()
  const twice = openedAnew(lines)
  if (twice > 0) wrong.push(`${twice} envelopes were opened anew twice`)
  return { points, aimed: shots.length, places: planned.all.length, wrong, keysReused: keysReused(lines) }
}

const CHANGES = /^(insert|update|delete)/

interface Plan {
  readonly all: readonly Shot[]
  readonly edges: readonly Shot[]
  readonly wrong: readonly string[]
}

/** Counts the writes of one attempt that nothing happens to. */
async function plan(stage: Stage, operation: Operation, replica: ReplicaProcess): Promise<Plan> {
  const underWay = new UnderWay(await operation.prepare(stage, replica))
  await stage.quiet(replica)
  await replica.call({ do: 'arm', aim: { side: 'before', signal: 'SIGKILL' } })
  await underWay.run(replica)
  const { writes } = await replica.call<{ writes: string[] }>({ do: 'disarm' })
  const wrong = (await underWay.settle(replica)).map((what) => `without a kill: ${what}`)
  // What goes on in the background after the answer is not part of the operation.
  const mine = writes.slice(0, writes.indexOf('answer') + 1)
  const commits = Array.from({ length: mine.filter((write) => write === 'commit').length }, (_, i) => ({ at: i + 1, only: 'COMMIT' }))
  const inside = mine.map((write, i): Shot & { write: string } => ({
    at: i + 1,
    side: 'before',
    name: `before ${write} (write ${i + 1})`,
    write,
  }))
  const around: Shot[] = [
    ...commits.map((commit): Shot => ({ ...commit, side: 'before', name: `before commit ${commit.at}` })),
    // The bytes have left, and nobody has heard the answer.
    ...commits.map((commit): Shot => ({ ...commit, side: 'after', name: `after commit ${commit.at}` })),
    AFTER_ANSWER,
  ]
  const changes = inside.filter(({ write }) => CHANGES.test(write))
  const outside = inside.filter(({ write }) => !CHANGES.test(write) && !/^(begin|select|set|commit)$/.test(write))
  return {
    all: [...inside.filter(({ write }) => write !== 'commit'), ...around],
    edges: [...new Set([...changes.slice(0, 1), ...changes.slice(-1), ...outside]), ...around],
    wrong,
  }
}

/**
 * The same with kills by `strace`: one process that dies, from its start on, and one that repeats the call.
 * @param file where the calls of the first process are written
 */
export async function straceKill(stage: Stage, operation: Operation, file: string): Promise<Killed> {
  const points: string[] = []
  const wrong: string[] = []
  let healthy = await stage.start()
  await operation.ready(stage, healthy)
  const counted = new UnderWay(await operation.prepare(stage, healthy))
  await stage.quiet(healthy)
  await healthy.stop()
  const watched = await stage.start({ under: watching(file) })
  await counted.run(watched)
  await watched.stop()
  const calls = callsIn(file)
  healthy = await stage.start()
  wrong.push(...(await counted.settle(healthy)))
  for (const call of calls) {
    const underWay = new UnderWay(await operation.prepare(stage, healthy))
    await stage.quiet(healthy)
    await healthy.stop()
    const place = `${call.name} ${call.nth}`
    const when = await diesIn(stage, underWay, killedAt(call))
    if (when !== undefined) points.push(`${when}: ${place}`)
    healthy = await stage.start()
    wrong.push(...(await underWay.repeat(healthy)).map((what) => `${place}: ${what}`))
  }
  await healthy.stop()
  const lines = stage.tapped()
  const twice = openedAnew(lines)
  if (twice > 0) wrong.push(`${twice} envelopes were opened anew twice`)
  return { points, aimed: calls.length, places: calls.length, wrong, keysReused: keysReused(lines) }
}

/** @returns what the process was at when it died; undefined when it did not */
async function diesIn(stage: Stage, underWay: UnderWay, under: readonly string[]): Promise<'start' | 'operation' | 'stop' | undefined> {
  let now: 'start' | 'operation' = 'start'
  try {
    const victim = await stage.start({ under })
    now = 'operation'
    await underWay.run(victim)
    if (await victim.diesNow()) return 'operation'
    return (await victim.stop()).signal === 'SIGKILL' ? 'stop' : undefined
  } catch (error) {
    if (error instanceof Died && error.signal === 'SIGKILL') return now
    throw error
  }
}

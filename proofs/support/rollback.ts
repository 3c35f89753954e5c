/** acme's database is put back to an earlier day, and acme goes on as if nothing had happened. */
import { decodeBundle } from '@tallystick/wire/bundle'
import { decodeEnvelope } from '@tallystick/wire/envelope'
import type { TestFleet } from '../../apps/session-svc/test/fleet.js'
import type { TestPostgres } from '../../tools/testing/postgres.ts'
import { keysReused, keysUsed } from './checks.ts'
import type { Opened, Sealed, Taken } from './commands.ts'
import { type Copy, copyDatabase, dropCopy, putBack } from './put-back.ts'
import { Died, Fault, type ReplicaProcess } from './replica-process.ts'
import type { Shot } from './step-kill.ts'
import { base64, fromBase64, openAt, sealAt, sealCommand, type Stage } from './stage.ts'

export interface RolledBack {
  readonly reused: number
  readonly keys: number
  /** The discovery stands in the audit log before anything that the service did afterwards, and the first envelope begins a session. */
  readonly detectedFirst: boolean
  /** Round trips until messages went both ways again, for the slowest peer; Infinity when they never did. */
  readonly roundTrips: number
  /** One-time prekeys given out more than once, before and after. */
  readonly prekeysTwice: number
  readonly prekeys: number
}

/** Healed within this many, or not at all. */
export const MOST_ROUND_TRIPS = 10

export interface RollbackOptions {
  /** Messages between the copy and its return. */
  readonly messages: number
  /** `killed`: kill -9, then the copy is put back. `running`: it is put back under a process that goes on. */
  readonly process: 'killed' | 'running'
  /** The copy is made while the process is at work: the very next transaction is the first that it lacks. */
  readonly hot?: boolean
  /** How often the same copy is put back, with as many messages each time; 1 unless given. */
  readonly times?: number
}

/** What it takes an operator, by the clock of the proof. */
const PUT_BACK_MS = 10 * 60_000

export async function rollback(
  postgres: TestPostgres,
  stage: Stage,
  { messages, process, hot = false, times = 1 }: RollbackOptions,
): Promise<RolledBack> {
  const { acme, peers, clock } = stage
  const handedOut: number[] = []
  let replica = await stage.start()
  for (const peer of peers) {
    await peer.open(acme, await sealAt(replica, sealCommand(peer, 'before the copy')))
    await openAt(replica, peer, await peer.seal(acme, 'answer'))
    // The copy is taken in the middle of a sending chain: going on from it would repeat keys.
    await peer.open(acme, await sealAt(replica, sealCommand(peer, 'the last before the copy')))
    handedOut.push(...(await takeOne(replica, peer)))
  }
  if (!hot) await replica.stop()
  const copy: Copy = await copyDatabase(postgres, stage.database.name, `${stage.database.name}-copy`)
  if (!hot) replica = await stage.start()

  const trips: RoundTrips[] = []
  for (let time = 1; time <= times; time++) {
    for (let i = 0; i < messages; i++) {
      const peer = peers[i % peers.length]!
      // Every third comes from the peer; the last ones are acme's own, so that its newest keys are on the wire.
      if (i % 3 === 2 && i < messages - peers.length) await openAt(replica, peer, await peer.seal(acme, `message ${i}`))
      else await peer.open(acme, await again(() => sealAt(replica, sealCommand(peer, `message ${i}`))))
    }
    if (messages > peers.length) for (const peer of peers) handedOut.push(...(await takeOne(replica, peer)))
    if (process === 'killed') await replica.kill('SIGKILL')
    await putBack(postgres, copy)
    clock.advance(PUT_BACK_MS)
    if (process === 'killed') replica = await stage.start()
    for (const peer of peers) trips.push(await untilHealed(stage, replica, peer))
    for (const peer of peers) handedOut.push(...(await takeOne(replica, peer)))
  }
  await dropCopy(postgres, copy)
  const events = await stage.audited()
  await replica.stop()
  const lines = stage.tapped()
  return {
    reused: keysReused(lines),
    keys: keysUsed(lines),
    detectedFirst: trips.every(({ first }) => first === 'begins a session') && foundBeforeSession(events),
    roundTrips: Math.max(...trips.map(({ count }) => count)),
    prekeysTwice: handedOut.length - new Set(handedOut).size,
    prekeys: handedOut.length,
  }
}

export interface RecoveryKilled {
  readonly points: readonly string[]
  readonly reused: number
  /** Kills after which messages did not go both ways again. */
  readonly unhealed: readonly string[]
  readonly slowest: number
}

/**
 * The recovery itself is killed: the copy is put back, the process dies in the midst of finding out, and the next one
 * has to find out as well.
 * @param places `every write` from the start of the process on, or the one write of the recovery that is its last but the commit
 */
export async function killRecovery(
  postgres: TestPostgres,
  stage: Stage,
  places: 'every write' | 'before its commit',
): Promise<RecoveryKilled> {
  const { acme, peer } = stage
  let replica = await stage.start()
  await peer.open(acme, await sealAt(replica, sealCommand(peer, 'before the copy')))
  await openAt(replica, peer, await peer.seal(acme, 'answer'))
  await peer.open(acme, await sealAt(replica, sealCommand(peer, 'the last before the copy')))
  await replica.stop()
  const copy = await copyDatabase(postgres, stage.database.name, `${stage.database.name}-copy`)
  const loseTwo = async () => {
    for (let i = 0; i < 2; i++) {
      // After a recovery that did not heal there is nothing to open; that is reported by its point.
      const sealed = await replica.call<Sealed>(sealCommand(peer, 'missing in the copy'))
      if (sealed.ok) await peer.tryOpen(acme, fromBase64(sealed.envelope))
    }
    await replica.kill('SIGKILL')
    await putBack(postgres, copy)
    stage.clock.advance(PUT_BACK_MS)
  }

  replica = await stage.start()
  const points: string[] = []
  const unhealed: string[] = []
  let slowest = 0
  const aims = places === 'every write' ? await writesOfStart() : [LAST_OF_RECOVERY]
  for (const { name, ...aim } of aims) {
    await loseTwo()
    try {
      replica = await stage.start({ aim: { ...aim, signal: 'SIGKILL' } })
      await replica.stop()
    } catch (error) {
      if (!(error instanceof Died)) throw error
      points.push(name)
    }
    replica = await stage.start()
    const { count, first } = await untilHealed(stage, replica, peer)
    if (count > MOST_ROUND_TRIPS || first !== 'begins a session') unhealed.push(name)
    slowest = Math.max(slowest, count)
  }
  await replica.stop()
  await dropCopy(postgres, copy)
  return { points, reused: keysReused(stage.tapped()), unhealed, slowest }

  /** What a start writes that nothing happens to, but that it finds the copy. */
  async function writesOfStart(): Promise<Shot[]> {
    await loseTwo()
    replica = await stage.start({ aim: { side: 'before', signal: 'SIGKILL' } })
    const { writes } = await replica.call<{ writes: string[] }>({ do: 'disarm' })
    slowest = (await untilHealed(stage, replica, peer)).count
    return writes.map((write, i) => ({ at: i + 1, side: 'before', name: `before ${write} (write ${i + 1} of the start)` }))
  }
}

const LAST_OF_RECOVERY: Shot = { at: 1, side: 'after', only: 'database-restored', name: 'before the commit of the recovery' }

/** Ids of the one-time prekeys of a bundle. */
async function takeOne(replica: ReplicaProcess, peer: TestFleet): Promise<number[]> {
  const taken = await replica.call<Taken>({ do: 'take', peer: peer.id })
  if (!taken.ok) throw new Error(`no bundle: ${taken.code}`)
  const { opk, pq } = decodeBundle(fromBase64(taken.bundle))
  return [...(opk ? [opk.id] : []), ...(pq.kind === 'one-time' ? [pq.id] : [])]
}

interface RoundTrips {
  readonly count: number
  /** What the first envelope that was released afterwards is. */
  readonly first: 'begins a session' | 'goes on with an old one' | undefined
}

/** One round trip: a message of acme and one of the peer. Healed when both open. */
async function untilHealed({ acme }: Stage, replica: ReplicaProcess, peer: TestFleet): Promise<RoundTrips> {
  let first: RoundTrips['first']
  for (let count = 1; count <= MOST_ROUND_TRIPS; count++) {
    const envelope = await answered<Sealed>(replica, sealCommand(peer, `trip ${count}`)).then((sealed) =>
      sealed?.ok ? fromBase64(sealed.envelope) : undefined,
    )
    if (envelope) first ??= decodeEnvelope(envelope).handshake ? 'begins a session' : 'goes on with an old one'
    const there = envelope !== undefined && (await peer.tryOpen(acme, envelope)).ok
    const answer = await peer.trySeal(acme, `back ${count}`)
    const back = answer.ok ? await answered<Opened>(replica, { do: 'open', peer: peer.id, envelope: base64(answer.envelope) }) : undefined
    if (there && back?.ok) return { count, first }
  }
  return { count: Number.POSITIVE_INFINITY, first }
}

/** The first call after the connections were cut may be the one that notices. */
async function again<T>(call: () => Promise<T>): Promise<T> {
  return call().catch((error: unknown) => {
    if (error instanceof Fault) return call()
    throw error
  })
}

/** A fault is no answer: the connections of a running process were cut. */
async function answered<T>(replica: ReplicaProcess, command: Parameters<ReplicaProcess['call']>[0]): Promise<T | undefined> {
  try {
    return await replica.call<T>(command)
  } catch (error) {
    if (error instanceof Fault) return undefined
    throw error
  }
}

/** @param events of the log since the copy was put back, which took the later ones with it */
function foundBeforeSession(events: readonly string[]): boolean {
  const found = events.indexOf('AdminAction database-restored')
  const begun = events.indexOf('SessionCreated', found)
  return found >= 0 && begun > found && !events.slice(0, begun).includes('ResyncCompleted')
}

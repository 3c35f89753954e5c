/**
 * Appends events: waiting calls share one transaction (group commit), the head's row lock makes one writer among all
 * replicas, and an event that is there already keeps its first index.
 * @see docs/spec/audit-log.md §7
 */
import type { AuditEvent } from '@tallystick/contracts/audit-events'
import type { Refusal } from '@tallystick/contracts/codes'
import { leafHash } from '@tallystick/merkle-log/tree'
import type { Db, Tx } from './db.js'
import { type Halt, LogHalted } from './halt.js'
import { encodeLeaf, LEAF_MAX_BYTES } from './leaf.js'
import type { AuditLimits } from './limits.js'
import { addLeaves, knownIndexes, lockHead, type NewLeaf } from './log.store.js'
import type { AuditMetrics } from './metrics.js'

export type AppendOutcome = { ok: true; items: { eventId: string; index: number }[] } | Refusal

interface Waiting {
  readonly leaves: Omit<NewLeaf, 'index'>[]
  readonly done: PromiseWithResolvers<AppendOutcome>
}

export interface AppenderOptions {
  readonly db: Db
  readonly halt: Halt
  readonly metrics: AuditMetrics
  readonly limits: AuditLimits
  /** After a commit that made the tree grow. */
  readonly onGrown: () => void
}

export class Appender {
  readonly #options: AppenderOptions
  #waiting: Waiting[] = []
  #running: Promise<void> | undefined

  constructor(options: AppenderOptions) {
    this.#options = options
  }

  /**
   * @param events 1 to 256, kept in this order
   * @returns the index of each; a refusal if the log has stopped or too many calls wait
   */
  async append(events: readonly AuditEvent[]): Promise<AppendOutcome> {
    if (this.#waiting.length >= this.#options.limits.waitingCalls)
      return { ok: false, code: 'RateLimited', message: 'too many appends are waiting', retryAfterMs: 500 }
    const leaves = events.map((event) => {
      const leaf = encodeLeaf(event)
      return { eventId: event.eventId, stream: event.stream, leaf, leafHash: leafHash(leaf) }
    })
    if (leaves.some(({ leaf }) => leaf.length > LEAF_MAX_BYTES))
      return { ok: false, code: 'InvalidRequest', message: `an event has more than ${LEAF_MAX_BYTES} bytes` }
    const done = Promise.withResolvers<AppendOutcome>()
    this.#waiting.push({ leaves, done })
    this.#running ??= this.#run()
    return done.promise
  }

  async #run(): Promise<void> {
    // One turn of the event loop: calls that arrived together join the first group.
    await new Promise<void>((resolve) => setImmediate(resolve))
    while (this.#waiting.length > 0) await this.#commit(this.#nextGroup())
    this.#running = undefined
  }

  #nextGroup(): Waiting[] {
    let events = 0
    let calls = 0
    for (const { leaves } of this.#waiting) {
      events += leaves.length
      if (calls > 0 && events > this.#options.limits.groupEvents) break
      calls += 1
    }
    return this.#waiting.splice(0, calls)
  }

  async #commit(group: readonly Waiting[]): Promise<void> {
    const { db, halt, metrics, onGrown } = this.#options
    const started = performance.now()
    try {
      const { indexes, size, grown } = await halt.guard(() =>
        db.$transaction((tx) =>
          appendGroup(
            tx,
            group.flatMap((call) => call.leaves),
          ),
        ),
      )
      metrics.appendSeconds.observe((performance.now() - started) / 1_000)
      metrics.treeSize.set(size)
      for (const { leaves, done } of group)
        done.resolve({ ok: true, items: leaves.map(({ eventId }) => ({ eventId, index: indexes.get(eventId)! })) })
      if (grown) onGrown()
    } catch (error) {
      for (const { done } of group) {
        if (error instanceof LogHalted) done.resolve({ ok: false, code: 'VerificationFailed', message: error.message.slice(0, 500) })
        else done.reject(error)
      }
    }
  }
}

async function appendGroup(
  tx: Tx,
  wanted: readonly Omit<NewLeaf, 'index'>[],
): Promise<{ indexes: Map<string, number>; size: number; grown: boolean }> {
  const head = await lockHead(tx)
  if (head.haltedReason !== null) throw new LogHalted(head.haltedReason)
  const indexes = await knownIndexes(tx, [...new Set(wanted.map((leaf) => leaf.eventId))])
  const fresh: NewLeaf[] = []
  for (const leaf of wanted) {
    if (indexes.has(leaf.eventId)) continue
    const index = head.size + fresh.length
    fresh.push({ ...leaf, index })
    indexes.set(leaf.eventId, index)
  }
  if (fresh.length === 0) return { indexes, size: head.size, grown: false }
  return { indexes, size: await addLeaves(tx, head, fresh), grown: true }
}

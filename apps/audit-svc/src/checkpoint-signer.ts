/**
 * Signs checkpoints: recompute, sign, compare and swap, and only then is there something to publish. Two replicas
 * cannot fork the log: each signs only what it has recomputed from the same append-only rows.
 *
 * A CheckpointSigned event per checkpoint would make a leaf that needs a checkpoint that makes a leaf, for ever. So
 * there is one event for each `checkpointEventEvery` leaves: a single leaf cannot cross the next such boundary.
 * @see docs/spec/audit-log.md §5
 */
import { newAuditEvent, recordAuditEvents } from '@tallystick/audit-outbox/outbox'
import { signCheckpoint } from '@tallystick/merkle-log/checkpoint'
import { verifierKey } from '@tallystick/merkle-log/note'
import { equalConstantTime } from '@tallystick/primitives/bytes'
import type { RandomSource } from '@tallystick/primitives/random'
import type { Clock } from '@tallystick/service-host/clock'
import type { Db } from './db.js'
import { type Halt, InconsistentLog } from './halt.js'
import { uuidv7 } from './ids.js'
import type { AuditLimits } from './limits.js'
import type { LogKey } from './log-key.js'
import { lockHead, readHead, swapCheckpoint } from './log.store.js'
import type { AuditMetrics } from './metrics.js'
import { Scan } from './scan.js'

export interface CheckpointSignerOptions {
  readonly db: Db
  readonly key: LogKey
  readonly halt: Halt
  readonly clock: Clock
  readonly random: RandomSource
  readonly limits: AuditLimits
  readonly metrics: AuditMetrics
}

/** The seed belongs to another log: signing would give one origin two keys. */
export class ForeignLogKey extends Error {}

export class CheckpointSigner {
  readonly #options: CheckpointSignerOptions
  #scan: Scan
  #rescannedAt: number | undefined

  constructor(options: CheckpointSignerOptions) {
    this.#options = options
    this.#scan = new Scan(options.db, options.limits.scanLeaves)
  }

  /**
   * Bind this log to the key, once; the first binding is itself an event.
   * @throws ForeignLogKey if it is bound to another
   */
  async claimKey(): Promise<void> {
    const { db, key, clock, random } = this.#options
    await db.$transaction(async (tx) => {
      const head = await readHead(tx)
      if (head.logKey === null) {
        const claimed = await tx.$executeRaw`UPDATE audit_head SET log_key = ${key.publicKey} WHERE id = 1 AND log_key IS NULL`
        if (claimed === 1)
          return recordAuditEvents(tx, [
            newAuditEvent({
              type: 'KeyStored',
              actor: 'audit-svc',
              body: { keyKind: 'log', count: 1 },
              at: clock.now(),
              id: uuidv7(clock.now(), random),
            }),
          ])
      }
      const bound = head.logKey ?? (await readHead(tx)).logKey
      if (bound === null || !equalConstantTime(bound, key.publicKey))
        throw new ForeignLogKey('log.seed is not the key that this log was begun with')
    })
  }

  /** The log's origin, once known. */
  async origin(): Promise<string | null> {
    return (await readHead(this.#options.db)).origin
  }

  /** @throws ForeignLogKey if the log already has another origin */
  async setOrigin(origin: string): Promise<void> {
    const { db } = this.#options
    await db.$executeRaw`UPDATE audit_head SET origin = ${origin} WHERE id = 1 AND origin IS NULL`
    if ((await this.origin()) !== origin) throw new ForeignLogKey('this database holds the log of another fleet')
  }

  /**
   * Sign the tree as it is now, if it has grown.
   * @returns whether a checkpoint was stored by this call
   * @throws LogHalted
   */
  async signNow(): Promise<boolean> {
    const { db, key, halt, clock, random, limits, metrics } = this.#options
    return halt.guard(async () => {
      const head = await readHead(db)
      metrics.treeSize.set(head.size)
      metrics.checkpointSize.set(head.checkpointSize)
      if (head.haltedReason !== null || head.origin === null || head.size === head.checkpointSize) return false
      const root = await this.#scan.advance(head.size)
      if (!equalConstantTime(root, head.root)) throw new InconsistentLog(`the root of the head is not that of its ${head.size} leaves`)
      const note = signCheckpoint(
        { origin: head.origin, size: head.size, root, extensions: [] },
        verifierKey(head.origin, key.publicKey),
        key.sign,
      )
      const every = limits.checkpointEventEvery
      const crossed = Math.floor(head.size / every) > Math.floor(head.checkpointSize / every)
      const stored = await db.$transaction(async (tx) => {
        const at = clock.now()
        const swapped = await swapCheckpoint(tx, head.checkpointSize, { size: head.size, root, note }, new Date(at))
        if (swapped && crossed)
          await recordAuditEvents(tx, [
            newAuditEvent({ type: 'CheckpointSigned', actor: 'audit-svc', body: { size: head.size }, at, id: uuidv7(at, random) }),
          ])
        return swapped
      })
      if (stored) metrics.checkpointSize.set(head.size)
      return stored
    })
  }

  /**
   * Read the whole log again from its first leaf, at most once per `rescanMs`: finds what was changed behind the scan.
   * @throws LogHalted
   */
  async rescanIfDue(now: number): Promise<void> {
    if (this.#rescannedAt !== undefined && now - this.#rescannedAt < this.#options.limits.rescanMs) return
    this.#rescannedAt = now
    await this.rescan()
  }

  /** @throws LogHalted */
  async rescan(): Promise<void> {
    const { db, halt, limits } = this.#options
    await halt.guard(async () => {
      const head = await db.$transaction((tx) => lockHead(tx))
      const scan = new Scan(db, limits.scanLeaves)
      if (!equalConstantTime(await scan.advance(head.size), head.root))
        throw new InconsistentLog(`the root of the head is not that of its ${head.size} leaves`)
      if (scan.size >= this.#scan.size) this.#scan = scan
    })
  }
}

/**
 * The stock of prekeys: one signed X25519 key and one last-resort ML-KEM key that are used by many and replaced every
 * week, and one-time keys of both kinds, refilled when few are left.
 * @see docs/spec/custody.md §4
 */
import type { Context } from '../context.js'
import { SecretScope } from '../custody/secret-scope.js'
import type { Tx } from '../db.js'
import type { Identity } from '../identity/identity.js'
import { addPrekeys, AUDITED_AS, lockPrekeys } from './make-prekeys.js'
import { countAvailable, destroyExpired, newestReusable, noneFromTheFuture, retirePrekeys } from './prekeys.store.js'

const REUSABLE = ['signed', 'last-resort'] as const
const ONE_TIME = ['one-time', 'pq-one-time'] as const

export class PrekeyStock {
  readonly #context: Context
  readonly #identity: Identity
  #running: Promise<void> | undefined
  #again = false

  constructor(context: Context, identity: Identity) {
    this.#context = context
    this.#identity = identity
  }

  /**
   * Makes what is missing. Calls while one runs are answered by one more run after it, so that a stock emptied in
   * between is seen.
   */
  async ensure(): Promise<void> {
    if (this.#running) {
      this.#again = true
      return this.#running
    }
    this.#running = (async () => {
      do {
        this.#again = false
        await this.#refill()
      } while (this.#again)
    })().finally(() => {
      this.#running = undefined
    })
    return this.#running
  }

  /** After a bundle was handed out: looks at the stock in the background. */
  refillSoon(): void {
    this.ensure().catch((error: unknown) => this.#context.log.warn({ err: error }, 'prekey stock could not be refilled'))
  }

  /** For the gauge. */
  async report(): Promise<void> {
    for (const kind of ONE_TIME) this.#context.metrics.prekeys.set({ kind }, await countAvailable(this.#context.db, kind))
  }

  /**
   * For upkeep: replaces signed and last-resort keys that are a week old, and destroys private halves whose grace time
   * is over: those of replaced keys, and of one-time keys that were handed out and never used.
   */
  async rotate(): Promise<void> {
    const { db, clock, limits, audit } = this.#context
    const now = new Date(clock.now())
    await SecretScope.run((scope) =>
      db.$transaction(async (tx) => {
        await lockPrekeys(tx)
        await noneFromTheFuture(tx, now)
        for (const kind of REUSABLE) {
          if (!(await this.#isDue(tx, kind, now))) continue
          await this.#identity.follow(tx)
          const count = await retirePrekeys(tx, kind, now)
          await addPrekeys(this.#context, this.#identity, tx, scope, kind, 1)
          if (count > 0) await audit.record(tx, 'KeyRotated', { keyKind: AUDITED_AS[kind], count })
        }
        const count = await destroyExpired(tx, new Date(now.getTime() - limits.prekeyGraceMs))
        if (count > 0) await audit.record(tx, 'KeysZeroized', { count })
      }),
    )
    audit.committed()
  }

  async #refill(): Promise<void> {
    const { db, limits, audit } = this.#context
    if (await this.#isFull(db)) return this.report()
    await SecretScope.run((scope) =>
      db.$transaction(async (tx) => {
        await lockPrekeys(tx)
        await this.#identity.follow(tx)
        const add = (kind: (typeof REUSABLE | typeof ONE_TIME)[number], count: number) =>
          addPrekeys(this.#context, this.#identity, tx, scope, kind, count)
        for (const kind of REUSABLE) if (!(await newestReusable(tx, kind))) await add(kind, 1)
        for (const kind of ONE_TIME) {
          const missing = limits.oneTimePrekeys - (await countAvailable(tx, kind))
          if (missing > 0) await add(kind, missing)
        }
      }),
    )
    audit.committed()
    await this.report()
  }

  async #isFull(tx: Tx): Promise<boolean> {
    const { refillBelow } = this.#context.limits
    for (const kind of REUSABLE) if (!(await newestReusable(tx, kind))) return false
    for (const kind of ONE_TIME) if ((await countAvailable(tx, kind)) < refillBelow) return false
    return true
  }

  /** By its age; one that was made by a clock that has gone back since is replaced early rather than late. */
  async #isDue(tx: Tx, kind: (typeof REUSABLE)[number], now: Date): Promise<boolean> {
    const { prekeyRotateAfterMs, clockBackToleranceMs } = this.#context.limits
    const newest = await newestReusable(tx, kind)
    if (!newest) return true
    const age = now.getTime() - newest.createdAt.getTime()
    return age >= prekeyRotateAfterMs || age < -clockBackToleranceMs
  }
}

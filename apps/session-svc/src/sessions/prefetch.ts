/**
 * Fetches the bundle for the next epoch before the present one is over, so that a peer that is away at that moment does
 * not hold up messages.
 * @see docs/spec/custody.md §6
 */
import type { Context } from '../context.js'
import { lockPeer, mayTalk } from '../peers/peers.store.js'
import type { BundleSource } from './bundle-source.js'
import { hasPrefetched, putPrefetched } from './prefetched.store.js'

export class Prefetcher {
  readonly #context: Context
  /** Not shared with those who wait for a bundle: one-time keys must not end up in two handshakes. */
  readonly #bundles: BundleSource
  readonly #running = new Map<string, Promise<void>>()
  /** By peer: when the last attempt was, whatever came of it. */
  readonly #triedAt = new Map<string, number>()

  constructor(context: Context, bundles: BundleSource) {
    this.#context = context
    this.#bundles = bundles
  }

  /** The present epoch with this peer is near its end. Returns at once; asks at most once a minute and peer. */
  want(fleetId: string): void {
    const { clock, limits } = this.#context
    const triedAt = this.#triedAt.get(fleetId)
    if (this.#running.has(fleetId) || (triedAt !== undefined && Math.abs(clock.now() - triedAt) < limits.prefetchRetryMs)) return
    this.#triedAt.set(fleetId, clock.now())
    const work = this.#fetch(fleetId).finally(() => this.#running.delete(fleetId))
    this.#running.set(fleetId, work)
  }

  /** A new epoch has begun: the next one may be prepared as soon as it is near. */
  begun(fleetId: string): void {
    this.#triedAt.delete(fleetId)
  }

  /** Epochs that grow old without a message. */
  async lookForOld(): Promise<void> {
    const { db, clock, limits } = this.#context
    const now = clock.now()
    const old = await db.session.findMany({
      where: {
        active: true,
        startedAt: { lte: new Date(now - limits.prefetchAfterMs) },
        lastUsedAt: { gte: new Date(now - limits.rotateAfterMs) },
      },
      select: { fleetId: true },
    })
    for (const { fleetId } of old) this.want(fleetId)
  }

  /** Until nothing is under way. */
  async settled(): Promise<void> {
    await Promise.all(this.#running.values())
  }

  /** Never throws: the epoch is inside its limits, and the rotation itself asks again. */
  async #fetch(fleetId: string): Promise<void> {
    const { db, clock, limits, log, metrics } = this.#context
    try {
      if (await hasPrefetched(db, fleetId, new Date(clock.now() - limits.prefetchedBundleMs))) return
      const answer = await this.#bundles.fetch(fleetId)
      if (!answer.ok) throw Object.assign(new Error(answer.message), { code: answer.code })
      await db.$transaction(async (tx) => {
        // A peer that was blocked or removed meanwhile has nothing kept for it.
        const peer = await lockPeer(tx, fleetId)
        if (mayTalk(peer)) await putPrefetched(tx, fleetId, answer.bundle, new Date(clock.now()))
      })
    } catch (error) {
      metrics.rotationFailures.inc({ severity: 'warning' })
      log.warn({ err: error, peer: fleetId }, 'the bundle for the next epoch could not be fetched')
    }
  }
}

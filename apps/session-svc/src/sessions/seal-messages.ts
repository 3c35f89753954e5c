/**
 * `session.v1.seal`: encrypt for peers, in batches. All items for one peer are done under one lock and stored with the
 * advanced state in one commit; only then do the envelopes leave this function (save, then release). An item that was
 * sealed before gets its stored bytes and burns no key.
 * @see docs/spec/custody.md §5
 */
import type { Refusal } from '@tallystick/contracts/codes'
import { decodeEnvelope } from '@tallystick/wire/envelope'
import type { Context } from '../context.js'
import { SecretScope } from '../custody/secret-scope.js'
import type { Identity } from '../identity/identity.js'
import type { DatabaseFence } from '../recovery/database-fence.js'
import { refuse } from '../refuse.js'
import { type BundleSource, type FetchedBundle, SharedFetches } from './bundle-source.js'
import { eachPeer, type PeerQueue } from './peer-queue.js'
import type { Prefetcher } from './prefetch.js'
import { type Entry, type Item, type Outcome, sealBatch, type Step } from './seal-batch.js'
import { forgetSealed } from './sealed.store.js'
import type { SessionStore } from './sessions.store.js'

export interface SealingParts {
  readonly context: Context
  readonly identity: Identity
  readonly store: SessionStore
  readonly queue: PeerQueue
  readonly bundles: BundleSource
  readonly prefetcher: Prefetcher
  readonly fence: DatabaseFence
}

export class SealMessages {
  readonly #context: Context
  readonly #identity: Identity
  readonly #store: SessionStore
  readonly #queue: PeerQueue
  readonly #bundles: SharedFetches
  readonly #prefetcher: Prefetcher
  readonly #fence: DatabaseFence

  constructor({ context, identity, store, queue, bundles, prefetcher, fence }: SealingParts) {
    this.#context = context
    this.#identity = identity
    this.#store = store
    this.#queue = queue
    this.#bundles = new SharedFetches(bundles)
    this.#prefetcher = prefetcher
    this.#fence = fence
  }

  /**
   * @returns one outcome per item, in the order of the items
   * @throws what went wrong when it went wrong for every peer of the call
   */
  async seal(items: readonly Item[]): Promise<Outcome[]> {
    const outcomes = new Array<Outcome>(items.length)
    const byPeer = Map.groupBy(
      items.map((item, index) => ({ item, index })),
      ({ item }) => item.fleetId,
    )
    await eachPeer(
      byPeer,
      (fleetId, entries) => this.#sealFor(fleetId, entries, outcomes),
      (fleetId, entries, error) => {
        const { log, limits } = this.#context
        log.warn({ err: error, peer: fleetId }, 'messages to one peer could not be sealed')
        refuseRest(entries, outcomes, refuse('Internal', 'sealing for this peer failed', limits.retryAfterMs))
      },
    )
    return outcomes
  }

  async #sealFor(fleetId: string, entries: readonly Entry[], outcomes: Outcome[]): Promise<void> {
    let rest = entries
    let bundle: FetchedBundle | undefined
    // Each round seals something or fetches a bundle; another replica can take our turn only so often.
    for (let round = 0; round <= entries.length + 2; round++) {
      const step = await this.#queue.run(fleetId, () => this.#step(fleetId, rest, bundle))
      this.#release(fleetId, step)
      for (const { index, outcome } of step.outcomes) outcomes[index] = outcome
      rest = step.rest
      const fetched = rest.length === 0 ? undefined : await this.#fetchBundle(fleetId)
      if (step.rotationFailed && (fetched === undefined || 'code' in fetched)) await this.#rotationFailed(fleetId)
      if (fetched === undefined) return
      if ('code' in fetched) return refuseRest(rest, outcomes, fetched)
      bundle = fetched
    }
    refuseRest(
      rest,
      outcomes,
      refuse('Network', 'the session with this peer is being renewed elsewhere', this.#context.limits.retryAfterMs),
    )
  }

  async #step(fleetId: string, entries: readonly Entry[], bundle: FetchedBundle | undefined): Promise<Step> {
    const context = this.#context
    const work = () =>
      SecretScope.run((scope) =>
        context.db.$transaction((tx) =>
          sealBatch({ context, identity: this.#identity, store: this.#store, tx, scope, fleetId, bundle }, entries),
        ),
      )
    const step = await this.#fence.guard(work, ({ sealedIds }) => forgetSealed(context.db, sealedIds))
    // Outside of the database before anything leaves.
    context.generation.passed(step.generation)
    context.audit.committed()
    return step
  }

  /** Messages wait: for the metric, and for whoever asks how it stands with this peer. */
  async #rotationFailed(fleetId: string): Promise<void> {
    const { db, clock, metrics } = this.#context
    metrics.rotationFailures.inc({ severity: 'critical' })
    await db.peer.updateMany({ where: { fleetId, rotationFailedAt: null }, data: { rotationFailedAt: new Date(clock.now()) } })
  }

  /** Every way of not getting a bundle is a refusal that time may mend: the peer is away, or has not pinned us yet. */
  async #fetchBundle(fleetId: string): Promise<FetchedBundle | Refusal> {
    const { limits, log } = this.#context
    try {
      const answer = await this.#bundles.fetch(fleetId)
      if (!('code' in answer)) return answer
      return refuse('Network', `no prekey bundle could be had from the peer (${answer.code})`, answer.retryAfterMs ?? limits.retryAfterMs)
    } catch (error) {
      const { code = 'Internal', retryAfterMs } = error as { code?: string; retryAfterMs?: number }
      log.warn({ err: error, peer: fleetId }, 'no prekey bundle')
      return refuse('Network', `no prekey bundle could be had from the peer (${code})`, retryAfterMs ?? limits.retryAfterMs)
    }
  }

  /** After the commit: count and tap what leaves. */
  #release(fleetId: string, { outcomes, sealedIds: { length: sealed }, begun, prefetch }: Step): void {
    const { tap, clock, metrics } = this.#context
    if (begun) this.#prefetcher.begun(fleetId)
    if (prefetch) this.#prefetcher.want(fleetId)
    if (sealed > 0) metrics.messages.inc({ direction: 'out' }, sealed)
    for (const { outcome } of outcomes) {
      if (outcome.ok) tap.message(clock.now(), 'out', fleetId, () => decodeEnvelope(outcome.envelope))
    }
  }
}

function refuseRest(rest: readonly Entry[], outcomes: Outcome[], refusal: Refusal): void {
  for (const { index, item } of rest) outcomes[index] = { ...refusal, messageId: item.messageId }
}

/**
 * `session.v1.seal`: encrypt for peers, in batches. All items for one peer are done under one lock and stored with the
 * advanced state in one commit; only then do the envelopes leave this function (save, then release). An item that was
 * sealed before gets its stored bytes and burns no key.
 * @see docs/spec/custody.md §5
 */
import type { RequestOf, ResponseOf } from '@tallystick/contracts/call'
import type { Refusal } from '@tallystick/contracts/codes'
import type { sessionSeal } from '@tallystick/contracts/session'
import { equalConstantTime } from '@tallystick/primitives/bytes'
import { ProtocolError } from '@tallystick/primitives/errors'
import { encrypt } from '@tallystick/ratchet/double-ratchet'
import { decodeEnvelope, decodeHandshake } from '@tallystick/wire/envelope'
import type { Context } from '../context.js'
import { SecretScope } from '../custody/secret-scope.js'
import type { Tx } from '../db.js'
import type { Identity } from '../identity/identity.js'
import { lockPeer, mayTalk } from '../peers/peers.store.js'
import { plainBytes } from '../plain-bytes.js'
import { refuse } from '../refuse.js'
import { type FetchedBundle, SharedFetches, type BundleSource } from './bundle-source.js'
import { LiveSession } from './live-session.js'
import type { PeerQueue } from './peer-queue.js'
import { rotationDue } from './rotation.js'
import { findSealed, insertSealed, type SealedEnvelopeRow } from './sealed.store.js'
import type { SessionStore } from './sessions.store.js'
import { startSession } from './start-session.js'

type Item = RequestOf<typeof sessionSeal>['items'][number]
type Outcome = ResponseOf<typeof sessionSeal>['items'][number]

/** What one transaction achieved. `rest` waits for a bundle; everything before it is committed. */
interface Step {
  readonly outcomes: Outcome[]
  readonly rest: readonly Item[]
  /** How many of the outcomes are new envelopes. */
  readonly sealed: number
  /** There is a session, but it must not be used any longer. */
  readonly rotating: boolean
}

export class SealMessages {
  readonly #context: Context
  readonly #identity: Identity
  readonly #store: SessionStore
  readonly #queue: PeerQueue
  readonly #bundles: SharedFetches

  constructor(context: Context, identity: Identity, store: SessionStore, queue: PeerQueue, bundles: BundleSource) {
    this.#context = context
    this.#identity = identity
    this.#store = store
    this.#queue = queue
    this.#bundles = new SharedFetches(bundles)
  }

  /** @returns one outcome per item, in the order of the items */
  async seal(items: readonly Item[]): Promise<Outcome[]> {
    const byPeer = Map.groupBy(items, (item) => item.fleetId)
    const done = new Map<string, Outcome[]>()
    await Promise.all([...byPeer].map(async ([fleetId, group]) => done.set(fleetId, await this.#sealFor(fleetId, group))))
    return items.map((item) => done.get(item.fleetId)!.shift()!)
  }

  async #sealFor(fleetId: string, items: readonly Item[]): Promise<Outcome[]> {
    const outcomes: Outcome[] = []
    let rest = items
    let bundle: FetchedBundle | undefined
    // Each round seals something or fetches a bundle; another replica can take our turn only so often.
    for (let round = 0; round <= items.length + 2; round++) {
      const step = await this.#queue.run(fleetId, () => this.#sealUnderLock(fleetId, rest, bundle))
      this.#release(fleetId, step)
      outcomes.push(...step.outcomes)
      rest = step.rest
      if (rest.length === 0) return outcomes
      const fetched = await this.#fetchBundle(fleetId)
      if ('code' in fetched) {
        if (step.rotating) this.#context.metrics.rotationFailures.inc()
        return [...outcomes, ...rest.map(({ messageId }) => ({ ...fetched, messageId }))]
      }
      bundle = fetched
    }
    const { retryAfterMs } = this.#context.limits
    return [
      ...outcomes,
      ...rest.map(({ messageId }) => ({
        ...refuse('Network', 'the session with this peer is being renewed elsewhere', retryAfterMs),
        messageId,
      })),
    ]
  }

  async #sealUnderLock(fleetId: string, items: readonly Item[], bundle: FetchedBundle | undefined): Promise<Step> {
    const { db, audit } = this.#context
    const step = await SecretScope.run((scope) => db.$transaction((tx) => this.#sealIn(tx, scope, fleetId, items, bundle)))
    audit.committed()
    return step
  }

  async #sealIn(tx: Tx, scope: SecretScope, fleetId: string, items: readonly Item[], bundle: FetchedBundle | undefined): Promise<Step> {
    const { clock, custody } = this.#context
    const peer = await lockPeer(tx, fleetId)
    if (!peer) return all(items, refuse('NotFound', 'no such peer'))
    if (!mayTalk(peer)) return all(items, refuse('PeerBlocked', `this peer is ${peer.trust}`))
    const known = await findSealed(
      tx,
      items.map(({ messageId }) => messageId),
    )
    const fresh: SealedEnvelopeRow[] = []
    const outcomes: Outcome[] = []
    let session = await this.#activeSession(tx, scope, fleetId)
    let rest: readonly Item[] = []
    let rotating = false

    for (const [i, item] of items.entries()) {
      const { messageId } = item
      const fingerprint = custody.fingerprint(item.payload)
      const before = known.get(messageId)
      if (before) {
        outcomes.push(repeat(before, item, fingerprint, custody.kekId))
        continue
      }
      const now = clock.now()
      const due = session && rotationDue(session.row, item.class, now, this.#context.limits)
      if (!session || due) {
        if (!bundle || bundle.used) {
          rest = items.slice(i)
          rotating = session !== undefined
          break
        }
        bundle.used = true
        await session?.save(this.#context, tx, this.#store)
        const started = await startSession({
          context: this.#context,
          identity: this.#identity,
          store: this.#store,
          tx,
          scope,
          peer,
          bundle: bundle.bytes,
          previous: session,
          reason: due,
        })
        if (!(started instanceof LiveSession))
          return {
            outcomes: [...outcomes, ...items.slice(i).map((left) => ({ ...started, messageId: left.messageId }))],
            rest: [],
            sealed: fresh.length,
            rotating: false,
          }
        session = started
      }
      const sealed = this.#encrypt(session, item, now)
      if (!(sealed instanceof Uint8Array)) {
        outcomes.push({ ...sealed, messageId })
        continue
      }
      const { sid, epoch } = session.row
      const row = {
        messageId,
        fleetId,
        sid,
        epoch,
        class: item.class,
        envelope: sealed,
        fingerprint,
        kekId: custody.kekId,
        sealedAt: new Date(now),
      }
      fresh.push(row)
      known.set(messageId, row)
      outcomes.push({ ok: true, messageId, envelope: plainBytes(sealed), epoch })
    }
    await insertSealed(tx, fresh)
    await session?.save(this.#context, tx, this.#store)
    return { outcomes, rest, sealed: fresh.length, rotating }
  }

  async #activeSession(tx: Tx, scope: SecretScope, fleetId: string): Promise<LiveSession | undefined> {
    const row = await this.#store.active(tx, fleetId)
    return row && LiveSession.open(this.#context, this.#store, scope, row)
  }

  #encrypt(session: LiveSession, item: Item, now: number): Uint8Array | Refusal {
    const { row } = session
    const handshake = row.handshake === null ? undefined : decodeHandshake(row.handshake)
    try {
      const { state, envelope } = encrypt({
        arena: this.#context.arena,
        random: this.#context.random,
        state: session.state,
        handshake,
        plaintext: item.payload,
      })
      session.advance(state, now)
      if (item.class === 'application') row.sentApplication += 1
      else row.sentControl += 1
      return envelope
    } catch (error) {
      if (error instanceof ProtocolError && error.code !== 'KeyStorage') return refuse(error.code, error.message)
      throw error
    }
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
  #release(fleetId: string, { outcomes, sealed }: Step): void {
    const { tap, clock, metrics } = this.#context
    if (sealed > 0) metrics.messages.inc({ direction: 'out' }, sealed)
    for (const outcome of outcomes) {
      if (!outcome.ok) continue
      tap.message(clock.now(), 'out', fleetId, () => decodeEnvelope(outcome.envelope))
    }
  }
}

function all(items: readonly Item[], refusal: Refusal): Step {
  return { outcomes: items.map(({ messageId }) => ({ ...refusal, messageId })), rest: [], sealed: 0, rotating: false }
}

function repeat(before: SealedEnvelopeRow, item: Item, fingerprint: Uint8Array, kekId: string): Outcome {
  const { messageId } = item
  const same =
    before.fleetId === item.fleetId &&
    before.class === item.class &&
    (before.kekId !== kekId || equalConstantTime(before.fingerprint, fingerprint))
  if (!same) return { ...refuse('Conflict', 'this message id was sealed with another payload, class or peer'), messageId }
  if (before.envelope === null) return { ...refuse('DuplicateMessage', 'sealed long ago; its bytes are no longer kept'), messageId }
  return { ok: true, messageId, envelope: plainBytes(before.envelope), epoch: before.epoch }
}

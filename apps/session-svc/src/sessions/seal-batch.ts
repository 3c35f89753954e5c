/**
 * One batch for one peer, inside one transaction that holds the peer's lock: what was sealed before is answered from
 * the store, what is new is encrypted in order, and whatever needs a bundle that is not at hand is left over.
 * @see docs/spec/custody.md §5, §6
 */
import type { RequestOf, ResponseOf } from '@tallystick/contracts/call'
import type { Refusal } from '@tallystick/contracts/codes'
import type { sessionSeal } from '@tallystick/contracts/session'
import { equalConstantTime } from '@tallystick/primitives/bytes'
import { ProtocolError } from '@tallystick/primitives/errors'
import { describe, encrypt } from '@tallystick/ratchet/double-ratchet'
import { decodeHandshake } from '@tallystick/wire/envelope'
import type { Context } from '../context.js'
import type { SecretScope } from '../custody/secret-scope.js'
import type { Tx } from '../db.js'
import type { Identity } from '../identity/identity.js'
import type { Limits } from '../limits.js'
import { mayTalk } from '../peers/peers.store.js'
import { plainBytes } from '../plain-bytes.js'
import { giveUpDamaged } from '../recovery/damaged-session.js'
import { isDue, mayBegin, type Recovery } from '../recovery/recovery-state.js'
import { refuse } from '../refuse.js'
import type { FetchedBundle } from './bundle-source.js'
import { LiveSession } from './live-session.js'
import { takePrefetched } from './prefetched.store.js'
import { prefetchDue, rotationDue, type RotationPolicy, type RotationReason } from './rotation.js'
import { findSealed, type SealedEnvelopeRow, storeSealed } from './sealed.store.js'
import { lockForSession, NEW_IDENTITY, type SessionPeer } from './session-peer.js'
import type { SessionStore } from './sessions.store.js'
import { startSession } from './start-session.js'

export type Item = RequestOf<typeof sessionSeal>['items'][number]
export type Outcome = ResponseOf<typeof sessionSeal>['items'][number]

/** An item and its place in the caller's list. */
export interface Entry {
  readonly index: number
  readonly item: Item
}

/** What one transaction achieved. */
export interface Step {
  readonly outcomes: { readonly index: number; readonly outcome: Outcome }[]
  /** Wait for a bundle; everything else is done. */
  readonly rest: readonly Entry[]
  /** Which of the outcomes are new envelopes. */
  readonly sealedIds: readonly string[]
  /** There is a session, but it must not be used any longer and no new one could be started. */
  readonly rotationFailed: boolean
  /** A new session is the one to send on. */
  readonly begun: boolean
  /** The epoch is near its end. */
  readonly prefetch: boolean
  /** To be remembered outside of the database before an envelope leaves; 0: nothing was sealed. */
  readonly generation: number
}

export interface SealBatch {
  readonly context: Context
  readonly identity: Identity
  readonly store: SessionStore
  readonly tx: Tx
  readonly scope: SecretScope
  readonly fleetId: string
  readonly bundle: FetchedBundle | undefined
}

/** What the batch knows while it goes from item to item. */
interface Progress {
  readonly peer: SessionPeer
  recovery: Recovery
  session: LiveSession | undefined
  begun: boolean
}

/**
 * @throws DatabasePutBack before anything is encrypted
 * @returns what became of each item; the envelopes must not leave before the transaction has committed
 */
export async function sealBatch(batch: SealBatch, entries: readonly Entry[]): Promise<Step> {
  const { context, store, tx, fleetId } = batch
  const { custody, clock, limits } = context
  const peer = await lockForSession(context, tx, fleetId)
  if (!peer) return refuseAll(entries, refuse('NotFound', 'no such peer'))
  if (!mayTalk(peer)) return refuseAll(entries, refuse('PeerBlocked', `this peer is ${peer.trust}`))
  if (peer.pending) return refuseAll(entries, refuse('IdentityChanged', NEW_IDENTITY, limits.retryAfterMs))
  await batch.identity.follow(tx, peer.ownIdentity)
  const ids = entries.map(({ item }) => item.messageId)
  const known = await findSealed(tx, ids)
  const progress = await openActive(batch, peer)
  let obstacle: Refusal | undefined
  const fresh = new Map<string, SealedEnvelopeRow>()
  const again = new Set<string>()
  const outcomes: { index: number; outcome: Outcome }[] = []
  const rest: Entry[] = []

  for (const entry of entries) {
    const { index, item } = entry
    const { messageId } = item
    const fingerprint = custody.fingerprint(item.payload)
    const before = known.get(messageId)
    if (before) {
      // The row may be from the time of an earlier data key.
      const same = before.kekId === custody.kekId ? fingerprint : custody.fingerprint(item.payload, before.kekId)
      const repeated = repeat(before, item, same)
      if (!repeated.ok || !mustEncryptAgain(before, item, progress, clock.now(), limits)) {
        outcomes.push({ index, outcome: stored(before, repeated) })
        continue
      }
    }
    const now = clock.now()
    const usable = await usableSession(batch, progress, item, rest.length > 0 || obstacle !== undefined)
    if (!(usable instanceof LiveSession)) {
      // What comes after waits as well: messages of one peer keep their order.
      obstacle ??= usable
      if (obstacle) outcomes.push({ index, outcome: { ...obstacle, messageId } })
      else rest.push(entry)
      continue
    }
    const envelope = encryptItem(context, usable, item, now)
    if (!(envelope instanceof Uint8Array)) {
      outcomes.push({ index, outcome: { ...envelope, messageId } })
      continue
    }
    const { sid, epoch } = usable.row
    const row = { messageId, fleetId, sid, epoch, class: item.class, envelope, fingerprint, kekId: custody.kekId, sealedAt: new Date(now) }
    fresh.set(messageId, row)
    if (before) again.add(messageId)
    known.set(messageId, row)
    outcomes.push({ index, outcome: { ok: true, messageId, envelope: plainBytes(envelope), epoch } })
  }
  const { session, begun } = progress
  await storeSealed(tx, [...fresh.values()], again)
  await session?.save(context, tx, store)
  return {
    outcomes,
    rest,
    sealedIds: [...fresh.keys()],
    rotationFailed: session !== undefined && (rest.length > 0 || obstacle !== undefined),
    begun,
    prefetch: fresh.size > 0 && session !== undefined && prefetchDue(session.row, policyOf(progress), clock.now(), limits),
    generation: fresh.size > 0 ? peer.generation : 0,
  }
}

/** The session that this side sends on, if its row is sound. A damaged one is given up and only a new session helps. */
async function openActive({ context, store, tx, scope, fleetId }: SealBatch, peer: SessionPeer): Promise<Progress> {
  const { recovery } = peer
  const row = await store.active(tx, fleetId)
  if (!row) return { peer, recovery, session: undefined, begun: false }
  try {
    return { peer, recovery, session: LiveSession.open(context, store, scope, row), begun: false }
  } catch (error) {
    return { peer, recovery: await giveUpDamaged({ context, store, tx }, row, recovery, error), session: undefined, begun: false }
  }
}

/**
 * The session that the item may be sent on, started now if need be and a bundle is at hand.
 * @returns a refusal when it has to wait, or the bundle is no good; undefined when there is no bundle
 */
async function usableSession(
  batch: SealBatch,
  progress: Progress,
  item: Item,
  stopped: boolean,
): Promise<LiveSession | Refusal | undefined> {
  if (stopped) return undefined
  const { context, bundle } = batch
  const { limits } = context
  const { session, recovery } = progress
  const now = context.clock.now()
  if (resyncDue(progress, now, limits)) {
    if (mayBegin(recovery, now, limits)) return bundle === undefined || bundle.used ? undefined : begin(batch, progress, bundle, 'resync')
    // The last attempt may still be answered; before the first there is nothing that may be sent on.
    if (recovery.state === 'resync_required' || !session)
      return refuse('ResyncRequired', 'the session with this peer has to be made anew, and that waits for a person', limits.retryAfterMs)
  }
  const reason = session && rotationDue(session.row, policyOf(progress), item.class, now, limits)
  if (session && !reason) return session
  // A new epoch is bound to the old one by an exporter that the peer has. Until it has answered there is none, and a
  // handshake without one would be refused as soon as the peer's first receipt is under way: the message waits.
  if (session && describe(session.state).exporterHash === null)
    return refuse('NotReady', 'the peer has not answered in this epoch yet; the next one can begin when it has', limits.retryAfterMs)
  if (bundle && !bundle.used) return begin(batch, progress, bundle, reason)
  return session && beginPrefetched(batch, progress, reason)
}

/** With the bundle that was fetched before the limit. One that is no good any more is gone then, and another is fetched. */
async function beginPrefetched(batch: SealBatch, progress: Progress, reason: RotationReason | undefined): Promise<LiveSession | undefined> {
  const { context, tx, fleetId } = batch
  const bytes = await takePrefetched(tx, fleetId, new Date(context.clock.now() - context.limits.prefetchedBundleMs))
  if (bytes === undefined) return undefined
  const begun = await begin(batch, progress, { bytes, used: false }, reason)
  return begun instanceof LiveSession ? begun : undefined
}

async function begin(
  batch: SealBatch,
  progress: Progress,
  bundle: FetchedBundle,
  reason: RotationReason | undefined,
): Promise<LiveSession | Refusal> {
  const { context, tx, store } = batch
  const { peer, session, recovery } = progress
  bundle.used = true
  await session?.save(context, tx, store)
  const started = await startSession({ ...batch, peer, recovery, bundle: bundle.bytes, previous: session, reason })
  if ('code' in started) return started
  Object.assign(progress, { session: started.session, recovery: started.recovery, begun: true })
  return started.session
}

function policyOf({ peer, begun }: Progress): RotationPolicy {
  return { rotateEvery: peer.rotateEvery, rotateRequested: peer.rotateRequested && !begun }
}

/** Once in a batch: what was begun in it waits for its answer. */
function resyncDue({ recovery, begun }: Progress, now: number, limits: Limits): boolean {
  return !begun && isDue(recovery, now, limits)
}

/** The peer does not have it, and what is stored belongs to a session that is over. */
function mustEncryptAgain(before: SealedEnvelopeRow, item: Item, progress: Progress, now: number, limits: Limits): boolean {
  if (item.again !== true) return false
  const { session } = progress
  const present = session !== undefined && Buffer.compare(session.row.sid, before.sid) === 0
  return before.envelope === null || !present || resyncDue(progress, now, limits)
}

function encryptItem({ arena, random }: Context, session: LiveSession, item: Item, now: number): Uint8Array | Refusal {
  const { row } = session
  const handshake = row.handshake === null ? undefined : decodeHandshake(row.handshake)
  try {
    const { state, envelope } = encrypt({ arena, random, state: session.state, handshake, plaintext: item.payload })
    session.advance(state, now)
    if (item.class === 'application') row.sentApplication += 1
    else row.sentControl += 1
    return envelope
  } catch (error) {
    if (error instanceof ProtocolError && error.code !== 'KeyStorage') return refuse(error.code, error.message)
    throw error
  }
}

function refuseAll(entries: readonly Entry[], refusal: Refusal): Step {
  const outcomes = entries.map(({ index, item }) => ({ index, outcome: { ...refusal, messageId: item.messageId } }))
  return { outcomes, rest: [], sealedIds: [], rotationFailed: false, begun: false, prefetch: false, generation: 0 }
}

/** @returns a refusal when the id stands for something else */
function repeat(before: SealedEnvelopeRow, item: Item, fingerprint: Uint8Array): { ok: true } | Extract<Outcome, { ok: false }> {
  const { messageId } = item
  const samePayload = equalConstantTime(before.fingerprint, fingerprint)
  if (before.fleetId === item.fleetId && before.class === item.class && samePayload) return { ok: true }
  return { ...refuse('Conflict', 'this message id was sealed with another payload, class or peer'), messageId }
}

function stored({ messageId, envelope, epoch }: SealedEnvelopeRow, repeated: ReturnType<typeof repeat>): Outcome {
  if (!repeated.ok) return repeated
  if (envelope === null) return { ...refuse('DuplicateMessage', 'sealed long ago; its bytes are no longer kept'), messageId }
  return { ok: true, messageId, envelope: plainBytes(envelope), epoch }
}

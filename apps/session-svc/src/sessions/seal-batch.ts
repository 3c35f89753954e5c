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
import { lockPeer, mayTalk, type Peer } from '../peers/peers.store.js'
import { plainBytes } from '../plain-bytes.js'
import { refuse } from '../refuse.js'
import type { FetchedBundle } from './bundle-source.js'
import { LiveSession } from './live-session.js'
import { rotationDue } from './rotation.js'
import { findSealed, insertSealed, type SealedEnvelopeRow } from './sealed.store.js'
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
  /** How many of the outcomes are new envelopes. */
  readonly sealed: number
  /** There is a session, but it must not be used any longer and no new one could be started. */
  readonly rotationFailed: boolean
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

export async function sealBatch(batch: SealBatch, entries: readonly Entry[]): Promise<Step> {
  const { context, store, tx, scope, fleetId } = batch
  const { custody, clock } = context
  const peer = await lockPeer(tx, fleetId)
  if (!peer) return refuseAll(entries, refuse('NotFound', 'no such peer'))
  if (!mayTalk(peer)) return refuseAll(entries, refuse('PeerBlocked', `this peer is ${peer.trust}`))
  const ids = entries.map(({ item }) => item.messageId)
  const known = await findSealed(tx, ids)
  const activeRow = await store.active(tx, fleetId)
  let session = activeRow && LiveSession.open(context, store, scope, activeRow)
  let obstacle: Refusal | undefined
  const fresh: SealedEnvelopeRow[] = []
  const outcomes: { index: number; outcome: Outcome }[] = []
  const rest: Entry[] = []

  for (const entry of entries) {
    const { index, item } = entry
    const { messageId } = item
    const fingerprint = custody.fingerprint(item.payload)
    const before = known.get(messageId)
    if (before) {
      outcomes.push({ index, outcome: repeat(before, item, fingerprint, custody.kekId) })
      continue
    }
    const now = clock.now()
    const usable = await usableSession(batch, peer, session, item, rest.length > 0 || obstacle !== undefined)
    if (usable instanceof LiveSession) session = usable
    else {
      // What comes after waits as well: messages of one peer keep their order.
      obstacle ??= usable
      if (obstacle) outcomes.push({ index, outcome: { ...obstacle, messageId } })
      else rest.push(entry)
      continue
    }
    const envelope = encryptItem(context, session, item, now)
    if (!(envelope instanceof Uint8Array)) {
      outcomes.push({ index, outcome: { ...envelope, messageId } })
      continue
    }
    const { sid, epoch } = session.row
    const row = { messageId, fleetId, sid, epoch, class: item.class, envelope, fingerprint, kekId: custody.kekId, sealedAt: new Date(now) }
    fresh.push(row)
    known.set(messageId, row)
    outcomes.push({ index, outcome: { ok: true, messageId, envelope: plainBytes(envelope), epoch } })
  }
  await insertSealed(tx, fresh)
  await session?.save(context, tx, store)
  return { outcomes, rest, sealed: fresh.length, rotationFailed: session !== undefined && (rest.length > 0 || obstacle !== undefined) }
}

/**
 * The session that the item may be sent on, started now if need be and a bundle is at hand.
 * @returns a refusal when the bundle is no good; undefined when there is none
 */
async function usableSession(
  batch: SealBatch,
  peer: Peer,
  session: LiveSession | undefined,
  item: Item,
  stopped: boolean,
): Promise<LiveSession | Refusal | undefined> {
  if (stopped) return undefined
  const { context, tx, store, bundle } = batch
  const reason = session && rotationDue(session.row, item.class, context.clock.now(), context.limits)
  if (session && !reason) return session
  // A new epoch is bound to the old one by an exporter that the peer has. Until it has answered there is none, and a
  // handshake without one would be refused as soon as the peer's first receipt is under way: the message waits.
  if (session && describe(session.state).exporterHash === null)
    return refuse(
      'NotReady',
      'the peer has not answered in this epoch yet; the next one can begin when it has',
      context.limits.retryAfterMs,
    )
  if (!bundle || bundle.used) return undefined
  bundle.used = true
  await session?.save(context, tx, store)
  return startSession({ ...batch, peer, bundle: bundle.bytes, previous: session, reason })
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
  return { outcomes, rest: [], sealed: 0, rotationFailed: false }
}

function repeat(before: SealedEnvelopeRow, item: Item, fingerprint: Uint8Array, kekId: string): Outcome {
  const { messageId } = item
  const samePayload = before.kekId !== kekId || equalConstantTime(before.fingerprint, fingerprint)
  if (before.fleetId !== item.fleetId || before.class !== item.class || !samePayload) {
    return { ...refuse('Conflict', 'this message id was sealed with another payload, class or peer'), messageId }
  }
  if (before.envelope === null) return { ...refuse('DuplicateMessage', 'sealed long ago; its bytes are no longer kept'), messageId }
  return { ok: true, messageId, envelope: plainBytes(before.envelope), epoch: before.epoch }
}

/**
 * `session.v1.open` and `acknowledge`: decrypt what peers sent, in batches. All items of one peer are done under one
 * lock; the advanced state, the sealed plaintext and the digest are committed together. An item that fails leaves
 * nothing behind but an audit event. Until acknowledged, the same envelope gives the same answer again.
 * @see docs/spec/custody.md §5
 */
import type { RequestOf, ResponseOf } from '@tallystick/contracts/call'
import type { Refusal } from '@tallystick/contracts/codes'
import type { sessionOpen } from '@tallystick/contracts/session'
import { equalConstantTime, toHex } from '@tallystick/primitives/bytes'
import { ProtocolError } from '@tallystick/primitives/errors'
import { decrypt } from '@tallystick/ratchet/double-ratchet'
import { decodeEnvelope, decodeHandshake, type Envelope, envelopeDigest } from '@tallystick/wire/envelope'
import type { Context } from '../context.js'
import { SecretScope } from '../custody/secret-scope.js'
import type { Tx } from '../db.js'
import type { Identity } from '../identity/identity.js'
import { mayTalk } from '../peers/peers.store.js'
import { recordLimited } from '../recovery/audit-limit.js'
import { giveUpDamaged, isDamage } from '../recovery/damaged-session.js'
import type { DatabaseFence } from '../recovery/database-fence.js'
import { Understanding } from '../recovery/understanding.js'
import { refuse } from '../refuse.js'
import { acceptSession } from './accept-session.js'
import { EarlyHandshake, ResetRefused } from './judge-handshake.js'
import { LiveSession } from './live-session.js'
import { acknowledgeOpened, countReplay, findOpened, insertOpened, type NewlyOpened, type OpenedEnvelope } from './opened.store.js'
import { eachPeer, type PeerQueue } from './peer-queue.js'
import { lockForSession, NEW_IDENTITY, type SessionPeer } from './session-peer.js'
import type { SessionStore } from './sessions.store.js'

type Item = RequestOf<typeof sessionOpen>['items'][number]
type Outcome = ResponseOf<typeof sessionOpen>['items'][number]

/** One batch of one peer, inside its transaction. */
interface Batch {
  readonly tx: Tx
  readonly scope: SecretScope
  readonly peer: SessionPeer
  readonly understanding: Understanding
  /** Sessions this batch has in its hands, by session id in hex. */
  readonly live: Map<string, LiveSession>
  /** Opened now: stored at the end of the transaction. */
  readonly fresh: NewlyOpened[]
  /** The same as envelopes, for the tap after the commit. */
  readonly opened: Envelope[]
}

export interface OpeningParts {
  readonly context: Context
  readonly identity: Identity
  readonly store: SessionStore
  readonly queue: PeerQueue
  readonly fence: DatabaseFence
  /** A peer uses a certificate that is not known here: fetches it in the background, or says false. */
  readonly certificateWanted: (fleetId: string) => boolean
}

/** What one transaction achieved. */
interface Opened {
  readonly outcomes: Outcome[]
  /** The messages opened in it, for the tap. */
  readonly envelopes: readonly Envelope[]
  /** To be remembered outside of the database; 0: nothing was opened. */
  readonly generation: number
}

export class OpenMessages {
  readonly #context: Context
  readonly #identity: Identity
  readonly #store: SessionStore
  readonly #queue: PeerQueue
  readonly #fence: DatabaseFence
  readonly #certificateWanted: (fleetId: string) => boolean

  constructor({ context, identity, store, queue, fence, certificateWanted }: OpeningParts) {
    this.#context = context
    this.#identity = identity
    this.#store = store
    this.#queue = queue
    this.#fence = fence
    this.#certificateWanted = certificateWanted
  }

  /**
   * @returns one outcome per item, in the order of the items
   * @throws what went wrong when it went wrong for every peer of the call
   */
  async open(items: readonly Item[]): Promise<Outcome[]> {
    const byPeer = Map.groupBy(items, (item) => item.fleetId)
    const done = new Map<string, Outcome[]>()
    await eachPeer(
      byPeer,
      async (fleetId, group) => {
        done.set(fleetId, await this.#openFor(fleetId, group))
      },
      (fleetId, group, error) => {
        const { log, limits } = this.#context
        log.warn({ err: error, peer: fleetId }, 'messages of one peer could not be opened')
        const refusal = refuse('Internal', 'opening for this peer failed', limits.retryAfterMs)
        done.set(
          fleetId,
          group.map(({ envelopeDigest: digest }) => ({ ...refusal, envelopeDigest: digest })),
        )
      },
    )
    return items.map((item) => done.get(item.fleetId)!.shift()!)
  }

  async acknowledge(digests: readonly Uint8Array[]): Promise<void> {
    await acknowledgeOpened(this.#context.db, digests, new Date(this.#context.clock.now()))
  }

  async #openFor(fleetId: string, items: readonly Item[]): Promise<Outcome[]> {
    const { db, audit, metrics, tap, clock, generation } = this.#context
    const work = () => SecretScope.run((scope) => db.$transaction((tx) => this.#openIn(tx, scope, fleetId, items)))
    // What was opened on a state of an older database stays: it is the peer's message, and nothing leaves by it.
    const done = await this.#queue.run(fleetId, () => this.#fence.guard(work, async () => undefined))
    const { outcomes, envelopes } = done
    generation.passed(done.generation)
    audit.committed()
    for (const envelope of envelopes) {
      metrics.messages.inc({ direction: 'in' })
      tap.message(clock.now(), 'in', fleetId, () => envelope)
    }
    for (const outcome of outcomes) {
      if (outcome.ok) continue
      metrics.openFailures.inc({ code: outcome.code })
      if (outcome.code === 'DuplicateMessage' || outcome.code === 'ReplayDetected') metrics.replaysRejected.inc()
    }
    return outcomes
  }

  async #openIn(tx: Tx, scope: SecretScope, fleetId: string, items: readonly Item[]): Promise<Opened> {
    const context = this.#context
    const peer = await lockForSession(context, tx, fleetId)
    if (!peer || !mayTalk(peer)) {
      const reason = peer ? 'blocked-peer' : 'unknown-peer'
      await recordLimited(context, tx, fleetId, 'AuthFailed', { surface: 'p2p', reason, client: fleetId, count: items.length })
      return refuseAll(items, refuse('UnauthorizedPeer', peer ? `this peer is ${peer.trust}` : 'no such peer'))
    }
    if (peer.pending) return refuseAll(items, refuse('IdentityChanged', NEW_IDENTITY, context.limits.retryAfterMs))
    await this.#identity.follow(tx, peer.ownIdentity)
    const understanding = new Understanding(context, tx, peer)
    const batch: Batch = { tx, scope, peer, understanding, live: new Map(), fresh: [], opened: [] }
    const known = await findOpened(
      context,
      tx,
      items.map((item) => item.envelopeDigest),
    )
    const outcomes: Outcome[] = []
    for (const item of items) {
      const outcome = await this.#openOne(batch, known, item)
      outcomes.push({ ...outcome, envelopeDigest: item.envelopeDigest } as Outcome)
    }
    await this.#flush(batch)
    await insertOpened(context, tx, batch.fresh)
    await understanding.save()
    return { outcomes, envelopes: batch.opened, generation: batch.fresh.length > 0 ? peer.generation : 0 }
  }

  async #openOne(
    batch: Batch,
    known: Map<string, OpenedEnvelope>,
    item: Item,
  ): Promise<Refusal | { ok: true; payload: Uint8Array; epoch: number }> {
    const digest = envelopeDigest(item.envelope)
    if (!equalConstantTime(digest, item.envelopeDigest)) return refuse('InvalidRequest', 'the digest is not that of the envelope')
    const before = known.get(toHex(digest))
    if (before) return this.#again(batch, before)
    let envelope: Envelope | undefined
    try {
      envelope = decodeEnvelope(item.envelope)
      const { payload, sid } = await this.#decrypt(batch, envelope)
      const openedAt = new Date(this.#context.clock.now())
      const { epoch } = envelope.header
      const { fleetId } = batch.peer
      batch.fresh.push({ digest, fleetId, sid, epoch, plaintext: payload, openedAt })
      known.set(toHex(digest), { digest, fleetId, epoch, acknowledged: false, replays: 0, plaintext: () => payload })
      batch.opened.push(envelope)
      return { ok: true, payload, epoch }
    } catch (error) {
      if (!(error instanceof ProtocolError) || (error.code === 'KeyStorage' && !isDamage(error))) throw error
      const refusal = await this.#failed(batch, digest, error, envelope)
      await batch.understanding.failed(refusal.code, envelope?.header.epoch)
      return refusal
    }
  }

  /** Until acknowledged the kept plaintext, afterwards the fact that it is a duplicate. */
  async #again({ tx, peer }: Batch, before: OpenedEnvelope): Promise<Refusal | { ok: true; payload: Uint8Array; epoch: number }> {
    // Bytes of one peer that another one sends: to the other they are nothing.
    if (before.fleetId !== peer.fleetId) return refuse('Decryption', 'cannot be decrypted')
    if (!before.acknowledged) return keptPlaintext(before)
    await countReplay(tx, before.digest)
    // The first repetition is worth an event; a peer that sends it a thousand times must not fill the log.
    if (before.replays === 0)
      await recordLimited(this.#context, tx, peer.fleetId, 'ReplayRejected', { peer: peer.fleetId, envelopeDigest: toHex(before.digest) })
    return refuse('DuplicateMessage', 'this envelope was opened and acknowledged before')
  }

  async #decrypt(batch: Batch, envelope: Envelope): Promise<{ payload: Uint8Array; sid: Uint8Array }> {
    const { sid } = envelope.header
    const session = await this.#session(batch, sid)
    if (!session) {
      if (!envelope.handshake) throw new ProtocolError('ResyncRequired', 'a session that is not known here')
      // Accepting may wipe old epochs: no state of this batch may be waiting to be written over that.
      await this.#flush(batch)
      const { tx, scope, peer, understanding } = batch
      const before = understanding.recovery
      const accepted = await acceptSession({
        context: this.#context,
        identity: this.#identity,
        store: this.#store,
        tx,
        scope,
        peer,
        recovery: before,
        envelope,
      })
      if (accepted.recovery !== before) understanding.wasSaved(accepted.recovery)
      batch.live.set(toHex(sid), accepted.session)
      return { payload: accepted.plaintext, sid }
    }
    const now = this.#context.clock.now()
    const { state, plaintext } = decrypt({ arena: this.#context.arena, state: session.state, envelope, now })
    session.advance(state, now)
    const { row } = session
    const continued = row.handshake === null ? undefined : decodeHandshake(row.handshake).continuity !== undefined
    Object.assign(row, { received: row.received + 1, confirmed: true, handshake: null })
    await batch.understanding.opened(row, continued)
    return { payload: plaintext, sid }
  }

  async #session({ tx, scope, peer, live, understanding }: Batch, sid: Uint8Array): Promise<LiveSession | undefined> {
    const held = live.get(toHex(sid))
    if (held) return held
    const row = await this.#store.bySid(tx, peer.fleetId, sid)
    if (!row) return undefined
    if (row.state === null) throw new ProtocolError('EpochExpired', `epoch ${row.epoch} has been wiped`)
    try {
      const session = LiveSession.open(this.#context, this.#store, scope, row)
      live.set(toHex(sid), session)
      return session
    } catch (error) {
      const parts = { context: this.#context, store: this.#store, tx }
      understanding.wasSaved(await giveUpDamaged(parts, row, understanding.recovery, error))
      throw new ProtocolError('ResyncRequired', 'the stored session is damaged', { cause: error })
    }
  }

  async #flush({ tx, live, scope }: Batch): Promise<void> {
    for (const session of live.values()) {
      await session.save(this.#context, tx, this.#store)
      scope.drop(session.state)
    }
    live.clear()
  }

  /** Nothing of the message took effect; what there is to report goes into the same transaction. */
  async #failed(batch: Batch, digest: Uint8Array, error: ProtocolError, decoded: Envelope | undefined): Promise<Refusal> {
    const { limits, log } = this.#context
    const { tx, peer } = batch
    const envelope = { peer: peer.fleetId, envelopeDigest: toHex(digest) }
    log.warn({ ...envelope, code: error.code }, 'an envelope did not open')
    // A prekey that does not unseal; nothing was written. To the peer it is a message that does not decrypt.
    if (error.code === 'KeyStorage') return refuse('Decryption', 'cannot be decrypted')
    if (error.code === 'IdentityChanged' && this.#certificateWanted(peer.fleetId)) {
      return refuse('NotReady', 'the peer has renewed its certificate; it is being fetched', limits.retryAfterMs)
    }
    if (error instanceof EarlyHandshake && decoded !== undefined && (await this.#mayStillCome(batch, decoded.header.epoch)))
      return refuse('NotReady', error.message, limits.retryAfterMs)
    const audited = (type: 'VerificationFailed' | 'ReplayRejected', body: Parameters<typeof recordLimited<typeof type>>[4]) =>
      recordLimited(this.#context, tx, peer.fleetId, type, body)
    if (error.code === 'VerificationFailed') await audited('VerificationFailed', { ...envelope, what: 'commitment', code: error.code })
    if (error.code === 'IdentityChanged') await audited('VerificationFailed', { ...envelope, what: 'certificate', code: error.code })
    if (error.code === 'ReplayDetected' || error.code === 'DuplicateMessage') await audited('ReplayRejected', envelope)
    return refuse(error.code, error.message, error instanceof ResetRefused ? limits.retryAfterMs : undefined)
  }

  /** The handshake before may be late, but not for ever. */
  async #mayStillCome({ tx, peer }: Batch, epoch: number): Promise<boolean> {
    const { clock, limits } = this.#context
    const now = clock.now()
    if (peer.early?.epoch === epoch) return Math.abs(now - peer.early.since.getTime()) < limits.earlyEpochMs
    await tx.peer.update({ where: { fleetId: peer.fleetId }, data: { earlyEpoch: epoch, earlySince: new Date(now) } })
    return true
  }
}

/** A kept plaintext that does not unseal costs its own message, not those beside it. */
function keptPlaintext(before: OpenedEnvelope): Refusal | { ok: true; payload: Uint8Array; epoch: number } {
  try {
    return { ok: true, payload: before.plaintext(), epoch: before.epoch }
  } catch (error) {
    if (!isDamage(error)) throw error
    return refuse('KeyStorage', 'the kept message is damaged')
  }
}

function refuseAll(items: readonly Item[], refusal: Refusal): Opened {
  return { outcomes: items.map(({ envelopeDigest: digest }) => ({ ...refusal, envelopeDigest: digest })), envelopes: [], generation: 0 }
}

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
import { decodeEnvelope, type Envelope, envelopeDigest } from '@tallystick/wire/envelope'
import type { Context } from '../context.js'
import { SecretScope } from '../custody/secret-scope.js'
import type { Tx } from '../db.js'
import type { Identity } from '../identity/identity.js'
import { lockPeer, mayTalk, type Peer } from '../peers/peers.store.js'
import { refuse } from '../refuse.js'
import { acceptSession } from './accept-session.js'
import { LiveSession } from './live-session.js'
import { acknowledgeOpened, countReplay, findOpened, insertOpened, type NewlyOpened, type OpenedEnvelope } from './opened.store.js'
import type { PeerQueue } from './peer-queue.js'
import type { SessionStore } from './sessions.store.js'

type Item = RequestOf<typeof sessionOpen>['items'][number]
type Outcome = ResponseOf<typeof sessionOpen>['items'][number]

/** One batch of one peer, inside its transaction. */
interface Batch {
  readonly tx: Tx
  readonly scope: SecretScope
  readonly peer: Peer
  /** Sessions this batch has in its hands, by session id in hex. */
  readonly live: Map<string, LiveSession>
  /** Opened now: stored at the end of the transaction. */
  readonly fresh: NewlyOpened[]
  /** The same as envelopes, for the tap after the commit. */
  readonly opened: Envelope[]
}

export class OpenMessages {
  readonly #context: Context
  readonly #identity: Identity
  readonly #store: SessionStore
  readonly #queue: PeerQueue
  readonly #certificateWanted: (fleetId: string) => boolean

  /** @param certificateWanted a peer uses a certificate that is not known here: fetches it in the background, or says false */
  constructor(
    context: Context,
    identity: Identity,
    store: SessionStore,
    queue: PeerQueue,
    certificateWanted: (fleetId: string) => boolean,
  ) {
    this.#context = context
    this.#identity = identity
    this.#store = store
    this.#queue = queue
    this.#certificateWanted = certificateWanted
  }

  /** @returns one outcome per item, in the order of the items */
  async open(items: readonly Item[]): Promise<Outcome[]> {
    const byPeer = Map.groupBy(items, (item) => item.fleetId)
    const done = new Map<string, Outcome[]>()
    await Promise.all([...byPeer].map(async ([fleetId, group]) => done.set(fleetId, await this.#openFor(fleetId, group))))
    return items.map((item) => done.get(item.fleetId)!.shift()!)
  }

  async acknowledge(digests: readonly Uint8Array[]): Promise<void> {
    await acknowledgeOpened(this.#context.db, digests, new Date(this.#context.clock.now()))
  }

  async #openFor(fleetId: string, items: readonly Item[]): Promise<Outcome[]> {
    const { db, audit, metrics, tap, clock } = this.#context
    const opened: Envelope[] = []
    const outcomes = await this.#queue.run(fleetId, () =>
      SecretScope.run((scope) => db.$transaction((tx) => this.#openIn(tx, scope, fleetId, items, opened))),
    )
    audit.committed()
    for (const envelope of opened) {
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

  async #openIn(tx: Tx, scope: SecretScope, fleetId: string, items: readonly Item[], opened: Envelope[]): Promise<Outcome[]> {
    const peer = await lockPeer(tx, fleetId)
    if (!peer || !mayTalk(peer)) {
      const reason = peer ? 'blocked-peer' : 'unknown-peer'
      await this.#context.audit.record(tx, 'AuthFailed', { surface: 'p2p', reason, client: fleetId, count: items.length })
      return items.map(({ envelopeDigest: digest }) => ({
        ...refuse('UnauthorizedPeer', peer ? `this peer is ${peer.trust}` : 'no such peer'),
        envelopeDigest: digest,
      }))
    }
    const batch: Batch = { tx, scope, peer, live: new Map(), fresh: [], opened }
    const known = await findOpened(
      this.#context,
      tx,
      items.map((item) => item.envelopeDigest),
    )
    const outcomes: Outcome[] = []
    for (const item of items) {
      const outcome = await this.#openOne(batch, known, item)
      outcomes.push({ ...outcome, envelopeDigest: item.envelopeDigest } as Outcome)
    }
    await this.#flush(batch)
    await insertOpened(this.#context, tx, batch.fresh)
    return outcomes
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
    try {
      const envelope = decodeEnvelope(item.envelope)
      const { payload, sid } = await this.#decrypt(batch, envelope)
      const openedAt = new Date(this.#context.clock.now())
      const { epoch } = envelope.header
      const { fleetId } = batch.peer
      batch.fresh.push({ digest, fleetId, sid, epoch, plaintext: payload, openedAt })
      known.set(toHex(digest), { digest, fleetId, epoch, acknowledged: false, replays: 0, plaintext: () => payload })
      batch.opened.push(envelope)
      return { ok: true, payload, epoch }
    } catch (error) {
      if (!(error instanceof ProtocolError) || error.code === 'KeyStorage') throw error
      return this.#failed(batch, digest, error)
    }
  }

  /** Until acknowledged the kept plaintext, afterwards the fact that it is a duplicate. */
  async #again({ tx, peer }: Batch, before: OpenedEnvelope): Promise<Refusal | { ok: true; payload: Uint8Array; epoch: number }> {
    // Bytes of one peer that another one sends: to the other they are nothing.
    if (before.fleetId !== peer.fleetId) return refuse('Decryption', 'cannot be decrypted')
    if (!before.acknowledged) return { ok: true, payload: before.plaintext(), epoch: before.epoch }
    await countReplay(tx, before.digest)
    // The first repetition is worth an event; a peer that sends it a thousand times must not fill the log.
    if (before.replays === 0)
      await this.#context.audit.record(tx, 'ReplayRejected', { peer: peer.fleetId, envelopeDigest: toHex(before.digest) })
    return refuse('DuplicateMessage', 'this envelope was opened and acknowledged before')
  }

  async #decrypt(batch: Batch, envelope: Envelope): Promise<{ payload: Uint8Array; sid: Uint8Array }> {
    const { sid } = envelope.header
    const session = await this.#session(batch, sid)
    if (!session) {
      if (!envelope.handshake) throw new ProtocolError('ResyncRequired', 'a session that is not known here')
      // Accepting may wipe old epochs: no state of this batch may be waiting to be written over that.
      await this.#flush(batch)
      const { tx, scope, peer } = batch
      const accepted = await acceptSession({
        context: this.#context,
        identity: this.#identity,
        store: this.#store,
        tx,
        scope,
        peer,
        envelope,
      })
      batch.live.set(toHex(sid), accepted.session)
      return { payload: accepted.plaintext, sid }
    }
    const now = this.#context.clock.now()
    const { state, plaintext } = decrypt({ arena: this.#context.arena, state: session.state, envelope, now })
    session.advance(state, now)
    session.row.received += 1
    session.row.confirmed = true
    session.row.handshake = null
    return { payload: plaintext, sid }
  }

  async #session({ tx, scope, peer, live }: Batch, sid: Uint8Array): Promise<LiveSession | undefined> {
    const held = live.get(toHex(sid))
    if (held) return held
    const row = await this.#store.bySid(tx, peer.fleetId, sid)
    if (!row) return undefined
    if (row.state === null) throw new ProtocolError('EpochExpired', `epoch ${row.epoch} has been wiped`)
    const session = LiveSession.open(this.#context, this.#store, scope, row)
    live.set(toHex(sid), session)
    return session
  }

  async #flush({ tx, live, scope }: Batch): Promise<void> {
    for (const session of live.values()) {
      await session.save(this.#context, tx, this.#store)
      scope.drop(session.state)
    }
    live.clear()
  }

  /** Nothing of the message took effect; what there is to report goes into the same transaction. */
  async #failed({ tx, peer }: Batch, digest: Uint8Array, error: ProtocolError): Promise<Refusal> {
    const { audit, limits, log } = this.#context
    const envelope = { peer: peer.fleetId, envelopeDigest: toHex(digest) }
    log.warn({ ...envelope, code: error.code }, 'an envelope did not open')
    if (error.code === 'IdentityChanged' && this.#certificateWanted(peer.fleetId)) {
      return refuse('NotReady', 'the peer has renewed its certificate; it is being fetched', limits.retryAfterMs)
    }
    if (error.code === 'VerificationFailed')
      await audit.record(tx, 'VerificationFailed', { ...envelope, what: 'commitment', code: error.code })
    if (error.code === 'IdentityChanged')
      await audit.record(tx, 'VerificationFailed', { ...envelope, what: 'certificate', code: error.code })
    if (error.code === 'ReplayDetected' || error.code === 'DuplicateMessage') await audit.record(tx, 'ReplayRejected', envelope)
    return refuse(error.code, error.message)
  }
}

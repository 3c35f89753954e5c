/**
 * Envelopes from the relay: opened by session-svc, checked, stored with their receipt in one transaction per peer,
 * then acknowledged. `taken` and `refused` are final; whatever time can mend is `retry`.
 */
import { newAuditEvent, recordAuditEvents } from '@tallystick/audit-outbox/outbox'
import type { AuditEvent } from '@tallystick/contracts/audit-events'
import type { RequestOf, ResponseOf } from '@tallystick/contracts/call'
import type { ErrorCode } from '@tallystick/contracts/codes'
import type { invoiceDeliver } from '@tallystick/contracts/invoice'
import { sessionAcknowledge, sessionOpen } from '@tallystick/contracts/session'
import { RpcFault } from '@tallystick/nats-rpc/fault'
import type { ReceiptBody } from '@tallystick/wire/messages'
import { now, SERVICE_ACTOR, type App, type Tx } from '../app.js'
import type { FleetIdentity } from '../fleet/own-fleet.js'
import { hex } from '../http/page.js'
import { newId } from '../ids.js'
import { batchesOf } from '../messages/batches.js'
import { enqueueMessage } from '../messages/message.store.js'
import { isAway } from '../messages/outcome.js'
import { enqueueReceipt, enqueueStatus } from '../messages/receipts.js'
import { askOrAway, keepPeerKeys } from '../peers/peer-keys.js'
import { lockPeer, peerById, type PeerRow } from '../peers/peer.store.js'
import { Refused } from '../refused.js'
import { applyMessage, type Arrival } from './apply-message.js'
import {
  decidedEnvelopes,
  insertRefused,
  repeatReceipt,
  replaceRefusedReceipt,
  settlePlace,
  takenMessage,
  type InboundRow,
} from './inbound.store.js'
import { readMessage, Unacceptable, type ReceivedMessage } from './read-message.js'
import { noteClaim, receivedFrom } from './sequence.store.js'

type Item = RequestOf<typeof invoiceDeliver>['items'][number]
type Answer = ResponseOf<typeof invoiceDeliver>['items'][number]
type Opened = ResponseOf<typeof sessionOpen>['items'][number]

/** Refusals of session-svc that time may lift, besides those that say when to come again; every other one is final. */
const MAY_PASS: readonly ErrorCode[] = [
  'NotReady',
  'Network',
  'CircuitBreakerOpen',
  'KeyStorage',
  'RateLimited',
  'Internal',
  'QuotaExceeded',
]

/** A new identity or a reset that a person has to approve comes with a time: its envelopes must still be there then. */
function mayPass({ code, retryAfterMs }: { code: ErrorCode; retryAfterMs?: number | undefined }): boolean {
  return retryAfterMs !== undefined || MAY_PASS.includes(code)
}

export async function deliver(app: App, items: readonly Item[]): Promise<Answer[]> {
  const answers = new Map<string, Answer>()
  for (const peer of new Set(items.map((item) => item.fleetId))) {
    const mine = items.filter((item) => item.fleetId === peer)
    for (const answer of await deliverFrom(app, peer, mine)) answers.set(hex(answer.envelopeDigest), answer)
  }
  return items.map(
    (item) => answers.get(hex(item.envelopeDigest)) ?? { outcome: 'retry', envelopeDigest: item.envelopeDigest, code: 'Internal' },
  )
}

async function deliverFrom(app: App, fleetId: string, items: readonly Item[]): Promise<Answer[]> {
  const all = (outcome: 'refused' | 'retry', code: ErrorCode): Answer[] =>
    items.map(({ envelopeDigest }) => ({ outcome, envelopeDigest, code }))
  try {
    const peer = await peerById(app.db, fleetId)
    if (peer === null || peer.state === 'blocked' || peer.state === 'removed') return all('refused', 'UnauthorizedPeer')
    const own = await app.fleet.known()
    const decided = await decidedEnvelopes(
      app.db,
      fleetId,
      items.map((item) => item.envelopeDigest),
    )
    const known = items.filter((item) => decided.has(hex(item.envelopeDigest)))
    const fresh = items.filter((item) => !decided.has(hex(item.envelopeDigest)))
    const answers = known.map((item) => sameAnswer(decided.get(hex(item.envelopeDigest))!))
    await app.db.$transaction(async (tx) => await repeatReceipts(app, tx, [...decided.values()], 'mend'))
    for (const batch of batchesOf(fresh, (item) => item.envelope.length, app.limits))
      answers.push(...(await takeBatch(app, peer, own, batch)))
    return await acknowledge(app, answers)
  } catch (error) {
    if (error instanceof RpcFault) return all('retry', error.code)
    if (error instanceof Refused) return all('retry', error.code)
    // The database, most likely: nothing was decided, so the relay keeps the envelopes.
    app.log.error({ err: error, peer: fleetId, count: items.length }, 'incoming messages could not be taken; they are tried again')
    return all('retry', 'Internal')
  }
}

/** One message that cannot be taken must not hold up the others of its batch. */
async function takeBatch(app: App, peer: PeerRow, own: FleetIdentity, batch: readonly Item[]): Promise<Answer[]> {
  try {
    return await openAndTake(app, peer, own, batch)
  } catch (error) {
    if (isAway(error)) throw error
    if (batch.length === 1) {
      app.log.error(
        { err: error, peer: peer.fleetId, envelopeDigest: hex(batch[0]!.envelopeDigest) },
        'an incoming message could not be taken; it is tried again',
      )
      return [{ outcome: 'retry', envelopeDigest: batch[0]!.envelopeDigest, code: error instanceof RpcFault ? error.code : 'Internal' }]
    }
    const answers: Answer[] = []
    for (const item of batch) answers.push(...(await takeBatch(app, peer, own, [item])))
    return answers
  }
}

function sameAnswer(row: InboundRow): Answer {
  return row.outcome === 'taken'
    ? { outcome: 'taken', envelopeDigest: row.envelopeDigest }
    : { outcome: 'refused', envelopeDigest: row.envelopeDigest, code: row.code as ErrorCode }
}

async function openAndTake(app: App, peer: PeerRow, own: FleetIdentity, items: readonly Item[]): Promise<Answer[]> {
  const { items: opened } = await app.rpc.call(sessionOpen, {
    items: items.map(({ fleetId, envelopeDigest, envelope }) => ({ fleetId, envelopeDigest, envelope })),
  })
  const answers: Answer[] = []
  const readable: Array<{ digest: Uint8Array<ArrayBuffer>; message: ReceivedMessage | Unacceptable }> = []
  for (const item of items) {
    const answer = opened.find((candidate) => Buffer.from(candidate.envelopeDigest).equals(item.envelopeDigest))
    if (answer === undefined) answers.push({ outcome: 'retry', envelopeDigest: item.envelopeDigest, code: 'Internal' })
    else if (answer.ok)
      readable.push({
        digest: item.envelopeDigest,
        message: await readUnderNewest(app, peer, own, answer.payload),
      })
    else if (mayPass(answer)) answers.push({ outcome: 'retry', envelopeDigest: item.envelopeDigest, code: answer.code })
    else readable.push({ digest: item.envelopeDigest, message: refusedBySession(answer) })
  }
  if (readable.length === 0) return answers
  // In the order in which they were sent, as far as one batch knows it.
  readable.sort((a, b) => seqOf(a.message) - seqOf(b.message))
  return [...answers, ...(await take(app, peer, own, readable))]
}

/**
 * A statement that does not verify under the certificate at hand: the peer may have a newer one by now, which
 * session-svc has and the row here not yet.
 */
async function readUnderNewest(app: App, peer: PeerRow, own: FleetIdentity, payload: Uint8Array): Promise<ReceivedMessage | Unacceptable> {
  const under = (row: PeerRow) =>
    tryToRead(payload, {
      certificate: row.certificate,
      previous: row.previousCertificate,
      ownFleetId: own.fleetId,
      now: app.clock.now(),
    })
  const first = under(peer)
  if (!(first instanceof Unacceptable) || first.what !== 'document-signature' || first.code !== 'InvalidSignature') return first
  const keys = await askOrAway(app, peer.fleetId)
  if (keys !== 'away' && keys.ok) await keepPeerKeys(app, keys)
  const newest = await peerById(app.db, peer.fleetId)
  return newest === null || hex(newest.certificateDigest) === hex(peer.certificateDigest) ? first : under(newest)
}

function tryToRead(payload: Uint8Array, reader: Parameters<typeof readMessage>[1]): ReceivedMessage | Unacceptable {
  try {
    return readMessage(payload, reader)
  } catch (error) {
    if (error instanceof Unacceptable) return error
    throw error
  }
}

/** Audited where it was found, in session-svc. */
function refusedBySession(answer: Extract<Opened, { ok: false }>): Unacceptable {
  return new Unacceptable(answer.code, undefined, answer.message)
}

function seqOf(message: ReceivedMessage | Unacceptable): number {
  return message instanceof Unacceptable ? -1 : message.payload.seq
}

async function take(
  app: App,
  peer: PeerRow,
  own: FleetIdentity,
  messages: ReadonlyArray<{ digest: Uint8Array<ArrayBuffer>; message: ReceivedMessage | Unacceptable }>,
): Promise<Answer[]> {
  const at = now(app)
  const receiptMessageId = newId()
  const { answers, queued, events } = await app.db.$transaction(
    async (tx) => {
      const answers: Answer[] = []
      const receipts: ReceiptBody['items'] = []
      const events: AuditEvent[] = []
      await lockPeer(tx, peer.fleetId)
      /** The peer is told how things stand, although nothing of it is stored. */
      let owed = false
      const refuse = async (digest: Uint8Array<ArrayBuffer>, refusal: Unacceptable, replay: boolean): Promise<Answer> => {
        if (!(await insertRefused(tx, peer.fleetId, digest, refusal.code, at, refusal.place))) {
          // Decided by a delivery that ran beside this one: the envelope has one answer.
          const first = (await decidedEnvelopes(tx, peer.fleetId, [digest])).get(hex(digest))
          if (first !== undefined) return sameAnswer(first)
        }
        events.push(...auditOf(peer.fleetId, digest, refusal, replay, at))
        if (refusal.place !== undefined) {
          await noteClaim(tx, peer.fleetId, refusal.place.payload.seq, refusal.place.hash)
          const { id, contentDigest } = refusal.place.payload
          receipts.push({ messageId: id, contentDigest, status: 'refused', at: at.getTime() })
        }
        return { outcome: 'refused', envelopeDigest: digest, code: refusal.code }
      }
      for (const { digest, message } of messages) {
        if (message instanceof Unacceptable) {
          app.log.warn(
            { peer: peer.fleetId, envelopeDigest: hex(digest), code: message.code, reason: message.message },
            'a message was refused',
          )
          if (message.what !== undefined) app.metrics.verificationFailures.inc({ what: message.what })
          if (message.what === 'document-signature') app.metrics.signatureFailures.inc()
          answers.push(await refuse(digest, message, false))
          continue
        }
        const arrival: Arrival = {
          peer: peer.fleetId,
          ownCertificate: own.certificate,
          envelopeDigest: digest,
          receiptMessageId,
          at,
        }
        const effect = await applyMessage(app, tx, arrival, message)
        if (effect.outcome === 'refused') {
          if (effect.replay === true) app.metrics.replayRejected.inc()
          app.log.warn(
            { peer: peer.fleetId, messageId: message.payload.id, code: effect.code, reason: effect.reason },
            'a message was refused',
          )
          answers.push(
            await refuse(
              digest,
              new Unacceptable(effect.code, undefined, effect.reason, message.payload.id, message),
              effect.replay === true,
            ),
          )
          continue
        }
        if (effect.outcome === 'repeated') {
          const first = await takenMessage(tx, peer.fleetId, message.payload.id)
          if (first !== null) {
            await settlePlace(tx, first, digest, message, at)
            if (await noteClaim(tx, peer.fleetId, message.payload.seq, message.hash)) owed = true
            await repeatReceipts(app, tx, [first], 'answer')
          }
        } else {
          if (await noteClaim(tx, peer.fleetId, message.payload.seq, message.hash)) owed = true
          if (effect.receipt !== undefined) receipts.push(effect.receipt)
          events.push(...effect.events)
        }
        answers.push({ outcome: 'taken', envelopeDigest: digest })
      }
      const { part, broke } = await receivedFrom(app, tx, peer.fleetId, at)
      owed ||= broke
      if (receipts.length > 0)
        await enqueueReceipt(tx, receiptMessageId, peer.fleetId, { items: receipts, ...(part === undefined ? {} : { received: part }) }, at)
      else if (owed) await enqueueStatus(app, tx, peer.fleetId, at)
      await recordAuditEvents(tx, events)
      return { answers, queued: receipts.length > 0 || owed, events }
    },
    { maxWait: 10_000, timeout: 20_000 },
  )
  if (queued) app.wake.messages()
  if (events.length > 0) {
    app.wake.audit()
    app.wake.proofs()
  }
  return answers
}

function auditOf(peer: string, digest: Uint8Array, refusal: Unacceptable, replay: boolean, at: Date): AuditEvent[] {
  const envelopeDigest = hex(digest)
  const common = { actor: SERVICE_ACTOR, at: at.getTime(), id: newId() }
  const message = refusal.messageId === undefined ? {} : { messageId: refusal.messageId }
  if (replay) return [newAuditEvent({ type: 'ReplayRejected', ...common, body: { peer, envelopeDigest } })]
  if (refusal.what === undefined) return []
  if (refusal.what === 'document-signature' && refusal.code !== 'VerificationFailed')
    return [newAuditEvent({ type: 'SignatureRejected', ...common, body: { peer, ...message, code: refusal.code } })]
  return [
    newAuditEvent({
      type: 'VerificationFailed',
      ...common,
      body: { peer, envelopeDigest, ...message, what: refusal.what, code: refusal.code },
    }),
  ]
}

/**
 * A message that comes again under another envelope is answered as it was at first: the same receipt goes again. Under
 * the same envelope it has its answer. A receipt whose hop was refused goes out with the same body as a new message.
 * @see docs/spec/payload.md §6
 */
async function repeatReceipts(app: App, tx: Tx, rows: readonly InboundRow[], how: 'answer' | 'mend'): Promise<void> {
  const at = now(app)
  const notAfter = new Date(at.getTime() - app.limits.receiptAgainMs)
  const receipts = new Map(rows.filter((row) => row.outcome === 'taken').map((row) => [row.receiptMessageId, row.peer]))
  for (const [receipt, peer] of receipts) {
    if (receipt === null) continue
    if (how === 'answer' && (await repeatReceipt(tx, peer, receipt, notAfter, at)) > 0) app.wake.again()
    const id = newId()
    if (!(await replaceRefusedReceipt(tx, peer, receipt, id, notAfter))) continue
    const { body, contentDigest } = await tx.message.findUniqueOrThrow({
      where: { id: receipt },
      select: { body: true, contentDigest: true },
    })
    await enqueueMessage(tx, { id, peer, kind: 'receipt', body, contentDigest, signedKind: null, documentId: null, at })
    // The pump finds it at its next look at the latest; this transaction has not ended yet.
    app.wake.messages()
  }
}

/**
 * Tells session-svc that the plaintext is safe here (or refused for good). If that fails, the relay brings the
 * envelopes again, and this is all that is left to do then.
 */
async function acknowledge(app: App, answers: readonly Answer[]): Promise<Answer[]> {
  const final = answers.filter((answer) => answer.outcome !== 'retry')
  if (final.length === 0) return [...answers]
  try {
    await app.rpc.call(sessionAcknowledge, { envelopeDigests: final.map((answer) => answer.envelopeDigest) })
    return [...answers]
  } catch (error) {
    if (!(error instanceof RpcFault)) throw error
    return answers.map((answer) =>
      answer.outcome === 'retry' ? answer : { outcome: 'retry', envelopeDigest: answer.envelopeDigest, code: error.code },
    )
  }
}

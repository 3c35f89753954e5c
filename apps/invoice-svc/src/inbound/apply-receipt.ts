/** What a peer says that it has, applied to what was sent to it. @see docs/spec/payload.md §6 */
import { newAuditEvent } from '@tallystick/audit-outbox/outbox'
import type { AuditEvent } from '@tallystick/contracts/audit-events'
import type { PositionRange, ReceiptBody, ReceivedPart } from '@tallystick/wire/messages'
import type { Payload } from '@tallystick/wire/payload'
import { SERVICE_ACTOR, type App, type Tx } from '../app.js'
import { owned } from '../http/page.js'
import { newId } from '../ids.js'
import { confirmByPlace, confirmNamed, continueAt, notTaken, payloadHashes, sendMissingAgain, unsendable } from '../messages/again.store.js'
import { meaningOf, placesIn, type Meaning } from '../messages/positions.js'
import { enqueueStatus } from '../messages/receipts.js'
import { advanceShares, refuseShares } from '../shares/share.store.js'
import { insertVoids } from './sequence.store.js'

/** For people, on a share. */
const NOT_TAKEN = 'The peer could read the message and cannot take it as it is.'
/** Contradictions of one peer become one audit event in this time, ms: a peer must not be able to fill the log. */
export const CONTRADICTION_AUDIT_MS = 60_000

/** The caller has locked the peer's row. @returns audit events */
export async function applyReceipt(
  app: App,
  tx: Tx,
  peer: string,
  { payload, body }: { payload: Payload; body: ReceiptBody },
  at: Date,
): Promise<AuditEvent[]> {
  if (body.void !== undefined) await insertVoids(tx, peer, payload.seq, body.void)
  const events: AuditEvent[] = []
  const { named, refused } = await applyItems(tx, peer, body, events, at)
  await tx.share.updateMany({
    where: { messageId: { in: named }, receipt: null },
    data: { receipt: owned(payload.body), receiptAt: at },
  })
  await advanceShares(app, tx, named, 'delivered', at)
  await end(tx, refused, at)
  if (body.received !== undefined) events.push(...(await applyReceived(app, tx, peer, payload.seq, body.received, at)))
  return events
}

/** An item confirms a message only if it names the digest that was sent. */
async function applyItems(
  tx: Tx,
  peer: string,
  body: ReceiptBody,
  events: AuditEvent[],
  at: Date,
): Promise<{ named: string[]; refused: string[] }> {
  const ids = body.items.map((item) => item.messageId).sort()
  if (ids.length === 0) return { named: [], refused: [] }
  const sent = await tx.message.findMany({
    where: { id: { in: ids }, peer, seq: { not: null } },
    select: { id: true, contentDigest: true },
  })
  const named: string[] = []
  const refused: string[] = []
  for (const item of body.items) {
    const message = sent.find((row) => row.id === item.messageId)
    if (message === undefined) continue
    if (Buffer.from(message.contentDigest).equals(item.contentDigest)) (item.status === 'refused' ? refused : named).push(message.id)
    else events.push(contradiction(peer, at, message.id))
  }
  await confirmNamed(tx, [...named, ...refused], at)
  return { named, refused }
}

async function applyReceived(app: App, tx: Tx, peer: string, place: number, received: ReceivedPart, at: Date): Promise<AuditEvent[]> {
  const row = await tx.peer.findUniqueOrThrow({
    where: { fleetId: peer },
    select: { outSeq: true, heardSeq: true, voidedAt: true, contradictedAt: true },
  })
  const next = Number(row.outSeq)
  const hashes = await payloadHashes(tx, peer, placesIn(received))
  const meaning = meaningOf(received, { next, hashAt: (seq) => hashes.get(seq) })
  const events: AuditEvent[] = []
  if (meaning.contradicted) {
    app.metrics.receiptContradictions.inc()
    app.log.error({ peer, seq: received.seq, next }, 'a peer contradicts what was sent to it; nothing is taken for delivered by that')
    if (row.contradictedAt === null || row.contradictedAt.getTime() <= at.getTime() - CONTRADICTION_AUDIT_MS) {
      await tx.peer.update({ where: { fleetId: peer }, data: { contradictedAt: at } })
      events.push(contradiction(peer, at))
    }
  }
  await confirm(app, tx, peer, meaning, at)
  if (meaning.ahead !== undefined) {
    app.log.warn({ peer, from: next, to: meaning.ahead.next }, 'the peer has more than is known to have been sent: going on after that')
    await continueAt(tx, peer, meaning.ahead.next, meaning.ahead.hash)
  }
  // An older receipt that was overtaken says nothing about what is missing now.
  if (place <= Number(row.heardSeq)) return events
  await tx.peer.update({ where: { fleetId: peer }, data: { heardSeq: BigInt(place) } })
  if ((await sendMissingAgain(app.limits, tx, peer, meaning.gaps, meaning.top, at)) > 0) app.wake.again()
  await declareVoid(app, tx, peer, meaning.gaps, row.voidedAt, at)
  return events
}

async function confirm(app: App, tx: Tx, peer: string, meaning: Meaning, at: Date): Promise<void> {
  if (meaning.confirmed.length === 0) return
  const confirmed = await confirmByPlace(tx, peer, meaning.confirmed, at)
  const refused = confirmed.filter((message) => meaning.refused.some(([from, to]) => from <= message.seq && message.seq <= to))
  const delivered = confirmed.filter((message) => !refused.includes(message))
  await advanceShares(
    app,
    tx,
    delivered.map((message) => message.id),
    'delivered',
    at,
  )
  await end(
    tx,
    refused.map((message) => message.id),
    at,
  )
}

/** The peer has them and will never take them. */
async function end(tx: Tx, ids: readonly string[], at: Date): Promise<void> {
  await refuseShares(tx, await notTaken(tx, ids, NOT_TAKEN), 'VerificationFailed', NOT_TAKEN, at)
}

/** Once in a while: the declaration before may still be under way. */
async function declareVoid(app: App, tx: Tx, peer: string, gaps: readonly PositionRange[], last: Date | null, at: Date): Promise<void> {
  if (gaps.length === 0 || (last !== null && last.getTime() > at.getTime() - app.limits.resendAfterMs)) return
  const voids = await unsendable(tx, peer, gaps)
  if (voids.length === 0) return
  await enqueueStatus(app, tx, peer, at, voids)
  await tx.peer.update({ where: { fleetId: peer }, data: { voidedAt: at } })
  app.wake.messages()
}

function contradiction(peer: string, at: Date, messageId?: string): AuditEvent {
  return newAuditEvent({
    type: 'VerificationFailed',
    actor: SERVICE_ACTOR,
    at: at.getTime(),
    id: newId(),
    body: { peer, ...(messageId === undefined ? {} : { messageId }), what: 'content-digest', code: 'VerificationFailed' },
  })
}

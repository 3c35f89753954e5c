/**
 * Proofs of our own sharing events: fetched once the event is under a checkpoint, kept, and sent to the counterparty,
 * as long as the consent to log still stands.
 */
import { auditInclusion } from '@tallystick/contracts/audit'
import { RpcFault } from '@tallystick/nats-rpc/fault'
import { isConsented } from '@tallystick/invoice-domain/consent'
import { encodeLogProof } from '@tallystick/wire/messages'
import { contentDigest } from '@tallystick/wire/payload'
import type { DocumentKind } from '@tallystick/wire/document'
import { now, type App, type Tx } from '../app.js'
import { consentsWith } from '../consents/consent.store.js'
import type { SharingEventModel } from '../gen/models.js'
import { owned } from '../http/page.js'
import { newId } from '../ids.js'
import { enqueueMessage } from '../messages/message.store.js'

/** In place of a message id: the consent was withdrawn before the proof could be sent. */
const NOT_SENT = '00000000-0000-0000-0000-000000000000'
/** Entries of one log-proof message. */
const ENTRIES = 16

/** One pass. @returns events that moved on */
export async function proveOnce(app: App): Promise<number> {
  return (await fetchProofs(app)) + (await sendProofs(app))
}

async function fetchProofs(app: App): Promise<number> {
  const due = await app.db.sharingEvent.findMany({
    where: { provenAt: null, createdAt: { lt: new Date(app.clock.now() - app.limits.proofWaitMs) } },
    orderBy: { createdAt: 'asc' },
    take: app.limits.stepBatch,
  })
  let proven = 0
  for (const event of due) {
    try {
      const answer = await app.rpc.call(auditInclusion, { eventId: event.eventId })
      // Not under a checkpoint yet: those behind it are not either.
      if (!answer.ok) break
      await app.db.sharingEvent.updateMany({
        where: { eventId: event.eventId, provenAt: null },
        data: {
          leaf: owned(answer.leaf),
          leafIndex: BigInt(answer.index),
          treeSize: BigInt(answer.size),
          proof: answer.proof.map(owned),
          note: answer.note,
          vkey: answer.vkey,
          provenAt: now(app),
        },
      })
      proven++
    } catch (error) {
      if (!(error instanceof RpcFault)) throw error
      break
    }
  }
  return proven
}

/** Per peer and document one message with what is proven and not sent yet. */
async function sendProofs(app: App): Promise<number> {
  const rows = await app.db.sharingEvent.findMany({
    where: { proofMessage: null, provenAt: { not: null } },
    orderBy: { createdAt: 'asc' },
    take: app.limits.stepBatch,
    select: { peer: true, documentId: true },
  })
  const pairs = [...new Map(rows.map((row) => [`${row.peer} ${row.documentId}`, row])).values()]
  for (const pair of pairs) await app.db.$transaction(async (tx) => await sendFor(app, tx, pair))
  if (pairs.length > 0) app.wake.messages()
  return pairs.length
}

async function sendFor(app: App, tx: Tx, { peer, documentId }: { peer: string; documentId: string }): Promise<void> {
  const locked = await tx.$queryRaw<Array<{ event_id: string }>>`
    SELECT event_id FROM sharing_event WHERE peer = ${peer} AND document_id = ${documentId}::uuid AND proof_message IS NULL AND proven_at IS NOT NULL
    ORDER BY created_at LIMIT ${ENTRIES} FOR UPDATE SKIP LOCKED`
  if (locked.length === 0) return
  const events = await tx.sharingEvent.findMany({ where: { eventId: { in: locked.map((row) => row.event_id) } } })
  const consents = await consentsWith(tx, peer)
  const [allowed, withdrawn] = partition(events, (event) => isConsented(consents, 'log', event.kind as DocumentKind, app.clock.now()))
  const first = allowed[0]
  if (first !== undefined) {
    const body = encodeLogProof({
      documentId,
      vkey: first.vkey!,
      entries: allowed.map((event) => ({
        leaf: event.leaf!,
        index: Number(event.leafIndex),
        size: Number(event.treeSize),
        proof: event.proof,
        note: event.note!,
        salt: event.salt,
      })),
    })
    const id = newId()
    await enqueueMessage(tx, {
      id,
      peer,
      kind: 'log-proof',
      body,
      contentDigest: contentDigest(body),
      signedKind: null,
      documentId,
      at: now(app),
    })
    await tx.sharingEvent.updateMany({ where: { eventId: { in: allowed.map((event) => event.eventId) } }, data: { proofMessage: id } })
  }
  if (withdrawn.length > 0)
    await tx.sharingEvent.updateMany({
      where: { eventId: { in: withdrawn.map((event) => event.eventId) } },
      data: { proofMessage: NOT_SENT },
    })
}

function partition(
  events: readonly SharingEventModel[],
  test: (event: SharingEventModel) => boolean,
): [SharingEventModel[], SharingEventModel[]] {
  return [events.filter(test), events.filter((event) => !test(event))]
}

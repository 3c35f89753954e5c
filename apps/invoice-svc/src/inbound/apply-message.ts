/** The effects of one received message, in the transaction of its peer's batch. */
import type { AuditEvent } from '@tallystick/contracts/audit-events'
import type { ErrorCode } from '@tallystick/contracts/codes'
import { toJson } from '@tallystick/invoice-domain/record'
import { nextShareState, type ShareState } from '@tallystick/invoice-domain/share'
import { summarise } from '@tallystick/invoice-domain/summary'
import { leafHash } from '@tallystick/merkle-log/tree'
import { certificateDigest, CLOCK_SKEW_MS } from '@tallystick/wire/certificate'
import type { ReceiptBody } from '@tallystick/wire/messages'
import type { Payload } from '@tallystick/wire/payload'
import type { App, Tx } from '../app.js'
import { recordSharing } from '../audit/sharing.js'
import { asJson } from '../documents/document.store.js'
import { recordChange } from '../events/change.store.js'
import { hex, owned } from '../http/page.js'
import { newId } from '../ids.js'
import { noteShare } from '../shares/share.store.js'
import { applyReceipt } from './apply-receipt.js'
import { insertTaken, takenMessage, useNonce } from './inbound.store.js'
import type { ReceivedMessage } from './read-message.js'

export interface Arrival {
  readonly peer: string
  /** Ours. */
  readonly ownCertificate: Uint8Array
  readonly envelopeDigest: Uint8Array
  /** The receipt message of this batch, written if any item needs it. */
  readonly receiptMessageId: string
  readonly at: Date
}

export type Effect =
  | { readonly outcome: 'taken'; readonly receipt?: ReceiptBody['items'][number]; readonly events: AuditEvent[] }
  /** The same message came under another envelope: it had its answer. */
  | { readonly outcome: 'repeated' }
  | { readonly outcome: 'refused'; readonly code: ErrorCode; readonly reason: string; readonly replay?: true }

type Of<K extends ReceivedMessage['kind']> = Extract<ReceivedMessage, { kind: K }>

/** Proofs kept of one document at one peer: sent and received, document and verdicts, some of them twice. */
const MAX_PEER_PROOFS = 64

export async function applyMessage(app: App, tx: Tx, arrival: Arrival, message: ReceivedMessage): Promise<Effect> {
  const { payload } = message
  if ('statement' in message) {
    if ((await takenMessage(tx, arrival.peer, payload.id)) !== null) return { outcome: 'repeated' }
    const fresh = await useNonce(tx, arrival.peer, message.statement.nonce, new Date(message.statement.expiresAt + CLOCK_SKEW_MS))
    // Its nonce may have been used by this very message, in a delivery that ran beside this one and has just ended.
    if (!fresh && (await takenMessage(tx, arrival.peer, payload.id)) !== null) return { outcome: 'repeated' }
    if (!fresh) return { outcome: 'refused', code: 'ReplayDetected', reason: 'its statement was used before', replay: true }
  }
  const effect = await applyKind(app, tx, arrival, message)
  if (effect.outcome !== 'taken') return effect
  const inserted = await insertTaken(tx, {
    peer: arrival.peer,
    envelopeDigest: arrival.envelopeDigest,
    messageId: payload.id,
    kind: payload.kind,
    contentDigest: payload.contentDigest,
    seq: payload.seq,
    prevHash: payload.prevHash,
    payloadHash: message.hash,
    receiptMessageId: effect.receipt === undefined ? null : arrival.receiptMessageId,
    at: arrival.at,
  })
  return inserted ? effect : { outcome: 'repeated' }
}

async function applyKind(app: App, tx: Tx, arrival: Arrival, message: ReceivedMessage): Promise<Effect> {
  switch (message.kind) {
    case 'document':
      return await applyDocument(tx, arrival, message)
    case 'receipt':
      return { outcome: 'taken', events: await applyReceipt(app, tx, arrival.peer, message, arrival.at) }
    case 'verdict':
      return await applyVerdict(app, tx, arrival, message)
    case 'log-proof':
      return await applyLogProof(tx, arrival, message)
  }
}

async function applyDocument(
  tx: Tx,
  arrival: Arrival,
  { payload, document, documentId, statement, statementBytes, certificate }: Of<'document'>,
): Promise<Effect> {
  const { peer, at } = arrival
  const known = await tx.inbox.findUnique({ where: { peer_documentId: { peer, documentId } }, select: { contentDigest: true } })
  const item = storedItem(payload, at)
  if (known !== null) {
    if (!Buffer.from(known.contentDigest).equals(payload.contentDigest))
      return { outcome: 'refused', code: 'Conflict', reason: 'this document id came before with another content' }
    return { outcome: 'taken', receipt: { ...item, status: 'duplicate' }, events: [] }
  }
  const id = newId()
  await tx.inbox.create({
    data: {
      id,
      peer,
      documentId,
      kind: document.kind,
      messageId: payload.id,
      number: document.number ?? '',
      terms: asJson(toJson(document)),
      summary: asJson(summarise(document)),
      body: owned(payload.body),
      contentDigest: owned(payload.contentDigest),
      statement: owned(statementBytes),
      certificate: owned(certificate),
      ownCertificate: owned(arrival.ownCertificate),
      state: 'received',
      receivedAt: at,
      verification: asJson([
        {
          check: 'envelope',
          ok: true,
          how: 'decrypted and authenticated by the session with this peer (PQXDH, Double Ratchet, keyed commitment)',
        },
        { check: 'content-digest', ok: true, how: 'BLAKE3-256 of the bytes received equals the digest inside the ciphertext' },
        {
          check: 'certificate',
          ok: true,
          how: `the pinned certificate of ${peer} (SHA-256 ${hex(certificateDigest(certificate))}) verifies and is in its term`,
        },
        {
          check: 'document-signature',
          ok: true,
          how: `Ed25519 statement of ${statement.signer} over this digest, for this fleet, issued ${new Date(statement.issuedAt).toISOString()}, nonce used for the first time`,
        },
        { check: 'domain-rules', ok: true, how: 'the bytes are the canonical form of a document that breaks no rule of EN 16931' },
      ]),
    },
  })
  await recordChange(tx, at, { topic: 'inbox', subject: id, data: { id, documentId, peerId: peer, state: 'received' } })
  const events = await recordSharing(tx, {
    type: 'MessageReceived',
    peer,
    messageId: payload.id,
    documentId,
    kind: document.kind,
    contentDigest: payload.contentDigest,
    at,
  })
  return { outcome: 'taken', receipt: item, events }
}

async function applyVerdict(app: App, tx: Tx, { peer, at }: Arrival, { body, payload, statementBytes }: Of<'verdict'>): Promise<Effect> {
  const [share] = await tx.$queryRaw<Array<{ id: string; state: ShareState; queued_at: Date; verdict_seq: bigint | null }>>`
    SELECT id, state, queued_at, verdict_seq FROM share
    WHERE document_id = ${body.documentId}::uuid AND peer = ${peer} AND content_digest = ${owned(body.contentDigest)} AND state NOT IN ('refused', 'cancelled') FOR UPDATE`
  if (share === undefined)
    return { outcome: 'refused', code: 'NotFound', reason: 'a verdict on a document that was not shared with this peer' }
  await tx.verdict.create({
    data: {
      id: payload.id,
      direction: 'received',
      peer,
      documentId: body.documentId,
      verdict: body.verdict,
      code: body.code ?? null,
      note: body.note ?? null,
      seq: BigInt(payload.seq),
      body: owned(payload.body),
      statement: owned(statementBytes),
      at: new Date(body.at),
    },
  })
  // Verdicts may overtake each other on the way; the one said later holds.
  const newest = share.verdict_seq === null || share.verdict_seq < BigInt(payload.seq)
  const state = newest ? nextShareState(share.state, body.verdict) : share.state
  if (state !== share.state) {
    await tx.share.update({
      where: { id: share.id },
      data: {
        state,
        verdictSeq: BigInt(payload.seq),
        cause: null,
        lastCode: null,
        nextAttemptAt: null,
        ...(state === 'paid' ? { paidAt: at } : { decidedAt: at }),
      },
    })
    app.metrics.shareDuration.observe({ stage: state }, Math.max(0, at.getTime() - share.queued_at.getTime()) / 1000)
    await noteShare(tx, { id: share.id, document_id: body.documentId, peer, state }, at)
  }
  const events = await recordSharing(tx, {
    type: 'MessageReceived',
    peer,
    messageId: payload.id,
    documentId: body.documentId,
    kind: 'verdict',
    contentDigest: payload.contentDigest,
    at,
  })
  return { outcome: 'taken', receipt: storedItem(payload, at), events }
}

async function applyLogProof(tx: Tx, { peer, at }: Arrival, { body, payload }: Of<'log-proof'>): Promise<Effect> {
  const { documentId } = body
  const shared = await tx.share.count({ where: { documentId, peer } })
  const received = shared > 0 ? 1 : await tx.inbox.count({ where: { documentId, peer } })
  if (received === 0)
    return { outcome: 'refused', code: 'NotFound', reason: 'a log proof about a document that was not exchanged with this peer' }
  if ((await tx.peerProof.count({ where: { documentId, peer } })) + body.entries.length > MAX_PEER_PROOFS)
    return { outcome: 'refused', code: 'QuotaExceeded', reason: 'more log proofs than one document can have' }
  for (const entry of body.entries) {
    const key = { peer, documentId, leafHash: owned(leafHash(entry.leaf)) }
    // The first proof of a leaf is as good as any later one.
    if ((await tx.peerProof.findUnique({ where: { peer_documentId_leafHash: key }, select: { peer: true } })) !== null) continue
    await tx.peerProof.create({
      data: {
        ...key,
        leaf: owned(entry.leaf),
        leafIndex: BigInt(entry.index),
        treeSize: BigInt(entry.size),
        proof: entry.proof.map(owned),
        note: entry.note,
        vkey: body.vkey,
        salt: owned(entry.salt),
        receivedAt: at,
      },
    })
  }
  return { outcome: 'taken', receipt: storedItem(payload, at), events: [] }
}

function storedItem(payload: Payload, at: Date): ReceiptBody['items'][number] {
  return { messageId: payload.id, contentDigest: payload.contentDigest, status: 'stored', at: at.getTime() }
}

/** Share: consent is checked before anything is encrypted; share and message are written in one transaction. */
import { requireConsent } from '@tallystick/invoice-domain/consent'
import type { BillingKind } from '@tallystick/invoice-domain/model'
import { now, type App, type Tx } from '../app.js'
import { consentsWith } from '../consents/consent.store.js'
import { documentById, type DocumentRow } from '../documents/document.store.js'
import type { Operation } from '../http/operation.js'
import { newId } from '../ids.js'
import { enqueueMessage } from '../messages/message.store.js'
import { visiblePeer } from '../peers/peer.store.js'
import { conflict, found, Refused } from '../refused.js'
import { verdictsFor, viewShare, type ShareView } from './share-view.js'
import { insertShare, liveShare, lockSharing, noteShare, shareById } from './share.store.js'

/** @throws Refused NotFound, Conflict (a draft), PeerBlocked; DomainError ConsentRequired */
export async function createShare(app: App, client: string, documentId: string, peer: string, operation: Operation): Promise<ShareView> {
  const at = now(app)
  const view = await app.db.$transaction(async (tx) => {
    const document = found(await documentById(tx, documentId), 'document')
    if (document.state !== 'issued') throw conflict('Only an issued document can be shared: issue it first.')
    if ((await visiblePeer(tx, peer)).state === 'blocked') throw new Refused('PeerBlocked', 'This peer is blocked.')
    await checkConsent(tx, document, peer, at)
    await lockSharing(tx, documentId, peer)
    const live = await liveShare(tx, documentId, peer)
    const row = live ?? (await startShare(tx, document, peer, client, at))
    const answer = viewShare(row, (await verdictsFor(tx, 'received', [row]))(row))
    await operation.finish(tx, 202, answer)
    return answer
  })
  app.wake.messages()
  return view
}

export async function checkConsent(tx: Tx, document: Pick<DocumentRow, 'kind'>, peer: string, at: Date): Promise<void> {
  requireConsent(await consentsWith(tx, peer), 'share', document.kind as BillingKind, at.getTime())
}

async function startShare(tx: Tx, document: DocumentRow, peer: string, client: string, at: Date) {
  const id = newId()
  const messageId = newId()
  const inserted = await insertShare(tx, {
    id,
    documentId: document.id,
    kind: document.kind,
    peer,
    messageId,
    contentDigest: document.contentDigest!,
    queuedAt: at,
    createdBy: client,
  })
  // Another request was faster; its share is the one under way.
  if (!inserted) return found(await liveShare(tx, document.id, peer), 'share')
  await enqueueDocument(tx, document, peer, messageId, at)
  await noteShare(tx, { id, document_id: document.id, peer, state: 'queued' }, at)
  return found(await shareById(tx, id), 'share')
}

export async function enqueueDocument(tx: Tx, document: DocumentRow, peer: string, messageId: string, at: Date): Promise<void> {
  await enqueueMessage(tx, {
    id: messageId,
    peer,
    kind: 'document',
    body: document.body!,
    contentDigest: document.contentDigest!,
    signedKind: document.kind as BillingKind,
    documentId: document.id,
    at,
  })
}

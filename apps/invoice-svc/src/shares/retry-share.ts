/** Retry: a share that waits is tried now; one that was refused gets a new message, since the old one stays refused. */
import { now, type App } from '../app.js'
import { documentById } from '../documents/document.store.js'
import type { Operation } from '../http/operation.js'
import { newId } from '../ids.js'
import { conflict, found } from '../refused.js'
import { checkConsent, enqueueDocument } from './create-share.js'
import { verdictsFor, viewShare, type ShareView } from './share-view.js'
import { liveShare, lockShare, lockSharing, noteShare, shareById } from './share.store.js'

/** @throws Refused NotFound, Conflict (nothing to retry); DomainError ConsentRequired */
export async function retryShare(app: App, id: string, operation: Operation): Promise<ShareView> {
  const at = now(app)
  const view = await app.db.$transaction(async (tx) => {
    const share = found(await lockShare(tx, id), 'share')
    const document = found(await documentById(tx, share.documentId), 'document')
    await checkConsent(tx, document, share.peer, at)
    if (share.state === 'queued' || share.state === 'sealed') {
      await tx.$executeRaw`UPDATE message SET next_attempt_at = ${at} WHERE id = ${share.messageId}::uuid AND state IN ('queued', 'sealed')`
      await tx.share.update({ where: { id }, data: { nextAttemptAt: at } })
    } else if (share.state === 'refused') {
      await lockSharing(tx, share.documentId, share.peer)
      if ((await liveShare(tx, share.documentId, share.peer)) !== null)
        throw conflict('Another share of this document with this peer is under way.')
      const messageId = newId()
      await enqueueDocument(tx, document, share.peer, messageId, at)
      await tx.share.update({
        where: { id },
        data: {
          messageId,
          state: 'queued',
          queuedAt: at,
          sealedAt: null,
          relayedAt: null,
          storedAt: null,
          // A receipt that came late for the old message says nothing of the new one.
          deliveredAt: null,
          receipt: null,
          receiptAt: null,
          endedAt: null,
          cause: null,
          lastCode: null,
          attempts: 0,
          nextAttemptAt: null,
        },
      })
      await noteShare(tx, { id, document_id: share.documentId, peer: share.peer, state: 'queued' }, at)
    } else if (share.state !== 'relayed') {
      // `relayed`: the relay retries by itself, and says when.
      throw conflict(`A share that is ${share.state} has nothing to retry.`)
    }
    const row = found(await shareById(tx, id), 'share')
    const answer = viewShare(row, (await verdictsFor(tx, 'received', [row]))(row))
    await operation.finish(tx, 202, answer)
    return answer
  })
  app.wake.messages()
  return view
}

/** Cancel: only before the message has its place in the sequence; afterwards the peer would miss a number. */
import { now, type App } from '../app.js'
import type { Operation } from '../http/operation.js'
import { conflict, found } from '../refused.js'
import { viewShare, type ShareView } from './share-view.js'
import { lockShare, noteShare, shareById } from './share.store.js'

/** @throws Refused NotFound, Conflict (sealed or further) */
export async function cancelShare(app: App, id: string, operation: Operation): Promise<ShareView> {
  const at = now(app)
  return await app.db.$transaction(async (tx) => {
    const share = found(await lockShare(tx, id), 'share')
    if (share.state !== 'cancelled') {
      const cancelled = await tx.$executeRaw`
        UPDATE message SET state = 'cancelled', lease_until = NULL, lease_token = NULL WHERE id = ${share.messageId}::uuid AND state = 'queued' AND payload IS NULL`
      if (cancelled === 0 || share.state !== 'queued')
        throw conflict(`A share that is ${share.state === 'queued' ? 'being sent' : share.state} cannot be cancelled any more.`)
      await tx.share.update({ where: { id }, data: { state: 'cancelled', endedAt: at, cause: null, lastCode: null, nextAttemptAt: null } })
      await noteShare(tx, { id, document_id: share.documentId, peer: share.peer, state: 'cancelled' }, at)
    }
    const answer = viewShare(found(await shareById(tx, id), 'share'), [])
    await operation.finish(tx, 200, answer)
    return answer
  })
}

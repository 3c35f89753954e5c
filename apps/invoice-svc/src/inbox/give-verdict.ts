/** The receiver's answer: the verdict, its message and the new state in one transaction; the pump has it signed. */
import type { Verdict } from '@tallystick/invoice-domain/verdict'
import { checkVerdict, mayFollow } from '@tallystick/invoice-domain/verdict'
import { encodeVerdict } from '@tallystick/wire/messages'
import { contentDigest } from '@tallystick/wire/payload'
import { now, type App } from '../app.js'
import { recordChange } from '../events/change.store.js'
import type { Operation } from '../http/operation.js'
import { owned } from '../http/page.js'
import { newId } from '../ids.js'
import { enqueueMessage } from '../messages/message.store.js'
import { conflict, found } from '../refused.js'
import { verdictsFor } from '../shares/share-view.js'
import { inboxView, type InboxItem } from './inbox-view.js'
import { inboxById, lockInbox } from './inbox.store.js'

/** @throws Refused NotFound, Conflict; DomainError InvalidRequest (unknown verdict, missing or unknown code) */
export async function giveVerdict(
  app: App,
  id: string,
  input: { verdict: string; code?: string | undefined; note?: string | undefined },
  operation: Operation,
): Promise<InboxItem> {
  const at = now(app)
  const { verdict, code, note } = checkVerdict(input)
  const view = await app.db.$transaction(async (tx) => {
    const row = found(await lockInbox(tx, id), 'inbox item')
    const previous = row.state === 'received' ? null : (row.state as Verdict)
    if (!mayFollow(previous, verdict)) throw conflict(`A document that is ${row.state} cannot become ${verdict}.`)
    const body = encodeVerdict({
      documentId: row.documentId,
      contentDigest: row.contentDigest,
      verdict,
      ...(code === undefined ? {} : { code }),
      ...(note === undefined ? {} : { note }),
      at: at.getTime(),
    })
    const messageId = newId()
    await tx.verdict.create({
      data: {
        id: messageId,
        direction: 'sent',
        peer: row.peer,
        documentId: row.documentId,
        verdict,
        code: code ?? null,
        note: note ?? null,
        body: owned(body),
        at,
      },
    })
    await enqueueMessage(tx, {
      id: messageId,
      peer: row.peer,
      kind: 'verdict',
      body,
      contentDigest: contentDigest(body),
      signedKind: 'verdict',
      documentId: row.documentId,
      at,
    })
    await tx.$executeRaw`UPDATE inbox SET state = ${verdict}, decided_at = ${at} WHERE id = ${id}::uuid`
    await recordChange(tx, at, { topic: 'inbox', subject: id, data: { id, documentId: row.documentId, peerId: row.peer, state: verdict } })
    const answer = inboxView(found(await inboxById(tx, id), 'inbox item'), (await verdictsFor(tx, 'sent', [row]))(row))
    await operation.finish(tx, 202, answer)
    return answer
  })
  app.wake.messages()
  return view
}

/** What relay-svc reports of messages that it was given. Repeated and late reports change nothing. */
import type { RequestOf } from '@tallystick/contracts/call'
import type { invoiceRelayProgress } from '@tallystick/contracts/invoice'
import type { App } from '../app.js'
import { advanceShares, explainShares, refuseShares } from '../shares/share.store.js'
import { markStored, messagesOfRelay, noteWaiting, refuseMessages, waitForReceipt } from './message.store.js'

type Report = RequestOf<typeof invoiceRelayProgress>['items'][number]

export async function recordProgress(app: App, given: readonly Report[]): Promise<void> {
  await app.db.$transaction(async (tx) => {
    // What was sent again has another id at the relay.
    const again = await messagesOfRelay(
      tx,
      given.map((report) => report.messageId),
    )
    const reports = given.map((report) => ({ ...report, messageId: again.get(report.messageId) ?? report.messageId }))
    const stored = reports.filter((report) => report.state === 'stored')
    // Message ids in order, as everywhere: two batches that overlap cannot lock each other out.
    const ordered = [...stored].sort((a, b) => (a.messageId < b.messageId ? -1 : 1))
    const moved = await markStored(
      tx,
      ordered.map(({ messageId, hopReceipt, at }) => ({ id: messageId, hopReceipt, at: new Date(at) })),
    )
    await waitForReceipt(
      tx,
      ordered.map((report) => report.messageId),
      new Date(app.clock.now()),
      app.limits,
    )
    for (const { messageId, at } of ordered) if (moved.has(messageId)) await advanceShares(app, tx, [messageId], 'stored', new Date(at))
    for (const report of reports) {
      if (report.state === 'waiting') {
        await noteWaiting(tx, report.messageId, report.code, report.cause)
        await explainShares(tx, [report.messageId], {
          code: report.code,
          cause: report.cause,
          nextAttemptAt: new Date(report.nextAttemptAt),
          attempts: report.attempts,
        })
      } else if (report.state === 'refused') {
        // A message that was stored once is not undone by the refusal of its repetition.
        const refused = await refuseMessages(tx, [report.messageId], report.code, report.cause)
        await refuseShares(tx, refused, report.code, report.cause, new Date(report.at))
      }
    }
  })
}

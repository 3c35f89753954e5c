/**
 * Issue: number (unless the document brings its own), complete, validate, freeze; one transaction. The document's row is locked first and the series' row
 * second, so that two requests for one document give one number and a refusal gives its number back.
 */
import { formatNumber, issueDocument } from '@tallystick/invoice-domain/issue'
import type { BillingDocument, BillingKind } from '@tallystick/invoice-domain/model'
import { toJson, toRecord } from '@tallystick/invoice-domain/record'
import { summarise } from '@tallystick/invoice-domain/summary'
import { encode } from '@tallystick/wire/cbor'
import { contentDigest } from '@tallystick/wire/payload'
import { now, type App, type Tx } from '../app.js'
import { recordChange } from '../events/change.store.js'
import type { Operation } from '../http/operation.js'
import { owned } from '../http/page.js'
import { conflict, found, Refused, type Fault } from '../refused.js'
import { asJson, issuedWithNumber, lockDocument, nextInSeries } from './document.store.js'
import { documentOf, today, view, type DocumentView } from './document-view.js'

const DEFAULT_SERIES: Record<BillingKind, string> = { invoice: 'INV', 'credit-note': 'CN' }
/** Numbers of a series that imported documents may have taken already, skipped in one go. */
const SKIP_AT_MOST = 1000

/** @throws Refused NotFound, Conflict, EndpointTooLarge; DomainError with every broken rule */
export async function issue(app: App, id: string, series: string | undefined, operation: Operation): Promise<DocumentView> {
  const at = now(app)
  return await app.db.$transaction(
    async (tx) => {
      const row = found(await lockDocument(tx, id), 'document')
      if (row.state !== 'draft') throw conflict('This document has been issued already.')
      const draft = documentOf(row)
      const issueDate = draft.issueDate ?? today(at)
      const number = draft.number ?? (await giveNumber(tx, draft.kind, series ?? DEFAULT_SERIES[draft.kind], issueDate))
      const document: BillingDocument = issueDocument(draft, { number, issueDate })
      const earlier = await issuedWithNumber(tx, document.kind, number)
      const body = encode(toRecord(document))
      if (body.length > app.limits.documentBytes)
        throw new Refused('EndpointTooLarge', `The document has ${body.length} bytes; at most ${app.limits.documentBytes} can be sent.`)
      const issued = await tx.document.update({
        where: { id },
        data: {
          state: 'issued',
          number,
          terms: asJson(toJson(document)),
          summary: asJson(summarise(document)),
          body: owned(body),
          contentDigest: owned(contentDigest(body)),
          issuedAt: at,
          updatedAt: at,
        },
      })
      await recordChange(tx, at, { topic: 'document', subject: id, data: { id, kind: issued.kind, state: 'issued' } })
      const answer = view(issued, { today: today(at), warnings: earlier === undefined ? [] : [numberRepeated(earlier)] })
      await operation.finish(tx, 200, answer)
      return answer
    },
    // A long queue for one series waits for its turn instead of failing.
    { maxWait: 20_000, timeout: 20_000 },
  )
}

/** Whoever gave the number answers for it; here it is only said. */
function numberRepeated(earlier: string): Fault {
  return { pointer: '/number', rule: 'NumberRepeated', message: `the document ${earlier} was issued under this number before` }
}

async function giveNumber(tx: Tx, kind: BillingKind, series: string, issueDate: string): Promise<string> {
  const year = Number(issueDate.slice(0, 4))
  formatNumber(series, year, 1) // refuses a bad series before its row is written
  for (let i = 0; i < SKIP_AT_MOST; i++) {
    const number = formatNumber(series, year, await nextInSeries(tx, `${series}-${year}`))
    if ((await issuedWithNumber(tx, kind, number)) === undefined) return number
  }
  throw conflict('The numbers of this series are taken by imported documents: name another series.')
}

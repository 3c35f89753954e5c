/** The few facts that a list shows. */
import type { BillingDocument, BillingKind } from './model.js'

export interface DocumentSummary {
  kind: BillingKind
  number: string | null
  /** YYYY-MM-DD */
  issueDate: string | null
  /** YYYY-MM-DD */
  dueDate: string | null
  seller: string | null
  buyer: string | null
  /** ISO 4217 */
  currency: string | null
  /** BT-115, decimal text in `currency` */
  payableAmount: string | null
  lineCount: number
}

export function summarise(document: BillingDocument): DocumentSummary {
  return {
    kind: document.kind,
    number: document.number ?? null,
    issueDate: document.issueDate ?? null,
    dueDate: document.dueDate ?? null,
    seller: document.seller?.name ?? document.seller?.tradingName ?? null,
    buyer: document.buyer?.name ?? document.buyer?.tradingName ?? null,
    currency: document.currency ?? null,
    payableAmount: document.totals?.payable ?? null,
    lineCount: document.lines?.length ?? 0,
  }
}

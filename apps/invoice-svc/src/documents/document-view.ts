/** A document as the API shows it. */
import type { Violation } from '@tallystick/invoice-domain/errors'
import { fromJson } from '@tallystick/invoice-domain/record'
import type { BillingDocument, BillingKind } from '@tallystick/invoice-domain/model'
import type { DocumentSummary } from '@tallystick/invoice-domain/summary'
import { issueDocument } from '@tallystick/invoice-domain/issue'
import { DomainError } from '@tallystick/invoice-domain/errors'
import type { Unmapped } from '@tallystick/ubl/parse-ubl'
import { z } from 'zod'
import { hex, hexDigest, iso, time, uuid } from '../http/page.js'
import type { Fault } from '../refused.js'
import { termsSchema } from './document-schema.js'
import type { DocumentListRow, DocumentRow } from './document.store.js'

const kinds = z.enum(['invoice', 'credit-note'])
const faults = z.array(z.strictObject({ pointer: z.string(), rule: z.string(), message: z.string() }))

/** What documents and inbox items show in lists. */
export const summaryFields = {
  number: z.string().nullable(),
  issueDate: z.string().nullable(),
  dueDate: z.string().nullable(),
  seller: z.string().nullable(),
  buyer: z.string().nullable(),
  currency: z.string().nullable(),
  payableAmount: z.string().nullable().describe('Decimal text'),
  lineCount: z.int(),
}

export const documentListItem = z
  .strictObject({
    id: uuid,
    documentId: uuid,
    kind: kinds,
    state: z.enum(['draft', 'issued']),
    status: z.enum(['draft', 'issued', 'shared', 'accepted', 'rejected', 'disputed', 'paid']),
    ...summaryFields,
    contentDigest: hexDigest.nullable().describe('BLAKE3-256 of the frozen bytes'),
    createdAt: time,
    updatedAt: time,
    issuedAt: time.nullable(),
    source: z.enum(['json', 'ubl']),
  })
  .meta({ id: 'DocumentListItem' })
export type DocumentListItem = z.output<typeof documentListItem>

export const documentView = documentListItem
  .extend({
    document: termsSchema,
    violations: faults.optional().describe('Drafts: the rules that issuing would find broken now'),
    unmapped: z
      .array(z.strictObject({ path: z.string(), value: z.string(), lost: z.enum(['no-term', 'term']) }))
      .optional()
      .describe('After an import: parts of the UBL source that are not kept'),
    warnings: faults.optional().describe('After an import: broken rules of the UBL syntax; after an issue: a number that was used before'),
  })
  .meta({ id: 'Document' })
export type DocumentView = z.output<typeof documentView>

export function listItem(row: DocumentListRow, status: string | undefined): DocumentListItem {
  const summary = row.summary as unknown as DocumentSummary
  const { number, issueDate, dueDate, seller, buyer, currency, payableAmount, lineCount } = summary
  return {
    id: row.id,
    documentId: row.id,
    kind: row.kind as BillingKind,
    state: row.state as 'draft' | 'issued',
    status: (row.state === 'draft' ? 'draft' : (status ?? 'issued')) as DocumentListItem['status'],
    number,
    issueDate,
    dueDate,
    seller,
    buyer,
    currency,
    payableAmount,
    lineCount,
    contentDigest: row.contentDigest === null ? null : hex(row.contentDigest),
    createdAt: iso(row.createdAt),
    updatedAt: iso(row.updatedAt),
    issuedAt: iso(row.issuedAt),
    source: row.source as 'json' | 'ubl',
  }
}

export interface ImportNotes {
  readonly unmapped: readonly Unmapped[]
  readonly syntax: readonly Violation[]
}

export function view(
  row: DocumentRow,
  options: { status?: string | undefined; today: string; notes?: ImportNotes | undefined; warnings?: readonly Fault[] },
): DocumentView {
  const document = documentOf(row)
  const warnings = options.notes?.syntax ?? options.warnings
  return {
    ...listItem(row, options.status),
    document: row.terms as DocumentView['document'],
    ...(row.state === 'draft' ? { violations: wouldRefuse(document, options.today) } : {}),
    ...(options.notes === undefined ? {} : { unmapped: [...options.notes.unmapped] }),
    ...(warnings === undefined ? {} : { warnings: warnings.map(({ pointer, rule, message }) => ({ pointer, rule, message })) }),
  }
}

export function documentOf(row: Pick<DocumentRow, 'terms' | 'kind'>): BillingDocument {
  return fromJson(row.terms, row.kind as BillingKind)
}

/** Issued by way of trial, with a stand-in number where one will be given. */
function wouldRefuse(document: BillingDocument, today: string): Array<{ pointer: string; rule: string; message: string }> {
  try {
    issueDocument(document, { number: 'TRIAL', issueDate: today })
    return []
  } catch (error) {
    if (!(error instanceof DomainError)) throw error
    return error.violations.slice(0, 100).map(({ pointer, rule, message }) => ({ pointer, rule, message }))
  }
}

export function today(at: Date): string {
  return at.toISOString().slice(0, 10)
}

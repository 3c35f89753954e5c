/** From draft to issued: number, complete, validate, freeze. What is issued never changes again. */
import { isCalendarDate } from './calendar.js'
import { DomainError, refuse } from './errors.js'
import type { BillingDocument } from './model.js'
import { fromJson, toJson } from './record.js'
import { withTotals } from './totals.js'
import { validate } from './validate.js'

/** BT-24 of a plain EN 16931 document */
export const EN16931_SPECIFICATION = 'urn:cen.eu:en16931:2017'
/** BT-3: commercial invoice and credit note (UNTDID 1001) */
const TYPE_CODES = { invoice: '380', 'credit-note': '381' } as const

/** Letters, digits and a few separators: a series goes into file names and URLs. */
const SERIES = /^[A-Za-z0-9][A-Za-z0-9._/-]{0,31}$/

/**
 * A document number: series, year and a running number of at least four digits ("INV-2026-0007").
 * @param sequence positive integer, unique in its series and year; gapless numbering is the caller's transaction
 * @throws DomainError InvalidRequest
 */
export function formatNumber(series: string, year: number, sequence: number): string {
  if (!SERIES.test(series)) throw refuse('InvalidRequest', 'InvalidRequest', '/series', 'a series has 1 to 32 letters, digits or ._/-')
  if (!Number.isInteger(year) || year < 1900 || year > 9999) throw refuse('InvalidRequest', 'InvalidRequest', '/year', 'not a year')
  if (!Number.isSafeInteger(sequence) || sequence < 1) throw refuse('InvalidRequest', 'InvalidRequest', '/sequence', 'not a running number')
  return `${series}-${year}-${String(sequence).padStart(4, '0')}`
}

/**
 * Completes, validates and freezes a draft. `number` and `issueDate` are used only where the draft has none.
 * @param assigned the number to give and the date of issue (YYYY-MM-DD)
 * @returns a deep-frozen document
 * @throws DomainError InvalidRequest with every broken rule
 */
export function issueDocument(draft: BillingDocument, assigned: { number: string; issueDate: string }): BillingDocument {
  if (!isCalendarDate(assigned.issueDate))
    throw refuse('InvalidRequest', 'InvalidRequest', '/issueDate', 'a date as YYYY-MM-DD is expected')
  const complete = withTotals({
    ...draft,
    number: draft.number ?? assigned.number,
    issueDate: draft.issueDate ?? assigned.issueDate,
    typeCode: draft.typeCode ?? TYPE_CODES[draft.kind],
    specification: draft.specification ?? EN16931_SPECIFICATION,
  })
  // Through the canonical form: what is frozen is exactly what will be encoded, in one order, sharing nothing.
  const document = fromJson(toJson(complete))
  const violations = validate(document)
  if (violations.length > 0) throw new DomainError('InvalidRequest', violations)
  return deepFreeze(document)
}

/** Freezes an object and everything in it; a document is at most a few levels deep. */
export function deepFreeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value
  for (const inner of Object.values(value)) deepFreeze(inner)
  return Object.freeze(value)
}

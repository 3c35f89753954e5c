/** Random documents, derived from the model's own description so that no field can be forgotten. */
import fc from 'fast-check'
import type { BillingDocument } from '@tallystick/invoice-domain/model'
import { DOCUMENT_SHAPE, type AnyGroup, type AnyShape, type LeafKind } from '@tallystick/invoice-domain/shape'

const NASTY = ['&', '<', '>', '"', "'", ']]>', '\r\n', '\t', '\n', ' ', '&amp;', '&#65;', 'é', '€', '😀', '#AAI#', '__proto__', '']

export const text = fc
  .array(fc.oneof(fc.constantFrom(...NASTY), fc.string({ unit: 'grapheme', maxLength: 6 })), { maxLength: 4 })
  .map((parts) => parts.join(''))
  .filter(
    (value) => value.isWellFormed() && ![...value].some((c) => (c < ' ' && !'\t\n\r'.includes(c)) || c === '\ufffe' || c === '\uffff'),
  )

export const decimal = fc
  .tuple(fc.boolean(), fc.bigInt({ min: 0n, max: 10n ** 12n }), fc.option(fc.stringMatching(/^[0-9]{1,9}$/)))
  .map(([negative, integer, fraction]) => `${negative ? '-' : ''}${integer}${fraction === null ? '' : `.${fraction}`}`)
  .filter((value) => !/^-0(\.0*)?$/.test(value))

const date = fc
  .tuple(fc.integer({ min: 1900, max: 2199 }), fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 28 }))
  .map(([year, month, day]) => `${year}-${String(month).padStart(2, '0')}-${String(day).padStart(2, '0')}`)

const LEAVES: Record<LeafKind, fc.Arbitrary<string>> = {
  text,
  code: fc.stringMatching(/^[A-Za-z0-9&<"]{1,6}$/),
  date,
  decimal,
  base64: fc.uint8Array({ minLength: 1, maxLength: 40 }).map((bytes) => btoa(String.fromCharCode(...bytes))),
}

function arbitrary(shape: AnyShape): fc.Arbitrary<unknown> {
  if (typeof shape === 'string') return LEAVES[shape]
  if ('list' in shape) return fc.array(arbitrary(shape.list), { minLength: 1, maxLength: 3 })
  return group(shape)
}

function group(shape: AnyGroup): fc.Arbitrary<Record<string, unknown>> {
  const fields = Object.fromEntries(Object.entries(shape.fields).map(([name, field]) => [name, arbitrary(field)]))
  return fc.record(fields, { requiredKeys: [...(shape.required ?? [])], noNullPrototype: true })
}

/** Any record that the model allows; not necessarily in the normal form that UBL can tell apart. */
export const anyDocument: fc.Arbitrary<BillingDocument> = fc
  .tuple(fc.constantFrom('invoice', 'credit-note'), group(DOCUMENT_SHAPE as AnyGroup))
  .map(([kind, fields]) => withReadableNotes({ kind, ...fields } as BillingDocument))

/** The one rule between two fields that a record has: a text does not look like a subject code. */
function withReadableNotes(document: BillingDocument): BillingDocument {
  for (const note of document.notes ?? []) {
    if (note.subjectCode === undefined && note.text?.startsWith('#')) note.text = ` ${note.text}`
  }
  return document
}

/**
 * The normal form of a document: what two spellings UBL cannot tell apart are made one. Each step is described in
 * docs/spec/ubl.md §2.
 */
export function normalForm(document: BillingDocument): BillingDocument {
  const normal = structuredClone(document)
  const notes = (normal.notes ?? []).filter((note) => (note.text ?? '') !== '' || note.subjectCode !== undefined)
  for (const note of notes) {
    if (note.text === '') delete note.text
  }
  normal.notes = notes
  if (notes.length === 0) delete normal.notes
  if (normal.salesOrderReference !== undefined && normal.purchaseOrderReference === 'NA') delete normal.purchaseOrderReference
  if (normal.taxPointDateCode !== undefined && Object.keys(normal.invoicingPeriod ?? {}).length === 0) delete normal.invoicingPeriod
  for (const id of [...(normal.seller?.identifiers ?? []), normal.payee?.identifier, normal.buyer?.identifier])
    if (id?.schemeId === 'SEPA') delete id.schemeId
  const registration = normal.seller?.taxRegistration
  if (registration?.schemeId !== undefined) {
    const scheme = registration.schemeId.trim()
    if (scheme === '' || scheme === 'TAX' || scheme.toUpperCase() === 'VAT') delete registration.schemeId
    else registration.schemeId = scheme
  }
  if (normal.totals !== undefined && (normal.vatCurrency === undefined || normal.vatCurrency === normal.currency))
    delete normal.totals.vatInAccountingCurrency
  if (normal.kind === 'credit-note' && normal.dueDate !== undefined && normal.payment?.length === 1) {
    const [only] = normal.payment
    if (only?.meansCode === '1' && Object.keys(only).length === 1) delete normal.payment
  }
  for (const line of normal.lines ?? []) if (Object.keys(line.item ?? {}).length === 0) delete line.item
  for (const line of normal.lines ?? []) {
    for (const classification of line.item?.classifications ?? []) {
      if (classification.code === '' && Object.keys(classification).length > 1) delete classification.code
    }
  }
  return normal
}

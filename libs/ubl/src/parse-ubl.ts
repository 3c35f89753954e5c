/** UBL 2.1 Invoice or CreditNote to a document of the domain. */
import type { Violation } from '@tallystick/invoice-domain/errors'
import type { BillingDocument, BillingKind } from '@tallystick/invoice-domain/model'
import { readAll, type Binding, type Context } from './binding.js'
import { CREDIT_NOTE_BINDINGS, INVOICE_BINDINGS } from './document-bindings.js'
import { malformed, refuseBadValues, type BadValue } from './errors.js'
import { MAX_UNMAPPED } from './limits.js'
import { checkSyntax } from './syntax-rules.js'
import { child, CREDIT_NOTE_NS, INVOICE_NS, parseXml, type XmlElement } from './tree.js'

/** A part of the source that the document does not hold. */
export interface Unmapped {
  /** Element path, "/Invoice/cac:Signature/cbc:ID"; attributes as "/@schemeID" */
  path: string
  /** Its text, at most MAX_REPORTED_VALUE characters */
  value: string
  /**
   * `no-term`: EN 16931 has no term for it. `term`: it is one, but cannot be kept: repeated where the standard has it
   * once, a foreign currency, a tax other than VAT.
   */
  lost: 'no-term' | 'term'
}

export interface ParsedUbl {
  kind: BillingKind
  document: BillingDocument
  unmapped: Unmapped[]
  /** Broken rules of the UBL binding itself (UBL-SR, UBL-DT), which the document cannot show any more */
  syntax: Violation[]
}

export interface RootBinding {
  readonly kind: BillingKind
  readonly root: 'Invoice' | 'CreditNote'
  readonly namespace: string
  readonly bindings: readonly Binding<BillingDocument>[]
}

export const ROOTS: Readonly<Record<BillingKind, RootBinding>> = {
  invoice: { kind: 'invoice', root: 'Invoice', namespace: INVOICE_NS, bindings: INVOICE_BINDINGS },
  'credit-note': { kind: 'credit-note', root: 'CreditNote', namespace: CREDIT_NOTE_NS, bindings: CREDIT_NOTE_BINDINGS },
}

const MAX_REPORTED_VALUE = 200
const MAX_REPORTED_PATH = 400

/**
 * @param input UTF-8 bytes or text, at most MAX_UBL_BYTES
 * @throws UblError with a rule and, where known, an element path; see `UblError`
 * @see docs/spec/ubl.md §1
 */
export function parseUbl(input: Uint8Array | string): ParsedUbl {
  const { bad, ...parsed } = readUbl(input)
  refuseBadValues(bad)
  return parsed
}

/** As `parseUbl`, but a value that is not of its type is listed, and its date kept as written or its amount left out. */
export function readUbl(input: Uint8Array | string): ParsedUbl & { bad: BadValue[] } {
  const root = parseXml(input)
  const bound = Object.values(ROOTS).find((candidate) => candidate.root === root.name)
  if (bound === undefined) throw malformed('UBL-ROOT', 'the root element is neither a UBL 2.1 Invoice nor a CreditNote')
  const context: Context = {
    kind: bound.kind,
    currency: currencyOf(root, 'cbc:DocumentCurrencyCode'),
    vatCurrency: currencyOf(root, 'cbc:TaxCurrencyCode'),
    bad: [],
  }
  const syntax = checkSyntax(root, bound.kind)
  const document: BillingDocument = { ...readAll(root, bound.bindings, context), kind: bound.kind }
  return { kind: bound.kind, document, unmapped: leftOver(root), syntax, bad: context.bad }
}

function currencyOf(root: XmlElement, name: string): string | undefined {
  const code = child(root, name)?.text.trim()
  return code === undefined || code === '' ? undefined : code
}

/** Everything with a value that no binding has used. */
function leftOver(root: XmlElement): Unmapped[] {
  const found: Unmapped[] = []
  collect(root, false, true, found)
  return found
}

function collect(element: XmlElement, lost: boolean, isRoot: boolean, found: Unmapped[]): void {
  if (found.length >= MAX_UNMAPPED) return
  const text = element.text.trim()
  // A known group that no binding entered is lost with all it holds; a used value only if an attribute is left.
  const isLost = lost || (element.known && !element.used && element.children.length === 0)
  if (!element.used && text !== '') found.push(report(element.path, text, isLost))
  for (const attribute of element.attributes) {
    if (attribute.used || (isRoot && attribute.name.startsWith('{http://www.w3.org/2001/XMLSchema-instance}'))) continue
    found.push(report(`${element.path}/@${attribute.name}`, attribute.value, isLost || (element.known && attribute.name === 'currencyID')))
  }
  const untouched = element.known && element.children.length > 0 && !reached(element)
  for (const inner of element.children) collect(inner, isLost || untouched, false, found)
}

/** Whether any binding took something out of it. */
function reached(element: XmlElement): boolean {
  return element.children.some((inner) => inner.used || inner.known || reached(inner))
}

function report(path: string, value: string, lost: boolean): Unmapped {
  return { path: path.slice(0, MAX_REPORTED_PATH), value: value.slice(0, MAX_REPORTED_VALUE), lost: lost ? 'term' : 'no-term' }
}

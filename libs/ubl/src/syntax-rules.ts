/**
 * Rules of EN 16931's UBL binding about what the domain does not hold any more: repetitions of single terms, digits and
 * attributes of elements. They run on the XML tree, before it becomes a document. @see docs/spec/ubl.md §7
 */
import { CURRENCIES, VAT_CATEGORIES } from '@tallystick/invoice-domain/code-lists'
import type { Violation } from '@tallystick/invoice-domain/errors'
import type { BillingKind } from '@tallystick/invoice-domain/model'
import { attributeOf, child, type XmlElement } from './tree.js'

/** Violations kept; a document that breaks more is broken enough. */
const MAX_VIOLATIONS = 200

/** Amounts of prices may have more than two digits; every other element of these names may not. */
const AMOUNTS = new Set([
  'cbc:Amount',
  'cbc:BaseAmount',
  'cbc:TaxAmount',
  'cbc:TaxableAmount',
  'cbc:LineExtensionAmount',
  'cbc:TaxExclusiveAmount',
  'cbc:TaxInclusiveAmount',
  'cbc:AllowanceTotalAmount',
  'cbc:ChargeTotalAmount',
  'cbc:PrepaidAmount',
  'cbc:PayableRoundingAmount',
  'cbc:PayableAmount',
])
const ALL_AMOUNTS = new Set([...AMOUNTS, 'cbc:PriceAmount'])

export function checkSyntax(root: XmlElement, kind: BillingKind): Violation[] {
  const violations: Violation[] = []
  const require = (holds: boolean, rule: string, at: XmlElement, message: string): void => {
    if (!holds && violations.length < MAX_VIOLATIONS)
      violations.push({ rule, pointer: '', message: `${at.path.slice(0, 400)}: ${message}` })
  }
  partyTaxSchemes(root, 'cac:AccountingSupplierParty', 'UBL-SR-12', require)
  partyTaxSchemes(root, 'cac:AccountingCustomerParty', 'UBL-SR-18', require)
  const supplier = child(root, 'cac:AccountingSupplierParty', 'cac:Party')
  if (supplier !== undefined)
    require(all(supplier, 'cac:PartyTaxScheme').length <= 2, 'UBL-SR-42', supplier, 'the seller has at most two tax schemes')
  for (const reference of all(root, 'cac:AdditionalDocumentReference'))
    require(schemeFits(reference, kind), 'UBL-SR-43', reference, 'only an invoiced object (type 130) has a scheme or a type')
  paymentMeans(root, require)
  taxTotals(root, require)
  walk(root, undefined, require)
  return violations
}

type Require = (holds: boolean, rule: string, at: XmlElement, message: string) => void

function all(parent: XmlElement, name: string): XmlElement[] {
  return parent.children.filter((candidate) => candidate.name === name)
}

function partyTaxSchemes(root: XmlElement, role: string, rule: string, require: Require): void {
  const party = child(root, role, 'cac:Party')
  if (party === undefined) return
  const vat = all(party, 'cac:PartyTaxScheme').filter(
    (scheme) => child(scheme, 'cac:TaxScheme', 'cbc:ID')?.text.trim().toUpperCase() === 'VAT',
  )
  require(vat.length <= 1, rule, party, 'a VAT identifier occurs once')
}

function schemeFits(reference: XmlElement, kind: BillingKind): boolean {
  const type = child(reference, 'cbc:DocumentTypeCode')?.text.trim()
  if (type === '130' || (type === '50' && kind === 'credit-note')) return true
  return type === undefined && attributeOf(child(reference, 'cbc:ID'), 'schemeID') === undefined
}

function paymentMeans(root: XmlElement, require: Require): void {
  const means = all(root, 'cac:PaymentMeans')
  for (const each of means) require(all(each, 'cbc:PaymentID').length <= 1, 'UBL-SR-44', each, 'remittance information occurs once')
  const identifiers = new Set(means.flatMap((each) => all(each, 'cbc:PaymentID')).map((id) => id.text.trim()))
  require(identifiers.size <= 1, 'UBL-SR-44', root, 'remittance information is the same in every payment means')
  const codes = new Set(means.flatMap((each) => all(each, 'cbc:PaymentMeansCode')).map((code) => code.text.trim()))
  require(codes.size <= 1, 'UBL-SR-47', root, 'every payment means has the same code')
}

/** BR-CO-15 counts: exactly one VAT total in the document's currency. */
function taxTotals(root: XmlElement, require: Require): void {
  const currency = child(root, 'cbc:DocumentCurrencyCode')?.text.trim()
  if (currency === undefined) return
  const totals = all(root, 'cac:TaxTotal')
    .flatMap((total) => all(total, 'cbc:TaxAmount'))
    .filter((amount) => attributeOf(amount, 'currencyID')?.trim() === currency)
  require(totals.length <= 1, 'BR-CO-15', root, 'several VAT totals (BT-110) in the currency of the document')
}

function walk(element: XmlElement, parent: XmlElement | undefined, require: Require): void {
  if (ALL_AMOUNTS.has(element.name)) amountRules(element, parent, require)
  if (element.name === 'cbc:EmbeddedDocumentBinaryObject') {
    require(attributeOf(element, 'mimeCode') !== undefined, 'UBL-DT-06', element, 'an attachment needs its media type (BT-125-1)')
    require(attributeOf(element, 'filename') !== undefined, 'UBL-DT-07', element, 'an attachment needs its file name (BT-125-2)')
  }
  if (element.name === 'cac:ClassifiedTaxCategory') {
    const category = child(element, 'cbc:ID')?.text.trim()
    require(category === undefined || VAT_CATEGORIES.has(category), 'BR-CL-18', element, 'not a VAT category (UNTDID 5305)')
  }
  const below = element.name === 'cac:Price' ? element : parent
  for (const inner of element.children) walk(inner, below, require)
}

/** @param price the Price element around it, if there is one */
function amountRules(element: XmlElement, price: XmlElement | undefined, require: Require): void {
  const currency = attributeOf(element, 'currencyID')?.trim()
  require(currency === undefined || CURRENCIES.has(currency), 'BR-CL-03', element, 'currencyID is no ISO 4217 code')
  if (price === undefined && AMOUNTS.has(element.name)) {
    require((element.text.trim().split('.')[1] ?? '').length <= 2, 'UBL-DT-01', element, 'an amount has at most two fraction digits')
  }
}

/** BR-01 to BR-65 and the conditions among them (BR-CO-03, 04, 09, 19 to 26): what must be there. @see docs/spec/ubl.md §7 */
import { COUNTRIES } from './code-lists.js'
import { compare } from './decimal.js'
import { pointerTo } from './errors.js'
import { documentEntries, filled, type Findings } from './findings.js'
import type { Item, Line, LineAllowanceCharge } from './lines.js'
import type { BillingDocument, PaymentInstruction } from './model.js'
import type { Period } from './terms.js'

export function integrityRules(document: BillingDocument, findings: Findings): void {
  header(document, findings)
  parties(document, findings)
  settlement(document, findings)
  const lines = document.lines ?? []
  findings.require(lines.length > 0, 'BR-16', '/lines', 'at least one line (BG-25) is needed')
  lines.forEach((line, index) => lineRules(line, pointerTo('/lines', index), findings))
}

function header(document: BillingDocument, findings: Findings): void {
  findings.require(filled(document.specification), 'BR-01', '/specification', 'the specification identifier (BT-24) is missing')
  findings.require(filled(document.number), 'BR-02', '/number', 'the number (BT-1) is missing')
  findings.require(filled(document.issueDate), 'BR-03', '/issueDate', 'the issue date (BT-2) is missing')
  findings.require(filled(document.typeCode), 'BR-04', '/typeCode', 'the type code (BT-3) is missing')
  findings.require(filled(document.currency), 'BR-05', '/currency', 'the currency code (BT-5) is missing')
  findings.require(
    document.taxPointDate === undefined || document.taxPointDateCode === undefined,
    'BR-CO-03',
    '/taxPointDateCode',
    'the tax point date (BT-7) and its code (BT-8) exclude each other',
  )
  if (document.invoicingPeriod !== undefined) {
    periodRules(document.invoicingPeriod, '/invoicingPeriod', 'BR-29', 'BR-CO-19', findings)
  }
  ;(document.precedingInvoices ?? []).forEach((preceding, index) => {
    findings.require(
      filled(preceding.number),
      'BR-55',
      pointerTo('/precedingInvoices', index),
      'a preceding invoice needs its number (BT-25)',
    )
  })
  ;(document.supportingDocuments ?? []).forEach((supporting, index) => {
    findings.require(
      filled(supporting.reference),
      'BR-52',
      pointerTo('/supportingDocuments', index),
      'a supporting document needs its reference (BT-122)',
    )
  })
}

function periodRules(period: Period, pointer: string, order: string, presence: string, findings: Findings): void {
  const { startDate, endDate } = period
  // Dates are YYYY-MM-DD: the order of the texts is the order of the days.
  findings.require(
    startDate === undefined || endDate === undefined || endDate >= startDate,
    order,
    pointer,
    'the period ends before it starts',
  )
  findings.require(startDate !== undefined || endDate !== undefined, presence, pointer, 'a period needs a start or an end')
}

function parties(document: BillingDocument, findings: Findings): void {
  const { seller, buyer, payee, taxRepresentative, delivery } = document
  findings.require(filled(seller?.name), 'BR-06', '/seller/name', "the seller's name (BT-27) is missing")
  findings.require(filled(buyer?.name), 'BR-07', '/buyer/name', "the buyer's name (BT-44) is missing")
  findings.require(seller?.address !== undefined, 'BR-08', '/seller/address', "the seller's address (BG-5) is missing")
  if (seller?.address !== undefined)
    findings.require(filled(seller.address.country), 'BR-09', '/seller/address/country', "the seller's country (BT-40) is missing")
  findings.require(buyer?.address !== undefined, 'BR-10', '/buyer/address', "the buyer's address (BG-8) is missing")
  if (buyer?.address !== undefined)
    findings.require(filled(buyer.address.country), 'BR-11', '/buyer/address/country', "the buyer's country (BT-55) is missing")
  const identified =
    (seller?.identifiers ?? []).some((id) => filled(id.value)) || filled(seller?.legalRegistration?.value) || filled(seller?.vatIdentifier)
  findings.require(
    identified,
    'BR-CO-26',
    '/seller',
    'the seller needs an identifier (BT-29), a legal registration (BT-30) or a VAT identifier (BT-31)',
  )
  if (seller?.electronicAddress !== undefined)
    findings.require(
      filled(seller.electronicAddress.schemeId),
      'BR-62',
      '/seller/electronicAddress/schemeId',
      "the seller's electronic address (BT-34) needs a scheme",
    )
  if (buyer?.electronicAddress !== undefined)
    findings.require(
      filled(buyer.electronicAddress.schemeId),
      'BR-63',
      '/buyer/electronicAddress/schemeId',
      "the buyer's electronic address (BT-49) needs a scheme",
    )
  if (payee !== undefined) {
    const sameName = filled(payee.name) && payee.name === seller?.name
    const sameId = payee.identifier !== undefined && (seller?.identifiers ?? []).some((id) => id.value === payee.identifier?.value)
    findings.require(
      filled(payee.name) && !sameName && !sameId,
      'BR-17',
      '/payee/name',
      'a payee needs a name (BT-59) and is named only if it is not the seller',
    )
  }
  if (taxRepresentative !== undefined) {
    findings.require(filled(taxRepresentative.name), 'BR-18', '/taxRepresentative/name', "the tax representative's name (BT-62) is missing")
    findings.require(
      taxRepresentative.address !== undefined,
      'BR-19',
      '/taxRepresentative/address',
      "the tax representative's address (BG-12) is missing",
    )
    if (taxRepresentative.address !== undefined) {
      findings.require(
        filled(taxRepresentative.address.country),
        'BR-20',
        '/taxRepresentative/address/country',
        "the tax representative's country (BT-69) is missing",
      )
    }
    findings.require(
      filled(taxRepresentative.vatIdentifier),
      'BR-56',
      '/taxRepresentative/vatIdentifier',
      "the tax representative's VAT identifier (BT-63) is missing",
    )
  }
  if (delivery?.address !== undefined)
    findings.require(
      filled(delivery.address.country),
      'BR-57',
      '/delivery/address/country',
      "the delivery address's country (BT-80) is missing",
    )
  vatPrefix(seller?.vatIdentifier, '/seller/vatIdentifier', findings)
  vatPrefix(buyer?.vatIdentifier, '/buyer/vatIdentifier', findings)
  vatPrefix(taxRepresentative?.vatIdentifier, '/taxRepresentative/vatIdentifier', findings)
}

/** BR-CO-09. Greece uses EL, Northern Ireland XI; neither is an ISO 3166 code. */
function vatPrefix(identifier: string | undefined, pointer: string, findings: Findings): void {
  if (identifier === undefined) return
  const prefix = identifier.trim().slice(0, 2)
  findings.require(
    COUNTRIES.has(prefix) || prefix === 'EL' || prefix === 'XI',
    'BR-CO-09',
    pointer,
    'a VAT identifier begins with a country code',
  )
}

function settlement(document: BillingDocument, findings: Findings): void {
  const totals = document.totals ?? {}
  findings.require(totals.lineNet !== undefined, 'BR-12', '/totals/lineNet', 'the sum of line net amounts (BT-106) is missing')
  findings.require(totals.withoutVat !== undefined, 'BR-13', '/totals/withoutVat', 'the total without VAT (BT-109) is missing')
  findings.require(totals.withVat !== undefined, 'BR-14', '/totals/withVat', 'the total with VAT (BT-112) is missing')
  findings.require(totals.payable !== undefined, 'BR-15', '/totals/payable', 'the amount due (BT-115) is missing')
  if (totals.payable !== undefined && compare(totals.payable, '0') > 0 && document.kind === 'invoice') {
    findings.require(
      filled(document.dueDate) || filled(document.paymentTerms),
      'BR-CO-25',
      '/dueDate',
      'a positive amount due needs a due date (BT-9) or payment terms (BT-20)',
    )
  }
  ;(document.payment ?? []).forEach((instruction, index) => paymentRules(instruction, pointerTo('/payment', index), findings))
  const sides = [
    { field: 'allowances', amount: 'BR-31', category: 'BR-32', reason: ['BR-33', 'BR-CO-21'] },
    { field: 'charges', amount: 'BR-36', category: 'BR-37', reason: ['BR-38', 'BR-CO-22'] },
  ] as const
  for (const side of sides) {
    for (const [entry, pointer] of documentEntries(document, side.field)) {
      findings.require(entry.amount !== undefined, side.amount, `${pointer}/amount`, 'the amount is missing')
      findings.require(filled(entry.vat?.code), side.category, `${pointer}/vat/code`, 'the VAT category code is missing')
      for (const rule of side.reason) findings.require(hasReason(entry), rule, pointer, 'a reason or a reason code is needed')
    }
  }
  ;(document.vatBreakdown ?? []).forEach((entry, index) => {
    const pointer = pointerTo('/vatBreakdown', index)
    findings.require(entry.taxableAmount !== undefined, 'BR-45', `${pointer}/taxableAmount`, 'the taxable amount (BT-116) is missing')
    findings.require(entry.taxAmount !== undefined, 'BR-46', `${pointer}/taxAmount`, 'the tax amount (BT-117) is missing')
    findings.require(filled(entry.code), 'BR-47', `${pointer}/code`, 'the VAT category code (BT-118) is missing')
    findings.require(entry.rate !== undefined || entry.code === 'O', 'BR-48', `${pointer}/rate`, 'the VAT rate (BT-119) is missing')
  })
}

function hasReason(entry: { reason?: string; reasonCode?: string }): boolean {
  return filled(entry.reason) || filled(entry.reasonCode)
}

/** UNTDID 4461: credit transfer and SEPA credit transfer */
const CREDIT_TRANSFERS = ['30', '58']

function paymentRules(instruction: PaymentInstruction, pointer: string, findings: Findings): void {
  findings.require(filled(instruction.meansCode), 'BR-49', `${pointer}/meansCode`, 'the payment means code (BT-81) is missing')
  const account = filled(instruction.creditTransfer?.account?.value)
  const isTransfer = instruction.meansCode !== undefined && CREDIT_TRANSFERS.includes(instruction.meansCode)
  if (isTransfer)
    findings.require(account, 'BR-61', `${pointer}/creditTransfer/account`, 'a credit transfer needs a payment account (BT-84)')
  if (isTransfer && instruction.creditTransfer !== undefined) {
    findings.require(account, 'BR-50', `${pointer}/creditTransfer/account`, 'a credit transfer group needs a payment account (BT-84)')
  }
  if (instruction.card !== undefined) {
    const number = instruction.card.accountNumber?.trim() ?? ''
    findings.require(
      number !== '' && number.length <= 10,
      'BR-51',
      `${pointer}/card/accountNumber`,
      'the card number (BT-87) is given by its last digits, ten characters at most',
    )
  }
}

function lineRules(line: Line, pointer: string, findings: Findings): void {
  findings.require(filled(line.id), 'BR-21', `${pointer}/id`, 'the line identifier (BT-126) is missing')
  findings.require(line.quantity !== undefined, 'BR-22', `${pointer}/quantity`, 'the quantity (BT-129) is missing')
  findings.require(filled(line.unit), 'BR-23', `${pointer}/unit`, 'the unit of measure (BT-130) is missing')
  findings.require(line.netAmount !== undefined, 'BR-24', `${pointer}/netAmount`, 'the line net amount (BT-131) is missing')
  findings.require(line.price?.net !== undefined, 'BR-26', `${pointer}/price/net`, 'the item net price (BT-146) is missing')
  findings.require(
    line.price?.net === undefined || compare(line.price.net, '0') >= 0,
    'BR-27',
    `${pointer}/price/net`,
    'the item net price (BT-146) is negative',
  )
  findings.require(
    line.price?.gross === undefined || compare(line.price.gross, '0') >= 0,
    'BR-28',
    `${pointer}/price/gross`,
    'the item gross price (BT-148) is negative',
  )
  findings.require(filled(line.vat?.code), 'BR-CO-04', `${pointer}/vat/code`, 'the VAT category code (BT-151) is missing')
  if (line.period !== undefined) periodRules(line.period, `${pointer}/period`, 'BR-30', 'BR-CO-20', findings)
  adjustments(line.allowances, `${pointer}/allowances`, 'BR-41', ['BR-42', 'BR-CO-23'], findings)
  adjustments(line.charges, `${pointer}/charges`, 'BR-43', ['BR-44', 'BR-CO-24'], findings)
  itemRules(line.item ?? {}, `${pointer}/item`, findings)
}

function adjustments(
  entries: readonly LineAllowanceCharge[] | undefined,
  pointer: string,
  amount: string,
  reasons: readonly string[],
  findings: Findings,
): void {
  ;(entries ?? []).forEach((entry, index) => {
    const at = pointerTo(pointer, index)
    findings.require(entry.amount !== undefined, amount, `${at}/amount`, 'the amount is missing')
    for (const rule of reasons) findings.require(hasReason(entry), rule, at, 'a reason or a reason code is needed')
  })
}

function itemRules(item: Item, pointer: string, findings: Findings): void {
  findings.require(filled(item.name), 'BR-25', `${pointer}/name`, 'the item name (BT-153) is missing')
  if (item.standardIdentifier !== undefined) {
    findings.require(
      filled(item.standardIdentifier.schemeId),
      'BR-64',
      `${pointer}/standardIdentifier/schemeId`,
      'the standard identifier (BT-157) needs a scheme',
    )
  }
  ;(item.classifications ?? []).forEach((classification, index) => {
    findings.require(
      filled(classification.listId),
      'BR-65',
      pointerTo(`${pointer}/classifications`, index),
      'a classification (BT-158) needs a scheme',
    )
  })
  ;(item.attributes ?? []).forEach((attribute, index) => {
    findings.require(
      filled(attribute.name) && filled(attribute.value),
      'BR-54',
      pointerTo(`${pointer}/attributes`, index),
      'an attribute needs a name (BT-160) and a value (BT-161)',
    )
  })
}

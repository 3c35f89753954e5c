/** BR-CO-10 to BR-CO-18, BR-53 and BR-DEC: the sums, and how many digits they may have. @see docs/spec/ubl.md §7 */
import { compare, exact, rounded, sum, type Exact } from './decimal.js'
import { pointerTo } from './errors.js'
import { documentEntries, type Findings } from './findings.js'
import type { BillingDocument, Totals, VatBreakdown } from './model.js'

export function totalRules(document: BillingDocument, findings: Findings): void {
  sums(document, findings)
  const breakdown = document.vatBreakdown ?? []
  findings.require(breakdown.length > 0, 'BR-CO-18', '/vatBreakdown', 'at least one VAT breakdown (BG-23) is needed')
  breakdown.forEach((entry, index) => {
    findings.require(
      taxFollows(entry),
      'BR-CO-17',
      `${pointerTo('/vatBreakdown', index)}/taxAmount`,
      'the tax amount (BT-117) is not the taxable amount × rate',
    )
  })
  findings.require(
    document.vatCurrency === undefined ||
      document.totals?.vatInAccountingCurrency !== undefined ||
      document.vatCurrency === document.currency,
    'BR-53',
    '/totals/vatInAccountingCurrency',
    'an accounting currency (BT-6) needs the VAT total in it (BT-111)',
  )
  decimals(document, findings)
}

const amount = (value: string | undefined): Exact => exact(value ?? '0')

/** Equal when rounded to two digits, as the official rules compare. */
function equal(a: Exact, b: Exact): boolean {
  return rounded(a, 2).equals(rounded(b, 2))
}

function sums(document: BillingDocument, findings: Findings): void {
  const totals = document.totals
  if (totals === undefined) return
  const total = (entries: readonly { amount?: string }[] | undefined): Exact => sum((entries ?? []).map((entry) => entry.amount ?? '0'))
  const lines = sum((document.lines ?? []).map((line) => line.netAmount ?? '0'))
  if (totals.lineNet !== undefined) {
    findings.require(
      equal(amount(totals.lineNet), lines),
      'BR-CO-10',
      '/totals/lineNet',
      'BT-106 is not the sum of the line net amounts (BT-131)',
    )
  }
  const allowances = document.allowances !== undefined || totals.allowances !== undefined
  if (allowances) {
    findings.require(
      totals.allowances !== undefined && equal(amount(totals.allowances), total(document.allowances)),
      'BR-CO-11',
      '/totals/allowances',
      'BT-107 is not the sum of the document allowances (BT-92)',
    )
  }
  const charges = document.charges !== undefined || totals.charges !== undefined
  if (charges) {
    findings.require(
      totals.charges !== undefined && equal(amount(totals.charges), total(document.charges)),
      'BR-CO-12',
      '/totals/charges',
      'BT-108 is not the sum of the document charges (BT-99)',
    )
  }
  if (totals.lineNet !== undefined && totals.withoutVat !== undefined) {
    const expected = amount(totals.lineNet).minus(amount(totals.allowances)).plus(amount(totals.charges))
    findings.require(equal(amount(totals.withoutVat), expected), 'BR-CO-13', '/totals/withoutVat', 'BT-109 is not BT-106 − BT-107 + BT-108')
  }
  vatTotals(document, totals, findings)
}

function vatTotals(document: BillingDocument, totals: Totals, findings: Findings): void {
  if (totals.vat !== undefined && document.vatBreakdown !== undefined) {
    const taxes = sum(document.vatBreakdown.map((entry) => entry.taxAmount ?? '0'))
    findings.require(equal(amount(totals.vat), taxes), 'BR-CO-14', '/totals/vat', 'BT-110 is not the sum of the VAT amounts (BT-117)')
  }
  if (totals.withVat !== undefined && totals.withoutVat !== undefined) {
    findings.require(
      totals.vat !== undefined && equal(amount(totals.withVat), amount(totals.withoutVat).plus(amount(totals.vat))),
      'BR-CO-15',
      '/totals/withVat',
      'BT-112 is not BT-109 + BT-110',
    )
  }
  if (totals.payable !== undefined && totals.withVat !== undefined) {
    const expected = amount(totals.withVat).minus(amount(totals.paid)).plus(amount(totals.rounding))
    findings.require(equal(amount(totals.payable), expected), 'BR-CO-16', '/totals/payable', 'BT-115 is not BT-112 − BT-113 + BT-114')
  }
}

/**
 * BR-CO-17: within one unit of the currency, since senders round per line or per document.
 * A rate that rounds to zero, or none, goes with a tax that rounds to zero.
 */
function taxFollows(entry: VatBreakdown): boolean {
  if (entry.taxAmount === undefined || entry.taxableAmount === undefined) return true
  const tax = exact(entry.taxAmount)
  if (entry.rate === undefined || rounded(exact(entry.rate), 0).isZero()) return rounded(tax, 0).isZero()
  return withinOne(tax.abs(), rounded(exact(entry.taxableAmount).abs().times(exact(entry.rate)).dividedBy(100), 2))
}

/** Closer than one unit. */
export function withinOne(a: Exact, b: Exact): boolean {
  return a.minus(b).abs().lessThan(1)
}

/** BR-DEC-xx by term: at most two fraction digits. */
const TOTAL_DECIMALS: Readonly<Record<keyof Totals, string>> = {
  lineNet: 'BR-DEC-09',
  allowances: 'BR-DEC-10',
  charges: 'BR-DEC-11',
  withoutVat: 'BR-DEC-12',
  vat: 'BR-DEC-13',
  withVat: 'BR-DEC-14',
  vatInAccountingCurrency: 'BR-DEC-15',
  paid: 'BR-DEC-16',
  rounding: 'BR-DEC-17',
  payable: 'BR-DEC-18',
}

function decimals(document: BillingDocument, findings: Findings): void {
  const twoDigits = (value: string | undefined, rule: string, pointer: string): void => {
    findings.require(
      value === undefined || (value.split('.')[1] ?? '').length <= 2,
      rule,
      pointer,
      'an amount has at most two fraction digits',
    )
  }
  for (const [field, rule] of Object.entries(TOTAL_DECIMALS)) twoDigits(document.totals?.[field as keyof Totals], rule, `/totals/${field}`)
  for (const [entry, pointer] of documentEntries(document, 'allowances')) {
    twoDigits(entry.amount, 'BR-DEC-01', `${pointer}/amount`)
    twoDigits(entry.baseAmount, 'BR-DEC-02', `${pointer}/baseAmount`)
  }
  for (const [entry, pointer] of documentEntries(document, 'charges')) {
    twoDigits(entry.amount, 'BR-DEC-05', `${pointer}/amount`)
    twoDigits(entry.baseAmount, 'BR-DEC-06', `${pointer}/baseAmount`)
  }
  ;(document.vatBreakdown ?? []).forEach((entry, index) => {
    twoDigits(entry.taxableAmount, 'BR-DEC-19', `${pointerTo('/vatBreakdown', index)}/taxableAmount`)
    twoDigits(entry.taxAmount, 'BR-DEC-20', `${pointerTo('/vatBreakdown', index)}/taxAmount`)
  })
  ;(document.lines ?? []).forEach((line, index) => {
    const pointer = pointerTo('/lines', index)
    twoDigits(line.netAmount, 'BR-DEC-23', `${pointer}/netAmount`)
    for (const [at, entry] of (line.allowances ?? []).entries()) {
      twoDigits(entry.amount, 'BR-DEC-24', `${pointer}/allowances/${at}/amount`)
      twoDigits(entry.baseAmount, 'BR-DEC-25', `${pointer}/allowances/${at}/baseAmount`)
    }
    for (const [at, entry] of (line.charges ?? []).entries()) {
      twoDigits(entry.amount, 'BR-DEC-27', `${pointer}/charges/${at}/amount`)
      twoDigits(entry.baseAmount, 'BR-DEC-28', `${pointer}/charges/${at}/baseAmount`)
    }
  })
}

/** Whether a rate is zero. */
export function isZero(rate: string | undefined): boolean {
  return rate !== undefined && compare(rate, '0') === 0
}

/**
 * The rules of each VAT category. They repeat one pattern, numbered 01 to 10 under the category's letters, so the
 * categories are rows of a table here. @see docs/spec/ubl.md §7
 */
import { exact, rounded, toText, type Exact } from './decimal.js'
import { pointerTo } from './errors.js'
import { documentEntries, filled, type Findings } from './findings.js'
import type { BillingDocument, VatBreakdown } from './model.js'
import type { VatCategory } from './terms.js'
import { isZero, withinOne } from './total-rules.js'

interface Category {
  /** UNTDID 5305 */
  readonly code: string
  /** Prefix of its rules: BR-S-01 */
  readonly rules: string
  readonly name: string
  /** What its rate must be. `positive` categories have one breakdown per rate, the others exactly one in all. */
  readonly rate: 'positive' | 'not-negative' | 'zero' | 'none'
  /** Who must have which VAT identifier (02, 03, 04) */
  readonly parties: (document: BillingDocument) => boolean
  readonly partiesMessage: string
  /** Whether its breakdown has an exemption reason (10) */
  readonly reason: 'needed' | 'forbidden'
}

const sellerVat = (document: BillingDocument): boolean =>
  filled(document.seller?.vatIdentifier) || filled(document.taxRepresentative?.vatIdentifier)
const sellerTax = (document: BillingDocument): boolean => sellerVat(document) || filled(document.seller?.taxRegistration?.value)
const buyerVat = (document: BillingDocument): boolean => filled(document.buyer?.vatIdentifier)
const SELLER_TAX = "needs the seller's VAT identifier (BT-31), tax registration (BT-32) or representative's VAT identifier (BT-63)"

const CATEGORIES: readonly Category[] = [
  {
    code: 'S',
    rules: 'BR-S',
    name: 'standard rate',
    rate: 'positive',
    parties: sellerTax,
    partiesMessage: SELLER_TAX,
    reason: 'forbidden',
  },
  { code: 'Z', rules: 'BR-Z', name: 'zero rated', rate: 'zero', parties: sellerTax, partiesMessage: SELLER_TAX, reason: 'forbidden' },
  { code: 'E', rules: 'BR-E', name: 'exempt', rate: 'zero', parties: sellerTax, partiesMessage: SELLER_TAX, reason: 'needed' },
  {
    code: 'AE',
    rules: 'BR-AE',
    name: 'reverse charge',
    rate: 'zero',
    reason: 'needed',
    parties: (document) => sellerTax(document) && (buyerVat(document) || filled(document.buyer?.legalRegistration?.value)),
    partiesMessage: `${SELLER_TAX}, and the buyer's VAT identifier (BT-48) or legal registration (BT-47)`,
  },
  {
    code: 'K',
    rules: 'BR-IC',
    name: 'intra-community supply',
    rate: 'zero',
    reason: 'needed',
    parties: (document) => sellerVat(document) && buyerVat(document),
    partiesMessage: "needs the seller's (BT-31) or the representative's (BT-63) and the buyer's (BT-48) VAT identifier",
  },
  {
    code: 'G',
    rules: 'BR-G',
    name: 'export outside the EU',
    rate: 'zero',
    reason: 'needed',
    parties: sellerVat,
    partiesMessage: "needs the seller's (BT-31) or the representative's (BT-63) VAT identifier",
  },
  {
    code: 'O',
    rules: 'BR-O',
    name: 'not subject to VAT',
    rate: 'none',
    reason: 'needed',
    parties: (document) => !sellerVat(document) && !buyerVat(document),
    partiesMessage: 'excludes the VAT identifiers of the seller (BT-31), the representative (BT-63) and the buyer (BT-48)',
  },
  { code: 'L', rules: 'BR-AF', name: 'IGIC', rate: 'not-negative', parties: sellerTax, partiesMessage: SELLER_TAX, reason: 'forbidden' },
  { code: 'M', rules: 'BR-AG', name: 'IPSI', rate: 'not-negative', parties: sellerTax, partiesMessage: SELLER_TAX, reason: 'forbidden' },
]

/** What a category is applied to, with the last digits of the rules on parties (02–04) and on the rate (05–07). */
interface Use {
  readonly vat: VatCategory
  readonly pointer: string
  readonly what: string
  readonly parties: '02' | '03' | '04'
  readonly rate: '05' | '06' | '07'
  /** Its share of the taxable amount: charges and lines add, allowances subtract */
  readonly share: Exact
}

export function vatRules(document: BillingDocument, findings: Findings): void {
  const uses = usesOf(document)
  for (const category of CATEGORIES)
    categoryRules(
      category,
      document,
      uses.filter((use) => use.vat.code === category.code),
      findings,
    )
  intraCommunity(document, findings)
  notSubject(document, uses, findings)
  splitPayment(document, uses, findings)
}

function usesOf(document: BillingDocument): Use[] {
  const uses: Use[] = []
  ;(document.lines ?? []).forEach((line, index) => {
    if (line.vat === undefined) return
    uses.push({
      vat: line.vat,
      pointer: pointerTo('/lines', index),
      what: 'a line',
      parties: '02',
      rate: '05',
      share: exact(line.netAmount ?? '0'),
    })
  })
  for (const [entry, pointer] of documentEntries(document, 'allowances')) {
    if (entry.vat !== undefined)
      uses.push({ vat: entry.vat, pointer, what: 'an allowance', parties: '03', rate: '06', share: exact(entry.amount ?? '0').negated() })
  }
  for (const [entry, pointer] of documentEntries(document, 'charges')) {
    if (entry.vat !== undefined)
      uses.push({ vat: entry.vat, pointer, what: 'a charge', parties: '04', rate: '07', share: exact(entry.amount ?? '0') })
  }
  return uses
}

function categoryRules(category: Category, document: BillingDocument, uses: readonly Use[], findings: Findings): void {
  const { rules, name } = category
  const breakdown = (document.vatBreakdown ?? [])
    .map((entry, index) => ({ entry, pointer: pointerTo('/vatBreakdown', index) }))
    .filter(({ entry }) => entry.code === category.code)
  const perRate = category.rate === 'positive' || category.rate === 'not-negative'
  const counted = uses.length === 0 ? breakdown.length === 0 : perRate ? breakdown.length > 0 : breakdown.length === 1
  findings.require(
    counted,
    `${rules}-01`,
    '/vatBreakdown',
    `category ${category.code} (${name}) is used ${uses.length} times but has ${breakdown.length} VAT breakdowns`,
  )
  for (const use of uses) {
    findings.require(
      category.parties(document),
      `${rules}-${use.parties}`,
      use.pointer,
      `${use.what} of category ${category.code} ${category.partiesMessage}`,
    )
    findings.require(
      rateFits(category, use.vat.rate),
      `${rules}-${use.rate}`,
      `${use.pointer}/vat/rate`,
      `${use.what} of category ${category.code} has a wrong rate`,
    )
  }
  for (const { entry, pointer } of breakdown) {
    if (entry.taxableAmount !== undefined) {
      findings.require(
        taxableFits(entry, uses, perRate),
        `${rules}-08`,
        `${pointer}/taxableAmount`,
        `the taxable amount is not the sum of lines, charges and allowances of category ${category.code}`,
      )
    }
    if (entry.taxAmount !== undefined) {
      findings.require(
        taxFits(entry, perRate),
        `${rules}-09`,
        `${pointer}/taxAmount`,
        `the tax amount of category ${category.code} is wrong`,
      )
    }
    const reason = filled(entry.exemptionReason) || filled(entry.exemptionReasonCode)
    findings.require(
      reason === (category.reason === 'needed'),
      `${rules}-10`,
      `${pointer}/exemptionReason`,
      category.reason === 'needed'
        ? `category ${category.code} needs an exemption reason`
        : `category ${category.code} has no exemption reason`,
    )
  }
}

function rateFits(category: Category, rate: string | undefined): boolean {
  switch (category.rate) {
    case 'none':
      return rate === undefined
    case 'zero':
      return isZero(rate)
    case 'positive':
      return rate !== undefined && exact(rate).greaterThan(0)
    case 'not-negative':
      return rate !== undefined && exact(rate).greaterThanOrEqualTo(0)
  }
}

/** Per rate within one unit, where senders round per line; otherwise exactly. */
function taxableFits(entry: VatBreakdown, uses: readonly Use[], perRate: boolean): boolean {
  const sameRate = uses.filter((use) => !perRate || toText(exact(use.vat.rate ?? '0')) === toText(exact(entry.rate ?? '0')))
  const expected = sameRate.reduce((total, use) => total.plus(use.share), exact('0'))
  const taxable = exact(entry.taxableAmount ?? '0')
  return perRate ? sameRate.length > 0 && withinOne(taxable, expected) : rounded(taxable, 2).equals(rounded(expected, 2))
}

function taxFits(entry: VatBreakdown, perRate: boolean): boolean {
  const tax = exact(entry.taxAmount ?? '0')
  if (!perRate) return tax.isZero()
  const expected = rounded(
    exact(entry.taxableAmount ?? '0')
      .abs()
      .times(exact(entry.rate ?? '0'))
      .dividedBy(100),
    2,
  )
  return withinOne(tax.abs(), expected)
}

function intraCommunity(document: BillingDocument, findings: Findings): void {
  if (!(document.vatBreakdown ?? []).some((entry) => entry.code === 'K')) return
  const period = document.invoicingPeriod
  const when = filled(document.delivery?.date) || filled(period?.startDate) || filled(period?.endDate)
  findings.require(
    when,
    'BR-IC-11',
    '/delivery/date',
    'an intra-community supply needs a delivery date (BT-72) or an invoicing period (BG-14)',
  )
  findings.require(
    filled(document.delivery?.address?.country),
    'BR-IC-12',
    '/delivery/address/country',
    'an intra-community supply needs the country of delivery (BT-80)',
  )
}

function notSubject(document: BillingDocument, uses: readonly Use[], findings: Findings): void {
  const breakdown = document.vatBreakdown ?? []
  if (!breakdown.some((entry) => entry.code === 'O')) return
  findings.require(
    breakdown.every((entry) => entry.code === 'O'),
    'BR-O-11',
    '/vatBreakdown',
    'a breakdown "not subject to VAT" stands alone',
  )
  const rules = { '02': 'BR-O-12', '03': 'BR-O-13', '04': 'BR-O-14' } as const
  for (const use of uses)
    findings.require(use.vat.code === 'O', rules[use.parties], use.pointer, `${use.what} is subject to VAT although the document is not`)
}

/** Category B, Italian split payment. */
function splitPayment(document: BillingDocument, uses: readonly Use[], findings: Findings): void {
  if (!uses.some((use) => use.vat.code === 'B')) return
  const domestic = document.seller?.address?.country === 'IT' && document.buyer?.address?.country === 'IT'
  findings.require(domestic, 'BR-B-01', '/seller/address/country', 'split payment is for documents between Italian parties')
  findings.require(
    !uses.some((use) => use.vat.code === 'S'),
    'BR-B-02',
    '/vatBreakdown',
    'split payment and standard rate exclude each other',
  )
}

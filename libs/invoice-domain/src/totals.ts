/**
 * Computing what follows from the rest: line net amounts, the VAT breakdown, the document totals. Only absent values
 * are filled; a value that is there stays, and `validate` says if it does not add up.
 * Every amount is rounded half up, once, to the currency's minor unit (at most two digits, as EN 16931 wants).
 * @see docs/spec/ubl.md §4
 */
import { totalScale } from './currency.js'
import { exact, roundHalfUp, sum, toText, type Exact } from './decimal.js'
import type { Line, LineAllowanceCharge } from './lines.js'
import type { BillingDocument, DocumentAllowanceCharge, Totals, VatBreakdown } from './model.js'

/** @throws DomainError InvalidAmount if a value of the document is not a decimal */
export function withTotals(document: BillingDocument): BillingDocument {
  const scale = totalScale(document.currency)
  const filled: BillingDocument = { ...document }
  if (document.lines !== undefined) filled.lines = document.lines.map((line) => withNet(line, scale))
  if (document.allowances !== undefined) filled.allowances = document.allowances.map((entry) => withAmount(entry, scale))
  if (document.charges !== undefined) filled.charges = document.charges.map((entry) => withAmount(entry, scale))
  filled.vatBreakdown = withBreakdown(filled, scale)
  if (filled.vatBreakdown.length === 0) delete filled.vatBreakdown
  filled.totals = withSums(filled, scale)
  return filled
}

/** BT-131 = BT-129 × BT-146 ÷ BT-149 − allowances + charges, rounded once. */
function withNet(line: Line, scale: number): Line {
  const filled: Line = { ...line }
  if (line.allowances !== undefined) filled.allowances = line.allowances.map((entry) => withAmount(entry, scale))
  if (line.charges !== undefined) filled.charges = line.charges.map((entry) => withAmount(entry, scale))
  const net = netPrice(line)
  if (net !== undefined && filled.price !== undefined && filled.price.net === undefined) filled.price = { ...filled.price, net }
  if (line.netAmount !== undefined || line.quantity === undefined || net === undefined) return filled
  const base = exact(line.price?.baseQuantity ?? '1')
  if (base.isZero()) return filled
  const gross = exact(line.quantity).times(exact(net)).dividedBy(base)
  filled.netAmount = roundHalfUp(gross.minus(sumOf(filled.allowances)).plus(sumOf(filled.charges)), scale)
  return filled
}

/** BT-146, or BT-148 − BT-147 if only those are given. */
function netPrice(line: Line): string | undefined {
  if (line.price?.net !== undefined) return line.price.net
  if (line.price?.gross === undefined) return undefined
  return toText(exact(line.price.gross).minus(exact(line.price.discount ?? '0')))
}

/** Amount = base × percentage ÷ 100 where only those two are given. */
function withAmount<T extends LineAllowanceCharge | DocumentAllowanceCharge>(entry: T, scale: number): T {
  if (entry.amount !== undefined || entry.baseAmount === undefined || entry.percentage === undefined) return entry
  return { ...entry, amount: roundHalfUp(exact(entry.baseAmount).times(exact(entry.percentage)).dividedBy(100), scale) }
}

interface Bucket {
  code: string
  rate: string | undefined
  taxable: Exact
}

/**
 * One entry per VAT category and rate (BG-23). A given entry keeps its texts and amounts; what it lacks is filled,
 * so that a caller can state an exemption reason without computing anything.
 */
function withBreakdown(document: BillingDocument, scale: number): VatBreakdown[] {
  const buckets = new Map<string, Bucket>()
  const put = (code: string | undefined, rate: string | undefined, amount: Exact): void => {
    if (code === undefined) return
    const key = bucketKey(code, rate)
    const bucket = buckets.get(key) ?? { code, rate, taxable: exact('0') }
    bucket.taxable = bucket.taxable.plus(amount)
    buckets.set(key, bucket)
  }
  for (const line of document.lines ?? []) put(line.vat?.code, line.vat?.rate, exact(line.netAmount ?? '0'))
  for (const entry of document.allowances ?? []) put(entry.vat?.code, entry.vat?.rate, exact(entry.amount ?? '0').negated())
  for (const entry of document.charges ?? []) put(entry.vat?.code, entry.vat?.rate, exact(entry.amount ?? '0'))

  const given = document.vatBreakdown ?? []
  const result = given.map((entry) => {
    const bucket = entry.code === undefined ? undefined : buckets.get(bucketKey(entry.code, entry.rate))
    return bucket === undefined ? { ...entry } : completed(entry, bucket, scale)
  })
  const covered = new Set(given.map((entry) => (entry.code === undefined ? '' : bucketKey(entry.code, entry.rate))))
  for (const [key, bucket] of buckets) if (!covered.has(key)) result.push(completed({}, bucket, scale))
  return result
}

function completed(entry: VatBreakdown, bucket: Bucket, scale: number): VatBreakdown {
  const taxableAmount = entry.taxableAmount ?? roundHalfUp(bucket.taxable, scale)
  const rate = entry.rate ?? bucket.rate ?? (bucket.code === 'O' ? undefined : '0')
  const taxAmount =
    entry.taxAmount ??
    roundHalfUp(
      exact(taxableAmount)
        .times(exact(rate ?? '0'))
        .dividedBy(100),
      scale,
    )
  return { ...entry, code: bucket.code, taxableAmount, taxAmount, ...(rate === undefined ? {} : { rate }) }
}

/** Rates are compared as values: "19" and "19.00" are one bucket; an absent rate is zero. */
function bucketKey(code: string, rate: string | undefined): string {
  return `${code} ${toText(exact(rate ?? '0'))}`
}

function withSums(document: BillingDocument, scale: number): Totals {
  const given = document.totals ?? {}
  const totals: Totals = { ...given }
  const lineNet = (totals.lineNet ??= roundHalfUp(sum((document.lines ?? []).map((line) => line.netAmount ?? '0')), scale))
  if (document.allowances !== undefined) totals.allowances ??= roundHalfUp(sumOf(document.allowances), scale)
  if (document.charges !== undefined) totals.charges ??= roundHalfUp(sumOf(document.charges), scale)
  const withoutVat = (totals.withoutVat ??= roundHalfUp(
    exact(lineNet)
      .minus(exact(totals.allowances ?? '0'))
      .plus(exact(totals.charges ?? '0')),
    scale,
  ))
  const vat = (totals.vat ??= roundHalfUp(sum((document.vatBreakdown ?? []).map((entry) => entry.taxAmount ?? '0')), scale))
  const withVat = (totals.withVat ??= roundHalfUp(exact(withoutVat).plus(exact(vat)), scale))
  totals.payable ??= roundHalfUp(
    exact(withVat)
      .minus(exact(totals.paid ?? '0'))
      .plus(exact(totals.rounding ?? '0')),
    scale,
  )
  return totals
}

function sumOf(entries: readonly { amount?: string }[] | undefined): Exact {
  return sum((entries ?? []).map((entry) => entry.amount ?? '0'))
}

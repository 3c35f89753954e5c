/** Lines, items, prices, allowances and charges: EN 16931 terms and their UBL elements. @see docs/spec/ubl.md §1 */
import type { Classification, Item, ItemAttribute, Line, LineAllowanceCharge, Price } from '@tallystick/invoice-domain/lines'
import type { BillingDocument, DocumentAllowanceCharge } from '@tallystick/invoice-domain/model'
import type { Period, VatCategory } from '@tallystick/invoice-domain/terms'
import { constant, group, identifier, inside, leaf, list, within, type Binding, type When } from './binding.js'
import { child } from './tree.js'

const indicator =
  (expected: boolean): When =>
  (allowanceCharge) => {
    const text = child(allowanceCharge, 'cbc:ChargeIndicator')?.text.trim()
    return expected ? text === 'true' || text === '1' : text === 'false' || text === '0'
  }
export const isCharge = indicator(true)
export const isAllowance = indicator(false)

/** `true` and `1` are the same in XML Schema, so the written form is fixed and either is taken. */
function chargeIndicator<T>(charge: boolean): Binding<T> {
  const written = constant<T>('cbc:ChargeIndicator', String(charge))
  return {
    ...written,
    read(parent) {
      const found = child(parent, 'cbc:ChargeIndicator')
      if (found !== undefined) found.used = true
    },
  }
}

export const vatCategory: readonly Binding<VatCategory>[] = [
  leaf('cbc:ID', 'code', { kind: 'code' }),
  leaf('cbc:Percent', 'rate', { kind: 'decimal' }),
  constant('cac:TaxScheme/cbc:ID', 'VAT'),
]

const lineAllowanceCharge = (charge: boolean): readonly Binding<LineAllowanceCharge>[] => [
  chargeIndicator(charge),
  leaf('cbc:AllowanceChargeReasonCode', 'reasonCode', { kind: 'code' }),
  leaf('cbc:AllowanceChargeReason', 'reason'),
  leaf('cbc:MultiplierFactorNumeric', 'percentage', { kind: 'decimal' }),
  leaf('cbc:Amount', 'amount', { kind: 'amount' }),
  leaf('cbc:BaseAmount', 'baseAmount', { kind: 'amount' }),
]

export const documentAllowanceCharge = (charge: boolean): readonly Binding<DocumentAllowanceCharge>[] => [
  chargeIndicator(charge),
  leaf('cbc:AllowanceChargeReasonCode', 'reasonCode', { kind: 'code' }),
  leaf('cbc:AllowanceChargeReason', 'reason'),
  leaf('cbc:MultiplierFactorNumeric', 'percentage', { kind: 'decimal' }),
  leaf('cbc:Amount', 'amount', { kind: 'amount' }),
  leaf('cbc:BaseAmount', 'baseAmount', { kind: 'amount' }),
  group('cac:TaxCategory', 'vat', vatCategory),
]

const itemBeforeTax: readonly Binding<Item>[] = [
  leaf('cbc:Description', 'description'),
  leaf('cbc:Name', 'name'),
  leaf('cac:BuyersItemIdentification/cbc:ID', 'buyerIdentifier'),
  leaf('cac:SellersItemIdentification/cbc:ID', 'sellerIdentifier'),
  identifier('cac:StandardItemIdentification/cbc:ID', 'standardIdentifier'),
  leaf('cac:OriginCountry/cbc:IdentificationCode', 'originCountry', { kind: 'code' }),
  list<Item, 'classifications'>('cac:CommodityClassification', 'classifications', [
    leaf<Classification>('cbc:ItemClassificationCode', 'code', { attributes: { listID: 'listId', listVersionID: 'listVersionId' } }),
  ]),
]

const itemAfterTax: readonly Binding<Item>[] = [
  list<Item, 'attributes'>('cac:AdditionalItemProperty', 'attributes', [
    leaf<ItemAttribute>('cbc:Name', 'name'),
    leaf<ItemAttribute>('cbc:Value', 'value'),
  ]),
]

const price: readonly Binding<Price>[] = [
  leaf('cbc:PriceAmount', 'net', { kind: 'amount' }),
  leaf('cbc:BaseQuantity', 'baseQuantity', { kind: 'decimal', attributes: { unitCode: 'baseQuantityUnit' } }),
  within(
    'cac:AllowanceCharge',
    [chargeIndicator(false), leaf('cbc:Amount', 'discount', { kind: 'amount' }), leaf('cbc:BaseAmount', 'gross', { kind: 'amount' })],
    // Some senders leave the indicator out here: a price has discounts only.
    (allowance, context) => !isCharge(allowance, context),
  ),
]

export const period: readonly Binding<Period>[] = [
  leaf('cbc:StartDate', 'startDate', { kind: 'date' }),
  leaf('cbc:EndDate', 'endDate', { kind: 'date' }),
]

/** BT-18 and BT-128 are document references of this type. */
export const OBJECT_REFERENCE = '130'

/** A line has no other document reference in EN 16931, and older documents leave the type out. */
const isObjectReference: When = (reference) => {
  const type = child(reference, 'cbc:DocumentTypeCode')?.text.trim()
  return type === undefined || type === OBJECT_REFERENCE
}

const line = (quantity: string): readonly Binding<Line>[] => [
  leaf('cbc:ID', 'id'),
  leaf('cbc:Note', 'note'),
  leaf(quantity, 'quantity', { kind: 'decimal', attributes: { unitCode: 'unit' } }),
  leaf('cbc:LineExtensionAmount', 'netAmount', { kind: 'amount' }),
  leaf('cbc:AccountingCost', 'buyerAccountingReference'),
  group('cac:InvoicePeriod', 'period', period),
  leaf('cac:OrderLineReference/cbc:LineID', 'orderLineReference'),
  within(
    'cac:DocumentReference',
    [identifier('cbc:ID', 'invoicedObject'), constant('cbc:DocumentTypeCode', OBJECT_REFERENCE)],
    isObjectReference,
  ),
  list('cac:AllowanceCharge', 'allowances', lineAllowanceCharge(false), isAllowance),
  list('cac:AllowanceCharge', 'charges', lineAllowanceCharge(true), isCharge),
  within('cac:Item', [inside('item', itemBeforeTax), group('cac:ClassifiedTaxCategory', 'vat', vatCategory), inside('item', itemAfterTax)]),
  group('cac:Price', 'price', price),
]

export const invoiceLines: Binding<BillingDocument> = list('cac:InvoiceLine', 'lines', line('cbc:InvoicedQuantity'))
export const creditNoteLines: Binding<BillingDocument> = list('cac:CreditNoteLine', 'lines', line('cbc:CreditedQuantity'))

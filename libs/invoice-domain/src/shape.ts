/**
 * The model as data: which fields a group has and what each may hold. One description drives the strict reading of
 * records and JSON, the canonical form, and the random documents of the property tests. The compiler holds it
 * against the interfaces: a field missing here, or of the other kind, does not compile.
 */
import type { Classification, Item, ItemAttribute, Line, LineAllowanceCharge, Price } from './lines.js'
import type {
  Attachment,
  BillingDocument,
  CreditTransfer,
  DirectDebit,
  DocumentAllowanceCharge,
  Note,
  PaymentCard,
  PaymentInstruction,
  PrecedingInvoice,
  SupportingDocument,
  Totals,
  VatBreakdown,
} from './model.js'
import type { Identifier, Period, VatCategory } from './terms.js'
import type { Address, Buyer, Contact, Delivery, Payee, Seller, TaxRepresentative } from './parties.js'

/** `text` free text · `code` a token without white space around it · `date` YYYY-MM-DD · `decimal` · `base64` */
export type LeafKind = 'text' | 'code' | 'date' | 'decimal' | 'base64'

export interface GroupShape<T> {
  readonly fields: { readonly [K in keyof Required<T>]: ShapeOf<NonNullable<T[K]>> }
  readonly required?: readonly (keyof T)[]
}
export interface ListShape<E> {
  readonly list: ShapeOf<E>
}
export type ShapeOf<V> = V extends string ? LeafKind : V extends readonly (infer E)[] ? ListShape<E> : GroupShape<V>

/** The same without the types, for code that walks any shape. */
export type AnyShape = LeafKind | { readonly list: AnyShape } | AnyGroup
export interface AnyGroup {
  readonly fields: Readonly<Record<string, AnyShape>>
  readonly required?: readonly string[]
}

const identifier: GroupShape<Identifier> = { fields: { value: 'text', schemeId: 'text' }, required: ['value'] }
const address: GroupShape<Address> = {
  fields: { line1: 'text', line2: 'text', line3: 'text', city: 'text', postCode: 'text', subdivision: 'text', country: 'code' },
}
const contact: GroupShape<Contact> = { fields: { name: 'text', telephone: 'text', email: 'text' } }
const period: GroupShape<Period> = { fields: { startDate: 'date', endDate: 'date' } }
const vat: GroupShape<VatCategory> = { fields: { code: 'code', rate: 'decimal' } }
const note: GroupShape<Note> = { fields: { subjectCode: 'code', text: 'text' } }
const precedingInvoice: GroupShape<PrecedingInvoice> = { fields: { number: 'text', issueDate: 'date' } }

const seller: GroupShape<Seller> = {
  fields: {
    name: 'text',
    tradingName: 'text',
    identifiers: { list: identifier },
    legalRegistration: identifier,
    vatIdentifier: 'text',
    taxRegistration: identifier,
    legalInformation: 'text',
    electronicAddress: identifier,
    creditorIdentifier: 'text',
    address,
    contact,
  },
}
const buyer: GroupShape<Buyer> = {
  fields: {
    name: 'text',
    tradingName: 'text',
    identifier,
    legalRegistration: identifier,
    vatIdentifier: 'text',
    electronicAddress: identifier,
    address,
    contact,
  },
}
const payee: GroupShape<Payee> = {
  fields: { name: 'text', identifier, legalRegistration: identifier, creditorIdentifier: 'text' },
}
const taxRepresentative: GroupShape<TaxRepresentative> = { fields: { name: 'text', vatIdentifier: 'text', address } }
const delivery: GroupShape<Delivery> = { fields: { partyName: 'text', location: identifier, date: 'date', address } }

const creditTransfer: GroupShape<CreditTransfer> = { fields: { account: identifier, accountName: 'text', serviceProvider: 'text' } }
const card: GroupShape<PaymentCard> = { fields: { accountNumber: 'text', network: 'text', holder: 'text' } }
const directDebit: GroupShape<DirectDebit> = { fields: { mandate: 'text', debitedAccount: 'text' } }
const payment: GroupShape<PaymentInstruction> = {
  fields: { meansCode: 'code', meansText: 'text', remittance: 'text', card, creditTransfer, directDebit },
}

const documentAllowanceCharge: GroupShape<DocumentAllowanceCharge> = {
  fields: { amount: 'decimal', baseAmount: 'decimal', percentage: 'decimal', vat, reason: 'text', reasonCode: 'code' },
}
const totals: GroupShape<Totals> = {
  fields: {
    lineNet: 'decimal',
    allowances: 'decimal',
    charges: 'decimal',
    withoutVat: 'decimal',
    vat: 'decimal',
    vatInAccountingCurrency: 'decimal',
    withVat: 'decimal',
    paid: 'decimal',
    rounding: 'decimal',
    payable: 'decimal',
  },
}
const vatBreakdown: GroupShape<VatBreakdown> = {
  fields: {
    taxableAmount: 'decimal',
    taxAmount: 'decimal',
    code: 'code',
    rate: 'decimal',
    exemptionReason: 'text',
    exemptionReasonCode: 'code',
  },
}
const attachment: GroupShape<Attachment> = { fields: { content: 'base64', mimeCode: 'code', filename: 'text' } }
const supportingDocument: GroupShape<SupportingDocument> = {
  fields: { reference: 'text', description: 'text', location: 'text', attachment },
}

const lineAllowanceCharge: GroupShape<LineAllowanceCharge> = {
  fields: { amount: 'decimal', baseAmount: 'decimal', percentage: 'decimal', reason: 'text', reasonCode: 'code' },
}
const price: GroupShape<Price> = {
  fields: { net: 'decimal', discount: 'decimal', gross: 'decimal', baseQuantity: 'decimal', baseQuantityUnit: 'code' },
}
const classification: GroupShape<Classification> = { fields: { code: 'text', listId: 'text', listVersionId: 'text' } }
const attribute: GroupShape<ItemAttribute> = { fields: { name: 'text', value: 'text' } }
const item: GroupShape<Item> = {
  fields: {
    name: 'text',
    description: 'text',
    sellerIdentifier: 'text',
    buyerIdentifier: 'text',
    standardIdentifier: identifier,
    classifications: { list: classification },
    originCountry: 'code',
    attributes: { list: attribute },
  },
}
const line: GroupShape<Line> = {
  fields: {
    id: 'text',
    note: 'text',
    invoicedObject: identifier,
    quantity: 'decimal',
    unit: 'code',
    netAmount: 'decimal',
    orderLineReference: 'text',
    buyerAccountingReference: 'text',
    period,
    allowances: { list: lineAllowanceCharge },
    charges: { list: lineAllowanceCharge },
    price,
    vat,
    item,
  },
}

/** Every field of a document but `kind`, in the order of the model. */
export const DOCUMENT_SHAPE: GroupShape<Omit<BillingDocument, 'kind'>> = {
  fields: {
    number: 'text',
    issueDate: 'date',
    typeCode: 'code',
    currency: 'code',
    vatCurrency: 'code',
    taxPointDate: 'date',
    taxPointDateCode: 'code',
    dueDate: 'date',
    buyerReference: 'text',
    projectReference: 'text',
    contractReference: 'text',
    purchaseOrderReference: 'text',
    salesOrderReference: 'text',
    receivingAdviceReference: 'text',
    despatchAdviceReference: 'text',
    tenderReference: 'text',
    invoicedObject: identifier,
    buyerAccountingReference: 'text',
    paymentTerms: 'text',
    businessProcess: 'text',
    specification: 'text',
    notes: { list: note },
    precedingInvoices: { list: precedingInvoice },
    seller,
    buyer,
    payee,
    taxRepresentative,
    delivery,
    invoicingPeriod: period,
    payment: { list: payment },
    allowances: { list: documentAllowanceCharge },
    charges: { list: documentAllowanceCharge },
    totals,
    vatBreakdown: { list: vatBreakdown },
    supportingDocuments: { list: supportingDocument },
    lines: { list: line },
  },
}

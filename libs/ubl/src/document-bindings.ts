/** Invoice and CreditNote: the document's own terms, in the order of UBL 2.1. @see docs/spec/ubl.md §1 */
import type {
  Attachment,
  BillingDocument,
  CreditTransfer,
  DirectDebit,
  Note,
  PaymentCard,
  PaymentInstruction,
  PrecedingInvoice,
  SupportingDocument,
  Totals,
  VatBreakdown,
} from '@tallystick/invoice-domain/model'
import { constant, group, identifier, leaf, list, readAll, within, writeAll, type Binding, type When } from './binding.js'
import { creditNoteLines, documentAllowanceCharge, invoiceLines, isAllowance, isCharge, OBJECT_REFERENCE, period } from './line-bindings.js'
import { partyBindings } from './party-bindings.js'
import { attributeOf, child, type XmlElement } from './tree.js'
import { element } from './write-xml.js'

/** BG-1: UBL puts the subject code in front of the text, between number signs. */
const notes: Binding<BillingDocument> = {
  read(root, into) {
    const found = root.children.filter((candidate) => candidate.name === 'cbc:Note')
    if (found.length > 0) into.notes = found.map(readNote)
  },
  write: (document) =>
    (document.notes ?? []).map((note) =>
      element('cbc:Note', `${note.subjectCode === undefined ? '' : `#${note.subjectCode}#`}${note.text ?? ''}`),
    ),
}

function readNote(source: XmlElement): Note {
  source.used = true
  const match = /^#([^#\s]+)#([^]*)$/.exec(source.text)
  if (match === null) return { text: source.text }
  return match[2] === '' ? { subjectCode: match[1] as string } : { subjectCode: match[1] as string, text: match[2] as string }
}

/** BG-14, and BT-8 beside it. Without BT-8 an empty element is an empty period, which a rule refuses. */
const invoicePeriod: Binding<BillingDocument> = {
  read(root, into, context) {
    const found = root.children.filter((candidate) => candidate.name === 'cac:InvoicePeriod')
    for (const candidate of found) candidate.known = true
    const [first] = found
    if (first === undefined) return
    codeBinding.read(first, into, context)
    const dates = readAll(first, period, context)
    if (into.taxPointDateCode === undefined || Object.keys(dates).length > 0) into.invoicingPeriod = dates
  },
  write(document, context) {
    const code = codeBinding.write(document, context)
    if (document.invoicingPeriod === undefined && code.length === 0) return []
    const dates = writeAll('cac:InvoicePeriod', document.invoicingPeriod ?? {}, period, context)
    return [element(dates.name, [...dates.children, ...code])]
  },
}
const codeBinding: Binding<BillingDocument> = leaf('cbc:DescriptionCode', 'taxPointDateCode', { kind: 'code' })

/** UBL demands an order's own ID even where only the sales order is known; "NA" says that there is none. */
const NOT_AVAILABLE = 'NA'
const orderReference: Binding<BillingDocument> = {
  read(root, into, context) {
    order.read(root, into, context)
    if (into.salesOrderReference !== undefined && into.purchaseOrderReference === NOT_AVAILABLE) delete into.purchaseOrderReference
  },
  write(document, context) {
    const known = document.purchaseOrderReference ?? (document.salesOrderReference === undefined ? undefined : NOT_AVAILABLE)
    return order.write(known === undefined ? document : { ...document, purchaseOrderReference: known }, context)
  },
}
const order: Binding<BillingDocument> = within('cac:OrderReference', [
  leaf('cbc:ID', 'purchaseOrderReference'),
  leaf('cbc:SalesOrderID', 'salesOrderReference'),
])

/** A credit note has no ProjectReference in UBL; BT-11 is a document reference of this type there. */
const PROJECT_REFERENCE = '50'
const typeOf = (reference: XmlElement): string | undefined => child(reference, 'cbc:DocumentTypeCode')?.text.trim()
const isObject: When = (reference) => typeOf(reference) === OBJECT_REFERENCE
const isProject: When = (reference, context) => context.kind === 'credit-note' && typeOf(reference) === PROJECT_REFERENCE
const isSupporting: When = (reference, context) => !isObject(reference, context) && !isProject(reference, context)

const supportingDocument: readonly Binding<SupportingDocument>[] = [
  leaf('cbc:ID', 'reference'),
  leaf('cbc:DocumentDescription', 'description'),
  within('cac:Attachment', [
    {
      read(attachment, into, context) {
        if (child(attachment, 'cbc:EmbeddedDocumentBinaryObject') !== undefined) into.attachment = readAll(attachment, embedded, context)
      },
      write: (document, context) => (document.attachment === undefined ? [] : attachmentElements(document.attachment, context)),
    },
    leaf('cac:ExternalReference/cbc:URI', 'location'),
  ]),
]
const embedded: readonly Binding<Attachment>[] = [
  leaf('cbc:EmbeddedDocumentBinaryObject', 'content', { kind: 'base64', attributes: { mimeCode: 'mimeCode', filename: 'filename' } }),
]

function attachmentElements(attachment: Attachment, context: Parameters<Binding<Attachment>['write']>[1]) {
  const written = embedded.flatMap((binding) => binding.write(attachment, context))
  return written.length > 0 ? written : [element('cbc:EmbeddedDocumentBinaryObject', '')]
}

const object = within<BillingDocument>(
  'cac:AdditionalDocumentReference',
  [identifier('cbc:ID', 'invoicedObject'), constant('cbc:DocumentTypeCode', OBJECT_REFERENCE)],
  isObject,
)
const project = within<BillingDocument>(
  'cac:AdditionalDocumentReference',
  [leaf('cbc:ID', 'projectReference'), constant('cbc:DocumentTypeCode', PROJECT_REFERENCE)],
  isProject,
)
const supporting: Binding<BillingDocument> = list(
  'cac:AdditionalDocumentReference',
  'supportingDocuments',
  supportingDocument,
  isSupporting,
)

const creditTransfer: readonly Binding<CreditTransfer>[] = [
  identifier('cbc:ID', 'account'),
  leaf('cbc:Name', 'accountName'),
  leaf('cac:FinancialInstitutionBranch/cbc:ID', 'serviceProvider'),
]
const card: readonly Binding<PaymentCard>[] = [
  leaf('cbc:PrimaryAccountNumberID', 'accountNumber'),
  leaf('cbc:NetworkID', 'network'),
  leaf('cbc:HolderName', 'holder'),
]
const directDebit: readonly Binding<DirectDebit>[] = [leaf('cbc:ID', 'mandate'), leaf('cac:PayerFinancialAccount/cbc:ID', 'debitedAccount')]
const paymentBeforeDate: readonly Binding<PaymentInstruction>[] = [
  leaf('cbc:PaymentMeansCode', 'meansCode', { kind: 'code', attributes: { name: 'meansText' } }),
]
const paymentAfterDate: readonly Binding<PaymentInstruction>[] = [
  leaf('cbc:PaymentID', 'remittance'),
  group('cac:CardAccount', 'card', card),
  group('cac:PayeeFinancialAccount', 'creditTransfer', creditTransfer),
  group('cac:PaymentMandate', 'directDebit', directDebit),
]

const invoicePayment: Binding<BillingDocument> = list('cac:PaymentMeans', 'payment', [...paymentBeforeDate, ...paymentAfterDate])

/** UNCL 4461 "instrument not defined": what carries a credit note's due date when no payment is agreed. */
const UNDEFINED_MEANS = '1'
const dueDate: Binding<BillingDocument> = leaf('cbc:PaymentDueDate', 'dueDate', { kind: 'date' })

/** A credit note's BT-9 stands in its payment means. */
const creditNotePayment: Binding<BillingDocument> = {
  read(root, into, context) {
    const found = root.children.filter((candidate) => candidate.name === 'cac:PaymentMeans')
    const instructions: PaymentInstruction[] = []
    for (const means of found) {
      const instruction = readAll(means, [...paymentBeforeDate, ...paymentAfterDate], context)
      const date = child(means, 'cbc:PaymentDueDate')
      if (date !== undefined) readDueDate(means, date, into, context)
      const onlyCarriesDate = date !== undefined && instruction.meansCode === UNDEFINED_MEANS && Object.keys(instruction).length === 1
      if (!onlyCarriesDate || found.length > 1) instructions.push(instruction)
    }
    if (instructions.length > 0) into.payment = instructions
  },
  write(document, context) {
    const instructions = document.payment ?? (document.dueDate === undefined ? [] : [{ meansCode: UNDEFINED_MEANS }])
    return instructions.map((instruction, index) =>
      element('cac:PaymentMeans', [
        ...paymentBeforeDate.flatMap((binding) => binding.write(instruction, context)),
        ...(index === 0 ? dueDate.write(document, context) : []),
        ...paymentAfterDate.flatMap((binding) => binding.write(instruction, context)),
      ]),
    )
  },
}

/** The date may be repeated with each payment means; a second, different one cannot be kept. */
function readDueDate(
  means: XmlElement,
  date: XmlElement,
  into: Partial<BillingDocument>,
  context: Parameters<Binding<BillingDocument>['read']>[2],
): void {
  date.known = true
  if (into.dueDate === undefined) dueDate.read(means, into, context)
  else if (date.text.trim() === into.dueDate) date.used = true
}

const breakdown: readonly Binding<VatBreakdown>[] = [
  leaf('cbc:TaxableAmount', 'taxableAmount', { kind: 'amount' }),
  leaf('cbc:TaxAmount', 'taxAmount', { kind: 'amount' }),
  within('cac:TaxCategory', [
    leaf('cbc:ID', 'code', { kind: 'code' }),
    leaf('cbc:Percent', 'rate', { kind: 'decimal' }),
    leaf('cbc:TaxExemptionReasonCode', 'exemptionReasonCode', { kind: 'code' }),
    leaf('cbc:TaxExemptionReason', 'exemptionReason'),
    constant('cac:TaxScheme/cbc:ID', 'VAT'),
  ]),
]

/** BT-111 is a tax total of its own, in BT-6. It is told apart by its currency only. */
const isAccounting: When = (total, context) =>
  context.vatCurrency !== undefined &&
  context.vatCurrency !== context.currency &&
  attributeOf(child(total, 'cbc:TaxAmount'), 'currencyID')?.trim() === context.vatCurrency
const isMain: When = (total, context) => !isAccounting(total, context)

const totalVat: Binding<Totals> = leaf('cbc:TaxAmount', 'vat', { kind: 'amount' })
const accountingVat: Binding<Totals> = leaf('cbc:TaxAmount', 'vatInAccountingCurrency', { kind: 'vat-amount' })
const subtotals: Binding<BillingDocument> = list('cac:TaxSubtotal', 'vatBreakdown', breakdown)

/** A binding of the totals group as one of the document, whose element stands elsewhere. */
function ofTotals(binding: Binding<Totals>): Binding<BillingDocument> {
  return {
    read(parent, into, context) {
      const totals: Totals = {}
      binding.read(parent, totals, context)
      if (Object.keys(totals).length > 0) into.totals = { ...into.totals, ...totals }
    },
    write: (document, context) => (document.totals === undefined ? [] : binding.write(document.totals, context)),
  }
}

/** Some senders write a tax total per category: their breakdowns are joined, and the first total is BT-110. */
const mainTotal: Binding<BillingDocument> = {
  read(root, into, context) {
    const found = root.children.filter((candidate) => candidate.name === 'cac:TaxTotal' && isMain(candidate, context))
    const entries: VatBreakdown[] = []
    for (const [index, total] of found.entries()) {
      total.known = true
      if (index === 0) ofTotals(totalVat).read(total, into, context)
      else for (const amount of total.children) amount.known ||= amount.name === 'cbc:TaxAmount'
      const part: BillingDocument = { kind: context.kind }
      subtotals.read(total, part, context)
      entries.push(...(part.vatBreakdown ?? []))
    }
    if (entries.length > 0) into.vatBreakdown = entries
  },
  write(document, context) {
    const content = [...ofTotals(totalVat).write(document, context), ...subtotals.write(document, context)]
    return content.length === 0 ? [] : [element('cac:TaxTotal', content)]
  },
}

const taxTotals: readonly Binding<BillingDocument>[] = [mainTotal, within('cac:TaxTotal', [ofTotals(accountingVat)], isAccounting)]

const monetaryTotal: readonly Binding<Totals>[] = [
  leaf('cbc:LineExtensionAmount', 'lineNet', { kind: 'amount' }),
  leaf('cbc:TaxExclusiveAmount', 'withoutVat', { kind: 'amount' }),
  leaf('cbc:TaxInclusiveAmount', 'withVat', { kind: 'amount' }),
  leaf('cbc:AllowanceTotalAmount', 'allowances', { kind: 'amount' }),
  leaf('cbc:ChargeTotalAmount', 'charges', { kind: 'amount' }),
  leaf('cbc:PrepaidAmount', 'paid', { kind: 'amount' }),
  leaf('cbc:PayableRoundingAmount', 'rounding', { kind: 'amount' }),
  leaf('cbc:PayableAmount', 'payable', { kind: 'amount' }),
]
const legalMonetaryTotal: Binding<BillingDocument> = {
  read(root, into, context) {
    const totals: BillingDocument = { kind: context.kind }
    monetary.read(root, totals, context)
    if (totals.totals !== undefined) into.totals = { ...into.totals, ...totals.totals }
  },
  write(document, context) {
    const { vat: _vat, vatInAccountingCurrency: _accounting, ...rest } = document.totals ?? {}
    const otherwiseLost = document.totals !== undefined && Object.keys(document.totals).length === 0
    return Object.keys(rest).length > 0 || otherwiseLost ? monetary.write({ totals: rest }, context) : []
  },
}
const monetary: Binding<BillingDocument> = group('cac:LegalMonetaryTotal', 'totals', monetaryTotal)

const code = (name: string, field: 'typeCode' | 'currency' | 'vatCurrency'): Binding<BillingDocument> => leaf(name, field, { kind: 'code' })
const date = (name: string, field: 'issueDate' | 'dueDate' | 'taxPointDate'): Binding<BillingDocument> =>
  leaf(name, field, { kind: 'date' })
const reference = (name: string, field: Parameters<typeof leaf<BillingDocument>>[1]): Binding<BillingDocument> =>
  leaf(`${name}/cbc:ID`, field)

const profile: readonly Binding<BillingDocument>[] = [
  leaf('cbc:CustomizationID', 'specification'),
  leaf('cbc:ProfileID', 'businessProcess'),
  leaf('cbc:ID', 'number'),
  date('cbc:IssueDate', 'issueDate'),
]
const currencies = [code('cbc:DocumentCurrencyCode', 'currency'), code('cbc:TaxCurrencyCode', 'vatCurrency')]
const precedingInvoices: Binding<BillingDocument> = list('cac:BillingReference', 'precedingInvoices', [
  within<PrecedingInvoice>('cac:InvoiceDocumentReference', [
    leaf('cbc:ID', 'number'),
    leaf('cbc:IssueDate', 'issueDate', { kind: 'date' }),
  ]),
])
const orders = [
  leaf<BillingDocument>('cbc:AccountingCost', 'buyerAccountingReference'),
  leaf<BillingDocument>('cbc:BuyerReference', 'buyerReference'),
  invoicePeriod,
  orderReference,
  precedingInvoices,
  reference('cac:DespatchDocumentReference', 'despatchAdviceReference'),
  reference('cac:ReceiptDocumentReference', 'receivingAdviceReference'),
]
const originator = reference('cac:OriginatorDocumentReference', 'tenderReference')
const contract = reference('cac:ContractDocumentReference', 'contractReference')
const settlement = [
  leaf<BillingDocument>('cac:PaymentTerms/cbc:Note', 'paymentTerms'),
  list<BillingDocument, 'allowances'>('cac:AllowanceCharge', 'allowances', documentAllowanceCharge(false), isAllowance),
  list<BillingDocument, 'charges'>('cac:AllowanceCharge', 'charges', documentAllowanceCharge(true), isCharge),
  ...taxTotals,
  legalMonetaryTotal,
]

export const INVOICE_BINDINGS: readonly Binding<BillingDocument>[] = [
  ...profile,
  date('cbc:DueDate', 'dueDate'),
  code('cbc:InvoiceTypeCode', 'typeCode'),
  notes,
  date('cbc:TaxPointDate', 'taxPointDate'),
  ...currencies,
  ...orders,
  originator,
  contract,
  object,
  supporting,
  reference('cac:ProjectReference', 'projectReference'),
  ...partyBindings,
  invoicePayment,
  ...settlement,
  invoiceLines,
]

export const CREDIT_NOTE_BINDINGS: readonly Binding<BillingDocument>[] = [
  ...profile,
  date('cbc:TaxPointDate', 'taxPointDate'),
  code('cbc:CreditNoteTypeCode', 'typeCode'),
  notes,
  ...currencies,
  ...orders,
  contract,
  object,
  project,
  supporting,
  originator,
  ...partyBindings,
  creditNotePayment,
  ...settlement,
  creditNoteLines,
]

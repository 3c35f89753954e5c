/**
 * The semantic model of EN 16931-1: one document type for invoices and credit notes. Business terms carry their
 * number (BT, BG). Every property is optional because a draft may be incomplete; `validate` says what is missing.
 * Texts are kept exactly as they came. Dates are `YYYY-MM-DD`, decimals are decimal text (see `isDecimal`).
 * @see docs/spec/ubl.md §2
 */
import type { Buyer, Delivery, Payee, Seller, TaxRepresentative } from './parties.js'
import type { Line } from './lines.js'
import type { Identifier, Period, VatCategory } from './terms.js'

export type BillingKind = 'invoice' | 'credit-note'
export const BILLING_KINDS: readonly BillingKind[] = ['invoice', 'credit-note']

/** BG-1 Invoice note */
export interface Note {
  /** BT-21 Subject code (UNTDID 4451) */
  subjectCode?: string
  /** BT-22 Note. Must not itself begin with a code between number signs such as `#AAI#`, which is how UBL writes the subject. */
  text?: string
}

/** BG-3 Preceding invoice reference */
export interface PrecedingInvoice {
  /** BT-25 */
  number?: string
  /** BT-26 */
  issueDate?: string
}

/** BG-17 Credit transfer */
export interface CreditTransfer {
  /** BT-84 Payment account identifier (IBAN or a national account), with its scheme if one is given */
  account?: Identifier
  /** BT-85 Payment account name */
  accountName?: string
  /** BT-86 Payment service provider identifier (BIC, for one) */
  serviceProvider?: string
}

/** BG-18 Payment card information */
export interface PaymentCard {
  /** BT-87 Primary account number: the last 4 to 6 digits only */
  accountNumber?: string
  /** Name of the card network; UBL demands it, EN 16931 has no term for it. */
  network?: string
  /** BT-88 Card holder name */
  holder?: string
}

/** BG-19 Direct debit. BT-90, the creditor's identifier, stands with the seller or the payee, as in UBL. */
export interface DirectDebit {
  /** BT-89 Mandate reference identifier */
  mandate?: string
  /** BT-91 Debited account identifier */
  debitedAccount?: string
}

/** BG-16 Payment instructions. UBL repeats the code for each account, hence a list in the document. */
export interface PaymentInstruction {
  /** BT-81 Payment means type code (UNTDID 4461) */
  meansCode?: string
  /** BT-82 Payment means text */
  meansText?: string
  /** BT-83 Remittance information */
  remittance?: string
  /** BG-18 */
  card?: PaymentCard
  /** BG-17 */
  creditTransfer?: CreditTransfer
  /** BG-19 */
  directDebit?: DirectDebit
}

/** BG-20 Document level allowance, BG-21 Document level charge */
export interface DocumentAllowanceCharge {
  /** BT-92, BT-99 Amount, without VAT */
  amount?: string
  /** BT-93, BT-100 Base amount */
  baseAmount?: string
  /** BT-94, BT-101 Percentage */
  percentage?: string
  /** BT-95/96, BT-102/103 */
  vat?: VatCategory
  /** BT-97, BT-104 Reason */
  reason?: string
  /** BT-98, BT-105 Reason code (UNTDID 5189 for allowances, UNTDID 7161 for charges) */
  reasonCode?: string
}

/** BG-22 Document totals. All in the document's currency except BT-111. */
export interface Totals {
  /** BT-106 Sum of line net amounts */
  lineNet?: string
  /** BT-107 Sum of allowances on document level */
  allowances?: string
  /** BT-108 Sum of charges on document level */
  charges?: string
  /** BT-109 Total without VAT */
  withoutVat?: string
  /** BT-110 Total VAT amount */
  vat?: string
  /** BT-111 Total VAT amount in accounting currency (BT-6) */
  vatInAccountingCurrency?: string
  /** BT-112 Total with VAT */
  withVat?: string
  /** BT-113 Paid amount */
  paid?: string
  /** BT-114 Rounding amount */
  rounding?: string
  /** BT-115 Amount due for payment */
  payable?: string
}

/** BG-23 VAT breakdown */
export interface VatBreakdown {
  /** BT-116 Taxable amount */
  taxableAmount?: string
  /** BT-117 Tax amount */
  taxAmount?: string
  /** BT-118 Category code */
  code?: string
  /** BT-119 Category rate in percent */
  rate?: string
  /** BT-120 Exemption reason text */
  exemptionReason?: string
  /** BT-121 Exemption reason code */
  exemptionReasonCode?: string
}

/** BT-125 Attached document */
export interface Attachment {
  /** Base64 (RFC 4648 §4, padded, without white space) */
  content?: string
  /** BT-125-1 */
  mimeCode?: string
  /** BT-125-2 */
  filename?: string
}

/** BG-24 Additional supporting document */
export interface SupportingDocument {
  /** BT-122 Reference */
  reference?: string
  /** BT-123 Description */
  description?: string
  /** BT-124 External document location */
  location?: string
  /** BT-125 */
  attachment?: Attachment
}

/** An invoice or a credit note. @see docs/spec/ubl.md §2 */
export interface BillingDocument {
  kind: BillingKind
  /** BT-1 Invoice number */
  number?: string
  /** BT-2 Issue date */
  issueDate?: string
  /** BT-3 Type code (UNTDID 1001): 380 for an invoice, 381 for a credit note, mostly */
  typeCode?: string
  /** BT-5 Currency code */
  currency?: string
  /** BT-6 VAT accounting currency code */
  vatCurrency?: string
  /** BT-7 Value added tax point date */
  taxPointDate?: string
  /** BT-8 Value added tax point date code (UNTDID 2005 subset: 3, 35, 432) */
  taxPointDateCode?: string
  /** BT-9 Payment due date */
  dueDate?: string
  /** BT-10 Buyer reference */
  buyerReference?: string
  /** BT-11 Project reference */
  projectReference?: string
  /** BT-12 Contract reference */
  contractReference?: string
  /** BT-13 Purchase order reference */
  purchaseOrderReference?: string
  /** BT-14 Sales order reference */
  salesOrderReference?: string
  /** BT-15 Receiving advice reference */
  receivingAdviceReference?: string
  /** BT-16 Despatch advice reference */
  despatchAdviceReference?: string
  /** BT-17 Tender or lot reference */
  tenderReference?: string
  /** BT-18 Invoiced object identifier (scheme: UNTDID 1153) */
  invoicedObject?: Identifier
  /** BT-19 Buyer accounting reference */
  buyerAccountingReference?: string
  /** BT-20 Payment terms */
  paymentTerms?: string
  /** BT-23 Business process type */
  businessProcess?: string
  /** BT-24 Specification identifier */
  specification?: string
  /** BG-1 */
  notes?: Note[]
  /** BG-3 */
  precedingInvoices?: PrecedingInvoice[]
  /** BG-4 */
  seller?: Seller
  /** BG-7 */
  buyer?: Buyer
  /** BG-10 */
  payee?: Payee
  /** BG-11 */
  taxRepresentative?: TaxRepresentative
  /** BG-13 */
  delivery?: Delivery
  /** BG-14 */
  invoicingPeriod?: Period
  /** BG-16 */
  payment?: PaymentInstruction[]
  /** BG-20 */
  allowances?: DocumentAllowanceCharge[]
  /** BG-21 */
  charges?: DocumentAllowanceCharge[]
  /** BG-22 */
  totals?: Totals
  /** BG-23 */
  vatBreakdown?: VatBreakdown[]
  /** BG-24 */
  supportingDocuments?: SupportingDocument[]
  /** BG-25 */
  lines?: Line[]
}

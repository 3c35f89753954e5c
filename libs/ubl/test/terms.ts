/**
 * Every EN 16931 business term with its place in UBL, from the UBL syntax binding (CEN/TS 16931-3-2), and an evaluator
 * that knows nothing of the library under test. Paths are relative to the root; `LINE` stands for InvoiceLine or
 * CreditNoteLine; `[path=value]`, `[path!=value]` and `[!path]` are conditions on an element.
 */
import { XMLParser } from 'fast-xml-parser'

interface Node {
  name: string
  text: string
  attributes: Map<string, string>
  children: Node[]
}

const party = (role: string, terms: Record<string, string>): [string, string][] =>
  Object.entries(terms).map(([term, path]) => [term, `${role}/${path}`])
const address = (path: string, terms: readonly string[]): [string, string][] =>
  [
    'StreetName',
    'AdditionalStreetName',
    'AddressLine/Line',
    'CityName',
    'PostalZone',
    'CountrySubentity',
    'Country/IdentificationCode',
  ].map((name, index) => [terms[index] as string, `${path}/${name}`])

const SUPPLIER = 'AccountingSupplierParty/Party'
const CUSTOMER = 'AccountingCustomerParty/Party'
const MAIN_TAX = 'TaxTotal[TaxAmount/@currencyID=$BT-5]'
const OBJECT = 'AdditionalDocumentReference[DocumentTypeCode=130]'
const SUPPORTING = 'AdditionalDocumentReference[DocumentTypeCode!=130]'

const allowanceCharge = (path: string, indicator: string, terms: readonly (string | null)[]): [string, string][] =>
  [
    'Amount',
    'BaseAmount',
    'MultiplierFactorNumeric',
    'TaxCategory/ID',
    'TaxCategory/Percent',
    'AllowanceChargeReason',
    'AllowanceChargeReasonCode',
    'Amount/@currencyID',
    'BaseAmount/@currencyID',
  ]
    .map((name, index): [string, string] => [
      terms[index] ?? `${terms[index - 7]} currency`,
      `${path}[ChargeIndicator=${indicator}]/${name}`,
    ])
    .filter(([term]) => !term.startsWith('-'))

export const TERMS: readonly (readonly [string, string])[] = [
  ['BT-1', 'ID'],
  ['BT-2', 'IssueDate'],
  ['BT-3', 'InvoiceTypeCode'],
  ['BT-3', 'CreditNoteTypeCode'],
  ['BT-5', 'DocumentCurrencyCode'],
  ['BT-6', 'TaxCurrencyCode'],
  ['BT-7', 'TaxPointDate'],
  ['BT-8', 'InvoicePeriod/DescriptionCode'],
  ['BT-9', 'DueDate'],
  ['BT-9', 'PaymentMeans/PaymentDueDate'],
  ['BT-10', 'BuyerReference'],
  ['BT-11', 'ProjectReference/ID'],
  ['BT-11', 'AdditionalDocumentReference[DocumentTypeCode=50]/ID'],
  ['BT-12', 'ContractDocumentReference/ID'],
  ['BT-13', 'OrderReference/ID'],
  ['BT-14', 'OrderReference/SalesOrderID'],
  ['BT-15', 'ReceiptDocumentReference/ID'],
  ['BT-16', 'DespatchDocumentReference/ID'],
  ['BT-17', 'OriginatorDocumentReference/ID'],
  ['BT-18', `${OBJECT}/ID`],
  ['BT-18-1', `${OBJECT}/ID/@schemeID`],
  ['BT-19', 'AccountingCost'],
  ['BT-20', 'PaymentTerms/Note'],
  ['BT-21/22', 'Note'],
  ['BT-23', 'ProfileID'],
  ['BT-24', 'CustomizationID'],
  ['BT-25', 'BillingReference/InvoiceDocumentReference/ID'],
  ['BT-26', 'BillingReference/InvoiceDocumentReference/IssueDate'],
  ...party(SUPPLIER, {
    'BT-27': 'PartyLegalEntity/RegistrationName',
    'BT-28': 'PartyName/Name',
    'BT-29': 'PartyIdentification/ID[@schemeID!=SEPA]',
    'BT-29-1': 'PartyIdentification/ID[@schemeID!=SEPA]/@schemeID',
    'BT-30': 'PartyLegalEntity/CompanyID',
    'BT-30-1': 'PartyLegalEntity/CompanyID/@schemeID',
    'BT-31': 'PartyTaxScheme[TaxScheme/ID=VAT]/CompanyID',
    'BT-32': 'PartyTaxScheme[TaxScheme/ID!=VAT]/CompanyID',
    'BT-33': 'PartyLegalEntity/CompanyLegalForm',
    'BT-34': 'EndpointID',
    'BT-34-1': 'EndpointID/@schemeID',
    'BT-41': 'Contact/Name',
    'BT-42': 'Contact/Telephone',
    'BT-43': 'Contact/ElectronicMail',
    'BT-90': 'PartyIdentification/ID[@schemeID=SEPA]',
  }),
  ...address(`${SUPPLIER}/PostalAddress`, ['BT-35', 'BT-36', 'BT-162', 'BT-37', 'BT-38', 'BT-39', 'BT-40']),
  ...party(CUSTOMER, {
    'BT-44': 'PartyLegalEntity/RegistrationName',
    'BT-45': 'PartyName/Name',
    'BT-46': 'PartyIdentification/ID',
    'BT-46-1': 'PartyIdentification/ID/@schemeID',
    'BT-47': 'PartyLegalEntity/CompanyID',
    'BT-47-1': 'PartyLegalEntity/CompanyID/@schemeID',
    'BT-48': 'PartyTaxScheme/CompanyID',
    'BT-49': 'EndpointID',
    'BT-49-1': 'EndpointID/@schemeID',
    'BT-56': 'Contact/Name',
    'BT-57': 'Contact/Telephone',
    'BT-58': 'Contact/ElectronicMail',
  }),
  ...address(`${CUSTOMER}/PostalAddress`, ['BT-50', 'BT-51', 'BT-163', 'BT-52', 'BT-53', 'BT-54', 'BT-55']),
  ...party('PayeeParty', {
    'BT-59': 'PartyName/Name',
    'BT-60': 'PartyIdentification/ID[@schemeID!=SEPA]',
    'BT-60-1': 'PartyIdentification/ID[@schemeID!=SEPA]/@schemeID',
    'BT-61': 'PartyLegalEntity/CompanyID',
    'BT-61-1': 'PartyLegalEntity/CompanyID/@schemeID',
    'BT-90': 'PartyIdentification/ID[@schemeID=SEPA]',
  }),
  ...party('TaxRepresentativeParty', { 'BT-62': 'PartyName/Name', 'BT-63': 'PartyTaxScheme/CompanyID' }),
  ...address('TaxRepresentativeParty/PostalAddress', ['BT-64', 'BT-65', 'BT-164', 'BT-66', 'BT-67', 'BT-68', 'BT-69']),
  ['BT-70', 'Delivery/DeliveryParty/PartyName/Name'],
  ['BT-71', 'Delivery/DeliveryLocation/ID'],
  ['BT-71-1', 'Delivery/DeliveryLocation/ID/@schemeID'],
  ['BT-72', 'Delivery/ActualDeliveryDate'],
  ['BT-73', 'InvoicePeriod/StartDate'],
  ['BT-74', 'InvoicePeriod/EndDate'],
  ...address('Delivery/DeliveryLocation/Address', ['BT-75', 'BT-76', 'BT-165', 'BT-77', 'BT-78', 'BT-79', 'BT-80']),
  ['BT-81', 'PaymentMeans/PaymentMeansCode'],
  ['BT-82', 'PaymentMeans/PaymentMeansCode/@name'],
  ['BT-83', 'PaymentMeans/PaymentID'],
  ['BT-84', 'PaymentMeans/PayeeFinancialAccount/ID'],
  ['BT-85', 'PaymentMeans/PayeeFinancialAccount/Name'],
  ['BT-86', 'PaymentMeans/PayeeFinancialAccount/FinancialInstitutionBranch/ID'],
  ['BT-87', 'PaymentMeans/CardAccount/PrimaryAccountNumberID'],
  ['BT-88', 'PaymentMeans/CardAccount/HolderName'],
  ['BT-89', 'PaymentMeans/PaymentMandate/ID'],
  ['BT-91', 'PaymentMeans/PaymentMandate/PayerFinancialAccount/ID'],
  ...allowanceCharge('AllowanceCharge', 'false', ['BT-92', 'BT-93', 'BT-94', 'BT-95', 'BT-96', 'BT-97', 'BT-98']),
  ...allowanceCharge('AllowanceCharge', 'true', ['BT-99', 'BT-100', 'BT-101', 'BT-102', 'BT-103', 'BT-104', 'BT-105']),
  ...(
    [
      ['BT-106', 'LineExtensionAmount'],
      ['BT-107', 'AllowanceTotalAmount'],
      ['BT-108', 'ChargeTotalAmount'],
      ['BT-109', 'TaxExclusiveAmount'],
      ['BT-112', 'TaxInclusiveAmount'],
      ['BT-113', 'PrepaidAmount'],
      ['BT-114', 'PayableRoundingAmount'],
      ['BT-115', 'PayableAmount'],
    ] as const
  ).flatMap(([term, name]): [string, string][] => [
    [term, `LegalMonetaryTotal/${name}`],
    [`${term} currency`, `LegalMonetaryTotal/${name}/@currencyID`],
  ]),
  ['BT-110', `${MAIN_TAX}/TaxAmount`],
  ['BT-110 currency', `${MAIN_TAX}/TaxAmount/@currencyID`],
  ['BT-111', 'TaxTotal[TaxAmount/@currencyID!=$BT-5]/TaxAmount'],
  ['BT-111 currency', 'TaxTotal[TaxAmount/@currencyID!=$BT-5]/TaxAmount/@currencyID'],
  ['BT-116', 'TaxTotal/TaxSubtotal/TaxableAmount'],
  ['BT-116 currency', 'TaxTotal/TaxSubtotal/TaxableAmount/@currencyID'],
  ['BT-117', 'TaxTotal/TaxSubtotal/TaxAmount'],
  ['BT-117 currency', 'TaxTotal/TaxSubtotal/TaxAmount/@currencyID'],
  ['BT-118', 'TaxTotal/TaxSubtotal/TaxCategory/ID'],
  ['BT-119', 'TaxTotal/TaxSubtotal/TaxCategory/Percent'],
  ['BT-120', 'TaxTotal/TaxSubtotal/TaxCategory/TaxExemptionReason'],
  ['BT-121', 'TaxTotal/TaxSubtotal/TaxCategory/TaxExemptionReasonCode'],
  ['BT-122', `${SUPPORTING}/ID`],
  ['BT-123', `${SUPPORTING}/DocumentDescription`],
  ['BT-124', `${SUPPORTING}/Attachment/ExternalReference/URI`],
  ['BT-125', `${SUPPORTING}/Attachment/EmbeddedDocumentBinaryObject`],
  ['BT-125-1', `${SUPPORTING}/Attachment/EmbeddedDocumentBinaryObject/@mimeCode`],
  ['BT-125-2', `${SUPPORTING}/Attachment/EmbeddedDocumentBinaryObject/@filename`],
  ['BT-126', 'LINE/ID'],
  ['BT-127', 'LINE/Note'],
  ['BT-128', 'LINE/DocumentReference/ID'],
  ['BT-128-1', 'LINE/DocumentReference/ID/@schemeID'],
  ['BT-129', 'LINE/InvoicedQuantity'],
  ['BT-129', 'LINE/CreditedQuantity'],
  ['BT-130', 'LINE/InvoicedQuantity/@unitCode'],
  ['BT-130', 'LINE/CreditedQuantity/@unitCode'],
  ['BT-131', 'LINE/LineExtensionAmount'],
  ['BT-131 currency', 'LINE/LineExtensionAmount/@currencyID'],
  ['BT-132', 'LINE/OrderLineReference/LineID'],
  ['BT-133', 'LINE/AccountingCost'],
  ['BT-134', 'LINE/InvoicePeriod/StartDate'],
  ['BT-135', 'LINE/InvoicePeriod/EndDate'],
  ...allowanceCharge('LINE/AllowanceCharge', 'false', ['BT-136', 'BT-137', 'BT-138', '-', '-', 'BT-139', 'BT-140']),
  ...allowanceCharge('LINE/AllowanceCharge', 'true', ['BT-141', 'BT-142', 'BT-143', '-', '-', 'BT-144', 'BT-145']),
  ['BT-146', 'LINE/Price/PriceAmount'],
  ['BT-146 currency', 'LINE/Price/PriceAmount/@currencyID'],
  ['BT-147', 'LINE/Price/AllowanceCharge/Amount'],
  ['BT-148', 'LINE/Price/AllowanceCharge/BaseAmount'],
  ['BT-149', 'LINE/Price/BaseQuantity'],
  ['BT-150', 'LINE/Price/BaseQuantity/@unitCode'],
  ['BT-151', 'LINE/Item/ClassifiedTaxCategory/ID'],
  ['BT-152', 'LINE/Item/ClassifiedTaxCategory/Percent'],
  ['BT-153', 'LINE/Item/Name'],
  ['BT-154', 'LINE/Item/Description'],
  ['BT-155', 'LINE/Item/SellersItemIdentification/ID'],
  ['BT-156', 'LINE/Item/BuyersItemIdentification/ID'],
  ['BT-157', 'LINE/Item/StandardItemIdentification/ID'],
  ['BT-157-1', 'LINE/Item/StandardItemIdentification/ID/@schemeID'],
  ['BT-158', 'LINE/Item/CommodityClassification/ItemClassificationCode'],
  ['BT-158-1', 'LINE/Item/CommodityClassification/ItemClassificationCode/@listID'],
  ['BT-158-2', 'LINE/Item/CommodityClassification/ItemClassificationCode/@listVersionID'],
  ['BT-159', 'LINE/Item/OriginCountry/IdentificationCode'],
  ['BT-160', 'LINE/Item/AdditionalItemProperty/Name'],
  ['BT-161', 'LINE/Item/AdditionalItemProperty/Value'],
]

const parser = new XMLParser({
  preserveOrder: true,
  ignoreAttributes: false,
  attributeNamePrefix: '',
  parseTagValue: false,
  removeNSPrefix: true,
  trimValues: false,
  ignoreDeclaration: true,
})

export function readNodes(xml: string): Node {
  const parsed = parser.parse(xml) as Record<string, unknown>[]
  const root = parsed.find((node) => Object.keys(node)[0] !== '#text')
  return node(root as Record<string, unknown>)
}

function node(parsed: Record<string, unknown>): Node {
  const name = Object.keys(parsed).find((key) => key !== ':@') as string
  const inner = parsed[name] as Record<string, unknown>[]
  const children = inner.filter((child) => !('#text' in child)).map(node)
  const text = inner
    .filter((child) => '#text' in child)
    .map((child) => String(child['#text']))
    .join('')
  return {
    name,
    text: children.length > 0 ? '' : text,
    attributes: new Map(Object.entries((parsed[':@'] ?? {}) as Record<string, string>)),
    children,
  }
}

/** Term → its values in the document, without white space around them, sorted: a multiset. */
export function termsOf(xml: string): Map<string, string[]> {
  const root = readNodes(xml)
  const currency = root.children.find((child) => child.name === 'DocumentCurrencyCode')?.text.trim() ?? ''
  const values = new Map<string, string[]>()
  for (const [term, path] of TERMS) {
    const steps = splitPath(path.replace('LINE', `${root.name}Line`).replaceAll('$BT-5', currency))
    values.set(term, [...(values.get(term) ?? []), ...select(root, steps).map((value) => value.trim())].sort())
  }
  return values
}

function splitPath(path: string): string[] {
  return path.match(/(?:[^/[]|\[[^\]]*\])+/g) ?? []
}

function select(from: Node, steps: readonly string[]): string[] {
  const [step, ...rest] = steps
  if (step === undefined) return [from.text]
  if (step.startsWith('@')) return from.attributes.has(step.slice(1)) ? [from.attributes.get(step.slice(1)) as string] : []
  const [, name, condition] = /^([^[]+)(?:\[(.*)\])?$/.exec(step) as RegExpExecArray
  return from.children
    .filter((child) => child.name === name && (condition === undefined || holds(child, condition)))
    .flatMap((child) => select(child, rest))
}

function holds(child: Node, condition: string): boolean {
  const [, path, operator, value] = /^(.+?)(!?=)(.*)$/.exec(condition) as RegExpExecArray
  // xs:boolean has two spellings of each value.
  const spelled = (text: string): string => (path !== 'ChargeIndicator' ? text : text === '1' ? 'true' : text === '0' ? 'false' : text)
  const found = select(child, splitPath(path as string)).map((text) => spelled(text.trim()))
  return found.includes(value as string) === (operator === '=')
}

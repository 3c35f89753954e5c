/** BR-CL: every code comes from its list. An absent code is another rule's matter. @see docs/spec/ubl.md §8 */
import {
  ALLOWANCE_REASONS,
  CHARGE_REASONS,
  CLASSIFICATIONS,
  COUNTRIES,
  CREDIT_NOTE_TYPES,
  CURRENCIES,
  FORMS,
  INVOICE_TYPES,
  MIME_CODES,
  PAYMENT_MEANS,
  TAX_POINT_CODES,
  VAT_CATEGORIES,
} from './code-lists.js'
import { pointerTo } from './errors.js'
import { documentEntries, type Findings } from './findings.js'
import type { Line } from './lines.js'
import type { BillingDocument } from './model.js'

type List = ReadonlySet<string> | RegExp

export function codeRules(document: BillingDocument, findings: Findings): void {
  const coded = checker(findings)
  coded(
    document.typeCode,
    document.kind === 'invoice' ? INVOICE_TYPES : CREDIT_NOTE_TYPES,
    'BR-CL-01',
    '/typeCode',
    'document type (UNTDID 1001)',
  )
  coded(document.currency, CURRENCIES, 'BR-CL-04', '/currency', 'currency (ISO 4217)')
  coded(document.vatCurrency, CURRENCIES, 'BR-CL-05', '/vatCurrency', 'currency (ISO 4217)')
  coded(document.taxPointDateCode, TAX_POINT_CODES, 'BR-CL-06', '/taxPointDateCode', 'tax point (UNTDID 2005)')
  coded(document.invoicedObject?.schemeId, FORMS.reference, 'BR-CL-07', '/invoicedObject/schemeId', 'reference qualifier (UNTDID 1153)')
  ;(document.notes ?? []).forEach((note, index) =>
    coded(note.subjectCode, FORMS.noteSubject, 'BR-CL-08', `${pointerTo('/notes', index)}/subjectCode`, 'subject (UNTDID 4451)'),
  )
  partyCodes(document, findings)
  ;(document.payment ?? []).forEach((instruction, index) =>
    coded(instruction.meansCode, PAYMENT_MEANS, 'BR-CL-16', `${pointerTo('/payment', index)}/meansCode`, 'payment means (UNTDID 4461)'),
  )
  for (const [entry, pointer] of documentEntries(document, 'allowances')) {
    coded(entry.vat?.code, VAT_CATEGORIES, 'BR-CL-17', `${pointer}/vat/code`, 'VAT category (UNTDID 5305)')
    coded(entry.reasonCode, ALLOWANCE_REASONS, 'BR-CL-19', `${pointer}/reasonCode`, 'allowance reason (UNTDID 5189)')
  }
  for (const [entry, pointer] of documentEntries(document, 'charges')) {
    coded(entry.vat?.code, VAT_CATEGORIES, 'BR-CL-17', `${pointer}/vat/code`, 'VAT category (UNTDID 5305)')
    coded(entry.reasonCode, CHARGE_REASONS, 'BR-CL-20', `${pointer}/reasonCode`, 'charge reason (UNTDID 7161)')
  }
  ;(document.vatBreakdown ?? []).forEach((entry, index) => {
    const pointer = pointerTo('/vatBreakdown', index)
    coded(entry.code, VAT_CATEGORIES, 'BR-CL-17', `${pointer}/code`, 'VAT category (UNTDID 5305)')
    coded(entry.exemptionReasonCode, FORMS.exemption, 'BR-CL-22', `${pointer}/exemptionReasonCode`, 'exemption reason (VATEX)')
  })
  ;(document.supportingDocuments ?? []).forEach((supporting, index) =>
    coded(
      supporting.attachment?.mimeCode,
      MIME_CODES,
      'BR-CL-24',
      `${pointerTo('/supportingDocuments', index)}/attachment/mimeCode`,
      'media type',
    ),
  )
  ;(document.lines ?? []).forEach((line, index) => lineCodes(line, pointerTo('/lines', index), findings))
}

type Coded = (value: string | undefined, list: List, rule: string, pointer: string, what: string) => void

function checker(findings: Findings): Coded {
  return (value, list, rule, pointer, what) => {
    const known = value === undefined || (list instanceof RegExp ? list.test(value.trim()) : list.has(value.trim()))
    findings.require(known, rule, pointer, `not a code of the list: ${what}`)
  }
}

function partyCodes(document: BillingDocument, findings: Findings): void {
  const coded = checker(findings)
  const { seller, buyer, payee, taxRepresentative, delivery } = document
  ;(seller?.identifiers ?? []).forEach((id, index) =>
    coded(id.schemeId, FORMS.icd, 'BR-CL-10', `${pointerTo('/seller/identifiers', index)}/schemeId`, 'identifier scheme (ISO/IEC 6523)'),
  )
  coded(buyer?.identifier?.schemeId, FORMS.icd, 'BR-CL-10', '/buyer/identifier/schemeId', 'identifier scheme (ISO/IEC 6523)')
  coded(payee?.identifier?.schemeId, FORMS.icd, 'BR-CL-10', '/payee/identifier/schemeId', 'identifier scheme (ISO/IEC 6523)')
  for (const [name, party] of Object.entries({ seller, buyer, payee })) {
    coded(
      party?.legalRegistration?.schemeId,
      FORMS.icd,
      'BR-CL-11',
      `/${name}/legalRegistration/schemeId`,
      'registration scheme (ISO/IEC 6523)',
    )
  }
  for (const [name, party] of Object.entries({ seller, buyer, taxRepresentative, delivery })) {
    coded(party?.address?.country, COUNTRIES, 'BR-CL-14', `/${name}/address/country`, 'country (ISO 3166-1)')
  }
  for (const [name, party] of Object.entries({ seller, buyer })) {
    coded(
      party?.electronicAddress?.schemeId,
      FORMS.electronicAddress,
      'BR-CL-25',
      `/${name}/electronicAddress/schemeId`,
      'electronic address scheme (EAS)',
    )
  }
  coded(delivery?.location?.schemeId, FORMS.icd, 'BR-CL-26', '/delivery/location/schemeId', 'location scheme (ISO/IEC 6523)')
}

function lineCodes(line: Line, pointer: string, findings: Findings): void {
  const coded = checker(findings)
  coded(
    line.invoicedObject?.schemeId,
    FORMS.reference,
    'BR-CL-07',
    `${pointer}/invoicedObject/schemeId`,
    'reference qualifier (UNTDID 1153)',
  )
  coded(line.unit, FORMS.unit, 'BR-CL-23', `${pointer}/unit`, 'unit (UN/ECE Rec 20, 21)')
  coded(line.price?.baseQuantityUnit, FORMS.unit, 'BR-CL-23', `${pointer}/price/baseQuantityUnit`, 'unit (UN/ECE Rec 20, 21)')
  coded(line.vat?.code, VAT_CATEGORIES, 'BR-CL-18', `${pointer}/vat/code`, 'VAT category (UNTDID 5305)')
  for (const [index, entry] of (line.allowances ?? []).entries())
    coded(entry.reasonCode, ALLOWANCE_REASONS, 'BR-CL-19', `${pointer}/allowances/${index}/reasonCode`, 'allowance reason (UNTDID 5189)')
  for (const [index, entry] of (line.charges ?? []).entries())
    coded(entry.reasonCode, CHARGE_REASONS, 'BR-CL-20', `${pointer}/charges/${index}/reasonCode`, 'charge reason (UNTDID 7161)')
  coded(
    line.item?.standardIdentifier?.schemeId,
    FORMS.icd,
    'BR-CL-21',
    `${pointer}/item/standardIdentifier/schemeId`,
    'item identifier scheme (ISO/IEC 6523)',
  )
  coded(line.item?.originCountry, COUNTRIES, 'BR-CL-15', `${pointer}/item/originCountry`, 'country (ISO 3166-1)')
  for (const [index, entry] of (line.item?.classifications ?? []).entries())
    coded(entry.listId, CLASSIFICATIONS, 'BR-CL-13', `${pointer}/item/classifications/${index}/listId`, 'classification (UNTDID 7143)')
}

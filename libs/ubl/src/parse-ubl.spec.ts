import { describe, expect, it } from 'vitest'
import { checkEn16931, roundtripUbl } from './check.js'
import { UblError } from './errors.js'
import { parseUbl } from './parse-ubl.js'
import { toUbl } from './to-ubl.js'
import { CAC_NS, CBC_NS, CREDIT_NOTE_NS, INVOICE_NS } from './tree.js'

const invoice = (content: string): string =>
  `<Invoice xmlns="${INVOICE_NS}" xmlns:cac="${CAC_NS}" xmlns:cbc="${CBC_NS}">${content}</Invoice>`
const creditNote = (content: string): string =>
  `<CreditNote xmlns="${CREDIT_NOTE_NS}" xmlns:cac="${CAC_NS}" xmlns:cbc="${CBC_NS}">${content}</CreditNote>`

describe('XML on its way in', () => {
  it('is read by namespace, whatever the prefixes', () => {
    const xml = `<i:Invoice xmlns:i="${INVOICE_NS}"><ID xmlns="${CBC_NS}">1</ID><x:BuyerReference xmlns:x="${CBC_NS}">2</x:BuyerReference><cbc:ID xmlns:cbc="urn:other">3</cbc:ID></i:Invoice>`
    const { document, unmapped } = parseUbl(xml)
    expect(document).toEqual({ kind: 'invoice', number: '1', buyerReference: '2' })
    expect(unmapped.map((part) => part.path)).toEqual(['/Invoice/{urn:other}ID'])
  })

  it('has its entities, references and CDATA resolved, once', () => {
    const { document } = parseUbl(invoice('<cbc:ID>&amp;lt; &#65;&#x20AC;&apos;&quot;&gt;<![CDATA[&amp;<b>]]><!-- no --> z</cbc:ID>'))
    expect(document.number).toBe('&lt; A€\'">&amp;<b> z')
  })

  it('keeps text as written, and no white space around codes, dates and amounts', () => {
    const { document } = parseUbl(
      invoice(
        '<cbc:ID> a\r\n b </cbc:ID><cbc:IssueDate>\n2026-01-02 </cbc:IssueDate><cbc:DocumentCurrencyCode> EUR\t</cbc:DocumentCurrencyCode><cac:LegalMonetaryTotal><cbc:PayableAmount currencyID="EUR"> +012.50 </cbc:PayableAmount></cac:LegalMonetaryTotal>',
      ),
    )
    expect(document).toEqual({ kind: 'invoice', number: ' a\n b ', issueDate: '2026-01-02', currency: 'EUR', totals: { payable: '12.50' } })
  })

  it('may have a byte order mark, a declaration, comments and processing instructions', () => {
    const xml = `\uFEFF<?xml version="1.0" encoding="utf-8" standalone="yes"?>\n<!-- a > b --><?style it's "?>\n${invoice('<cbc:ID>1<?x "?></cbc:ID>')}\n<!-- end -->`
    expect(parseUbl(xml).document.number).toBe('1')
    expect(parseUbl(new TextEncoder().encode(xml)).document.number).toBe('1')
  })
})

describe('terms that UBL writes in its own way', () => {
  const cycle = (xml: string): string => toUbl(parseUbl(xml).document)

  it("has a credit note's due date in its payment means", () => {
    const { document } = parseUbl(
      creditNote(
        '<cac:PaymentMeans><cbc:PaymentMeansCode>30</cbc:PaymentMeansCode><cbc:PaymentDueDate>2026-01-02</cbc:PaymentDueDate></cac:PaymentMeans>',
      ),
    )
    expect(document).toEqual({ kind: 'credit-note', dueDate: '2026-01-02', payment: [{ meansCode: '30' }] })
    const carried = toUbl({ kind: 'credit-note', dueDate: '2026-01-02' })
    expect(carried).toContain('<cbc:PaymentMeansCode>1</cbc:PaymentMeansCode>')
    expect(parseUbl(carried).document).toEqual({ kind: 'credit-note', dueDate: '2026-01-02' })
  })

  it('has an order without a number where only the sales order is known', () => {
    const xml = toUbl({ kind: 'invoice', salesOrderReference: 'S1' })
    expect(xml).toContain('<cbc:ID>NA</cbc:ID>')
    expect(parseUbl(xml).document).toEqual({ kind: 'invoice', salesOrderReference: 'S1' })
    expect(parseUbl(invoice('<cac:OrderReference><cbc:ID>NA</cbc:ID></cac:OrderReference>')).document.purchaseOrderReference).toBe('NA')
  })

  it('has the project of a credit note and the invoiced object as document references', () => {
    const reference = (id: string, type: string): string =>
      `<cac:AdditionalDocumentReference><cbc:ID schemeID="AAA">${id}</cbc:ID><cbc:DocumentTypeCode>${type}</cbc:DocumentTypeCode></cac:AdditionalDocumentReference>`
    const { document, unmapped } = parseUbl(creditNote(reference('o', '130') + reference('p', '50')))
    expect(document).toEqual({ kind: 'credit-note', invoicedObject: { value: 'o', schemeId: 'AAA' }, projectReference: 'p' })
    expect(unmapped).toEqual([{ path: '/CreditNote/cac:AdditionalDocumentReference[2]/cbc:ID/@schemeID', value: 'AAA', lost: 'no-term' }])
    expect(parseUbl(cycle(invoice(reference('x', '916')))).document.supportingDocuments).toEqual([{ reference: 'x' }])
  })

  it('has two VAT totals, told apart by their currency', () => {
    const total = (amount: string, currency: string): string =>
      `<cac:TaxTotal><cbc:TaxAmount currencyID="${currency}">${amount}</cbc:TaxAmount></cac:TaxTotal>`
    const xml = invoice(
      `<cbc:DocumentCurrencyCode>EUR</cbc:DocumentCurrencyCode><cbc:TaxCurrencyCode>SEK</cbc:TaxCurrencyCode>${total('11.50', 'SEK')}${total('1.00', 'EUR')}`,
    )
    expect(parseUbl(xml).document.totals).toEqual({ vat: '1.00', vatInAccountingCurrency: '11.50' })
    expect(parseUbl(cycle(xml)).document).toEqual(parseUbl(xml).document)
  })
})

describe('what cannot be kept', () => {
  const lost = (xml: string): string[] =>
    parseUbl(xml)
      .unmapped.filter((part) => part.lost === 'term')
      .map((part) => part.path)

  it('is named: repeated terms, other currencies, taxes other than VAT', () => {
    expect(lost(invoice('<cbc:BuyerReference>1</cbc:BuyerReference><cbc:BuyerReference>2</cbc:BuyerReference>'))).toEqual([
      '/Invoice/cbc:BuyerReference[2]',
    ])
    expect(
      lost(
        invoice(
          '<cac:ContractDocumentReference><cbc:ID>1</cbc:ID></cac:ContractDocumentReference><cac:ContractDocumentReference><cbc:ID>2</cbc:ID></cac:ContractDocumentReference>',
        ),
      ),
    ).toEqual(['/Invoice/cac:ContractDocumentReference[2]/cbc:ID'])
    expect(
      lost(
        invoice(
          '<cbc:DocumentCurrencyCode>EUR</cbc:DocumentCurrencyCode><cac:LegalMonetaryTotal><cbc:PayableAmount currencyID="USD">1</cbc:PayableAmount></cac:LegalMonetaryTotal>',
        ),
      ),
    ).toEqual(['/Invoice/cac:LegalMonetaryTotal/cbc:PayableAmount/@currencyID'])
    expect(
      lost(
        invoice(
          '<cac:TaxTotal><cac:TaxSubtotal><cac:TaxCategory><cbc:ID>S</cbc:ID><cac:TaxScheme><cbc:ID>GST</cbc:ID></cac:TaxScheme></cac:TaxCategory></cac:TaxSubtotal></cac:TaxTotal>',
        ),
      ),
    ).toEqual(['/Invoice/cac:TaxTotal/cac:TaxSubtotal/cac:TaxCategory/cac:TaxScheme/cbc:ID'])
  })

  it('ends a round trip, while elements without a term do not', () => {
    const twice = invoice('<cbc:ID>1</cbc:ID><cbc:ID>2</cbc:ID>')
    expect(() => roundtripUbl(twice)).toThrow(UblError)
    expect(() => roundtripUbl(twice)).toThrow('cannot be kept: /Invoice/cbc:ID[2]')
    expect(roundtripUbl(invoice('<cbc:UUID>u</cbc:UUID><cbc:ID>1</cbc:ID>'))).toContain('<cbc:ID>1</cbc:ID>')
  })

  it('still gets its rules checked', () => {
    expect(checkEn16931(invoice('<cbc:IssueDate>soon</cbc:IssueDate>'))).toEqual(
      expect.arrayContaining(['BR-01', 'BR-02', 'BR-16', 'UBL-VALUE']),
    )
    expect(checkEn16931(invoice('<cbc:IssueDate>soon</cbc:IssueDate>'))).not.toContain('BR-03')
  })
})

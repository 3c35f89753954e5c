import { describe, expect, it } from 'vitest'
import { sampleDraft } from '../test/sample.js'
import { issueDocument } from './issue.js'
import type { BillingDocument } from './model.js'
import { mergeDraft } from './record.js'
import { validate } from './validate.js'

const valid = (): BillingDocument => issueDocument(sampleDraft(), { number: '1', issueDate: '2026-03-01' })
const broken = (patch: unknown): string[] => validate(mergeDraft(valid(), patch)).map(({ rule, pointer }) => `${rule} ${pointer}`)

describe('the rules of EN 16931', () => {
  it('hold for a valid document', () => {
    expect(validate(valid())).toEqual([])
  })

  it.each<[string, unknown, string[]]>([
    ['a missing number', { number: null }, ['BR-02 /number']],
    ['a blank number', { number: ' ' }, ['BR-02 /number']],
    ['an unknown currency', { currency: 'EUX' }, ['BR-CL-04 /currency']],
    ['an unknown country', { buyer: { address: { country: 'ZZ' } } }, ['BR-CL-14 /buyer/address/country']],
    ['a wrong amount due', { totals: { payable: '38.81' } }, ['BR-CO-16 /totals/payable']],
    ['a wrong VAT total', { totals: { vat: '6.20' } }, ['BR-CO-14 /totals/vat', 'BR-CO-15 /totals/withVat']],
    ['three digits', { totals: { paid: '0.000' } }, ['BR-DEC-16 /totals/paid']],
    [
      'no seller VAT identifier',
      { seller: { vatIdentifier: null } },
      ['BR-CO-26 /seller', 'BR-S-02 /lines/0', 'BR-S-02 /lines/1', 'BR-S-03 /allowances/0', 'BR-S-04 /charges/0'],
    ],
    ['a VAT identifier of nowhere', { seller: { vatIdentifier: '??123' } }, ['BR-CO-09 /seller/vatIdentifier']],
    ['no way to pay', { dueDate: null }, ['BR-CO-25 /dueDate']],
    [
      'a transfer without account',
      { payment: [{ meansCode: '58', creditTransfer: {} }] },
      ['BR-61 /payment/0/creditTransfer/account', 'BR-50 /payment/0/creditTransfer/account'],
    ],
    [
      'a full card number',
      { payment: [{ meansCode: '48', card: { accountNumber: '4111111111111111' } }] },
      ['BR-51 /payment/0/card/accountNumber'],
    ],
    ['a period that ends first', { invoicingPeriod: { startDate: '2026-02-02', endDate: '2026-02-01' } }, ['BR-29 /invoicingPeriod']],
    ['an accounting currency without its total', { vatCurrency: 'SEK' }, ['BR-53 /totals/vatInAccountingCurrency']],
    [
      'an attachment of a strange type',
      { supportingDocuments: [{ reference: '1', attachment: { content: 'AAAA', mimeCode: 'text/html', filename: 'a' } }] },
      ['BR-CL-24 /supportingDocuments/0/attachment/mimeCode'],
    ],
  ])('name %s', (_name, patch, expected) => {
    expect(broken(patch)).toEqual(expected)
  })

  it('know the types of each kind of document', () => {
    expect(broken({ typeCode: '381' })).toEqual(['BR-CL-01 /typeCode'])
    expect(validate({ ...valid(), kind: 'credit-note', typeCode: '381' })).toEqual([])
  })

  it('bound what they report', () => {
    const lines = Array.from({ length: 2000 }, () => ({}))
    expect(validate({ kind: 'invoice', lines })).toHaveLength(500)
  })
})

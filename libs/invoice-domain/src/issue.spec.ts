import { describe, expect, it } from 'vitest'
import { sampleDraft } from '../test/sample.js'
import { minorUnits } from './currency.js'
import { DomainError } from './errors.js'
import { formatNumber, issueDocument } from './issue.js'
import { summarise } from './summary.js'
import { withTotals } from './totals.js'
import { validate } from './validate.js'

const ASSIGNED = { number: 'INV-2026-0001', issueDate: '2026-03-01' }

describe('totals', () => {
  it('follow from lines, allowances and charges, each amount rounded once', () => {
    const filled = withTotals(sampleDraft())
    // 3 × (12.345 − 0.345) − 1.00; 10 × 1.115 ÷ 100 = 0.1115
    expect(filled.lines?.map((line) => line.netAmount)).toEqual(['35.00', '0.11'])
    expect(filled.lines?.[0]?.price?.net).toBe('12')
    expect(filled.allowances?.[0]?.amount).toBe('10.00')
    expect(filled.vatBreakdown).toEqual([
      { code: 'S', rate: '19', taxableAmount: '32.50', taxAmount: '6.18' },
      { code: 'S', rate: '7', taxableAmount: '0.11', taxAmount: '0.01' },
    ])
    expect(filled.totals).toEqual({
      lineNet: '35.11',
      allowances: '10.00',
      charges: '7.50',
      withoutVat: '32.61',
      vat: '6.19',
      withVat: '38.80',
      payable: '38.80',
    })
  })

  it('never change what is there', () => {
    const draft = { ...sampleDraft(), totals: { payable: '1.00' } }
    expect(withTotals(draft).totals?.payable).toBe('1.00')
    expect(draft.lines?.[0]?.netAmount).toBeUndefined()
  })

  it('complete a breakdown of which only the exemption reason is given', () => {
    const draft = sampleDraft()
    const exempt = {
      ...draft,
      allowances: undefined,
      charges: undefined,
      lines: draft.lines?.map((line) => ({ ...line, vat: { code: 'E', rate: '0' } })),
    }
    const filled = withTotals({ ...exempt, vatBreakdown: [{ code: 'E', rate: '0', exemptionReason: 'Art. 132' }] })
    expect(filled.vatBreakdown).toEqual([{ code: 'E', rate: '0', exemptionReason: 'Art. 132', taxableAmount: '35.11', taxAmount: '0.00' }])
  })

  it('have the digits of the currency, two at most', () => {
    expect(withTotals({ ...sampleDraft(), currency: 'JPY' }).totals?.payable).toBe('39')
    expect(withTotals({ ...sampleDraft(), currency: 'KWD' }).totals?.payable).toBe('38.80')
    expect(['EUR', 'JPY', 'KWD', 'CLF', 'constructor', undefined].map(minorUnits)).toEqual([2, 0, 3, 4, 2, 2])
  })
})

describe('issuing', () => {
  it('numbers, completes, validates and freezes', () => {
    const issued = issueDocument(sampleDraft(), ASSIGNED)
    expect(validate(issued)).toEqual([])
    expect(issued).toMatchObject({
      number: 'INV-2026-0001',
      issueDate: '2026-03-01',
      typeCode: '380',
      specification: 'urn:cen.eu:en16931:2017',
    })
    expect(Object.isFrozen(issued.lines?.[0]?.vat)).toBe(true)
    expect(() => Object.assign(issued, { number: 'X' })).toThrow(TypeError)
    expect(summarise(issued)).toEqual({
      kind: 'invoice',
      number: 'INV-2026-0001',
      issueDate: '2026-03-01',
      dueDate: '2026-03-31',
      seller: 'Acme Tools GmbH',
      buyer: 'Globex Handels AG',
      currency: 'EUR',
      payableAmount: '38.80',
      lineCount: 2,
    })
  })

  it('keeps the number and date of the draft', () => {
    const issued = issueDocument({ ...sampleDraft(), number: 'MINE-1', issueDate: '2026-02-28' }, ASSIGNED)
    expect(issued).toMatchObject({ number: 'MINE-1', issueDate: '2026-02-28' })
  })

  it('refuses with every broken rule and its place', () => {
    try {
      issueDocument({ ...sampleDraft(), buyer: undefined, totals: { withVat: '40.00' } }, ASSIGNED)
      expect.unreachable()
    } catch (error) {
      expect(error).toBeInstanceOf(DomainError)
      const found = (error as DomainError).violations.map(({ rule, pointer }) => `${rule} ${pointer}`)
      expect(found).toEqual(['BR-07 /buyer/name', 'BR-10 /buyer/address', 'BR-CO-15 /totals/withVat'])
      expect((error as DomainError).message).toMatch(/and 2 more/)
    }
  })

  it('formats numbers', () => {
    expect(formatNumber('INV', 2026, 7)).toBe('INV-2026-0007')
    expect(formatNumber('INV', 2026, 123456)).toBe('INV-2026-123456')
    for (const [series, year, sequence] of [
      ['', 2026, 1],
      ['a b', 2026, 1],
      ['INV', 26, 1],
      ['INV', 2026, 0],
      ['INV', 2026, 1.5],
    ] as const) {
      expect(() => formatNumber(series, year, sequence)).toThrow(DomainError)
    }
  })
})

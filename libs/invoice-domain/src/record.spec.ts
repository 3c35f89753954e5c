import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { anyDocument } from '../test/random-document.js'
import { sampleDraft } from '../test/sample.js'
import { DomainError } from './errors.js'
import { fromJson, fromRecord, mergeDraft, RECORD_VERSION, toJson, toRecord } from './record.js'

function refusalOf(action: () => unknown): { code: string; where: string[] } {
  try {
    action()
  } catch (error) {
    if (!(error instanceof DomainError)) throw error
    return { code: error.code, where: error.violations.map(({ rule, pointer }) => `${rule} ${pointer}`) }
  }
  throw new Error('nothing was refused')
}

/** What CBOR can carry deterministically: strings, small integers, lists, maps. */
function isPlain(value: unknown): boolean {
  if (typeof value === 'string') return true
  if (typeof value === 'number') return Number.isSafeInteger(value)
  if (Array.isArray(value)) return value.length > 0 && value.every(isPlain)
  return typeof value === 'object' && value !== null && Object.values(value).every(isPlain)
}

describe('records', () => {
  it('give back every document, also from null-prototype maps', () => {
    fc.assert(
      fc.property(anyDocument, (document) => {
        const record = toRecord(document)
        expect(isPlain(record)).toBe(true)
        expect(fromRecord(record)).toEqual(document)
        const bare = JSON.parse(JSON.stringify(record), (_key, value: unknown) =>
          typeof value === 'object' && value !== null && !Array.isArray(value) ? Object.assign(Object.create(null), value) : value,
        ) as unknown
        expect(fromRecord(bare)).toEqual(document)
      }),
      { numRuns: 300 },
    )
  })

  it('do not depend on the order of fields, nor hold absent values and empty lists', () => {
    const draft = sampleDraft()
    const shuffled = Object.fromEntries(Object.entries(draft).reverse())
    expect(JSON.stringify(toRecord(fromJson(shuffled)))).toBe(JSON.stringify(toRecord(draft)))
    expect(toRecord({ ...draft, notes: [], buyerReference: undefined })).toEqual(toRecord(draft))
  })

  it.each<[string, unknown, string, string]>([
    ['no map', [], 'InvalidRequest', 'InvalidRequest '],
    ['null', null, 'InvalidRequest', 'InvalidRequest '],
    ['a class instance', new Date(0), 'InvalidRequest', 'InvalidRequest '],
    ['another version', { v: 2, kind: 'invoice' }, 'UnsupportedVersion', 'UnsupportedVersion /v'],
    ['no version', { kind: 'invoice' }, 'UnsupportedVersion', 'UnsupportedVersion /v'],
    ['another kind', { v: 1, kind: 'order' }, 'InvalidRequest', 'InvalidRequest /kind'],
    ['an unknown field', { v: 1, kind: 'invoice', seller: { nmae: 'x' } }, 'InvalidRequest', 'InvalidRequest /seller/nmae'],
    ['__proto__', JSON.parse('{"v":1,"kind":"invoice","__proto__":{"number":"1"}}'), 'InvalidRequest', 'InvalidRequest /__proto__'],
    ['a member of all objects', { v: 1, kind: 'invoice', toString: 'x' }, 'InvalidRequest', 'InvalidRequest /toString'],
    ['a number for an amount', { v: 1, kind: 'invoice', totals: { payable: 1.5 } }, 'InvalidAmount', 'InvalidAmount /totals/payable'],
    ['a comma', { v: 1, kind: 'invoice', lines: [{}, { netAmount: '1,5' }] }, 'InvalidAmount', 'InvalidAmount /lines/1/netAmount'],
    ['an exponent', { v: 1, kind: 'invoice', lines: [{ price: { net: '1e3' } }] }, 'InvalidAmount', 'InvalidAmount /lines/0/price/net'],
    ['a day that is none', { v: 1, kind: 'invoice', issueDate: '2025-02-29' }, 'InvalidRequest', 'InvalidRequest /issueDate'],
    ['a time for a date', { v: 1, kind: 'invoice', issueDate: '2025-02-28T00:00:00Z' }, 'InvalidRequest', 'InvalidRequest /issueDate'],
    ['a control character', { v: 1, kind: 'invoice', number: 'a\u0007' }, 'InvalidRequest', 'InvalidRequest /number'],
    ['half a surrogate pair', { v: 1, kind: 'invoice', number: '\ud800' }, 'InvalidRequest', 'InvalidRequest /number'],
    ['a list for a group', { v: 1, kind: 'invoice', seller: [] }, 'InvalidRequest', 'InvalidRequest /seller'],
    ['a group for a list', { v: 1, kind: 'invoice', lines: {} }, 'InvalidRequest', 'InvalidRequest /lines'],
    [
      'an identifier without a value',
      { v: 1, kind: 'invoice', invoicedObject: { schemeId: 'AAA' } },
      'InvalidRequest',
      'InvalidRequest /invoicedObject/value',
    ],
    ['a code with spaces around', { v: 1, kind: 'invoice', currency: ' EUR' }, 'InvalidRequest', 'InvalidRequest /currency'],
    [
      'a note that looks like a subject code',
      { v: 1, kind: 'invoice', notes: [{ text: '#AAI#x' }] },
      'InvalidRequest',
      'BR-CL-08 /notes/0/text',
    ],
    [
      'base64 with a line break',
      { v: 1, kind: 'invoice', supportingDocuments: [{ attachment: { content: 'AA\n==' } }] },
      'InvalidRequest',
      'InvalidRequest /supportingDocuments/0/attachment/content',
    ],
    ['too long a list', { v: 1, kind: 'invoice', lines: new Array(20_001).fill({}) }, 'InvalidRequest', 'InvalidRequest /lines'],
  ])('refuse %s by name', (_name, record, code, where) => {
    expect(refusalOf(() => fromRecord(record))).toEqual({ code, where: [where] })
  })

  it('bound what a hostile record can make them say', () => {
    const fields = Object.fromEntries(Array.from({ length: 5000 }, (_, index) => [`x${index}${'y'.repeat(500)}`, 1]))
    const { where } = refusalOf(() => fromRecord({ v: RECORD_VERSION, kind: 'invoice', ...fields }))
    expect(where.length).toBeLessThanOrEqual(100)
    expect(Math.max(...where.map((each) => each.length))).toBeLessThan(120)
  })

  it('hold a MiB of attachment', () => {
    const document = {
      ...sampleDraft(),
      supportingDocuments: [{ reference: '1', attachment: { content: 'AAAA'.repeat(350_000), mimeCode: 'text/csv', filename: 'a.csv' } }],
    }
    expect(fromRecord(toRecord(document))).toEqual(document)
  })
})

describe('JSON', () => {
  it('needs no version, and no kind if the caller knows it', () => {
    expect(fromJson({ number: '1' }, 'credit-note')).toEqual({ kind: 'credit-note', number: '1' })
    expect(refusalOf(() => fromJson({ kind: 'invoice' }, 'credit-note')).where).toEqual(['InvalidRequest /kind'])
    expect(refusalOf(() => fromJson({})).where).toEqual(['InvalidRequest /kind'])
    expect(toJson({ kind: 'invoice', number: '1' })).toEqual({ kind: 'invoice', number: '1' })
  })

  it('patches a draft: null removes, objects merge, lists replace', () => {
    const patched = mergeDraft(sampleDraft(), { dueDate: null, seller: { name: 'Acme SE' }, lines: [{ id: '9' }] })
    expect(patched.dueDate).toBeUndefined()
    expect(patched.seller).toMatchObject({ name: 'Acme SE', vatIdentifier: 'DE123456789' })
    expect(patched.lines).toEqual([{ id: '9' }])
    expect(refusalOf(() => mergeDraft(sampleDraft(), { kind: 'credit-note' })).where).toEqual(['InvalidRequest /kind'])
    expect(refusalOf(() => mergeDraft(sampleDraft(), { seller: { nmae: 'x' } })).where).toEqual(['InvalidRequest /seller/nmae'])
    const polluted = JSON.parse('{"seller":{"__proto__":{"polluted":1}}}') as unknown
    expect(refusalOf(() => mergeDraft(sampleDraft(), polluted)).where).toEqual(['InvalidRequest /seller/__proto__'])
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined()
    const deep = JSON.parse(`${'{"seller":'.repeat(5000)}{}${'}'.repeat(5000)}`) as unknown
    expect(refusalOf(() => mergeDraft(sampleDraft(), deep)).code).toBe('InvalidRequest')
  })

  it('merges a patch of 16 levels below its root, and looks no deeper', () => {
    const nested = (levels: number) => JSON.parse(`${'{"seller":'.repeat(levels)}{}${'}'.repeat(levels)}`) as unknown
    // Merged, and then refused for what it says, where it says it.
    expect(refusalOf(() => mergeDraft(sampleDraft(), nested(16))).where).toEqual(['InvalidRequest /seller/seller'])
    expect(refusalOf(() => mergeDraft(sampleDraft(), nested(17))).where).toEqual(['InvalidRequest '])
  })
})

import { describe, expect, it } from 'vitest'
import { encode } from './cbor.js'
import {
  decodeLogProof,
  decodeReceipt,
  decodeVerdict,
  encodeLogProof,
  encodeReceipt,
  encodeVerdict,
  type LogProofBody,
  type PositionRange,
  type ReceiptBody,
  type VerdictBody,
} from './messages.js'

const ID = '0190a1b2-0000-7000-8000-000000000001'
const hash = (n: number) => new Uint8Array(32).fill(n)
const code = (name: string) => expect.objectContaining({ code: name })

const receipt: ReceiptBody = { items: [{ messageId: ID, contentDigest: hash(1), status: 'stored', at: 5 }], checkpoint: 'note' }
/** The largest that the form allows. */
const many = Array.from({ length: 32 }, (_, n): PositionRange => [2 ** 52 + 3 * n, 2 ** 52 + 3 * n + 1])
const full: ReceiptBody = {
  items: Array.from({ length: 256 }, () => receipt.items[0]!),
  received: {
    from: 2 ** 51,
    seq: 2 ** 52 - 1,
    hash: hash(2),
    ranges: many.map(([from, to]) => ({ from, to, hash: hash(4) })),
    refused: many,
  },
  void: many,
  checkpoint: 'x'.repeat(8192),
}
const verdict: VerdictBody = { documentId: ID, contentDigest: hash(1), verdict: 'rejected', code: 'RE', note: 'line one\nline two', at: 5 }
const logProof: LogProofBody = {
  documentId: ID,
  entries: [{ leaf: new Uint8Array(10), index: 3, size: 5, proof: [hash(1), hash(2)], note: 'note', salt: hash(3) }],
  vkey: 'x+1+y',
}

describe('control message bodies', () => {
  it('come back whole', () => {
    expect(decodeReceipt(encodeReceipt(receipt))).toEqual(receipt)
    expect(decodeReceipt(encodeReceipt({ items: receipt.items }))).toEqual({ items: receipt.items })
    expect(decodeReceipt(encodeReceipt({ items: [] }))).toEqual({ items: [] })
    for (const body of [
      full,
      { items: [{ ...receipt.items[0]!, status: 'refused' }] },
      { items: [], received: {} },
      { items: [], received: { ranges: [{ from: 1, to: 1, hash: hash(1) }] } },
    ] satisfies ReceiptBody[])
      expect(decodeReceipt(encodeReceipt(body))).toEqual(body)
    expect(decodeVerdict(encodeVerdict(verdict))).toEqual(verdict)
    expect(decodeLogProof(encodeLogProof(logProof))).toEqual(logProof)
  })

  it('are not taken for each other', () => {
    expect(() => decodeReceipt(encodeVerdict(verdict))).toThrow(code('Serialization'))
    expect(() => decodeVerdict(encodeReceipt(receipt))).toThrow(code('Serialization'))
    expect(() => decodeLogProof(encodeReceipt(receipt))).toThrow(code('Serialization'))
  })

  it.each<[string, (bytes: Uint8Array) => unknown, unknown]>([
    ['receipt without a list of items', decodeReceipt, { received: {} }],
    ['receipt with a head without hash', decodeReceipt, { items: [], received: { seq: 1 } }],
    ['receipt with a hash without head', decodeReceipt, { items: [], received: { hash: hash(1) } }],
    ['receipt with a head below the beginning', decodeReceipt, { items: [], received: { from: 5, seq: 4, hash: hash(1) } }],
    ['receipt with a beginning without head', decodeReceipt, { items: [], received: { from: 5 } }],
    ['receipt with a head below 0', decodeReceipt, { items: [], received: { seq: -1, hash: hash(1) } }],
    [
      'receipt with a range under its head',
      decodeReceipt,
      { items: [], received: { seq: 4, hash: hash(1), ranges: [{ from: 4, to: 5 }] } },
    ],
    ['receipt with an empty range', decodeReceipt, { items: [], received: { ranges: [{ from: 3, to: 2 }] } }],
    ['receipt with half a range', decodeReceipt, { items: [], received: { ranges: [{ from: 3 }] } }],
    ['receipt with ranges out of order', decodeReceipt, { items: [], received: { ranges: [4, 3].map((n) => ({ from: n, to: n })) } }],
    ['receipt with void places that touch', decodeReceipt, { items: [], void: [1, 2].map((n) => [n, n]) }],
    ['receipt with half a void place', decodeReceipt, { items: [], void: [[1]] }],
    ['receipt with an empty list of ranges', decodeReceipt, { items: [], received: { ranges: [] } }],
    [
      'receipt with 33 ranges',
      decodeReceipt,
      { items: [], received: { ranges: Array.from({ length: 33 }, (_, n) => ({ from: 2 * n, to: 2 * n })) } },
    ],
    ['receipt with void places out of order', decodeReceipt, { items: [], void: [...many].reverse() }],
    ['receipt of 257 items', decodeReceipt, { items: Array.from({ length: 257 }, () => receipt.items[0]) }],
    ['receipt with another status', decodeReceipt, { items: [{ ...receipt.items[0], status: 'lost' }] }],
    ['receipt with an unknown field', decodeReceipt, { ...receipt, extra: 1 }],
    ['verdict maybe', decodeVerdict, { ...verdict, verdict: 'maybe' }],
    ['verdict with a code of blanks', decodeVerdict, { ...verdict, code: 'A B' }],
    ['verdict with a hidden character', decodeVerdict, { ...verdict, note: 'ok\u200b' }],
    ['verdict with a long note', decodeVerdict, { ...verdict, note: 'x'.repeat(2001) }],
    ['log-proof without entries', decodeLogProof, { ...logProof, entries: [] }],
    ['log-proof of 17 entries', decodeLogProof, { ...logProof, entries: Array.from({ length: 17 }, () => logProof.entries[0]) }],
    [
      'log-proof with 64 hashes',
      decodeLogProof,
      { ...logProof, entries: [{ ...logProof.entries[0], proof: Array.from({ length: 64 }, () => hash(1)) }] },
    ],
    ['log-proof with a long leaf', decodeLogProof, { ...logProof, entries: [{ ...logProof.entries[0], leaf: new Uint8Array(4097) }] }],
    ['log-proof in an empty tree', decodeLogProof, { ...logProof, entries: [{ ...logProof.entries[0], size: 0 }] }],
    ['log-proof without salt', decodeLogProof, { ...logProof, entries: [{ ...logProof.entries[0], salt: new Uint8Array(0) }] }],
  ])('must fail: %s', (_name, read, value) => {
    expect(() => read(encode(value))).toThrow(code('Serialization'))
  })
})

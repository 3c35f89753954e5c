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
  type ReceiptBody,
  type VerdictBody,
} from './messages.js'

const ID = '0190a1b2-0000-7000-8000-000000000001'
const hash = (n: number) => new Uint8Array(32).fill(n)
const code = (name: string) => expect.objectContaining({ code: name })

const receipt: ReceiptBody = { items: [{ messageId: ID, contentDigest: hash(1), status: 'stored', at: 5 }], checkpoint: 'note' }
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
    expect(decodeVerdict(encodeVerdict(verdict))).toEqual(verdict)
    expect(decodeLogProof(encodeLogProof(logProof))).toEqual(logProof)
  })

  it('are not taken for each other', () => {
    expect(() => decodeReceipt(encodeVerdict(verdict))).toThrow(code('Serialization'))
    expect(() => decodeVerdict(encodeReceipt(receipt))).toThrow(code('Serialization'))
    expect(() => decodeLogProof(encodeReceipt(receipt))).toThrow(code('Serialization'))
  })

  it.each<[string, (bytes: Uint8Array) => unknown, unknown]>([
    ['receipt without items', decodeReceipt, { items: [] }],
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

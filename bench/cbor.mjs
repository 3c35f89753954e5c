// Deterministic CBOR: the codec of what is hashed and signed, against cborg with its strictest options. cborg does not
// check the order of keys, so the peer that accepts the same inputs is cborg plus an encoding of the result that is compared.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { toRecord } from '@tallystick/invoice-domain/record'
import { parseUbl } from '@tallystick/ubl/parse-ubl'
import { decode, encode } from '@tallystick/wire/cbor'
import * as cborg from 'cborg'
import { compare } from './interleave.mjs'

const ENCODE = cborg.rfc8949EncodeOptions
const DECODE = {
  strict: true,
  allowIndefinite: false,
  allowUndefined: false,
  allowInfinity: false,
  allowNaN: false,
  allowBigInt: false,
  rejectDuplicateMapKeys: true,
}

function decodeAndCompare(bytes) {
  const value = cborg.decode(bytes, DECODE)
  if (Buffer.compare(cborg.encode(value, ENCODE), bytes) !== 0) throw new Error('not the deterministic encoding')
  return value
}

export async function benchCbor() {
  const xml = readFileSync(new URL('../samples/acme-invoice.xml', import.meta.url), 'utf8')
  const sample = toRecord(parseUbl(xml).document)
  const [line] = sample.lines
  const cases = [
    ['an invoice record', sample],
    ['an invoice record of 500 lines', { ...sample, lines: Array.from({ length: 500 }, (_, i) => ({ ...line, id: String(i + 1) })) }],
    ['a payload of 256 KiB', { v: 1, kind: 'document', seq: 7, prevHash: new Uint8Array(32), body: new Uint8Array(256 * 1024) }],
  ]
  for (const [name, value] of cases) {
    const bytes = encode(value)
    const limits = { maxItems: 400_000 }
    assert.deepEqual(Buffer.from(bytes), Buffer.from(cborg.encode(value, ENCODE)))
    assert.deepEqual(Buffer.from(cborg.encode(decode(bytes, limits), ENCODE)), Buffer.from(bytes))
    await compare(
      `encode ${name}, ${bytes.length} bytes`,
      { 'wire/cbor': () => encode(value), cborg: () => cborg.encode(value, ENCODE) },
      { bytes: bytes.length },
    )
    await compare(
      `decode ${name}, strictly`,
      {
        'wire/cbor': () => decode(bytes, limits),
        'cborg, order of keys not checked': () => cborg.decode(bytes, DECODE),
        'cborg and compared': () => decodeAndCompare(bytes),
      },
      { bytes: bytes.length },
    )
  }
}

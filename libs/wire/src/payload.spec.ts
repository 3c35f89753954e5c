import * as cborg from 'cborg'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decode, encode } from './cbor.js'
import {
  contentCommitment,
  contentDigest,
  decodePayload,
  encodePayload,
  type Payload,
  PAYLOAD_GENESIS,
  PAYLOAD_KINDS,
  PAYLOAD_MAX_BYTES,
  payloadHash,
} from './payload.js'

const ID = '0190a1b2-0000-7000-8000-000000000001'
const code = (name: string) => expect.objectContaining({ code: name })
const body = encode({ hello: 'world' })
const payload: Payload = {
  v: 1,
  kind: 'document',
  id: ID,
  seq: 0,
  prevHash: PAYLOAD_GENESIS,
  issuedAt: 1_700_000_000_000,
  contentDigest: contentDigest(body),
  body,
  statement: new Uint8Array([1]),
}
const changed = (change: Record<string, unknown>): Uint8Array => encode({ ...payload, ...change })

describe('payload', () => {
  it('round trip', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 2_000 }),
        fc.constantFrom(...PAYLOAD_KINDS),
        fc.maxSafeInteger(),
        fc.option(fc.uint8Array({ maxLength: 100 }), { nil: undefined }),
        (bytes, kind, seq, statement) => {
          const sent: Payload = { ...payload, kind, seq: Math.abs(seq), body: bytes, contentDigest: contentDigest(bytes), statement }
          const { statement: _absent, ...without } = sent
          const expected = statement === undefined ? without : sent
          expect(decodePayload(encodePayload(expected))).toEqual(expected)
        },
      ),
    )
  })

  it('chains: the hash covers every byte of the predecessor', () => {
    const encoded = encodePayload(payload)
    const other = encodePayload({ ...payload, issuedAt: payload.issuedAt + 1 })
    expect(payloadHash(encoded)).toHaveLength(32)
    expect(payloadHash(encoded)).not.toEqual(payloadHash(other))
  })

  it('takes a document of nearly 4 MiB and refuses one beyond', () => {
    const large = new Uint8Array(PAYLOAD_MAX_BYTES - 512)
    expect(decodePayload(encodePayload({ ...payload, body: large, contentDigest: contentDigest(large) })).body).toHaveLength(large.length)
    const larger = new Uint8Array(PAYLOAD_MAX_BYTES)
    expect(() => encodePayload({ ...payload, body: larger, contentDigest: contentDigest(larger) })).toThrow(code('Serialization'))
    expect(() => decodePayload(new Uint8Array(PAYLOAD_MAX_BYTES + 1))).toThrow(code('Serialization'))
  })

  it.each<[string, Record<string, unknown>, string]>([
    ['version 2', { v: 2 }, 'UnsupportedVersion'],
    ['version 0 with the key v', { v: 0 }, 'UnsupportedVersion'],
    ['version as text', { v: '1' }, 'Serialization'],
    ['unknown kind', { kind: 'gossip' }, 'Serialization'],
    ['unknown field', { extra: true }, 'Serialization'],
    ['id in upper case', { id: ID.toUpperCase() }, 'Serialization'],
    ['id not a UUID', { id: 'x' }, 'Serialization'],
    ['negative seq', { seq: -1 }, 'Serialization'],
    ['seq beyond safe integers', { seq: 2n ** 60n }, 'Serialization'],
    ['short prevHash', { prevHash: new Uint8Array(31) }, 'Serialization'],
    ['digest of another body', { contentDigest: new Uint8Array(32) }, 'VerificationFailed'],
    ['another body', { body: encode({ hello: 'mallory' }) }, 'VerificationFailed'],
    ['body as a map', { body: {} }, 'Serialization'],
    ['statement too long', { statement: new Uint8Array(2049) }, 'Serialization'],
    ['statement null', { statement: null }, 'Serialization'],
  ])('must fail: %s', (_name, change, expected) => {
    expect(() => decodePayload(changed(change))).toThrow(code(expected))
  })

  it.each(['kind', 'id', 'seq', 'prevHash', 'issuedAt', 'contentDigest', 'body'])('must fail: without %s', (field) => {
    const { [field as 'kind']: _gone, ...rest } = payload
    expect(() => decodePayload(encode(rest))).toThrow(code('Serialization'))
  })

  it('commitment: opens with its salt only', () => {
    const salt = new Uint8Array(32).fill(7)
    expect(contentCommitment(salt, payload.contentDigest)).toHaveLength(32)
    expect(contentCommitment(salt, payload.contentDigest)).not.toEqual(contentCommitment(new Uint8Array(32), payload.contentDigest))
    expect(() => contentCommitment(new Uint8Array(31), payload.contentDigest)).toThrow(code('Serialization'))
  })
})

describe('payload version 0', () => {
  const legacy = { id: ID, amount: 1234.5, currency: 'EUR', note: 'legacy' }

  it('migrates a record with a double into a document with a decimal string', () => {
    const migrated = decodePayload(cborg.encode(legacy, { float64: true }))
    expect(migrated).toMatchObject({ v: 1, kind: 'document', id: ID, seq: 0 })
    expect(decode(migrated.body)).toEqual({
      format: 'tallystick/legacy/v0',
      record: { id: ID, amount: '1234.5', currency: 'EUR', note: 'legacy' },
    })
  })

  it('takes an integer amount, an id of 16 bytes and keys in any order', () => {
    const id = Uint8Array.from(ID.replaceAll('-', '').match(/../g)!, (pair) => Number.parseInt(pair, 16))
    const bytes = cborg.encode(
      new Map<string, unknown>([
        ['zeta', 1],
        ['amount', 100],
        ['id', id],
      ]),
      { mapSorter: () => 0 },
    )
    expect(decode(decodePayload(bytes).body)).toMatchObject({ record: { id: ID, amount: '100', zeta: 1 } })
  })

  it.each<[string, Record<string, unknown>, string]>([
    ['negative amount', { ...legacy, amount: -1.5 }, 'InvalidAmount'],
    ['exponent form', { ...legacy, amount: 1e300 }, 'InvalidAmount'],
    ['more digits than a double has', { ...legacy, amount: 0.1 + 0.2 }, 'InvalidAmount'],
    ['amount as text', { ...legacy, amount: '12.50' }, 'InvalidAmount'],
    ['nested field', { ...legacy, deep: { a: 1 } }, 'Serialization'],
    ['no UUID', { ...legacy, id: 'x' }, 'Serialization'],
    ['no amount', { id: ID }, 'Serialization'],
    ['33 fields', { ...legacy, ...Object.fromEntries(Array.from({ length: 30 }, (_, i) => [`f${i}`, i])) }, 'Serialization'],
  ])('must fail: %s', (_name, record, expected) => {
    expect(() => decodePayload(cborg.encode(record))).toThrow(code(expected))
  })

  it('a nesting bomb inside a legacy-looking map is refused in under 50 ms', () => {
    const bomb = new Uint8Array(65_536).fill(0x81)
    bomb.set([0xa2, 0x62, 0x69, 0x64])
    const started = performance.now()
    expect(() => decodePayload(bomb)).toThrow(code('Serialization'))
    expect(performance.now() - started).toBeLessThan(50)
  })
})

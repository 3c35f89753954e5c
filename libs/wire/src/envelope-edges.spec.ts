/** Edges of envelope and bundle that other tests pass by: each is here because a change of the source survived them. */
import { describe, expect, test } from 'vitest'
import { type Bundle, encodeBundle, decodeBundle, MAX_BUNDLE_BYTES } from './bundle.js'
import { encode } from './cbor.js'
import {
  decodeEnvelope,
  decodeHandshake,
  encodeEnvelope,
  encodeHandshake,
  encodeHeader,
  type Handshake,
  type Header,
  MAX_ENVELOPE_BYTES,
} from './envelope.js'
import { layOutEnvelope } from './envelope-layout.js'

const withCode = (code: string): unknown => expect.objectContaining({ code })
const header: Header = {
  v: 1,
  suite: 'TS1',
  sid: new Uint8Array(16),
  epoch: 1,
  dh: new Uint8Array(32),
  pn: 0,
  n: 0,
  salt: new Uint8Array(32),
}
const handshake: Handshake = {
  ek: new Uint8Array(32),
  spkId: 1,
  pqId: 2,
  pqKind: 'one-time',
  kemCiphertext: new Uint8Array(1568),
  certificateDigest: new Uint8Array(32),
}
const bundle: Bundle = {
  certificate: new Uint8Array(100),
  spk: { id: 1, key: new Uint8Array(32), signature: new Uint8Array(64) },
  pq: { id: 2, key: new Uint8Array(1568), signature: new Uint8Array(64), kind: 'last-resort' },
}

describe('envelope', () => {
  test('the largest is read, one byte more is not, with and without a handshake', () => {
    for (const handshakeBytes of [new Uint8Array(0), encodeHandshake(handshake)]) {
      const parts = { headerBytes: encodeHeader(header), commit: new Uint8Array(32), handshakeBytes }
      const around = encodeEnvelope({ ...parts, ciphertext: new Uint8Array(70_000) }).length - 70_000
      const largest = encodeEnvelope({ ...parts, ciphertext: new Uint8Array(MAX_ENVELOPE_BYTES - around) })
      expect(largest).toHaveLength(MAX_ENVELOPE_BYTES)
      expect(decodeEnvelope(largest).ciphertext).toHaveLength(MAX_ENVELOPE_BYTES - around)
      const more = encodeEnvelope({ ...parts, ciphertext: new Uint8Array(MAX_ENVELOPE_BYTES - around + 1) })
      expect(() => decodeEnvelope(more)).toThrow(withCode('Serialization'))
    }
  })

  test('a header of no bytes, and one of another version, in an envelope without a handshake', () => {
    const rest = { commit: new Uint8Array(32), ciphertext: new Uint8Array(1040) }
    expect(() => decodeEnvelope(encode({ ...rest, header: new Uint8Array(0) }))).toThrow(withCode('Serialization'))
    expect(() => decodeEnvelope(encode({ ...rest, header: encode({ v: 2, suite: 'TS1' }) }))).toThrow(withCode('UnsupportedVersion'))
  })

  test('the places to write to have the sizes of their fields', () => {
    const { bytes, commit, ciphertext } = layOutEnvelope(header, new Uint8Array(0), 1040)
    expect([commit.length, ciphertext.length]).toEqual([32, 1040])
    expect(ciphertext.byteOffset + 1040 - bytes.byteOffset).toBe(bytes.length)
  })
})

test('a handshake whose optional fields are there and undefined is one without them', () => {
  const spelledOut = { ...handshake, opkId: undefined, continuity: undefined, reset: undefined } as unknown as Handshake
  expect(encodeHandshake(spelledOut)).toEqual(encodeHandshake(handshake))
  expect(decodeHandshake(encodeHandshake(spelledOut))).toEqual(handshake)
})

describe('bundle', () => {
  test('what a peer would refuse is not encoded', () => {
    expect(() => encodeBundle({ ...bundle, spk: { ...bundle.spk, key: new Uint8Array(31) } })).toThrow(withCode('Serialization'))
    expect(() => encodeBundle({ ...bundle, certificate: new Uint8Array(0) })).toThrow(withCode('Serialization'))
    expect(decodeBundle(encodeBundle(bundle))).toEqual(bundle)
  })

  test('too many bytes, items or levels come before the version', () => {
    const future = (extra: object): Uint8Array => encode({ v: 2, ...extra })
    expect(() => decodeBundle(future({}))).toThrow(withCode('UnsupportedVersion'))
    expect(() => decodeBundle(future({ more: new Uint8Array(MAX_BUNDLE_BYTES) }))).toThrow(withCode('Serialization'))
    expect(() => decodeBundle(future({ more: Array.from({ length: 40 }, () => 0) }))).toThrow(withCode('Serialization'))
    expect(() => decodeBundle(future({ more: [[[]]] }))).toThrow(withCode('Serialization'))
  })
})

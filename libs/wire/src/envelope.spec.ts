import { describe, expect, test } from 'vitest'
import { ProtocolError } from '@tallystick/primitives/errors'
import { sha256 } from '@tallystick/primitives/hash'
import { decodeBundle, encodeBundle, type Bundle } from './bundle.js'
import { encode } from './cbor.js'
import {
  decodeEnvelope,
  decodeHandshake,
  decodeHeader,
  encodeEnvelope,
  encodeHandshake,
  encodeHeader,
  envelopeDigest,
  type Handshake,
  type Header,
  MAX_ENVELOPE_BYTES,
  MAX_PLAINTEXT_BYTES,
} from './envelope.js'

const filled = (length: number, value = 7): Uint8Array => new Uint8Array(length).fill(value)
const header: Header = { v: 1, suite: 'TS1', sid: filled(16), epoch: 0, dh: filled(32), pn: 0, n: 0xffff_ffff, salt: filled(32) }
const handshake: Handshake = {
  ek: filled(32),
  spkId: 1,
  pqId: 2,
  pqKind: 'one-time',
  opkId: 3,
  kemCiphertext: filled(1568),
  certificateDigest: filled(32),
}
const parts = {
  headerBytes: encodeHeader(header),
  commit: filled(32, 9),
  handshakeBytes: encodeHandshake(handshake),
  ciphertext: filled(1040),
}
const bundle: Bundle = {
  certificate: filled(300),
  spk: { id: 1, key: filled(32), signature: filled(64) },
  pq: { id: 2, key: filled(1568), signature: filled(64), kind: 'last-resort' },
  opk: { id: 3, key: filled(32) },
}
const wireBundle = { v: 1, certificate: bundle.certificate, spk: { ...bundle.spk }, pq: { ...bundle.pq }, opk: { ...bundle.opk } }

const codeOf = (fn: () => unknown): string => {
  try {
    fn()
  } catch (error) {
    if (error instanceof ProtocolError) return error.code
    throw error
  }
  return 'ok'
}
const without = (value: object, key: string): object => Object.fromEntries(Object.entries(value).filter(([k]) => k !== key))

describe('envelope', () => {
  test('round trip, with and without a handshake; the digest is over the bytes', () => {
    for (const handshakeBytes of [parts.handshakeBytes, new Uint8Array(0)]) {
      const bytes = encodeEnvelope({ ...parts, handshakeBytes })
      const decoded = decodeEnvelope(bytes)
      expect(decoded).toMatchObject({
        header,
        headerBytes: parts.headerBytes,
        commit: parts.commit,
        handshakeBytes,
        ciphertext: parts.ciphertext,
      })
      expect(decoded.handshake).toEqual(handshakeBytes.length === 0 ? undefined : handshake)
      expect(encodeEnvelope(decoded)).toEqual(bytes)
      expect(envelopeDigest(bytes)).toEqual(sha256(bytes))
    }
    expect(decodeHandshake(encodeHandshake({ ...handshake, continuity: filled(32) })).continuity).toEqual(filled(32))
    expect('opkId' in decodeHandshake(encode(without(handshake, 'opkId')))).toBe(false)
  })

  test('a reset is spelled one way, and continues nothing', () => {
    expect(decodeHandshake(encodeHandshake({ ...handshake, reset: true })).reset).toBe(true)
    expect('reset' in decodeHandshake(encodeHandshake(handshake))).toBe(false)
    for (const reset of [false, 1, null, 'true'])
      expect(codeOf(() => decodeHandshake(encode({ ...handshake, reset })))).toBe('Serialization')
    expect(codeOf(() => encodeHandshake({ ...handshake, reset: true, continuity: filled(32) }))).toBe('Serialization')
    expect(codeOf(() => decodeHandshake(encode({ ...handshake, reset: true, continuity: filled(32) })))).toBe('Serialization')
  })

  test('a bundle may name the highest epoch with the peer that fetches it', () => {
    expect(decodeBundle(encodeBundle({ ...bundle, epoch: 0xffff_ffff })).epoch).toBe(0xffff_ffff)
    expect('epoch' in decodeBundle(encodeBundle(bundle))).toBe(false)
    for (const epoch of [-1, 2 ** 32, '7', null]) expect(codeOf(() => decodeBundle(encode({ ...wireBundle, epoch })))).toBe('Serialization')
  })

  test('the largest one fits, and a longer one is refused before it is parsed', () => {
    const largest = encodeEnvelope({ ...parts, ciphertext: new Uint8Array(MAX_PLAINTEXT_BYTES + 32 * 1024 + 16) })
    expect(largest.length).toBeLessThan(MAX_ENVELOPE_BYTES)
    expect(codeOf(() => decodeEnvelope(largest))).toBe('ok')
    expect(codeOf(() => decodeEnvelope(new Uint8Array(MAX_ENVELOPE_BYTES + 1)))).toBe('Serialization')
  })

  test('each field missing, of another type, or of another length is refused', () => {
    const whole = { header: parts.headerBytes, commit: parts.commit, handshake: parts.handshakeBytes, ciphertext: parts.ciphertext }
    expect(codeOf(() => decodeEnvelope(encode(whole)))).toBe('ok')
    for (const key of ['header', 'commit', 'ciphertext'])
      expect(
        codeOf(() => decodeEnvelope(encode(without(whole, key)))),
        key,
      ).toBe('Serialization')
    for (const [key, value] of Object.entries(whole)) {
      for (const bad of [
        null,
        'text',
        1,
        [],
        {},
        true,
        new Uint8Array(0),
        ...(key === 'ciphertext' ? [filled(1039)] : [filled(value.length + 1), value.slice(1)]),
      ]) {
        expect(
          codeOf(() => decodeEnvelope(encode({ ...whole, [key]: bad }))),
          key,
        ).toBe('Serialization')
      }
    }
    for (const bad of [null, 1, [whole], 'x', { ...whole, extra: 1 }, { ...whole, __proto__x: 1 }])
      expect(codeOf(() => decodeEnvelope(encode(bad)))).toBe('Serialization')
    expect(codeOf(() => decodeEnvelope(encode(new Map<string, unknown>([...Object.entries(whole), ['__proto__', 1]]))))).toBe(
      'Serialization',
    )
  })

  test('another encoding of the same envelope is refused', () => {
    const bytes = encodeEnvelope(parts)
    for (const bad of [
      new Uint8Array([...bytes, 0]),
      bytes.slice(0, -1),
      Uint8Array.of(0xbf, ...bytes.slice(1), 0xff),
      Uint8Array.of(0xd8, 0x2a, ...bytes),
      Uint8Array.of(0xb8, 4, ...bytes.slice(1)),
    ]) {
      expect(codeOf(() => decodeEnvelope(bad))).toBe('Serialization')
    }
  })
})

describe('header', () => {
  test('each field missing or malformed is refused; an unknown version or suite has its own code', () => {
    const wire = { ...header }
    for (const key of Object.keys(wire))
      expect(
        codeOf(() => decodeHeader(encode(without(wire, key)))),
        key,
      ).toBe('Serialization')
    const bad: Record<string, unknown[]> = {
      sid: [filled(15), filled(17), 'sid', null],
      dh: [new Uint8Array(0), filled(31), filled(33), null],
      salt: [filled(31), filled(33)],
      epoch: [-1, 2 ** 32, '0', null, 2n ** 60n],
      pn: [-1, 2 ** 32],
      n: [-1, 2 ** 32, true],
      v: ['1', null, []],
      suite: [1, null],
    }
    for (const [key, values] of Object.entries(bad))
      for (const value of values)
        expect(
          codeOf(() => decodeHeader(encode({ ...wire, [key]: value }))),
          `${key} ${String(value)}`,
        ).toBe('Serialization')
    for (const change of [{ v: 0 }, { v: 2 }, { suite: 'TS2' }, { suite: '' }])
      expect(codeOf(() => decodeHeader(encode({ ...wire, ...change })))).toBe('UnsupportedVersion')
    expect(codeOf(() => decodeHeader(encode({ ...wire, more: 1 })))).toBe('Serialization')
    expect(codeOf(() => encodeHeader({ ...header, sid: filled(15) }))).toBe('Serialization')
  })
})

describe('handshake', () => {
  test('each field missing or malformed is refused', () => {
    for (const key of ['ek', 'spkId', 'pqId', 'pqKind', 'kemCiphertext', 'certificateDigest'])
      expect(
        codeOf(() => decodeHandshake(encode(without(handshake, key)))),
        key,
      ).toBe('Serialization')
    const bad: Record<string, unknown[]> = {
      ek: [filled(31), filled(33)],
      spkId: [-1, 2 ** 32, 'x'],
      pqId: [null],
      pqKind: ['other', 1, null],
      opkId: [-1, null, 'x'],
      kemCiphertext: [filled(1567), filled(1569)],
      certificateDigest: [filled(31)],
      continuity: [filled(31), null],
      extra: [1],
    }
    for (const [key, values] of Object.entries(bad))
      for (const value of values)
        expect(
          codeOf(() => decodeHandshake(encode({ ...handshake, [key]: value }))),
          key,
        ).toBe('Serialization')
  })
})

describe('bundle', () => {
  test('round trip, with and without a one-time prekey', () => {
    expect(decodeBundle(encodeBundle(bundle))).toEqual(bundle)
    const { opk: _, ...rest } = bundle
    expect(decodeBundle(encodeBundle(rest))).toEqual(rest)
  })

  test('each field missing, unknown or malformed is refused; an unknown version has its own code', () => {
    for (const key of ['v', 'certificate', 'spk', 'pq'])
      expect(
        codeOf(() => decodeBundle(encode(without(wireBundle, key)))),
        key,
      ).toBe('Serialization')
    for (const part of ['spk', 'pq', 'opk'] as const) {
      for (const key of Object.keys(wireBundle[part]))
        expect(
          codeOf(() => decodeBundle(encode({ ...wireBundle, [part]: without(wireBundle[part], key) }))),
          `${part}.${key}`,
        ).toBe('Serialization')
      expect(codeOf(() => decodeBundle(encode({ ...wireBundle, [part]: { ...wireBundle[part], more: 1 } })))).toBe('Serialization')
      expect(codeOf(() => decodeBundle(encode({ ...wireBundle, [part]: null })))).toBe('Serialization')
    }
    expect(codeOf(() => decodeBundle(encode({ ...wireBundle, v: 2 })))).toBe('UnsupportedVersion')
    expect(codeOf(() => decodeBundle(encode({ ...wireBundle, v: '1' })))).toBe('Serialization')
    expect(codeOf(() => decodeBundle(encode({ ...wireBundle, certificate: filled(4097) })))).toBe('Serialization')
    expect(codeOf(() => decodeBundle(encode({ ...wireBundle, pq: { ...wireBundle.pq, kind: 'x' } })))).toBe('Serialization')
    expect(codeOf(() => decodeBundle(encode({ ...wireBundle, more: 1 })))).toBe('Serialization')
    expect(codeOf(() => decodeBundle(new Uint8Array(16 * 1024 + 1)))).toBe('Serialization')
  })
})

test('hostile CBOR costs little', () => {
  const bomb = new Uint8Array(1024 * 1024).fill(0x81)
  const lengths = [
    Uint8Array.of(0x5b, 255, 255, 255, 255, 255, 255, 255, 255),
    Uint8Array.of(0x9b, 0, 0, 0, 1, 0, 0, 0, 0),
    Uint8Array.of(0xbb, 0, 0, 255, 255, 255, 255, 255, 255),
  ]
  const began = performance.now()
  for (const bytes of [bomb, ...lengths, new Uint8Array(0)])
    for (const decodeOne of [decodeEnvelope, decodeBundle, decodeHeader, decodeHandshake])
      expect(codeOf(() => decodeOne(bytes))).toBe('Serialization')
  expect(performance.now() - began).toBeLessThan(50)
})

import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  concat,
  equalConstantTime,
  fromBase32Lower,
  fromBase64Url,
  fromHex,
  toBase32Lower,
  toBase64Url,
  toHex,
  u32be,
  u64be,
  utf8,
} from './bytes.js'

const bytes = fc.uint8Array({ maxLength: 100 })

test('text forms agree with Node, and decode to what was encoded', () => {
  fc.assert(
    fc.property(bytes, (input) => {
      expect(toHex(input)).toBe(Buffer.from(input).toString('hex'))
      expect(toBase64Url(input)).toBe(Buffer.from(input).toString('base64url'))
      expect(fromHex(toHex(input))).toEqual(input)
      expect(fromBase64Url(toBase64Url(input))).toEqual(input)
      expect(fromBase32Lower(toBase32Lower(input))).toEqual(input)
    }),
  )
})

test('base32 of RFC 4648 §10, in lower case and without padding', () => {
  expect(['', 'f', 'fo', 'foo', 'foob', 'fooba', 'foobar'].map((text) => toBase32Lower(utf8(text)))).toEqual([
    '',
    'my',
    'mzxq',
    'mzxw6',
    'mzxw6yq',
    'mzxw6ytb',
    'mzxw6ytboi',
  ])
})

test('one text for each byte string', () => {
  for (const text of ['A', 'AB', 'AAA=', 'AA\n', 'A+', 'AAAAA']) expect(() => fromBase64Url(text), text).toThrow(/base64url/)
  for (const text of ['a', 'mz', 'MY', 'my======', '1a', 'aaa']) expect(() => fromBase32Lower(text), text).toThrow(/base32/)
  for (const text of ['0', '0g', ' 00', '0x00']) expect(() => fromHex(text), text).toThrow(/hex/)
  expect(fromHex('aBCd')).toEqual(Uint8Array.of(0xab, 0xcd))
})

test('integers', () => {
  expect(u32be(0x01020304)).toEqual(Uint8Array.of(1, 2, 3, 4))
  expect(u64be(0xffff_ffff_ffff_fffen)).toEqual(Uint8Array.of(255, 255, 255, 255, 255, 255, 255, 254))
  expect(u64be(258)).toEqual(Uint8Array.of(0, 0, 0, 0, 0, 0, 1, 2))
  for (const bad of [-1, 1.5, 2 ** 32, Number.NaN]) expect(() => u32be(bad)).toThrow(RangeError)
  for (const bad of [-1, 1.5, 2 ** 53, 2n ** 64n, -1n]) expect(() => u64be(bad)).toThrow(RangeError)
})

test('concat and equalConstantTime', () => {
  expect(concat(Uint8Array.of(1), new Uint8Array(0), Uint8Array.of(2, 3))).toEqual(Uint8Array.of(1, 2, 3))
  expect(equalConstantTime(new Uint8Array(0), new Uint8Array(0))).toBe(true)
  fc.assert(
    fc.property(bytes, bytes, (a, b) => {
      expect(equalConstantTime(a, a.slice())).toBe(true)
      expect(equalConstantTime(a, b)).toBe(toHex(a) === toHex(b))
    }),
  )
})

import { encode } from 'cborg'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { CodecError, decodeBus, encodeBus, MAX_BUS_DEPTH, MAX_BUS_ITEMS } from './codec.js'

const hex = (text: string) => Uint8Array.from(Buffer.from(text, 'hex'))

it('carries every byte value as bytes, also from a Buffer', () => {
  const all = Uint8Array.from({ length: 256 }, (_, i) => i)
  const out = decodeBus(encodeBus({ all, view: Buffer.from(all).subarray(10, 20) })) as { all: Uint8Array; view: Uint8Array }
  expect(out.all).toBeInstanceOf(Uint8Array)
  expect(out.all).toEqual(all)
  expect(Uint8Array.from(out.view)).toEqual(all.subarray(10, 20))
})

it('gives back what it was given, in one encoding', () => {
  const leaf = fc.oneof(fc.string(), fc.boolean(), fc.constant(null), fc.maxSafeInteger(), fc.uint8Array({ maxLength: 64 }))
  const value = fc.letrec((tie) => ({
    node: fc.oneof(
      { maxDepth: 4 },
      leaf,
      fc.array(tie('node'), { maxLength: 4 }),
      fc.dictionary(fc.string(), tie('node'), { maxKeys: 4, noNullPrototype: true }),
    ),
  })).node
  fc.assert(
    fc.property(value, (v) => {
      const bytes = encodeBus(v)
      expect(decodeBus(bytes)).toEqual(v)
      expect(encodeBus(decodeBus(bytes))).toEqual(bytes)
    }),
    { numRuns: 300 },
  )
})

it('is deterministic: the order in which an object was made does not matter', () => {
  expect(encodeBus({ b: 1, a: 2, aa: 3 })).toEqual(encodeBus({ aa: 3, a: 2, b: 1 }))
  expect(Buffer.from(encodeBus({ b: 1, a: 2 })).toString('hex')).toBe('a2616102616201')
})

it('leaves out undefined properties and refuses floats and unsafe integers', () => {
  expect(encodeBus({ a: 1, b: undefined })).toEqual(encodeBus({ a: 1 }))
  for (const bad of [1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53]) expect(() => encodeBus({ bad })).toThrow(CodecError)
})

describe('refuses', () => {
  const cases: Array<[string, string]> = [
    ['a float', 'f93c00'],
    ['a double', 'fb3ff8000000000000'],
    ['a tag', 'c11a514b67b0'],
    ['a bignum', 'c249010000000000000000'],
    ['an indefinite array', '9f01ff'],
    ['an indefinite string', '7f6161ff'],
    ['a repeated key', 'a2616101616102'],
    ['undefined', 'f7'],
    ['a long form of a short integer', '1801'],
    ['trailing bytes', '0101'],
    ['an integer key', 'a10102'],
    ['half an item', '4401'],
    ['a declared length of 2^32 items', '9affffffff'],
    ['a declared length of 2^63 bytes', '5b7fffffffffffffff'],
    ['nothing', ''],
    ['an integer beyond 2^53', '1b0020000000000000'],
  ]
  it.each(cases)('%s', (_, text) => {
    expect(() => decodeBus(hex(text))).toThrow(CodecError)
  })

  it('deep nesting, before the stack is at risk', () => {
    const nested = (depth: number) => hex('81'.repeat(depth) + '00')
    expect(() => decodeBus(nested(MAX_BUS_DEPTH))).not.toThrow()
    expect(() => decodeBus(nested(MAX_BUS_DEPTH + 1))).toThrow(/nested/)
    const startedAt = performance.now()
    expect(() => decodeBus(new Uint8Array(1024 * 1024).fill(0x81))).toThrow(/nested/)
    expect(performance.now() - startedAt).toBeLessThan(100)
  })

  it('more items than any contract has', () => {
    expect(() => decodeBus(encode(new Array(MAX_BUS_ITEMS - 1).fill(0)))).not.toThrow()
    expect(() => decodeBus(encode(new Array(MAX_BUS_ITEMS).fill(0)))).toThrow(/items/)
  })

  it('without quoting the input', () => {
    const message = (bytes: Uint8Array) => {
      try {
        decodeBus(bytes)
        return ''
      } catch (error) {
        return (error as Error).message
      }
    }
    expect(message(hex('a2' + '6673656372657401' + '6673656372657402'))).not.toContain('secret')
  })
})

import * as cborg from 'cborg'
import { rfc8949EncodeOptions } from 'cborg'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { CBOR_MAX_ITEMS, decode, encode } from './cbor.js'

const hex = (text: string): Uint8Array =>
  Uint8Array.from(
    text
      .replaceAll(' ', '')
      .match(/../g)
      ?.map((pair) => Number.parseInt(pair, 16)) ?? [],
  )
const toHex = (bytes: Uint8Array): string => Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('')

const leaf = fc.oneof(
  fc.maxSafeInteger(),
  fc.bigInt({ min: -(2n ** 64n), max: 2n ** 64n - 1n }),
  fc.string({ unit: 'grapheme' }),
  fc.string({ unit: 'binary' }).filter((s) => s.isWellFormed()),
  fc.uint8Array(),
  fc.boolean(),
  fc.constant(null),
)
const key = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 30 }).filter((s) => s.isWellFormed()),
  fc.constantFrom('__proto__', 'constructor', 'toString', ''),
)
const value = fc.letrec<{ node: unknown }>((tie) => ({
  node: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    leaf,
    fc.array(tie('node'), { maxLength: 6 }),
    fc.dictionary(key, tie('node'), { maxKeys: 6, noNullPrototype: false }),
  ),
})).node

/** What decode must give back: safe bigints become numbers, −0 becomes 0, maps lose their prototype. */
function normal(v: unknown): unknown {
  if (typeof v === 'bigint') return v >= -(2n ** 53n) + 1n && v <= 2n ** 53n - 1n ? Number(v) : v
  if (typeof v === 'number') return v === 0 ? 0 : v
  if (v === null || typeof v !== 'object' || v instanceof Uint8Array) return v
  if (Array.isArray(v)) return v.map(normal)
  const out = Object.create(null) as Record<string, unknown>
  for (const [k, item] of Object.entries(v)) out[k] = normal(item)
  return out
}

describe('deterministic CBOR', () => {
  it('gives back what was encoded, and one encoding per value', () => {
    fc.assert(
      fc.property(value, (v) => {
        const bytes = encode(v)
        const back = decode(bytes)
        expect(back).toEqual(normal(v))
        expect(toHex(encode(back))).toBe(toHex(bytes))
      }),
      { numRuns: 2_000 },
    )
  })

  it('agrees with cborg byte for byte', () => {
    fc.assert(
      fc.property(value, (v) => {
        expect(toHex(encode(v))).toBe(toHex(cborg.encode(normal(v), rfc8949EncodeOptions)))
      }),
      { numRuns: 2_000 },
    )
  })

  it('accepts random bytes only if they are their own encoding', () => {
    const mutated = fc.tuple(value, fc.nat(), fc.integer({ min: 0, max: 255 })).map(([v, at, byte]) => {
      const bytes = encode(v)
      bytes[at % bytes.length] = byte
      return bytes
    })
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 64 }), mutated), (bytes) => {
        let back: unknown
        try {
          back = decode(bytes)
        } catch (error) {
          expect((error as { code?: string }).code).toBe('Serialization')
          return
        }
        expect(toHex(encode(back))).toBe(toHex(bytes))
      }),
      { numRuns: 5_000 },
    )
  })

  it.each([
    [0, '00'],
    [23, '17'],
    [24, '1818'],
    [255, '18ff'],
    [256, '190100'],
    [65_535, '19ffff'],
    [65_536, '1a00010000'],
    [4_294_967_295, '1affffffff'],
    [4_294_967_296, '1b0000000100000000'],
    [Number.MAX_SAFE_INTEGER, '1b001fffffffffffff'],
    [2n ** 53n, '1b0020000000000000'],
    [2n ** 64n - 1n, '1bffffffffffffffff'],
    [-1, '20'],
    [-24, '37'],
    [-25, '3818'],
    [-(2n ** 53n), '3b001fffffffffffff'],
    [-(2n ** 64n), '3bffffffffffffffff'],
    ['', '60'],
    ['ü', '62c3bc'],
    [new Uint8Array([1, 2]), '420102'],
    [[], '80'],
    [{}, 'a0'],
    [true, 'f5'],
    [false, 'f4'],
    [null, 'f6'],
    [{ b: 1, aa: 2, a: 3 }, 'a3616103616201626161 02'.replace(' ', '')],
    [
      new Map<string, unknown>([
        ['z', 1],
        ['a', [2]],
      ]),
      'a2 6161 8102 617a 01'.replaceAll(' ', ''),
    ],
  ] as [unknown, string][])('encodes to the given bytes (case %#)', (v, expected) => {
    expect(toHex(encode(v))).toBe(expected)
    expect(toHex(encode(decode(hex(expected))))).toBe(expected)
  })

  it('keeps __proto__ as an ordinary key', () => {
    const back = decode(encode(Object.fromEntries([['__proto__', { polluted: true }]]))) as Record<string, unknown>
    expect(Object.keys(back)).toEqual(['__proto__'])
    expect(Object.getPrototypeOf(back)).toBeNull()
    expect(({} as Record<string, unknown>).polluted).toBeUndefined()
  })

  it('copies byte strings out of the input', () => {
    const input = encode(new Uint8Array([1, 2, 3]))
    const out = decode(input) as Uint8Array
    input.fill(0)
    expect([...out]).toEqual([1, 2, 3])
  })
})

describe('must fail', () => {
  it.each([
    ['empty input', ''],
    ['tag 0', 'c060'],
    ['tag 2 bignum', 'c2420100'],
    ['tag 3 bignum', 'c3420100'],
    ['tag 24', 'd81840'],
    ['half float', 'f93c00'],
    ['single float', 'fa3f800000'],
    ['double float', 'fb3ff0000000000000'],
    ['NaN', 'f97e00'],
    ['undefined', 'f7'],
    ['simple value 0', 'e0'],
    ['simple value 255', 'f8ff'],
    ['break alone', 'ff'],
    ['indefinite bytes', '5f4101ff'],
    ['indefinite text', '7f6161ff'],
    ['indefinite array', '9f01ff'],
    ['indefinite map', 'bf616101ff'],
    ['reserved length 28', '1c'],
    ['reserved length 30', '5e'],
    ['0 in two bytes', '1800'],
    ['23 in two bytes', '1817'],
    ['255 in three bytes', '1900ff'],
    ['65535 in five bytes', '1a0000ffff'],
    ['2^32 − 1 in nine bytes', '1b00000000ffffffff'],
    ['−1 in two bytes', '3800'],
    ['text length not shortest', '780161'],
    ['bytes length not shortest', '580100'],
    ['array length not shortest', '980100'],
    ['map length not shortest', 'b801616100'],
    ['duplicate key', 'a2616101616102'],
    ['unsorted keys', 'a2616201616101'],
    ['longer key first', 'a262616101616202'],
    ['integer key', 'a10102'],
    ['bytes key', 'a1416102'],
    ['trailing byte', '0000'],
    ['two items', '6161f6'],
    ['not UTF-8', '61ff'],
    ['overlong UTF-8', '62c080'],
    ['surrogate in UTF-8', '63eda080'],
    ['ends in an integer', '19ff'],
    ['ends in text', '6261'],
    ['ends in an array', '8201'],
    ['ends in a map', 'a16161'],
    ['2^32 items', '9affffffff'],
    ['2^63 items', '9b8000000000000000'],
    ['2^32 entries', 'baffffffff'],
    ['2^63 bytes', '5b8000000000000000'],
    ['2^32 text', '7affffffff'],
  ])('%s', (_name, input) => {
    expect(() => decode(hex(input))).toThrow(expect.objectContaining({ code: 'Serialization' }))
  })

  it.each([
    ['float', 1.5],
    ['NaN', Number.NaN],
    ['unsafe integer', 2 ** 53],
    ['65-bit integer', 2n ** 64n],
    ['65-bit negative', -(2n ** 64n) - 1n],
    ['undefined', undefined],
    ['undefined value', { a: undefined }],
    ['hole', [, 1]],
    ['function', () => 1],
    ['symbol', Symbol('x')],
    ['Date', new Date(0)],
    ['class', new (class Foo {})()],
    ['Map with integer key', new Map([[1, 2]])],
    ['lone surrogate', '\ud800'],
    ['lone surrogate key', { '\udc00': 1 }],
  ])('encode: %s', (_name, v) => {
    expect(() => encode(v)).toThrow(expect.objectContaining({ code: 'Serialization' }))
  })

  it('encode: a value that contains itself', () => {
    const loop: unknown[] = []
    loop.push(loop)
    expect(() => encode(loop)).toThrow(/nesting/)
  })

  it('depth: 16 is allowed, 17 is not', () => {
    const nested = (depth: number): Uint8Array => Uint8Array.from([...Array<number>(depth - 1).fill(0x81), 0x80])
    expect(decode(nested(16))).toBeDefined()
    expect(() => decode(nested(17))).toThrow(/nesting deeper than 16/)
    expect(() => decode(nested(4), { maxDepth: 3 })).toThrow(/nesting deeper than 3/)
    expect(() => decode(hex('a161618161a0'.replace('61a0', 'a0')), { maxDepth: 2 })).toThrow(/nesting/)
  })

  it('items: the cap counts arrays and map entries', () => {
    expect(decode(encode(Array<number>(CBOR_MAX_ITEMS).fill(0)))).toHaveLength(CBOR_MAX_ITEMS)
    expect(() => decode(encode(Array<number>(CBOR_MAX_ITEMS + 1).fill(0)))).toThrow(/more than 10000 items/)
    expect(() => decode(encode({ a: 1, b: 2 }), { maxItems: 3 })).toThrow(/more than 3 items/)
    expect(() => decode(encode([[0], [0]]), { maxItems: 3 })).toThrow(/more than 3 items/)
  })

  it('bytes: the cap comes first', () => {
    expect(() => decode(encode(new Uint8Array(10)), { maxBytes: 10 })).toThrow(/at most 10/)
    expect(decode(encode(new Uint8Array(9)), { maxBytes: 10 })).toHaveLength(9)
  })

  it.each([
    ['1 MiB of open arrays', new Uint8Array(1024 * 1024).fill(0x81)],
    ['1 MiB of open maps', new Uint8Array(1024 * 1024).fill(0xa1)],
    ['1 MiB of indefinite arrays', new Uint8Array(1024 * 1024).fill(0x9f)],
    ['1 MiB of tags', new Uint8Array(1024 * 1024).fill(0xc1)],
    ['256 KiB bignum', Uint8Array.from([0xc2, 0x5a, 0x00, 0x04, 0x00, 0x00, ...new Uint8Array(256 * 1024).fill(0xff)])],
    [
      '1 MiB of empty arrays in one array',
      (() => {
        const b = new Uint8Array(1024 * 1024 + 5).fill(0x80)
        b.set([0x9a, 0x00, 0x10, 0x00, 0x00])
        return b
      })(),
    ],
    [
      '1 MiB of keys',
      (() => {
        const b = new Uint8Array(1024 * 1024 + 5).fill(0x60)
        b.set([0xba, 0x00, 0x08, 0x00, 0x00])
        return b
      })(),
    ],
  ])('%s is refused in under 50 ms', (name, bomb) => {
    const started = performance.now()
    expect(() => decode(bomb)).toThrow(expect.objectContaining({ code: 'Serialization' }))
    const took = performance.now() - started
    console.log(`${name}: refused in ${took.toFixed(3)} ms`)
    expect(took).toBeLessThan(50)
  })
})

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Refused } from '../refused.js'
import { parseStrictJson } from './strict-json.js'

const parse = (text: string) => parseStrictJson(new TextEncoder().encode(text))
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value))
const pointerOf = (text: string): string | undefined => {
  try {
    parse(text)
    return undefined
  } catch (error) {
    return (error as Refused).details.errors?.[0]?.pointer
  }
}

describe('strict JSON', () => {
  it('reads what JSON.parse reads', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 8 }), fc.constantFrom(undefined, 1, '\t'), (value, indent) => {
        const text = JSON.stringify(value, null, indent)
        fc.pre(!/"(__proto__|constructor|prototype)"/.test(text))
        expect(plain(parse(text))).toEqual(JSON.parse(text))
      }),
      { numRuns: 1000 },
    )
  })

  it('refuses what JSON.parse refuses', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[[\]{}",:0-9eE.+\-\\ntrufalsx ]{0,20}$/), (text) => {
        let valid = true
        try {
          JSON.parse(text)
        } catch {
          valid = false
        }
        if (!valid) expect(() => parse(text)).toThrow(Refused)
      }),
      { numRuns: 3000 },
    )
  })

  it('refuses a key that stands twice, also when it is escaped, and names the place', () => {
    expect(pointerOf('{"a":{"b":1,"\\u0062":2}}')).toBe('/a/b')
    expect(pointerOf('[0,{"x/y":{"~":1,"~":2}}]')).toBe('/1/x~1y/~0')
  })

  it('refuses names of prototypes and leaves none of its own', () => {
    expect(pointerOf('{"a":[{"__proto__":{}}]}')).toBe('/a/0/__proto__')
    expect(pointerOf('{"constructor":1}')).toBe('/constructor')
    const value = parse('{"a":1}') as object
    expect(Object.getPrototypeOf(value)).toBeNull()
  })

  it('caps depth and number of values while it reads', () => {
    expect(() => parse('['.repeat(32) + ']'.repeat(32))).not.toThrow()
    expect(() => parse('['.repeat(33) + ']'.repeat(33))).toThrow(Refused)
    const limits = { depth: 32, values: 10 }
    expect(() => parseStrictJson(new TextEncoder().encode('[1,2,3,4,5,6,7,8,9,10]'), limits)).toThrow(/takes/)
    expect(() => parseStrictJson(new TextEncoder().encode('[1,2,3,4,5,6,7,8,9]'), limits)).not.toThrow()
  })
})

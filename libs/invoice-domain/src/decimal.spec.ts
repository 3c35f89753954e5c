import { describe, expect, it } from 'vitest'
import { add, canonicalDecimal, decimalOp, isDecimal, multiply, parseDecimal, roundHalfUp, subtract, sum, toText } from './decimal.js'
import { agreesWithIntegers } from '../test/decimal-oracle.js'
import { DomainError } from './errors.js'

describe('decimal arithmetic', () => {
  it('agrees with integers on 3,000 sums, products and roundings', () => agreesWithIntegers(3_000))

  it('rounds a tie away from zero', () => {
    expect(
      [
        ['0.125', 2],
        ['-0.125', 2],
        ['2.5', 0],
        ['-2.5', 0],
        ['1.005', 2],
        ['0.0049999', 2],
        ['-0.004', 2],
      ].map(([value, scale]) => roundHalfUp(value as string, scale as number)),
    ).toEqual(['0.13', '-0.13', '3', '-3', '1.01', '0.00', '0.00'])
  })

  it('adds what binary fractions cannot', () => {
    expect(add('0.1', '0.2')).toBe('0.3')
    expect(subtract('0.3', '0.1')).toBe('0.2')
    expect(multiply('0.000000001', '0.000000001')).toBe('0.000000000000000001')
    expect(multiply('999999999999999999.999999999', '999999999999999999.999999999')).toBe(
      '999999999999999999999999998000000000.000000000000000001',
    )
    expect(toText(sum([]))).toBe('0')
  })

  it.each([
    '1,5',
    '1e3',
    'NaN',
    'Infinity',
    '+1',
    '.5',
    '5.',
    '01',
    '-0',
    '-0.00',
    '',
    ' 1',
    '1 ',
    '1_000',
    '0x10',
    '١',
    '1234567890123456789',
    '0.1234567890',
    '--1',
    '1.2.3',
  ])('refuses %j', (value) => {
    expect(isDecimal(value)).toBe(false)
    expect(() => parseDecimal(value, '/x')).toThrow(DomainError)
    expect(() => parseDecimal(value, '/x')).toThrow('/x: not a decimal')
  })

  it.each(['0', '0.00', '-1', '12.50', '123456789012345678.123456789', '100'])('takes %j and keeps it', (value) => {
    expect(isDecimal(value)).toBe(true)
  })

  it('rewrites the spellings of XML Schema', () => {
    expect(['+5', '.5', '5.', '007', '-0.00', '-.10', '1e3', '', '.', '+', '1,5'].map(canonicalDecimal)).toEqual([
      '5',
      '0.5',
      '5',
      '7',
      '0.00',
      '-0.10',
      null,
      null,
      null,
      null,
      null,
    ])
  })

  it('refuses operations it does not know', () => {
    expect(() => decimalOp('pow', '1', '1')).toThrow('unknown operation')
    expect(() => decimalOp('round', '1', undefined)).toThrow('scale')
    expect(() => decimalOp('add', '1', '1', 2, 'constructor')).toThrow('rounding mode')
    expect(() => decimalOp('add', '1e1', '1')).toThrow('not a decimal')
    expect(decimalOp('round', '2.5', undefined, 0, 'half-even')).toBe('2')
    expect(decimalOp('mul', '-0.5', '0.01', 2, 'half-up')).toBe('-0.01')
    expect(decimalOp('mul', '-0.4', '0.01', 2, 'half-up')).toBe('0.00')
  })
})

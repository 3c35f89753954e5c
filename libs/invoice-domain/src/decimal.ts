/**
 * Exact decimals as text. Money, quantities and percentages are never `number`: a value stays the text it came as,
 * and arithmetic happens here, exactly, with one explicit rounding at the end.
 * @see docs/spec/ubl.md §4
 */
import { Decimal } from 'decimal.js'
import { refuse } from './errors.js'

/**
 * Largest integer and fraction part of a value in a document: 18 digits cover every currency's budgets, 9 fraction
 * digits are what unit prices need. Bounds keep every product of two values exact within PRECISION.
 */
export const MAX_INTEGER_DIGITS = 18
export const MAX_FRACTION_DIGITS = 9

/** Significant digits of the arithmetic. Additions and products of bounded values never reach it, so they are exact. */
const PRECISION = 400
/** Longest operand of `decimalOp`, so that a product of two stays exact within PRECISION. */
const MAX_OPERAND_LENGTH = 130

const Exact = Decimal.clone({ precision: PRECISION, rounding: Decimal.ROUND_HALF_UP, toExpNeg: -1000, toExpPos: 1000 })
export type Exact = Decimal

const CANONICAL = /^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?$/
const NEGATIVE_ZERO = /^-0(?:\.0+)?$/

/**
 * Whether a text is a decimal of this project: digits with an optional leading minus and an optional fraction. No plus
 * sign, no exponent, no leading zeros, no negative zero, no separators, within the digit limits.
 */
export function isDecimal(text: unknown): text is string {
  if (typeof text !== 'string' || text.length > MAX_INTEGER_DIGITS + MAX_FRACTION_DIGITS + 2) return false
  if (!CANONICAL.test(text) || NEGATIVE_ZERO.test(text)) return false
  const [integer = '', fraction = ''] = text.replace('-', '').split('.')
  return integer.length <= MAX_INTEGER_DIGITS && fraction.length <= MAX_FRACTION_DIGITS
}

/** @throws DomainError InvalidAmount @param pointer where the text stands, for the error */
export function parseDecimal(text: string, pointer = ''): Exact {
  if (!isDecimal(text)) {
    throw refuse(
      'InvalidAmount',
      'InvalidAmount',
      pointer,
      `not a decimal: digits with an optional minus sign and fraction, at most ${MAX_INTEGER_DIGITS}.${MAX_FRACTION_DIGITS} digits`,
    )
  }
  return new Exact(text)
}

/**
 * Rewrites a value of XML Schema's `xs:decimal` ("+5", ".5", "5.", "007") as this project's text, with the same
 * value and the same number of fraction digits.
 * @returns null if it is not an xs:decimal or exceeds the digit limits
 */
export function canonicalDecimal(text: string): string | null {
  const match = /^([+-]?)(?:([0-9]+)(?:\.([0-9]*))?|\.([0-9]+))$/.exec(text)
  if (match === null) return null
  const integer = (match[2] ?? '').replace(/^0+(?=[0-9])/, '') || '0'
  const fraction = match[3] ?? match[4] ?? ''
  const unsigned = fraction === '' ? integer : `${integer}.${fraction}`
  const value = match[1] === '-' && /[1-9]/.test(unsigned) ? `-${unsigned}` : unsigned
  return isDecimal(value) ? value : null
}

/** An exact value of a text that is known to be a decimal (it came through `fromRecord` or a UBL import). */
export function exact(text: string): Exact {
  return parseDecimal(text)
}

/** Plain notation, never an exponent; never "-0". */
export function toText(value: Exact): string {
  return value.isZero() ? value.abs().toFixed() : value.toFixed()
}

export function add(a: string, b: string): string {
  return toText(exact(a).plus(exact(b)))
}

export function subtract(a: string, b: string): string {
  return toText(exact(a).minus(exact(b)))
}

export function multiply(a: string, b: string): string {
  return toText(exact(a).times(exact(b)))
}

/** Sum of a list, "0" for an empty one. */
export function sum(values: Iterable<string>): Exact {
  let total: Exact = new Exact(0)
  for (const value of values) total = total.plus(exact(value))
  return total
}

/** -1, 0 or 1. Compares values, not texts: "1.0" equals "1". */
export function compare(a: string, b: string): -1 | 0 | 1 {
  return exact(a).comparedTo(exact(b)) as -1 | 0 | 1
}

/**
 * Rounds to `scale` fraction digits, a tie away from zero (the commercial "half up": 0.125 → 0.13, -0.125 → -0.13),
 * and writes all `scale` digits.
 */
export function roundHalfUp(value: string | Exact, scale: number): string {
  const result = rounded(typeof value === 'string' ? exact(value) : value, scale)
  return (result.isZero() ? result.abs() : result).toFixed(scale)
}

/** As `roundHalfUp`, for a value that goes on being computed with: it may exceed the digit limits of a document. */
export function rounded(value: Exact, scale: number): Exact {
  return value.toDecimalPlaces(scale, Decimal.ROUND_HALF_UP)
}

const MODES: Readonly<Record<string, Decimal.Rounding>> = {
  'half-up': Decimal.ROUND_HALF_UP,
  'half-even': Decimal.ROUND_HALF_EVEN,
  'half-down': Decimal.ROUND_HALF_DOWN,
  down: Decimal.ROUND_DOWN,
  up: Decimal.ROUND_UP,
  floor: Decimal.ROUND_FLOOR,
  ceil: Decimal.ROUND_CEIL,
}

/**
 * One operation for checks from outside, through the arithmetic that documents use.
 * @param fn `add` and `mul` are exact unless `scale` is given; `round` takes `a` and `scale` (or `b` as the scale)
 * @param mode `half-up` (default), `half-even`, `half-down`, `down`, `up`, `floor`, `ceil`
 * @throws DomainError InvalidAmount for operands, InvalidRequest for the rest
 */
export function decimalOp(fn: string, a: string, b: string | undefined, scale?: number, mode = 'half-up'): string {
  const rounding = Object.hasOwn(MODES, mode.toLowerCase().replaceAll('_', '-'))
    ? MODES[mode.toLowerCase().replaceAll('_', '-')]
    : undefined
  if (rounding === undefined) throw refuse('InvalidRequest', 'InvalidRequest', '/mode', `unknown rounding mode`)
  const digits = scale ?? (fn === 'round' && b !== undefined && /^[0-9]{1,2}$/.test(b) ? Number(b) : undefined)
  if (digits !== undefined && !(Number.isInteger(digits) && digits >= 0 && digits <= 60)) {
    throw refuse('InvalidRequest', 'InvalidRequest', '/scale', 'the scale is an integer from 0 to 60')
  }
  const value = compute(fn, operand(a, '/a'), b)
  if (fn === 'round' && digits === undefined) throw refuse('InvalidRequest', 'InvalidRequest', '/scale', 'round needs a scale')
  if (digits === undefined) return toText(value)
  const result = value.toDecimalPlaces(digits, rounding)
  return (result.isZero() ? result.abs() : result).toFixed(digits)
}

function compute(fn: string, a: Exact, b: string | undefined): Exact {
  if (fn === 'round') return a
  if (fn === 'add') return a.plus(operand(b, '/b'))
  if (fn === 'mul') return a.times(operand(b, '/b'))
  throw refuse('InvalidRequest', 'InvalidRequest', '/fn', 'unknown operation: add, mul or round')
}

function operand(text: string | undefined, pointer: string): Exact {
  if (typeof text !== 'string' || text.length > MAX_OPERAND_LENGTH || !CANONICAL.test(text)) {
    throw refuse('InvalidAmount', 'InvalidAmount', pointer, 'not a decimal: digits with an optional minus sign and fraction')
  }
  return new Exact(text)
}

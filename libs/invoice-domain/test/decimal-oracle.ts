/** Decimal arithmetic against integers of any size: the oracle of the decimal tests. */
import fc from 'fast-check'
import { expect } from 'vitest'
import { compare, decimalOp, roundHalfUp } from '@tallystick/invoice-domain/decimal'

/** An integer and how many of its digits are a fraction. */
interface Fixed {
  units: bigint
  scale: number
}
const text = ({ units, scale }: Fixed): string => {
  const digits = (units < 0n ? -units : units).toString().padStart(scale + 1, '0')
  const unsigned = scale === 0 ? digits : `${digits.slice(0, -scale)}.${digits.slice(-scale)}`
  return units < 0n ? `-${unsigned}` : unsigned
}
const align = (value: Fixed, scale: number): bigint => value.units * 10n ** BigInt(scale - value.scale)
const halfUp = ({ units, scale }: Fixed, to: number): Fixed => {
  if (to >= scale) return { units: align({ units, scale }, to), scale: to }
  const divisor = 10n ** BigInt(scale - to)
  const size = units < 0n ? -units : units
  const rounded = (size * 2n + divisor) / (divisor * 2n)
  return { units: units < 0n ? -rounded : rounded, scale: to }
}
const fixed = fc.record({ units: fc.bigInt({ min: -(10n ** 14n), max: 10n ** 14n }), scale: fc.integer({ min: 0, max: 9 }) })

/** Sums, products, roundings and comparisons of random decimals, `runs` times. */
export function agreesWithIntegers(runs: number): void {
  fc.assert(
    fc.property(fixed, fixed, fc.integer({ min: 0, max: 4 }), (a, b, to) => {
      const scale = Math.max(a.scale, b.scale)
      const total = { units: align(a, scale) + align(b, scale), scale }
      const product = { units: a.units * b.units, scale: a.scale + b.scale }
      expect(decimalOp('add', text(a), text(b), scale)).toBe(text(total))
      expect(decimalOp('mul', text(a), text(b), product.scale)).toBe(text(product))
      expect(decimalOp('round', text(product), undefined, to)).toBe(text(halfUp(product, to)))
      expect(roundHalfUp(text(a), to)).toBe(text(halfUp(a, to)))
      expect(compare(text(a), text(b))).toBe(align(a, scale) < align(b, scale) ? -1 : align(a, scale) > align(b, scale) ? 1 : 0)
    }),
    { numRuns: runs },
  )
}

import { describe, it } from 'vitest'
import { agreesWithIntegers } from '../test/decimal-oracle.js'

describe('decimal arithmetic, at length', () => {
  it('agrees with integers on 100,000 sums, products and roundings', () => agreesWithIntegers(100_000), 300_000)
})

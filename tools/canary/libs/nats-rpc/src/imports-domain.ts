import Decimal from 'decimal.js'

export const canary = Decimal

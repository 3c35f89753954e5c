import type { Violation } from './errors.js'
import type { BillingDocument } from './model.js'
export function validate(_document: BillingDocument): Violation[] { return [] }

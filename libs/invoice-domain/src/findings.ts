/** Collects broken rules while the rule files walk a document. */
import { pointerTo, type Violation } from './errors.js'
import type { BillingDocument, DocumentAllowanceCharge } from './model.js'

/** Violations kept; a document that breaks more is broken enough. */
export const MAX_VIOLATIONS = 500

export class Findings {
  readonly violations: Violation[] = []

  /** @param pointer where the missing or wrong value stands, or would stand */
  require(holds: boolean, rule: string, pointer: string, message: string): void {
    if (!holds && this.violations.length < MAX_VIOLATIONS) this.violations.push({ rule, pointer, message })
  }
}

/** Present and not blank: EN 16931 takes an empty element as missing. */
export function filled(value: string | undefined): value is string {
  return value !== undefined && value.trim() !== ''
}

/** Document level allowances or charges with their pointers. */
export function documentEntries(document: BillingDocument, field: 'allowances' | 'charges'): [DocumentAllowanceCharge, string][] {
  return (document[field] ?? []).map((entry, index) => [entry, pointerTo(`/${field}`, index)])
}

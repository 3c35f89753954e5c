/** The business rules of EN 16931 over a document. Which rules exist, and which not, is listed in docs/spec/ubl.md §7. */
import { codeRules } from './code-rules.js'
import type { Violation } from './errors.js'
import { Findings } from './findings.js'
import { integrityRules } from './integrity-rules.js'
import type { BillingDocument } from './model.js'
import { totalRules } from './total-rules.js'
import { vatRules } from './vat-rules.js'

/**
 * @returns every broken rule with its place, [] for a valid document; at most MAX_VIOLATIONS
 * @throws DomainError InvalidAmount only for a document that came neither through `fromRecord` nor an import
 */
export function validate(document: BillingDocument): Violation[] {
  const findings = new Findings()
  integrityRules(document, findings)
  totalRules(document, findings)
  vatRules(document, findings)
  codeRules(document, findings)
  return findings.violations
}

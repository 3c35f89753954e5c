/** What the domain says when it refuses: rules, each with the place in the document that broke it. */

/** One broken rule. */
export interface Violation {
  /** Rule id: an EN 16931 rule ("BR-CO-15"), or an own one ("InvalidAmount", "Unknown"). */
  readonly rule: string
  /** JSON pointer (RFC 6901) into the document, "" for the document itself. */
  readonly pointer: string
  /** One sentence for a person. Names fields, never repeats a long value. */
  readonly message: string
}

/** Codes that the domain throws; the same strings as the system's error codes. */
export type DomainErrorCode = 'InvalidAmount' | 'InvalidRequest' | 'Conflict' | 'UnsupportedVersion' | 'ConsentRequired'

/** A refusal with at least one violation. The message is the first violation's, with a count of the others. */
export class DomainError extends Error {
  constructor(
    readonly code: DomainErrorCode,
    readonly violations: readonly Violation[],
  ) {
    super(describe(violations))
    this.name = 'DomainError'
  }
}

/** A refusal with exactly one violation. */
export function refuse(code: DomainErrorCode, rule: string, pointer: string, message: string): DomainError {
  return new DomainError(code, [{ rule, pointer, message }])
}

/** Adds one reference token to a JSON pointer, escaped as RFC 6901 §3 wants. */
export function pointerTo(base: string, token: string | number): string {
  return `${base}/${String(token).replaceAll('~', '~0').replaceAll('/', '~1')}`
}

function describe(violations: readonly Violation[]): string {
  const [first, ...others] = violations
  if (first === undefined) return 'refused'
  const where = first.pointer === '' ? '' : `${first.pointer}: `
  const more = others.length === 0 ? '' : ` (and ${others.length} more)`
  return `${where}${first.message}${more}`
}

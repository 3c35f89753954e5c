/** What an import refuses, with the element it stumbled over. */
import { DomainError, type DomainErrorCode, type Violation } from '@tallystick/invoice-domain/errors'

/**
 * Rules of this library: `XML-ENCODING`, `XML-SIZE`, `XML-LIMIT`, `XML-DOCTYPE`, `XML-SYNTAX`, `XML-ENTITY`,
 * `XML-NAMESPACE`, `UBL-ROOT`, `UBL-VALUE`, `UBL-LOSS`, and `InvalidAmount`.
 */
export class UblError extends DomainError {
  constructor(
    code: DomainErrorCode,
    readonly rule: string,
    message: string,
    /** Element path with the usual prefixes, "/Invoice/cac:InvoiceLine[2]/cbc:ID", if one is known. */
    readonly path?: string,
    /** Further values that were refused, after the first */
    others: readonly Violation[] = [],
  ) {
    super(code, [{ rule, pointer: '', message: path === undefined ? message : `${path}: ${message}` }, ...others])
    this.name = 'UblError'
  }
}

/** A value that is not of its type: collected, so that an import names all of them at once. */
export interface BadValue {
  readonly rule: 'UBL-VALUE' | 'InvalidAmount'
  readonly path: string
  readonly message: string
}

/** Bad values named in one error. */
const MAX_BAD_VALUES = 100

export function refuseBadValues(bad: readonly BadValue[]): void {
  const [first, ...others] = bad.slice(0, MAX_BAD_VALUES)
  if (first === undefined) return
  const code = bad.every((value) => value.rule === 'InvalidAmount') ? 'InvalidAmount' : 'InvalidRequest'
  throw new UblError(code, first.rule, first.message, first.path, others.map(asViolation))
}

export function asViolation(bad: BadValue): Violation {
  return { rule: bad.rule, pointer: '', message: `${bad.path}: ${bad.message}` }
}

/** A document that is not XML as this library takes it. */
export function malformed(rule: string, message: string, path?: string): UblError {
  return new UblError('InvalidRequest', rule, message, path)
}

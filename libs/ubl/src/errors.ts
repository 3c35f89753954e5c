/** What an import refuses, with the element it stumbled over. */
import { DomainError, type DomainErrorCode } from '@tallystick/invoice-domain/errors'

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
  ) {
    super(code, [{ rule, pointer: '', message: path === undefined ? message : `${path}: ${message}` }])
    this.name = 'UblError'
  }
}

/** A document that is not XML as this library takes it. */
export function malformed(rule: string, message: string, path?: string): UblError {
  return new UblError('InvalidRequest', rule, message, path)
}

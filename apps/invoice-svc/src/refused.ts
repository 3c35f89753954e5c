/** What use cases throw when they refuse: a stable code and a sentence. The HTTP edge maps it to a problem, once. */
import type { ErrorCode } from '@tallystick/contracts/codes'
import type { Refusal } from '@tallystick/contracts/codes'

export interface Fault {
  /** RFC 6901 pointer into the request body. */
  readonly pointer: string
  readonly rule: string
  readonly message: string
}

export class Refused extends Error {
  constructor(
    readonly code: ErrorCode,
    message: string,
    readonly details: { errors?: readonly Fault[]; retryAfterMs?: number } = {},
  ) {
    super(message)
    this.name = 'Refused'
  }
}

export function notFound(what: string): Refused {
  return new Refused('NotFound', `There is no such ${what}.`)
}

export function conflict(message: string, errors?: readonly Fault[]): Refused {
  return new Refused('Conflict', message, errors === undefined ? {} : { errors })
}

/** A refusal that came over the bus, passed on with its own code. */
export function refusedBy(answer: Refusal): Refused {
  return new Refused(answer.code, answer.message, answer.retryAfterMs === undefined ? {} : { retryAfterMs: answer.retryAfterMs })
}

/** The row as it should be, or NotFound. */
export function found<T>(row: T | null | undefined, what: string): T {
  if (row === null || row === undefined) throw notFound(what)
  return row
}

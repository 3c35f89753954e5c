/** What a call over the bus throws. Business refusals are values and never end up here. */
import type { ErrorCode } from '@tallystick/contracts/codes'

/** `callee`: the other side answered with a fault. `transport`: nothing (readable) came back. `caller`: nothing was sent. */
export type FaultOrigin = 'callee' | 'transport' | 'caller'

export class RpcFault extends Error {
  readonly code: ErrorCode
  /** The contract's subject, or the breaker's target. */
  readonly subject: string
  readonly origin: FaultOrigin
  /** Milliseconds; set for CircuitBreakerOpen and RateLimited. */
  readonly retryAfterMs?: number
  readonly correlationId?: string
  /** Did the callee get the time that its contract promises? A hasty caller must not open a circuit. */
  readonly fair: boolean

  constructor(
    code: ErrorCode,
    subject: string,
    message: string,
    details: { origin: FaultOrigin; retryAfterMs?: number; correlationId?: string; fair?: boolean; cause?: unknown },
  ) {
    super(`${subject}: ${message}`, details.cause === undefined ? undefined : { cause: details.cause })
    this.name = 'RpcFault'
    this.code = code
    this.subject = subject
    this.origin = details.origin
    this.fair = details.fair ?? true
    if (details.retryAfterMs !== undefined) this.retryAfterMs = details.retryAfterMs
    if (details.correlationId !== undefined) this.correlationId = details.correlationId
  }
}

/** Codes that a callee names when it is itself unwell; every other code speaks of the request or of a peer. */
const UNWELL: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['Internal', 'Network', 'KeyStorage', 'Encryption'])

/**
 * Whether a failed call says that the callee is unwell. What a peer's bytes caused (Serialization, Decryption,
 * VerificationFailed, …), what the caller did wrong, and a circuit that is open further down never count:
 * a hostile peer could open our circuits otherwise.
 * @see docs/spec/bus.md §5
 */
export function speaksAgainstCallee(error: unknown): boolean {
  if (!(error instanceof RpcFault)) return true
  if (error.origin === 'caller') return false
  if (error.origin === 'transport') return error.fair
  return UNWELL.has(error.code)
}

/**
 * The one error of the protocol layer. It lives here because this is the lowest layer that can fail;
 * `@tallystick/primitives/errors` is where everybody else imports it from.
 */

/** Stable codes, the same strings as on the bus and in the API. */
export const PROTOCOL_ERROR_CODES = [
  'Serialization',
  'Encryption',
  'Decryption',
  'Network',
  'CircuitBreakerOpen',
  'VerificationFailed',
  'InvalidPeerId',
  'UnauthorizedPeer',
  'InvalidSignature',
  'ExpiredSignature',
  'ReplayDetected',
  'RateLimited',
  'QuotaExceeded',
  'HandshakeTimeout',
  'ReadTimeout',
  'IdleTimeout',
  'InvalidPublicKey',
  'InvalidAmount',
  'InvalidMethodId',
  'EndpointTooLarge',
  'KeyStorage',
  'UnsupportedVersion',
  'DuplicateMessage',
  'TooManySkipped',
  'EpochExpired',
  'ContinuityBroken',
  'ResyncRequired',
  'ConsentRequired',
  'IdentityChanged',
  'SuiteBelowPolicy',
] as const

export type ProtocolErrorCode = (typeof PROTOCOL_ERROR_CODES)[number]

/** Why key storage refused; only present with the code KeyStorage. */
export type KeyStorageReason = 'storeFailed' | 'accessControlFailed' | 'locked'

export interface ProtocolErrorDetails {
  /** Milliseconds until a retry can succeed; only with RateLimited. */
  readonly retryAfterMs?: number
  readonly reason?: KeyStorageReason
  readonly cause?: unknown
}

/** A refusal or fault with a stable code. The message is for people and never holds a secret. */
export class ProtocolError extends Error {
  readonly code: ProtocolErrorCode
  readonly retryAfterMs?: number
  readonly reason?: KeyStorageReason

  constructor(code: ProtocolErrorCode, message: string = code, details: ProtocolErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.name = 'ProtocolError'
    this.code = code
    if (details.retryAfterMs !== undefined) this.retryAfterMs = details.retryAfterMs
    if (details.reason !== undefined) this.reason = details.reason
  }
}

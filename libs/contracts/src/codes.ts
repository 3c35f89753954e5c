/**
 * Stable error codes of the whole system: they cross the bus, appear in API problems, metrics and audit events.
 * @see docs/spec/errors.md
 */
import { z } from 'zod'

export const ERROR_CODES = [
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
  // Beyond the protocol's own: what the API and the bus need to say.
  'NotFound',
  'Conflict',
  'InvalidRequest',
  'PeerBlocked',
  'NotReady',
  'Internal',
] as const

export const errorCode = z.enum(ERROR_CODES)
export type ErrorCode = z.infer<typeof errorCode>

/** A business refusal: a value that crosses the bus typed and never counts in a breaker. */
export const refusal = z.strictObject({
  ok: z.literal(false),
  code: errorCode,
  /** One sentence for a person; never holds a secret or a document's content. */
  message: z.string().max(500),
  retryAfterMs: z.int().nonnegative().optional(),
})
export type Refusal = z.infer<typeof refusal>

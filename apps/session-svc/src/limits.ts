/**
 * Every limit of session-svc. Each can be overridden by `TALLYSTICK_SESSION_<NAME>`; the docs table is made from here.
 * @see docs/limits.md
 */
import { z } from 'zod'

const SECOND = 1_000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR

/** Application messages that one side sends in an epoch; the next one is the first of the next epoch. */
export const ROTATE_AFTER_MESSAGES = 100
/** Age of an epoch, milliseconds, at which the next message starts a new one. */
export const ROTATE_AFTER_MS = 24 * HOUR
/** Receipts and proofs do not count towards the 100, but an epoch must not grow without end: ten for each document. */
export const CONTROL_MESSAGES_PER_EPOCH = 1_000
/** A wall clock that went back by more than this makes the age unknowable: rotate early rather than late. */
export const CLOCK_BACK_TOLERANCE_MS = 2 * MINUTE
/** Superseded epochs stay readable this long for messages in flight: a weekend and its Monday. */
export const OLD_EPOCH_GRACE_MS = 72 * HOUR
/** Superseded epochs kept per peer whatever their age: bounds what a stolen database plus key file could read. */
export const OLD_EPOCHS_KEPT = 5
/** One-time prekeys of each kind made at a refill. */
export const ONE_TIME_PREKEYS = 100
/** Refill when fewer are left: a fifth leaves time for the refill under a burst of new sessions. */
export const REFILL_BELOW = 20
/** Bundles that one peer may take per window: one starts a session of 100 messages, so 100 messages a second. */
export const BUNDLES_PER_PEER = 60
/** Window of the bundle quota, milliseconds; the same as the other per-peer windows. */
export const BUNDLE_WINDOW_MS = MINUTE
/** Locked memory, bytes: half of the usual 8 MiB limit of an unprivileged process. A state with 1,000 skipped keys is below 128 KiB. */
export const ARENA_BYTES = 4 * 1024 * 1024
/** Connections to PostgreSQL of one replica; also the number of peers that are served at the same moment. */
export const DATABASE_CONNECTIONS = 10
/** A transaction that takes longer is rolled back, milliseconds; above the time that 64 large items take, below seal's deadline. */
export const TRANSACTION_MS = 15 * SECOND
/** Longest wait for a connection, milliseconds. */
export const TRANSACTION_WAIT_MS = 5 * SECOND
/** What a caller is told to wait after a refusal that time will mend, milliseconds. */
export const RETRY_AFTER_MS = 5 * SECOND
/** Lifetime of the fleet certificate, milliseconds. */
export const CERTIFICATE_LIFETIME_MS = 365 * DAY
/** A new certificate is issued when the old one has less left, milliseconds: a month for peers to learn it. */
export const CERTIFICATE_RENEW_BEFORE_MS = 30 * DAY
/** Pause between looks at certificate, prekey stock and old epochs, milliseconds. */
export const UPKEEP_MS = MINUTE
/** KeyAccessed is written at most once per this time, replica and purpose: each signed document is its own evidence. */
export const KEY_ACCESS_AUDIT_MS = HOUR
/** Stored ciphertexts answer retries of `seal` this long, milliseconds; the relay has long taken them over. */
export const ENVELOPE_RETENTION_MS = 7 * DAY

const count = z.coerce.number().int().positive()

/** Extra environment variables of this service. */
export const limitsEnv = z.object({
  TALLYSTICK_SESSION_ROTATE_AFTER_MESSAGES: count.default(ROTATE_AFTER_MESSAGES),
  TALLYSTICK_SESSION_ROTATE_AFTER_MS: count.default(ROTATE_AFTER_MS),
  TALLYSTICK_SESSION_CONTROL_MESSAGES_PER_EPOCH: count.default(CONTROL_MESSAGES_PER_EPOCH),
  TALLYSTICK_SESSION_CLOCK_BACK_TOLERANCE_MS: count.default(CLOCK_BACK_TOLERANCE_MS),
  TALLYSTICK_SESSION_OLD_EPOCH_GRACE_MS: count.default(OLD_EPOCH_GRACE_MS),
  TALLYSTICK_SESSION_OLD_EPOCHS_KEPT: count.default(OLD_EPOCHS_KEPT),
  TALLYSTICK_SESSION_ONE_TIME_PREKEYS: count.default(ONE_TIME_PREKEYS),
  TALLYSTICK_SESSION_REFILL_BELOW: count.default(REFILL_BELOW),
  TALLYSTICK_SESSION_BUNDLES_PER_PEER: count.default(BUNDLES_PER_PEER),
  TALLYSTICK_SESSION_BUNDLE_WINDOW_MS: count.default(BUNDLE_WINDOW_MS),
  TALLYSTICK_SESSION_ARENA_BYTES: count.default(ARENA_BYTES),
  TALLYSTICK_SESSION_DATABASE_CONNECTIONS: count.default(DATABASE_CONNECTIONS),
  TALLYSTICK_SESSION_TRANSACTION_MS: count.default(TRANSACTION_MS),
  TALLYSTICK_SESSION_TRANSACTION_WAIT_MS: count.default(TRANSACTION_WAIT_MS),
  TALLYSTICK_SESSION_RETRY_AFTER_MS: count.default(RETRY_AFTER_MS),
  TALLYSTICK_SESSION_CERTIFICATE_LIFETIME_MS: count.default(CERTIFICATE_LIFETIME_MS),
  TALLYSTICK_SESSION_CERTIFICATE_RENEW_BEFORE_MS: count.default(CERTIFICATE_RENEW_BEFORE_MS),
  TALLYSTICK_SESSION_UPKEEP_MS: count.default(UPKEEP_MS),
  TALLYSTICK_SESSION_KEY_ACCESS_AUDIT_MS: count.default(KEY_ACCESS_AUDIT_MS),
  TALLYSTICK_SESSION_ENVELOPE_RETENTION_MS: count.default(ENVELOPE_RETENTION_MS),
})

export type Limits = ReturnType<typeof limitsFrom>

/** @param env parsed by {@link limitsEnv}; an empty object through the schema gives the defaults */
export function limitsFrom(env: z.output<typeof limitsEnv>) {
  return Object.freeze({
    rotateAfterMessages: env.TALLYSTICK_SESSION_ROTATE_AFTER_MESSAGES,
    rotateAfterMs: env.TALLYSTICK_SESSION_ROTATE_AFTER_MS,
    controlMessagesPerEpoch: env.TALLYSTICK_SESSION_CONTROL_MESSAGES_PER_EPOCH,
    clockBackToleranceMs: env.TALLYSTICK_SESSION_CLOCK_BACK_TOLERANCE_MS,
    oldEpochGraceMs: env.TALLYSTICK_SESSION_OLD_EPOCH_GRACE_MS,
    oldEpochsKept: env.TALLYSTICK_SESSION_OLD_EPOCHS_KEPT,
    oneTimePrekeys: env.TALLYSTICK_SESSION_ONE_TIME_PREKEYS,
    refillBelow: env.TALLYSTICK_SESSION_REFILL_BELOW,
    bundlesPerPeer: env.TALLYSTICK_SESSION_BUNDLES_PER_PEER,
    bundleWindowMs: env.TALLYSTICK_SESSION_BUNDLE_WINDOW_MS,
    arenaBytes: env.TALLYSTICK_SESSION_ARENA_BYTES,
    databaseConnections: env.TALLYSTICK_SESSION_DATABASE_CONNECTIONS,
    transactionMs: env.TALLYSTICK_SESSION_TRANSACTION_MS,
    transactionWaitMs: env.TALLYSTICK_SESSION_TRANSACTION_WAIT_MS,
    retryAfterMs: env.TALLYSTICK_SESSION_RETRY_AFTER_MS,
    certificateLifetimeMs: env.TALLYSTICK_SESSION_CERTIFICATE_LIFETIME_MS,
    certificateRenewBeforeMs: env.TALLYSTICK_SESSION_CERTIFICATE_RENEW_BEFORE_MS,
    upkeepMs: env.TALLYSTICK_SESSION_UPKEEP_MS,
    keyAccessAuditMs: env.TALLYSTICK_SESSION_KEY_ACCESS_AUDIT_MS,
    envelopeRetentionMs: env.TALLYSTICK_SESSION_ENVELOPE_RETENTION_MS,
  })
}

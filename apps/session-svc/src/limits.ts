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
/** Share of the messages of an epoch, per cent, at which the peer's bundle for the next one is fetched. */
export const PREFETCH_AT_PERCENT = 80
/** Age of an epoch, milliseconds, at which the bundle is fetched: four hours in which the peer may be away. */
export const PREFETCH_AFTER_MS = 20 * HOUR
/** A bundle that was fetched longer ago is thrown away, milliseconds: its one-time keys go after 14 days, long after. */
export const PREFETCHED_BUNDLE_MS = 24 * HOUR
/** Pause between attempts to fetch a bundle in the background, milliseconds. */
export const PREFETCH_RETRY_MS = MINUTE
/** Receipts and proofs do not count towards the 100, but an epoch must not grow without end: ten for each document. */
export const CONTROL_MESSAGES_PER_EPOCH = 1_000
/** A wall clock that went back by more than this makes the age unknowable: rotate early rather than late. */
export const CLOCK_BACK_TOLERANCE_MS = 2 * MINUTE
/** Superseded epochs stay readable this long for messages in flight: a weekend and its Monday. */
export const OLD_EPOCH_GRACE_MS = 72 * HOUR
/** A superseded epoch whose successor is confirmed is wiped when nothing has come in it for this long, milliseconds. */
export const OLD_EPOCH_QUIET_MS = HOUR
/** Superseded epochs kept per peer whatever their age: bounds what a stolen database plus key file could read. */
export const OLD_EPOCHS_KEPT = 5
/** One-time prekeys of each kind made at a refill. */
export const ONE_TIME_PREKEYS = 100
/** Refill when fewer are left: a fifth leaves time for the refill under a burst of new sessions. */
export const REFILL_BELOW = 20
/** One-time prekeys of each kind that one peer may hold unused; then its bundles carry the last-resort key only. */
export const HANDED_OUT_PER_PEER = 100
/** Age at which signed and last-resort prekeys are replaced, milliseconds. */
export const PREKEY_ROTATE_AFTER_MS = 7 * DAY
/** Private halves of replaced prekeys, and of one-time prekeys handed out and not used, go after this time, milliseconds: handshakes in flight. */
export const PREKEY_GRACE_MS = 14 * DAY
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
/** A new data key takes over at this age, milliseconds: bounds what one key has sealed. */
export const DATA_KEY_LIFETIME_MS = 30 * DAY
/** A new data key opens at once and seals only after this time, milliseconds: every replica has looked for new ones by then. */
export const DATA_KEY_SPREAD_MS = 5 * MINUTE
/** Ids of sealed and digests of opened messages are kept this long, milliseconds; relays have long given up by then. */
export const ID_RETENTION_MS = 30 * DAY
/** Messages that do not open, without one that does between, until a new session is needed. */
export const SUSPECT_FAILURES = 3
/** The same is concluded from a failure this long after the first, milliseconds. */
export const SUSPECT_MS = MINUTE
/** Wait for an answer to a new session before the next attempt, milliseconds; doubled with every attempt. */
export const RESYNC_ANSWER_MS = MINUTE
/** Resyncs per peer and day that need no person, own and accepted ones together: a fault heals with one or two. */
export const RESYNCS_PER_DAY = 10
/** How long a person's approval lets the peer start over, milliseconds. */
export const RESYNC_APPROVAL_MS = HOUR
/** After a new session has begun, failures in older ones do not count for this long, milliseconds: they were on their way. */
export const RESYNC_SETTLE_MS = 10 * MINUTE
/** How long a handshake may wait for the one before it, milliseconds. */
export const EARLY_EPOCH_MS = 10 * MINUTE
/** Audit events of one kind per peer and minute that a peer can cause at will; the rest is counted in one event. */
export const AUDITED_FAILURES_PER_PEER = 10

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
  TALLYSTICK_SESSION_HANDED_OUT_PER_PEER: count.default(HANDED_OUT_PER_PEER),
  TALLYSTICK_SESSION_PREKEY_ROTATE_AFTER_MS: count.default(PREKEY_ROTATE_AFTER_MS),
  TALLYSTICK_SESSION_PREKEY_GRACE_MS: count.default(PREKEY_GRACE_MS),
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
  TALLYSTICK_SESSION_DATA_KEY_LIFETIME_MS: count.default(DATA_KEY_LIFETIME_MS),
  TALLYSTICK_SESSION_DATA_KEY_SPREAD_MS: count.default(DATA_KEY_SPREAD_MS),
  TALLYSTICK_SESSION_PREFETCH_AT_PERCENT: count.max(100).default(PREFETCH_AT_PERCENT),
  TALLYSTICK_SESSION_PREFETCH_AFTER_MS: count.default(PREFETCH_AFTER_MS),
  TALLYSTICK_SESSION_PREFETCHED_BUNDLE_MS: count.default(PREFETCHED_BUNDLE_MS),
  TALLYSTICK_SESSION_PREFETCH_RETRY_MS: count.default(PREFETCH_RETRY_MS),
  TALLYSTICK_SESSION_OLD_EPOCH_QUIET_MS: count.default(OLD_EPOCH_QUIET_MS),
  TALLYSTICK_SESSION_ID_RETENTION_MS: count.default(ID_RETENTION_MS),
  TALLYSTICK_SESSION_SUSPECT_FAILURES: count.default(SUSPECT_FAILURES),
  TALLYSTICK_SESSION_SUSPECT_MS: count.default(SUSPECT_MS),
  TALLYSTICK_SESSION_RESYNC_ANSWER_MS: count.default(RESYNC_ANSWER_MS),
  TALLYSTICK_SESSION_RESYNCS_PER_DAY: count.default(RESYNCS_PER_DAY),
  TALLYSTICK_SESSION_RESYNC_APPROVAL_MS: count.default(RESYNC_APPROVAL_MS),
  TALLYSTICK_SESSION_RESYNC_SETTLE_MS: count.default(RESYNC_SETTLE_MS),
  TALLYSTICK_SESSION_EARLY_EPOCH_MS: count.default(EARLY_EPOCH_MS),
  TALLYSTICK_SESSION_AUDITED_FAILURES_PER_PEER: count.default(AUDITED_FAILURES_PER_PEER),
  /** `manual`: a new session that continues nothing is begun and accepted only when a person asks. @see docs/spec/custody.md §7.2 */
  TALLYSTICK_SESSION_RESYNC: z.enum(['auto', 'manual']).default('auto'),
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
    handedOutPerPeer: env.TALLYSTICK_SESSION_HANDED_OUT_PER_PEER,
    prekeyRotateAfterMs: env.TALLYSTICK_SESSION_PREKEY_ROTATE_AFTER_MS,
    prekeyGraceMs: env.TALLYSTICK_SESSION_PREKEY_GRACE_MS,
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
    dataKeyLifetimeMs: env.TALLYSTICK_SESSION_DATA_KEY_LIFETIME_MS,
    dataKeySpreadMs: env.TALLYSTICK_SESSION_DATA_KEY_SPREAD_MS,
    prefetchAtPercent: env.TALLYSTICK_SESSION_PREFETCH_AT_PERCENT,
    prefetchAfterMs: env.TALLYSTICK_SESSION_PREFETCH_AFTER_MS,
    prefetchedBundleMs: env.TALLYSTICK_SESSION_PREFETCHED_BUNDLE_MS,
    prefetchRetryMs: env.TALLYSTICK_SESSION_PREFETCH_RETRY_MS,
    oldEpochQuietMs: env.TALLYSTICK_SESSION_OLD_EPOCH_QUIET_MS,
    idRetentionMs: env.TALLYSTICK_SESSION_ID_RETENTION_MS,
    suspectFailures: env.TALLYSTICK_SESSION_SUSPECT_FAILURES,
    suspectMs: env.TALLYSTICK_SESSION_SUSPECT_MS,
    resyncAnswerMs: env.TALLYSTICK_SESSION_RESYNC_ANSWER_MS,
    resyncsPerDay: env.TALLYSTICK_SESSION_RESYNCS_PER_DAY,
    resyncApprovalMs: env.TALLYSTICK_SESSION_RESYNC_APPROVAL_MS,
    resyncSettleMs: env.TALLYSTICK_SESSION_RESYNC_SETTLE_MS,
    earlyEpochMs: env.TALLYSTICK_SESSION_EARLY_EPOCH_MS,
    auditedFailuresPerPeer: env.TALLYSTICK_SESSION_AUDITED_FAILURES_PER_PEER,
    resyncPolicy: env.TALLYSTICK_SESSION_RESYNC,
  })
}

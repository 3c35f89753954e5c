/** Every limit of audit-svc, with its reason. `TALLYSTICK_AUDIT_<NAME>` overrides one. @see docs/limits.md */
import { z } from 'zod'

export interface AuditLimits {
  /** Events of one group commit: several waiting calls share a transaction. Bounds how long the head stays locked. */
  readonly groupEvents: number
  /** Calls that may wait for a group. Beyond it the answer is RateLimited: outboxes keep their events and come back. */
  readonly waitingCalls: number
  /** Shortest time between two checkpoints, milliseconds. A burst of appends is signed once, not once per call. */
  readonly checkpointIntervalMs: number
  /** How often the head is looked at without a wake-up, milliseconds: another replica may have appended. */
  readonly checkpointPollMs: number
  /** How often the whole log is read again from its first leaf, milliseconds. */
  readonly rescanMs: number
  /** Leaves that one step of a rescan reads: 1,000 are about half a megabyte and a few milliseconds of hashing. */
  readonly scanLeaves: number
  /** One CheckpointSigned event per so many leaves: see docs/spec/audit-log.md §5. */
  readonly checkpointEventEvery: number
  /** Connections to PostgreSQL: one writes, the others read proofs. */
  readonly databaseConnections: number
  /** Longest wait for a connection and longest transaction, milliseconds; below the 10 s deadline of an append. */
  readonly transactionWaitMs: number
  readonly transactionMs: number
}

export const AUDIT_LIMITS: AuditLimits = {
  groupEvents: 1_024,
  waitingCalls: 256,
  checkpointIntervalMs: 250,
  checkpointPollMs: 1_000,
  rescanMs: 15 * 60_000,
  scanLeaves: 1_000,
  checkpointEventEvery: 1_024,
  databaseConnections: 6,
  transactionWaitMs: 4_000,
  transactionMs: 5_000,
}

export type AuditLimitName = keyof AuditLimits

/** What each is called in the environment. */
export const AUDIT_LIMIT_VARIABLES: Readonly<Record<AuditLimitName, string>> = {
  groupEvents: 'TALLYSTICK_AUDIT_GROUP_EVENTS',
  waitingCalls: 'TALLYSTICK_AUDIT_WAITING_CALLS',
  checkpointIntervalMs: 'TALLYSTICK_AUDIT_CHECKPOINT_INTERVAL_MS',
  checkpointPollMs: 'TALLYSTICK_AUDIT_CHECKPOINT_POLL_MS',
  rescanMs: 'TALLYSTICK_AUDIT_RESCAN_MS',
  scanLeaves: 'TALLYSTICK_AUDIT_SCAN_LEAVES',
  checkpointEventEvery: 'TALLYSTICK_AUDIT_CHECKPOINT_EVENT_EVERY',
  databaseConnections: 'TALLYSTICK_AUDIT_DATABASE_CONNECTIONS',
  transactionWaitMs: 'TALLYSTICK_AUDIT_TRANSACTION_WAIT_MS',
  transactionMs: 'TALLYSTICK_AUDIT_TRANSACTION_MS',
}

/** Below this a limit would defeat its purpose: rescans without a pause, or a log that feeds itself. */
const AT_LEAST: Partial<Record<AuditLimitName, number>> = { rescanMs: 1_000, checkpointEventEvery: 2 }
/** The longest that a timer of the runtime can wait, and more than any count needs. */
const AT_MOST = 2 ** 31 - 1

const count = (atLeast = 1) => z.coerce.number().int().min(atLeast).max(AT_MOST).optional()
const NAMES = Object.keys(AUDIT_LIMITS) as AuditLimitName[]

/** The variables of all limits, for the service's schema. */
export const AUDIT_LIMITS_ENV: Record<string, ReturnType<typeof count>> = Object.fromEntries(
  NAMES.map((name) => [AUDIT_LIMIT_VARIABLES[name], count(AT_LEAST[name])]),
)

/** @param env by variable, as parsed by the schema above */
export function auditLimitsFrom(env: Record<string, unknown>): AuditLimits {
  const limits: Record<AuditLimitName, number> = { ...AUDIT_LIMITS }
  for (const name of NAMES) {
    const value = env[AUDIT_LIMIT_VARIABLES[name]]
    if (typeof value === 'number') limits[name] = value
  }
  return limits
}

/** Locked memory for the log's key: 64 bytes of it, in one page. */
export const LOG_ARENA_BYTES = 4_096
/** First and longest wait between two questions for the fleet id, milliseconds: stays under five failures a minute. */
export const ORIGIN_RETRY_MS = [2_000, 15_000, 20_000, 30_000] as const
/** Wait after session-svc has answered NotReady, milliseconds: it is up and about to know. */
export const ORIGIN_NOT_READY_MS = 500

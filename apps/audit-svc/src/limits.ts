/** Every limit of audit-svc, with its reason. Overridable by the variable in brackets; listed in docs/limits.md. */
export interface AuditLimits {
  /** Events of one group commit: several waiting calls share a transaction. Bounds how long the head stays locked. */
  readonly groupEvents: number
  /** Calls that may wait for a group. Beyond it the answer is RateLimited: outboxes keep their events and come back. */
  readonly waitingCalls: number
  /** Shortest time between two checkpoints, milliseconds. A burst of appends is signed once, not once per call. */
  readonly checkpointIntervalMs: number
  /** How often the head is looked at without a wake-up, milliseconds: another replica may have appended. */
  readonly checkpointPollMs: number
  /** How often the whole log is read again from its first leaf, milliseconds (TALLYSTICK_AUDIT_RESCAN_MS). */
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

/** Locked memory for the log's key: 64 bytes of it, in one page. */
export const LOG_ARENA_BYTES = 4_096
/** First and longest wait between two questions for the fleet id, milliseconds: stays under five failures a minute. */
export const ORIGIN_RETRY_MS = [2_000, 15_000, 20_000, 30_000] as const
/** Wait after session-svc has answered NotReady, milliseconds: it is up and about to know. */
export const ORIGIN_NOT_READY_MS = 500

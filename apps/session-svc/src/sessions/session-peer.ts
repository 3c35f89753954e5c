/**
 * The peer as sealing and opening need it: locked, with what is known about its recovery, and with the generation
 * number of the transaction, all in one statement.
 * @see docs/spec/custody.md §5, §7.3
 */
import type { Context } from '../context.js'
import type { Tx } from '../db.js'
import type { LockedPeer } from '../peers/peers.store.js'
import type { Recovery, RecoveryState } from '../recovery/recovery-state.js'

export interface SessionPeer extends LockedPeer {
  readonly recovery: Recovery
  /** Application messages per epoch; null: the limit of the service. */
  readonly rotateEvery: number | null
  readonly rotateRequested: boolean
  /** Version of this fleet's own identity keys that this peer's sessions are to be made with. */
  readonly ownIdentity: number
  /** A new identity of the peer waits for a person: nothing is sealed or opened meanwhile. */
  readonly pending: boolean
  /** A handshake that is ahead of what is known here, and since when it waits. */
  readonly early: { readonly epoch: number; readonly since: Date } | undefined
  /** Number of this transaction, to be remembered outside once it has committed. */
  readonly generation: number
}

/** Text of the refusal while a new identity is pending. */
export const NEW_IDENTITY = 'the peer has a new identity, which waits for the approval of a person'

interface Row extends LockedPeer {
  recovery: RecoveryState
  reason: string
  since: Date | null
  failures: number
  attempts: number
  sentAt: Date | null
  day: Date | null
  today: number
  allowedUntil: Date | null
  rotateEvery: number | null
  rotateRequested: boolean
  ownIdentity: number
  pending: boolean
  earlyEpoch: number | null
  earlySince: Date | null
  generation: bigint
}

/**
 * The first statement of every transaction that seals or opens.
 * @throws DatabasePutBack when the database gives a number that it has given before
 */
export async function lockForSession(context: Context, tx: Tx, fleetId: string): Promise<SessionPeer | undefined> {
  // Read before the statement is sent: whatever commits meanwhile has taken its number earlier, or later, either way.
  const remembered = context.generation.value
  const [row] = await tx.$queryRaw<Row[]>`
    SELECT fleet_id AS "fleetId", display_name AS "displayName", sign_key AS "signKey", dh_key AS "dhKey", certificate,
           certificate_digest AS "certificateDigest", sequence, peer_ids AS "peerIds", trust, own_identity AS "ownIdentity",
           recovery, recovery_reason AS reason, recovery_since AS since, recovery_failures AS failures,
           resync_attempts AS attempts, resync_sent_at AS "sentAt", resync_day AS day, resyncs_today AS today,
           resync_allowed_until AS "allowedUntil", rotate_every AS "rotateEvery", rotate_requested AS "rotateRequested",
           early_epoch AS "earlyEpoch", early_since AS "earlySince", pending_digest AS "pendingDigest", pending_digest IS NOT NULL AS pending,
           nextval('session.generation_seq') AS generation
      FROM session.peer WHERE fleet_id = ${fleetId} FOR UPDATE`
  if (!row) return undefined
  const generation = Number(row.generation)
  if (context.generation.suspended || generation <= remembered) context.generation.putBack(`generation ${generation} after ${remembered}`)
  const { recovery: state, reason, since, failures, attempts, sentAt, day, today, allowedUntil, earlyEpoch, earlySince, ...rest } = row
  return {
    ...rest,
    recovery: { state, reason, since, failures, attempts, sentAt, day, today, allowedUntil },
    early: earlyEpoch === null || earlySince === null ? undefined : { epoch: earlyEpoch, since: earlySince },
    generation,
  }
}

/** Under the lock of {@link lockForSession}. */
export async function saveRecovery(tx: Tx, fleetId: string, recovery: Recovery): Promise<void> {
  const { state, reason, since, failures, attempts, sentAt, day, today, allowedUntil } = recovery
  await tx.peer.update({
    where: { fleetId },
    data: {
      recovery: state,
      recoveryReason: reason.slice(0, 200),
      recoverySince: since,
      recoveryFailures: failures,
      resyncAttempts: attempts,
      resyncSentAt: sentAt,
      resyncDay: day,
      resyncsToday: today,
      resyncAllowedUntil: allowedUntil,
    },
  })
}

/** The recovery of a peer out of its row, for those who do not lock it to seal or open. */
import type { Tx } from '../db.js'
import type { Peer } from '../gen/client.js'
import type { Recovery, RecoveryState } from './recovery-state.js'

export function recoveryOf(row: Peer): Recovery {
  return {
    state: row.recovery as RecoveryState,
    reason: row.recoveryReason,
    since: row.recoverySince,
    failures: row.recoveryFailures,
    attempts: row.resyncAttempts,
    sentAt: row.resyncSentAt,
    day: row.resyncDay,
    today: row.resyncsToday,
    allowedUntil: row.resyncAllowedUntil,
  }
}

/** The row must be there. */
export async function readRecovery(tx: Tx, fleetId: string): Promise<Recovery> {
  return recoveryOf(await tx.peer.findUniqueOrThrow({ where: { fleetId } }))
}

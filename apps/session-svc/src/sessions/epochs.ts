/**
 * How one epoch takes over from another on this side, and which of two sessions is sent on.
 * @see docs/spec/session.md §7, docs/spec/custody.md §6
 */
import type { Context } from '../context.js'
import type { Tx } from '../db.js'
import type { SessionRow, SessionStore } from './sessions.store.js'

export const FIRST_EPOCH = 1
/** How far a reset may leap over what is known here: the field has 32 bits and must last. @see docs/spec/session.md §7.2 */
export const MAX_EPOCH_LEAP = 2 ** 20

/** Makes a session receive-only, and wipes the epochs that have had their time. */
export async function supersede(context: Context, tx: Tx, store: SessionStore, row: SessionRow, now: Date): Promise<void> {
  row.active = false
  row.retiredAt = now
  await store.retire(tx, row.sid, now)
  await wipeSuperseded(context, tx, store, row.fleetId, now)
}

/** Create, confirm, destroy: what is older than the grace time or beyond the number kept goes, audited. */
export async function wipeSuperseded(context: Context, tx: Tx, store: SessionStore, fleetId: string, now: Date): Promise<number> {
  const { limits, audit } = context
  const before = new Date(now.getTime() - limits.oldEpochGraceMs)
  const quiet = new Date(now.getTime() - limits.oldEpochQuietMs)
  const count = await store.wipeSuperseded(tx, fleetId, { before, quiet, keep: limits.oldEpochsKept }, now)
  if (count > 0) await audit.record(tx, 'KeysZeroized', { peer: fleetId, count })
  return count
}

/**
 * The session to send on: the higher epoch, and of two that crossed each other the one with the lower EK. Both sides
 * decide from the same public values, so they agree.
 */
export function outranks(
  candidate: Pick<SessionRow, 'epoch' | 'ephemeralKey'>,
  current: Pick<SessionRow, 'epoch' | 'ephemeralKey'>,
): boolean {
  if (candidate.epoch !== current.epoch) return candidate.epoch > current.epoch
  return Buffer.compare(candidate.ephemeralKey, current.ephemeralKey) < 0
}

/**
 * A session whose row does not unseal: changed, or from somewhere else. It is given up with its peer's knowledge, and
 * nothing else is disturbed by it.
 * @see docs/spec/custody.md §7.1
 */
import { toHex } from '@tallystick/primitives/bytes'
import { ProtocolError } from '@tallystick/primitives/errors'
import type { Context } from '../context.js'
import type { Tx } from '../db.js'
import { saveRecovery } from '../sessions/session-peer.js'
import type { SessionRow, SessionStore } from '../sessions/sessions.store.js'
import { type Recovery, required } from './recovery-state.js'

/** True for a row that does not unseal; false for whatever else may be wrong, a full arena for one. */
export function isDamage(error: unknown): boolean {
  return error instanceof ProtocolError && error.code === 'KeyStorage' && error.reason === 'accessControlFailed'
}

/** A row sealed under a data key that another replica has just made is sound: this one has only not looked yet. */
async function isOfNewKey({ custody }: Context, { kekId }: SessionRow): Promise<boolean> {
  const known = () => custody.dataKeys.some(({ id }) => id === kekId)
  if (known()) return false
  await custody.refresh()
  return known()
}

/**
 * Under the lock of the peer.
 * @param error what unsealing the row threw
 * @returns the recovery as it is now, saved
 * @throws the error itself when it says nothing about this row
 */
export async function giveUpDamaged(
  { context, store, tx }: { context: Context; store: SessionStore; tx: Tx },
  row: SessionRow,
  recovery: Recovery,
  error: unknown,
): Promise<Recovery> {
  if (!isDamage(error) || (await isOfNewKey(context, row))) throw error
  const { clock, audit, log } = context
  const now = clock.now()
  log.warn({ err: error, peer: row.fleetId, sid: toHex(row.sid) }, 'a stored session does not unseal')
  await store.giveUpDamaged(tx, row, new Date(now))
  await audit.record(tx, 'KeysZeroized', { peer: row.fleetId, count: 1 })
  const next = required(recovery, 'a stored session is damaged', now)
  await saveRecovery(tx, row.fleetId, next)
  return next
}

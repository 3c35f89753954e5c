/**
 * What a new identity means for sessions, this fleet's or a peer's: nothing of the old ones may be read or continued.
 * @see docs/spec/identity.md §5, docs/spec/custody.md §7.1
 */
import type { Context } from '../context.js'
import type { Tx } from '../db.js'

/**
 * Wipes every session with one peer. Under the lock of the peer.
 * @param identityReason one sentence for people
 * @returns how many states were wiped
 */
export async function startOverWith(context: Context, tx: Tx, fleetId: string, identityReason: string): Promise<number> {
  const { clock, audit, limits } = context
  const now = new Date(clock.now())
  const { count } = await tx.session.updateMany({
    where: { fleetId, state: { not: null } },
    data: { state: null, handshake: null, active: false, lost: true, wipedAt: now },
  })
  await tx.session.updateMany({ where: { fleetId, retiredAt: null }, data: { retiredAt: now } })
  await tx.prefetchedBundle.deleteMany({ where: { fleetId } })
  const hadSessions = (await tx.session.count({ where: { fleetId } })) > 0
  await tx.peer.update({
    where: { fleetId },
    data: {
      ...(hadSessions
        ? { recovery: 'resync_required', recoveryReason: identityReason, recoverySince: now, recoveryFailures: 0, resyncAttempts: 0 }
        : {}),
      // The decision about the identity is the approval of a session that continues nothing.
      resyncAllowedUntil: new Date(now.getTime() + limits.resyncApprovalMs),
      earlyEpoch: null,
      earlySince: null,
    },
  })
  if (count > 0) await audit.record(tx, 'KeysZeroized', { peer: fleetId, count })
  return count
}

/**
 * Wipes every session of this fleet. Under the locks of all peers.
 * @param version of the identity that they are bound to from now on
 * @returns how many states were wiped
 */
export async function startOverWithAll(context: Context, tx: Tx, version: number): Promise<number> {
  const { clock, audit } = context
  const now = new Date(clock.now())
  const { count } = await tx.session.updateMany({
    where: { state: { not: null } },
    data: { state: null, handshake: null, active: false, lost: true, wipedAt: now },
  })
  await tx.session.updateMany({ where: { retiredAt: null }, data: { retiredAt: now } })
  await tx.prefetchedBundle.deleteMany()
  // Every row: whoever waits for its lock reads with it which identity is the present one.
  await tx.peer.updateMany({ data: { ownIdentity: version, earlyEpoch: null, earlySince: null } })
  await tx.peer.updateMany({
    where: { sessions: { some: {} } },
    data: {
      recovery: 'resync_required',
      recoveryReason: 'this fleet has new identity keys',
      recoverySince: now,
      recoveryFailures: 0,
      resyncAttempts: 0,
    },
  })
  if (count > 0) await audit.record(tx, 'KeysZeroized', { count })
  return count
}

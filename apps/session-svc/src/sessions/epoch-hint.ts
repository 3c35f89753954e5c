/**
 * What a bundle says about the epochs with the peer that fetches it, for a reset.
 * @see docs/spec/session.md §7.2
 */
import type { Context } from '../context.js'
import type { Tx } from '../db.js'

export interface EpochHint {
  /** Highest epoch of any session with this peer; absent until it is known to have had one too. */
  readonly epoch?: number
  /** Number of this transaction, to be remembered outside once it has committed. @see docs/spec/custody.md §7.3 */
  readonly generation: number
}

/** @throws DatabasePutBack: the one-time keys of this database have been handed out before */
export async function epochHint(context: Context, tx: Tx, fleetId: string): Promise<EpochHint> {
  const remembered = context.generation.value
  const rows = await tx.$queryRaw<{ epoch: number | null; generation: bigint }[]>`
    SELECT (SELECT CASE WHEN bool_or(confirmed OR role = 'responder') THEN max(epoch) END FROM session.session WHERE fleet_id = ${fleetId}) AS epoch, nextval('session.generation_seq') AS generation`
  const { epoch, generation: given } = rows[0]!
  const generation = Number(given)
  if (context.generation.suspended || generation <= remembered) context.generation.putBack(`generation ${generation} after ${remembered}`)
  return epoch === null ? { generation } : { epoch, generation }
}

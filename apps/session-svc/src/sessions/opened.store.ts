/** Opened envelopes by digest: what makes `open` safe to retry, and a replay visible. */
import { toHex } from '@tallystick/primitives/bytes'
import type { Context } from '../context.js'
import type { Tx } from '../db.js'
import { plainBytes } from '../plain-bytes.js'

const TABLE = 'opened_envelope'
const VERSION = 1

export interface OpenedEnvelope {
  readonly digest: Uint8Array
  readonly fleetId: string
  readonly epoch: number
  readonly acknowledged: boolean
  /** How often it came again after the acknowledgement. */
  readonly replays: number
  /** Unseals the kept plaintext; only before the acknowledgement. */
  plaintext(): Uint8Array
}

export async function findOpened(context: Context, tx: Tx, digests: readonly Uint8Array[]): Promise<Map<string, OpenedEnvelope>> {
  const rows = await tx.openedEnvelope.findMany({ where: { digest: { in: digests.map(plainBytes) } } })
  return new Map(
    rows.map((row) => [
      toHex(row.digest),
      {
        digest: row.digest,
        fleetId: row.fleetId,
        epoch: row.epoch,
        acknowledged: row.acknowledgedAt !== null,
        replays: row.replays,
        plaintext: () =>
          context.custody.openBytes(
            { sealed: row.plaintext!, kekId: row.kekId },
            { table: TABLE, row: toHex(row.digest), version: row.version },
          ),
      },
    ]),
  )
}

export interface NewlyOpened {
  readonly digest: Uint8Array
  readonly fleetId: string
  readonly sid: Uint8Array
  readonly epoch: number
  readonly plaintext: Uint8Array
  readonly openedAt: Date
}

/** Stores what was opened, the plaintexts sealed. */
export async function insertOpened(context: Context, tx: Tx, opened: readonly NewlyOpened[]): Promise<void> {
  if (opened.length === 0) return
  await tx.openedEnvelope.createMany({
    data: opened.map(({ digest, fleetId, sid, epoch, plaintext, openedAt }) => {
      const value = context.custody.sealBytes(plaintext, { table: TABLE, row: toHex(digest), version: VERSION })
      return {
        digest: plainBytes(digest),
        fleetId,
        sid: plainBytes(sid),
        epoch,
        plaintext: plainBytes(value.sealed),
        kekId: value.kekId,
        version: VERSION,
        openedAt,
      }
    }),
  })
}

export async function countReplay(tx: Tx, digest: Uint8Array): Promise<void> {
  await tx.openedEnvelope.update({ where: { digest: plainBytes(digest) }, data: { replays: { increment: 1 } } })
}

/** Rows deleted in one statement: housekeeping must not hold up messages. */
const MOST_AT_ONCE = 5_000

/** Digests of acknowledged messages go in the end; what was never acknowledged is still waited for. */
export async function dropOldDigests(tx: Tx, before: Date): Promise<number> {
  return tx.$executeRaw`
    DELETE FROM session.opened_envelope WHERE digest IN (
      SELECT digest FROM session.opened_envelope WHERE opened_at < ${before} AND acknowledged_at IS NOT NULL LIMIT ${MOST_AT_ONCE}::int)`
}

/** Destroys the kept plaintexts; the digests stay. Unknown digests and repeated calls change nothing. */
export async function acknowledgeOpened(tx: Tx, digests: readonly Uint8Array[], now: Date): Promise<number> {
  const { count } = await tx.openedEnvelope.updateMany({
    where: { digest: { in: digests.map(plainBytes) }, acknowledgedAt: null },
    data: { plaintext: null, acknowledgedAt: now },
  })
  return count
}

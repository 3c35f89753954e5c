/** What people and dashboards may know about how keys are kept: names, numbers and facts, never a key. */
import type { ResponseOf } from '@tallystick/contracts/call'
import type { sessionCustody } from '@tallystick/contracts/session'
import type { Context } from '../context.js'
import { lockedBytes, regionFacts } from './locked-memory.js'

const KINDS = ['signed', 'last-resort', 'one-time', 'pq-one-time'] as const
/** As many as the contract carries: eight years of monthly keys. */
const MOST_DATA_KEYS = 100

export async function custodyView(context: Context): Promise<ResponseOf<typeof sessionCustody>> {
  const { db, custody, arena } = context
  const [signing, stock, fence, sequence] = await Promise.all([
    db.identityKey.findFirst({ where: { kind: 'sign', sealed: { not: null } }, orderBy: { version: 'desc' } }),
    db.prekey.groupBy({ by: ['kind'], where: { handedAt: null, retiredAt: null }, _count: true, _max: { createdAt: true } }),
    db.fence.findFirst(),
    db.$queryRaw<{ value: bigint }[]>`SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS value FROM session.generation_seq`,
  ])
  return {
    ok: true,
    provider: custody.provider,
    kekId: custody.wrappingKekId,
    dataKeys: custody.dataKeys.slice(0, MOST_DATA_KEYS).map((key) => ({ ...key })),
    signingKey: signing?.sealed
      ? custody.locationOf({ ...signing, sealed: signing.sealed }, { table: 'identity_key', row: 'sign', version: signing.version })
      : 'sealed',
    memory: {
      arenaBytes: arena.size,
      usedBytes: arena.usedBytes,
      lockedBytes: lockedBytes(),
      locked: arena.locked,
      ...regionFacts(arena.size),
    },
    prekeys: KINDS.map((kind) => {
      const row = stock.find((candidate) => candidate.kind === kind)
      return { kind, available: row?._count ?? 0, newestAt: row?._max.createdAt?.getTime() ?? null }
    }),
    generation: { value: Number(sequence[0]?.value ?? 0n), restoredAt: fence?.restoredAt?.getTime() ?? null },
  }
}

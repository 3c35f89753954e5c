/** A share as the API shows it. */
import { z } from 'zod'
import type { Db } from '../app.js'
import type { VerdictModel } from '../gen/models.js'
import { iso, time, uuid } from '../http/page.js'
import type { ShareRow } from './share.store.js'

export const shareStates = z.enum([
  'queued',
  'sealed',
  'relayed',
  'stored',
  'delivered',
  'accepted',
  'rejected',
  'disputed',
  'paid',
  'refused',
  'cancelled',
])
const times = z.strictObject({
  queued: time,
  sealed: time.optional(),
  relayed: time.optional(),
  stored: time.optional(),
  delivered: time.optional(),
  accepted: time.optional(),
  rejected: time.optional(),
  disputed: time.optional(),
  paid: time.optional(),
  refused: time.optional(),
  cancelled: time.optional(),
})
export const verdictSchema = z.strictObject({
  verdict: z.enum(['accepted', 'rejected', 'disputed', 'paid']),
  code: z.string().nullable(),
  note: z.string().nullable(),
  at: time,
})

export const shareView = z
  .strictObject({
    id: uuid,
    shareId: uuid,
    documentId: uuid,
    kind: z.string(),
    peerId: z.string(),
    messageId: uuid,
    state: shareStates,
    times,
    cause: z.string().nullable().describe('Why it stands still, in one sentence'),
    code: z.string().nullable(),
    attempts: z.int(),
    nextAttemptAt: time.nullable(),
    verdict: verdictSchema.nullable(),
  })
  .meta({ id: 'Share' })
export type ShareView = z.output<typeof shareView>

export function viewShare(row: ShareRow, verdicts: readonly VerdictModel[]): ShareView {
  const stages: ShareView['times'] = { queued: iso(row.queuedAt) }
  const set = (name: keyof ShareView['times'], at: Date | null) => {
    if (at !== null) stages[name] = iso(at)
  }
  set('sealed', row.sealedAt)
  set('relayed', row.relayedAt)
  set('stored', row.storedAt)
  set('delivered', row.deliveredAt)
  for (const verdict of verdicts) set(verdict.verdict as 'accepted', verdict.at)
  if (row.state === 'refused' || row.state === 'cancelled') set(row.state, row.endedAt)
  const last = verdicts.at(-1)
  return {
    id: row.id,
    shareId: row.id,
    documentId: row.documentId,
    kind: row.kind,
    peerId: row.peer,
    messageId: row.messageId,
    state: row.state as ShareView['state'],
    times: stages,
    cause: row.cause,
    code: row.lastCode,
    attempts: row.attempts,
    nextAttemptAt: iso(row.nextAttemptAt),
    verdict: last === undefined ? null : viewVerdict(last),
  }
}

export function viewVerdict(row: VerdictModel): z.output<typeof verdictSchema> {
  return { verdict: row.verdict as 'accepted', code: row.code, note: row.note, at: iso(row.at) }
}

/** Verdicts in the order in which they were given, by `peer` and document. */
export async function verdictsFor(
  db: Pick<Db, 'verdict'>,
  direction: 'sent' | 'received',
  rows: ReadonlyArray<{ peer: string; documentId: string }>,
): Promise<(row: { peer: string; documentId: string }) => VerdictModel[]> {
  if (rows.length === 0) return () => []
  const found = await db.verdict.findMany({
    where: { direction, documentId: { in: rows.map((row) => row.documentId) } },
    orderBy: [{ seq: 'asc' }, { id: 'asc' }],
  })
  return (row) => found.filter((verdict) => verdict.peer === row.peer && verdict.documentId === row.documentId)
}

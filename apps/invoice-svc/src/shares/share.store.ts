/** Shares: how far one document has come at one peer. Stages only ever move forward. */
import type { ShareState } from '@tallystick/invoice-domain/share'
import { Prisma } from '../gen/client.js'
import type { App, Db, Tx } from '../app.js'
import { recordChange } from '../events/change.store.js'
import type { ShareModel } from '../gen/models.js'
import { owned } from '../http/page.js'
import { lockMessage } from '../messages/message.store.js'

export type ShareRow = ShareModel
type Stage = 'sealed' | 'relayed' | 'stored' | 'delivered'

interface Moved {
  readonly id: string
  readonly document_id: string
  readonly peer: string
  readonly state: ShareState
  readonly queued_at: Date
}

export async function shareById(db: Pick<Tx, 'share'>, id: string): Promise<ShareRow | null> {
  return await db.share.findUnique({ where: { id } })
}

/** Its message first, then itself: the order of the pump, so that the two cannot wait for each other. */
export async function lockShare(tx: Tx, id: string): Promise<ShareRow | null> {
  const share = await shareById(tx, id)
  if (share === null) return null
  await lockMessage(tx, share.messageId)
  await tx.$queryRaw`SELECT 1 FROM share WHERE id = ${id}::uuid FOR UPDATE`
  return await shareById(tx, id)
}

/** A new share and the retry of an old one take turns: only one of them can be the live share. Until the transaction ends. */
export async function lockSharing(tx: Tx, documentId: string, peer: string): Promise<void> {
  await tx.$queryRaw`SELECT 1 FROM (SELECT pg_advisory_xact_lock(hashtextextended(${`share ${documentId} ${peer}`}, 0))) AS held`
}

/** The one share of a document with a peer that is under way or arrived. */
export async function liveShare(tx: Pick<Tx, 'share'>, documentId: string, peer: string): Promise<ShareRow | null> {
  return await tx.share.findFirst({ where: { documentId, peer, state: { notIn: ['refused', 'cancelled'] } } })
}

/** @returns false when a live share is there already */
export async function insertShare(
  tx: Tx,
  share: {
    id: string
    documentId: string
    kind: string
    peer: string
    messageId: string
    contentDigest: Uint8Array
    queuedAt: Date
    createdBy: string
  },
): Promise<boolean> {
  const inserted = await tx.$executeRaw`
    INSERT INTO share (id, document_id, kind, peer, message_id, content_digest, state, queued_at, created_by)
    VALUES (${share.id}::uuid, ${share.documentId}::uuid, ${share.kind}, ${share.peer}, ${share.messageId}::uuid, ${owned(share.contentDigest)}, 'queued', ${share.queuedAt}, ${share.createdBy})
    ON CONFLICT (document_id, peer) WHERE state NOT IN ('refused', 'cancelled') DO NOTHING`
  return inserted === 1
}

export async function listShares(
  db: Db,
  filter: {
    state?: ShareState | undefined
    peerId?: string | undefined
    documentId?: string | undefined
    after?: string | undefined
    limit: number
  },
): Promise<ShareRow[]> {
  return await db.share.findMany({
    where: {
      ...(filter.state === undefined ? {} : { state: filter.state }),
      ...(filter.peerId === undefined ? {} : { peer: filter.peerId }),
      ...(filter.documentId === undefined ? {} : { documentId: filter.documentId }),
      ...(filter.after === undefined ? {} : { id: { lt: filter.after } }),
    },
    orderBy: { id: 'desc' },
    take: filter.limit + 1,
  })
}

const BEFORE: Record<Stage, Prisma.Sql> = {
  sealed: Prisma.sql`('queued')`,
  relayed: Prisma.sql`('queued', 'sealed')`,
  stored: Prisma.sql`('queued', 'sealed', 'relayed')`,
  delivered: Prisma.sql`('queued', 'sealed', 'relayed', 'stored')`,
}

function stamp(stage: Stage, at: Date): Prisma.Sql {
  switch (stage) {
    case 'sealed':
      return Prisma.sql`sealed_at = COALESCE(sealed_at, ${at})`
    case 'relayed':
      return Prisma.sql`relayed_at = COALESCE(relayed_at, ${at})`
    case 'stored':
      return Prisma.sql`stored_at = COALESCE(stored_at, ${at})`
    case 'delivered':
      return Prisma.sql`delivered_at = COALESCE(delivered_at, ${at})`
  }
}

/** A stage that is reached late sets its time and leaves the state where it is. */
export async function advanceShares(
  app: Pick<App, 'metrics'>,
  tx: Tx,
  messageIds: readonly string[],
  stage: Stage,
  at: Date,
): Promise<void> {
  if (messageIds.length === 0) return
  const moved = await tx.$queryRaw<Moved[]>`
    UPDATE share SET state = CASE WHEN state IN ${BEFORE[stage]} THEN ${stage} ELSE state END, ${stamp(stage, at)},
      cause = NULL, last_code = NULL, next_attempt_at = NULL
    WHERE message_id = ANY(${[...messageIds]}::uuid[]) AND state NOT IN ('refused', 'cancelled')
    RETURNING id, document_id, peer, state, queued_at`
  for (const row of moved) {
    if (row.state !== stage) continue
    app.metrics.shareDuration.observe({ stage }, Math.max(0, at.getTime() - row.queued_at.getTime()) / 1000)
    await noteShare(tx, row, at)
  }
}

export async function noteShare(tx: Tx, row: { id: string; document_id: string; peer: string; state: string }, at: Date): Promise<void> {
  await recordChange(tx, at, {
    topic: 'share',
    subject: row.id,
    data: { id: row.id, documentId: row.document_id, peerId: row.peer, state: row.state },
  })
}

/** Why a share stands still and when it is tried next. */
export async function explainShares(
  tx: Pick<Tx, '$executeRaw'>,
  messageIds: readonly string[],
  wait: { code: string; cause: string; nextAttemptAt: Date; attempts?: number },
): Promise<void> {
  await tx.$executeRaw`
    UPDATE share SET cause = ${wait.cause}, last_code = ${wait.code}, next_attempt_at = ${wait.nextAttemptAt}, attempts = GREATEST(attempts + 1, ${wait.attempts ?? 0}::int)
    WHERE message_id = ANY(${[...messageIds]}::uuid[]) AND state IN ('queued', 'sealed', 'relayed')`
}

export async function refuseShares(tx: Tx, messageIds: readonly string[], code: string, cause: string, at: Date): Promise<void> {
  const rows = await tx.$queryRaw<Moved[]>`
    UPDATE share SET state = 'refused', ended_at = ${at}, last_code = ${code}, cause = ${cause}, next_attempt_at = NULL
    WHERE message_id = ANY(${[...messageIds]}::uuid[]) AND state IN ('queued', 'sealed', 'relayed', 'stored')
    RETURNING id, document_id, peer, state, queued_at`
  for (const row of rows) await noteShare(tx, row, at)
}

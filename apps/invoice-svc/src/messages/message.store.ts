/** Outbound messages: claimed by lease, encoded once, moved on by what session-svc and relay-svc answer. */
import { randomUUID } from 'node:crypto'

import type { Db, Tx } from '../app.js'
import type { MessageModel } from '../gen/models.js'
import type { PayloadKind } from '@tallystick/wire/payload'
import type { DocumentKind } from '@tallystick/wire/document'
import { hex, owned } from '../http/page.js'
import type { Limits } from '../limits.js'

export type MessageRow = MessageModel

export interface NewMessage {
  readonly id: string
  readonly peer: string
  readonly kind: PayloadKind
  readonly body: Uint8Array
  readonly contentDigest: Uint8Array
  /** What the statement signs; null for control messages. */
  readonly signedKind: DocumentKind | null
  readonly documentId: string | null
  readonly at: Date
}

/** In the transaction of what it tells the peer of. */
export async function enqueueMessage(tx: Pick<Tx, 'message'>, message: NewMessage): Promise<void> {
  const { id, peer, kind, body, contentDigest, signedKind, documentId, at } = message
  await tx.message.create({
    data: {
      id,
      peer,
      kind,
      class: kind === 'document' || kind === 'verdict' ? 'application' : 'control',
      body: owned(body),
      contentDigest: owned(contentDigest),
      signedKind,
      documentId,
      state: 'queued',
      nextAttemptAt: at,
      createdAt: at,
    },
  })
}

export interface Claimed {
  readonly token: string
  readonly rows: MessageRow[]
}

/**
 * Due messages, ours alone until the lease ends. Bytes are counted while claiming, so that one claim fits in memory.
 * Verdicts on one document leave in the order in which they were given: the peer takes the one with the highest
 * sequence number for the newest, so a later one waits until the earlier one has its number.
 */
export async function claimMessages(db: Db, now: Date, leaseUntil: Date, limits: { items: number; bytes: number }): Promise<Claimed> {
  const token = randomUUID()
  const claimed = await db.$queryRaw<Array<{ id: string }>>`
    WITH due AS (
      SELECT id, octet_length(body) AS bytes FROM message m
      WHERE state IN ('queued', 'sealed') AND next_attempt_at <= ${now} AND (lease_until IS NULL OR lease_until < ${now})
        AND NOT (kind = 'verdict' AND seq IS NULL AND EXISTS (
          SELECT 1 FROM message e WHERE e.peer = m.peer AND e.seq IS NULL AND e.state = 'queued' AND e.kind = 'verdict' AND e.document_id = m.document_id AND e.id < m.id))
      ORDER BY id LIMIT ${limits.items} FOR UPDATE OF m SKIP LOCKED
    ), fitting AS (
      SELECT id FROM (SELECT id, sum(bytes) OVER (ORDER BY id) AS total, row_number() OVER (ORDER BY id) AS n FROM due) s WHERE total <= ${limits.bytes} OR n = 1
    )
    UPDATE message SET lease_until = ${leaseUntil}, lease_token = ${token}::uuid, attempts = attempts + 1
    WHERE id IN (SELECT id FROM fitting) RETURNING id`
  if (claimed.length === 0) return { token, rows: [] }
  const rows = await db.message.findMany({ where: { id: { in: claimed.map((row) => row.id) }, leaseToken: token }, orderBy: { id: 'asc' } })
  return { token, rows }
}

/** A pass that takes long keeps what it claimed. */
export async function renewClaim(db: Db, token: string, leaseUntil: Date): Promise<void> {
  await db.$executeRaw`UPDATE message SET lease_until = ${leaseUntil} WHERE lease_token = ${token}::uuid AND state IN ('queued', 'sealed')`
}

/** The rows of a claim that are still ours and still wanted, locked until the transaction ends. */
export async function lockClaimed(tx: Tx, ids: readonly string[], token: string): Promise<Set<string>> {
  const rows = await tx.$queryRaw<Array<{ id: string }>>`
    SELECT id FROM message WHERE id = ANY(${[...ids]}::uuid[]) AND lease_token = ${token}::uuid AND state IN ('queued', 'sealed') ORDER BY id FOR UPDATE`
  return new Set(rows.map((row) => row.id))
}

export async function keepStatement(db: Db, id: string, token: string, statement: Uint8Array, certificate: Uint8Array): Promise<boolean> {
  return (
    (await db.$executeRaw`UPDATE message SET statement = ${owned(statement)}, certificate = ${owned(certificate)} WHERE id = ${id}::uuid AND lease_token = ${token}::uuid AND statement IS NULL`) ===
    1
  )
}

export async function keepPayload(tx: Tx, id: string, payload: Uint8Array, seq: bigint, peerCertificate: Uint8Array): Promise<void> {
  await tx.$executeRaw`UPDATE message SET payload = ${owned(payload)}, seq = ${seq}, peer_certificate = ${owned(peerCertificate)} WHERE id = ${id}::uuid AND payload IS NULL`
}

export async function markSealed(tx: Tx, ids: readonly string[], at: Date): Promise<void> {
  await tx.$executeRaw`
    UPDATE message SET state = 'sealed', sealed_at = COALESCE(sealed_at, ${at}), last_code = NULL, cause = NULL WHERE id = ANY(${[...ids]}::uuid[]) AND state = 'queued'`
}

/**
 * @param againAt when the relay is given them again if it has not reported by then
 * @returns the ids that this call moved on: each exactly once
 */
export async function markRelayed(
  tx: Tx,
  sent: ReadonlyArray<{ id: string; envelopeDigest: Uint8Array }>,
  at: Date,
  againAt: Date,
): Promise<Set<string>> {
  const rows = await tx.$queryRaw<Array<{ id: string }>>`
    UPDATE message m SET state = CASE WHEN m.state IN ('queued', 'sealed') THEN 'relayed' ELSE m.state END, relayed_at = ${at}, sent_at = ${at}, envelope_digest = decode(s.digest, 'hex'),
      again_at = CASE WHEN m.confirmed_at IS NULL THEN ${againAt}::timestamptz END,
      lease_until = NULL, lease_token = NULL, last_code = NULL, cause = NULL
    FROM unnest(${sent.map((item) => item.id)}::uuid[], ${sent.map((item) => hex(item.envelopeDigest))}::text[]) AS s(id, digest)
    WHERE m.id = s.id AND m.relayed_at IS NULL AND m.state <> 'cancelled' RETURNING m.id`
  return new Set(rows.map((row) => row.id))
}

/** Ids of messages by what the relay calls them. */
export async function messagesOfRelay(tx: Tx, relayIds: readonly string[]): Promise<Map<string, string>> {
  const rows = await tx.$queryRaw<Array<{ id: string; relay_id: string }>>`
    SELECT id, relay_id FROM message WHERE relay_id = ANY(${[...relayIds]}::uuid[])`
  return new Map(rows.map((row) => [row.relay_id, row.id]))
}

/** The hop is done: from here on only the peer's own word is waited for, except for receipts, which nobody confirms. */
export async function waitForReceipt(
  tx: Tx,
  ids: readonly string[],
  at: Date,
  limits: Pick<Limits, 'resendAfterMs' | 'resendMaxMs'>,
): Promise<void> {
  await tx.$executeRaw`
    UPDATE message SET again_at = CASE WHEN kind <> 'receipt' AND confirmed_at IS NULL
      THEN ${at}::timestamptz + LEAST(${limits.resendMaxMs}::float8, ${limits.resendAfterMs}::float8 * 2 ^ LEAST(agains, 20)) * interval '1 ms' END
    WHERE id IN (SELECT id FROM message WHERE id = ANY(${[...ids]}::uuid[]) AND state = 'stored' ORDER BY id FOR UPDATE)`
}

/** The messages whose hop receipt is new. */
export async function markStored(tx: Tx, stored: ReadonlyArray<{ id: string; hopReceipt: Uint8Array; at: Date }>): Promise<Set<string>> {
  const rows = await tx.$queryRaw<Array<{ id: string }>>`
    UPDATE message m SET state = 'stored', stored_at = s.at::timestamptz, hop_receipt = decode(s.receipt, 'hex'), last_code = NULL, cause = NULL
    FROM unnest(${stored.map((item) => item.id)}::uuid[], ${stored.map((item) => hex(item.hopReceipt))}::text[], ${stored.map((item) => item.at.toISOString())}::text[]) AS s(id, receipt, at)
    WHERE m.id = s.id AND m.state IN ('queued', 'sealed', 'relayed') RETURNING m.id`
  return new Set(rows.map((row) => row.id))
}

/** Before the share's row, wherever both are locked: the pump takes them in this order. */
export async function lockMessage(tx: Tx, id: string): Promise<void> {
  await tx.$queryRaw`SELECT 1 FROM message WHERE id = ${id}::uuid FOR UPDATE`
}

/** Back into the queue; what the waiting is for is kept in words. */
export async function postponeMessages(
  tx: Pick<Tx, '$executeRaw'>,
  ids: readonly string[],
  token: string,
  wait: { code: string; cause: string; nextAttemptAt: Date },
): Promise<void> {
  await tx.$executeRaw`
    UPDATE message SET lease_until = NULL, lease_token = NULL, next_attempt_at = ${wait.nextAttemptAt}, last_code = ${wait.code}, cause = ${wait.cause}
    WHERE id = ANY(${[...ids]}::uuid[]) AND lease_token = ${token}::uuid AND state IN ('queued', 'sealed')`
}

/** A lease that ends without a word: the next pass takes the rows again. */
export async function releaseMessages(db: Db, ids: readonly string[], token: string, nextAttemptAt: Date): Promise<void> {
  await db.$executeRaw`
    UPDATE message SET lease_until = NULL, lease_token = NULL, next_attempt_at = ${nextAttemptAt} WHERE id = ANY(${[...ids]}::uuid[]) AND lease_token = ${token}::uuid`
}

export async function refuseMessages(tx: Pick<Tx, '$queryRaw'>, ids: readonly string[], code: string, cause: string): Promise<string[]> {
  const rows = await tx.$queryRaw<Array<{ id: string }>>`
    UPDATE message SET state = 'refused', lease_until = NULL, lease_token = NULL, again_at = NULL, last_code = ${code}, cause = ${cause}
    WHERE id = ANY(${[...ids]}::uuid[]) AND state IN ('queued', 'sealed', 'relayed') RETURNING id`
  return rows.map((row) => row.id)
}

/** What the relay says about messages that wait with it. */
export async function noteWaiting(tx: Pick<Tx, '$executeRaw'>, id: string, code: string, cause: string): Promise<void> {
  await tx.$executeRaw`UPDATE message SET last_code = ${code}, cause = ${cause} WHERE id = ${id}::uuid AND state = 'relayed'`
}

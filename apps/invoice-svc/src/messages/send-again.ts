/**
 * What the peer lacks, or has not confirmed in time, goes again: sealed anew if its session is over, and under another
 * id of the relay if the relay has settled the old one. The message stays the same, and the peer takes it once.
 * @see docs/spec/payload.md §6
 */
import { randomUUID } from 'node:crypto'
import { relaySend } from '@tallystick/contracts/relay'
import { sessionSeal } from '@tallystick/contracts/session'
import { isConsented } from '@tallystick/invoice-domain/consent'
import type { DocumentKind } from '@tallystick/wire/document'
import { now, type App } from '../app.js'
import { consentsWith } from '../consents/consent.store.js'
import { newId } from '../ids.js'
import { refuseShares } from '../shares/share.store.js'
import { batchesOf } from './batches.js'
import type { MessageRow } from './message.store.js'
import { faultAsRefusal, isFinal } from './outcome.js'
import { againAfter } from './positions.js'

const CONSENT_ENDED = 'The consent to share this ended before it could be sent again.'
/** For people, on a share. */
const UNCONFIRMED = 'The peer’s relay has it, and the peer does not confirm it.'
const GOES_AGAIN = 'The peer has not confirmed it; it was sent again.'

type Ready = MessageRow & { payload: Uint8Array<ArrayBuffer> }

/** One pass. @returns messages taken up */
export async function sendAgainOnce(app: App): Promise<number> {
  const token = randomUUID()
  const rows = await claim(app, token)
  if (rows.length === 0) return 0
  try {
    const tried = await withoutTired(app, rows)
    const wanted = await stillConsented(app, tried)
    for (const batch of batchesOf(wanted, (row) => row.payload.length, app.limits)) await sendBatch(app, token, batch)
  } finally {
    await app.db.$executeRaw`UPDATE message SET lease_until = NULL, lease_token = NULL WHERE lease_token = ${token}::uuid`
  }
  return rows.length
}

/** Due messages of peers in use. What the relay has settled gets a new id there, kept before it is used. */
async function claim(app: App, token: string): Promise<Ready[]> {
  const { limits } = app
  const at = now(app)
  const lease = new Date(at.getTime() + limits.pumpLeaseMs * 3)
  const taken = await app.db.$queryRaw<Array<{ id: string }>>`
    UPDATE message SET lease_until = ${lease}, lease_token = ${token}::uuid, again_at = ${lease},
      relay_id = CASE WHEN state = 'stored' THEN gen_random_uuid() ELSE relay_id END
    WHERE id IN (
      SELECT id FROM (SELECT id, row_number() OVER (ORDER BY id) AS n, sum(octet_length(payload)) OVER (ORDER BY id) AS total FROM (
        SELECT m.id, m.payload FROM message m JOIN peer p ON p.fleet_id = m.peer
        WHERE m.again_at <= ${at} AND m.state IN ('relayed', 'stored') AND m.payload IS NOT NULL AND p.state = 'active' AND (m.lease_until IS NULL OR m.lease_until < ${at})
        ORDER BY m.again_at LIMIT ${limits.pumpBatch} FOR UPDATE OF m SKIP LOCKED) AS due) AS sized
      WHERE total <= ${limits.pumpBatchBytes} OR n = 1)
    RETURNING id`
  if (taken.length === 0) return []
  const rows = await app.db.message.findMany({
    where: { id: { in: taken.map((row) => row.id) }, leaseToken: token },
    orderBy: { id: 'asc' },
  })
  return rows.filter((row): row is Ready => row.payload !== null)
}

/** Unconfirmed after so many times: a person has to look. Should the peer say that it is missing, it goes all the same. */
async function withoutTired(app: App, rows: readonly Ready[]): Promise<Ready[]> {
  const tired = rows.filter((row) => row.kind !== 'receipt' && row.agains >= app.limits.resendTries)
  if (tired.length > 0)
    await app.db.$transaction(async (tx) => {
      const ids = tired.map((row) => row.id)
      await tx.message.updateMany({ where: { id: { in: ids } }, data: { againAt: null, agains: 0 } })
      await tx.share.updateMany({
        where: { messageId: { in: ids }, state: 'stored' },
        data: { cause: UNCONFIRMED, lastCode: 'Network', nextAttemptAt: null },
      })
    })
  return rows.filter((row) => !tired.includes(row))
}

/** A document goes again only while it may be shared. What may not any more ends; its position is declared void when it is missed. */
async function stillConsented(app: App, rows: readonly Ready[]): Promise<Ready[]> {
  const ended = new Set<string>()
  for (const peer of new Set(rows.filter((row) => row.kind === 'document').map((row) => row.peer)))
    await app.db.$transaction(async (tx) => {
      const consents = await consentsWith(tx, peer)
      const ids = rows
        .filter((row) => row.peer === peer && row.kind === 'document')
        .filter((row) => !isConsented(consents, 'share', row.signedKind as DocumentKind, app.clock.now()))
        .map((row) => row.id)
      if (ids.length === 0) return
      for (const id of ids) ended.add(id)
      await tx.message.updateMany({
        where: { id: { in: ids } },
        data: { state: 'refused', againAt: null, lastCode: 'ConsentRequired', cause: CONSENT_ENDED },
      })
      await refuseShares(tx, ids, 'ConsentRequired', CONSENT_ENDED, now(app))
    })
  return rows.filter((row) => !ended.has(row.id))
}

async function sendBatch(app: App, token: string, batch: readonly Ready[]): Promise<void> {
  const envelopes = new Map<string, Uint8Array>()
  try {
    const { items } = await app.rpc.call(sessionSeal, {
      items: batch.map((row) => ({
        messageId: row.id,
        fleetId: row.peer,
        class: row.class as 'application' | 'control',
        payload: row.payload,
        again: true,
      })),
    })
    for (const answer of items) {
      if (answer.ok) envelopes.set(answer.messageId, answer.envelope)
      else await later(app, token, answer.messageId, isFinal(answer) ? app.limits.resendMaxMs : (answer.retryAfterMs ?? 0))
    }
    const sealed = batch.filter((row) => envelopes.has(row.id))
    if (sealed.length === 0) return
    const carried = new Map(sealed.map((row) => [row.relayId ?? row.id, row]))
    const answers = await app.rpc.call(relaySend, {
      items: [...carried].map(([messageId, row]) => ({ messageId, fleetId: row.peer, envelope: envelopes.get(row.id)! })),
    })
    for (const answer of answers.items) {
      const row = carried.get(answer.messageId)
      if (row === undefined) continue
      if (answer.ok) await sent(app, token, row)
      // The relay holds the bytes of a session that is over under the old id.
      else if (answer.code === 'Conflict') await underNewId(app, token, row)
      else await later(app, token, row.id, answer.retryAfterMs ?? 0)
    }
  } catch (error) {
    const { retryAfterMs } = faultAsRefusal(error)
    for (const row of batch) await later(app, token, row.id, retryAfterMs ?? 0)
  }
}

/** From here on the hop is waited for: its report sets the next time, and may have come already. */
async function sent(app: App, token: string, row: Ready): Promise<void> {
  const at = now(app)
  const settled = row.state === 'stored' ? 1 : 0
  const next = new Date(at.getTime() + app.limits.resendMaxMs)
  await app.db.$transaction(async (tx) => {
    await tx.$executeRaw`
      UPDATE message SET sent_at = ${at}, agains = agains + ${settled}, again_at = CASE WHEN confirmed_at IS NULL AND again_at <> ${row.againAt} THEN again_at WHEN confirmed_at IS NULL THEN ${next}::timestamptz END
      WHERE id = ${row.id}::uuid AND lease_token = ${token}::uuid`
    if (settled === 0) return
    app.metrics.messagesResent.inc()
    await tx.share.updateMany({ where: { messageId: row.id, state: 'stored' }, data: { cause: GOES_AGAIN, lastCode: null } })
    await tx.$executeRaw`UPDATE peer SET ask_at = COALESCE(ask_at, ${new Date(at.getTime() + app.limits.askAfterMs)}) WHERE fleet_id = ${row.peer}`
  })
}

async function later(app: App, token: string, id: string, retryAfterMs: number): Promise<void> {
  const wait = Math.max(retryAfterMs, againAfter(1, app.limits.retryFirstMs, app.limits.retryMaxMs))
  const at = new Date(app.clock.now() + wait)
  await app.db
    .$executeRaw`UPDATE message SET again_at = ${at} WHERE id = ${id}::uuid AND lease_token = ${token}::uuid AND confirmed_at IS NULL`
}

async function underNewId(app: App, token: string, row: Ready): Promise<void> {
  await app.db.$executeRaw`
    UPDATE message SET relay_id = ${newId()}::uuid, again_at = ${now(app)} WHERE id = ${row.id}::uuid AND lease_token = ${token}::uuid`
  app.wake.again()
}

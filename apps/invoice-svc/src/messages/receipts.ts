/**
 * Receipts on their way out: with what is stored, and for their own sake, when something is missing or session-svc
 * needs a message to begin a session with.
 * @see docs/spec/payload.md §6
 */
import { sessionAttention } from '@tallystick/contracts/session'
import { RpcFault } from '@tallystick/nats-rpc/fault'
import { encodeReceipt, type PositionRange, type ReceiptBody } from '@tallystick/wire/messages'
import { contentDigest } from '@tallystick/wire/payload'
import { now, type App, type Tx } from '../app.js'
import { newId } from '../ids.js'
import { receivedFrom } from '../inbound/sequence.store.js'
import { lockPeer } from '../peers/peer.store.js'
import { enqueueMessage } from './message.store.js'
import { againAfter } from './positions.js'

/** In the transaction of what it names; the caller has locked the peer. */
export async function enqueueReceipt(tx: Tx, id: string, peer: string, body: ReceiptBody, at: Date): Promise<void> {
  const encoded = encodeReceipt(body)
  await enqueueMessage(tx, {
    id,
    peer,
    kind: 'receipt',
    body: encoded,
    contentDigest: contentDigest(encoded),
    signedKind: null,
    documentId: null,
    at,
  })
}

/** A receipt that names no message, but says what is stored. The caller has locked the peer. */
export async function enqueueStatus(app: App, tx: Tx, peer: string, at: Date, voids: PositionRange[] = []): Promise<void> {
  const { part } = await receivedFrom(app, tx, peer, at)
  const id = newId()
  const body: ReceiptBody = {
    items: [],
    ...(part === undefined ? {} : { received: part }),
    ...(voids.length === 0 ? {} : { void: voids }),
  }
  await enqueueReceipt(tx, id, peer, body, at)
  await tx.peer.update({ where: { fleetId: peer }, data: { statusMessage: id } })
}

/** The last receipt of that kind has not left yet: for a question it will do. */
async function statusUnderWay(tx: Tx, peer: string): Promise<boolean> {
  const [row] = await tx.$queryRaw<unknown[]>`
    SELECT 1 FROM peer p JOIN message m ON m.id = p.status_message WHERE p.fleet_id = ${peer} AND m.state IN ('queued', 'sealed', 'relayed')`
  return row !== undefined
}

/** One pass over the peers that session-svc names. @returns receipts queued */
export async function attendOnce(app: App): Promise<number> {
  const items = await needy(app)
  let queued = 0
  for (const peer of new Set(items.map((item) => item.fleetId))) {
    const done = await app.db.$transaction(async (tx) => {
      const row = await lockPeer(tx, peer)
      if (row?.state !== 'active' || (await statusUnderWay(tx, peer))) return false
      await enqueueStatus(app, tx, peer, now(app))
      return true
    })
    if (done) queued++
  }
  if (queued > 0) app.wake.messages()
  // Never at once again: what was queued has to leave before another look says anything new.
  return 0
}

async function needy(app: App): Promise<ReadonlyArray<{ fleetId: string }>> {
  try {
    return (await app.rpc.call(sessionAttention, {})).items
  } catch (error) {
    if (!(error instanceof RpcFault)) throw error
    app.log.debug({ err: error }, 'session-svc could not say which peers need a message')
    return []
  }
}

/** One pass over the peers whose messages, or whose answers, are missing. @returns peers asked */
export async function askOnce(app: App): Promise<number> {
  const at = now(app)
  const due = await app.db.$queryRaw<Array<{ fleet_id: string }>>`
    SELECT fleet_id FROM peer WHERE ask_at <= ${at} AND state = 'active' ORDER BY ask_at LIMIT ${app.limits.stepBatch}`
  for (const { fleet_id } of due) await app.db.$transaction(async (tx) => await ask(app, tx, fleet_id, at))
  if (due.length > 0) app.wake.messages()
  return due.length
}

async function ask(app: App, tx: Tx, peer: string, at: Date): Promise<void> {
  const row = await lockPeer(tx, peer)
  if (row === null || row.askAt === null || row.askAt > at) return
  const { missing } = await receivedFrom(app, tx, peer, at)
  const [unheard] = await tx.$queryRaw<unknown[]>`
    SELECT 1 FROM message WHERE peer = ${peer} AND confirmed_at IS NULL AND again_at IS NOT NULL AND agains > 0 LIMIT 1`
  if (missing === 0 && unheard === undefined) {
    await tx.peer.update({ where: { fleetId: peer }, data: { askAt: null, asks: 0 } })
    return
  }
  if (!(await statusUnderWay(tx, peer))) await enqueueStatus(app, tx, peer, at)
  const pause = againAfter(row.asks + 1, app.limits.askAfterMs, app.limits.resendMaxMs)
  await tx.peer.update({ where: { fleetId: peer }, data: { asks: row.asks + 1, askAt: new Date(at.getTime() + pause) } })
}

/** Things that happen at once, or in the wrong order, or while something is away. */
import { createHash } from 'node:crypto'
import { relaySend, relaySetPeer } from '@tallystick/contracts/relay'
import { sessionOpen, sessionSignDocument } from '@tallystick/contracts/session'
import { RpcFault } from '@tallystick/nats-rpc/fault'
import { createLogger } from '@tallystick/service-host/logger'
import { encodeVerdict } from '@tallystick/wire/messages'
import { contentDigest, encodePayload } from '@tallystick/wire/payload'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { App, Db, Rpc } from '../src/app.js'
import { ChangeFeed } from '../src/events/change-feed.js'
import { presentCursor, recordChange } from '../src/events/change.store.js'
import { claimOperation } from '../src/http/operation.js'
import { newId } from '../src/ids.js'
import { deliver } from '../src/inbound/deliver.js'
import { pumpOnce } from '../src/messages/pump.js'
import { recordProgress } from '../src/messages/relay-progress.js'
import { syncPeer } from '../src/peers/sync-peer.js'
import { startInvoiceService } from './harness.ts'
import { buyer, carryUntil, consent, inState, issued, seller, share, shareState, startPair, stopPair, until } from './pair.ts'
import { replay, sealForTest } from './two-fleets.ts'

let consentId = ''
beforeAll(async () => {
  await startPair()
  consentId = await consent(seller, buyer.fleet, 'share')
})
afterAll(stopPair)

/** The same service, with one call seen first. */
function watching(app: App, before: (subject: string) => Promise<void>): App {
  const call: Rpc['call'] = async (contract, request, options) => {
    await before(contract.subject)
    return await app.rpc.call(contract, request, options)
  }
  return { ...app, rpc: { ...app.rpc, call } }
}

/** Shared, and with the relay. */
async function underWay() {
  const { json } = await share(await issued())
  await until(inState(json.id as string, 'relayed'))
  const item = seller.fleet.queue.find((row) => row.messageId === json.messageId)!
  return { share: json as { id: string; messageId: string; documentId: string }, item }
}

describe('an envelope that comes twice at once', () => {
  it('is taken in both answers, also where the session has closed it in between', async () => {
    const { item } = await underWay()
    let first = true
    const app = watching(buyer.service.app, async (subject) => {
      if (subject !== sessionOpen.subject || !first) return
      first = false
      expect(await replay(item, seller.fleet, buyer.service)).toMatchObject([{ outcome: 'taken' }])
    })
    const envelopeDigest = new Uint8Array(createHash('sha256').update(item.envelope).digest())
    const late = { fleetId: seller.fleet.fleetId, envelopeDigest, envelope: new Uint8Array(item.envelope), receivedAt: Date.now() }
    expect(await deliver(app, [late])).toMatchObject([{ outcome: 'taken' }])
    expect(await buyer.service.db.inbound.count({ where: { envelopeDigest } })).toBe(1)
  })

  it('is one document and no replay', async () => {
    const { item, share: shared } = await underWay()
    const before = await buyer.service.app.metrics.replayRejected.get()
    const answers = await Promise.all(Array.from({ length: 6 }, () => replay(item, seller.fleet, buyer.service)))
    for (const [answer] of answers)
      expect(answer?.outcome === 'taken' || answer?.outcome === 'retry', JSON.stringify(answer?.outcome)).toBe(true)
    expect(await buyer.service.db.inbox.count({ where: { documentId: shared.documentId } })).toBe(1)
    expect(await buyer.service.app.metrics.replayRejected.get()).toEqual(before)
  })
})

describe('verdicts', () => {
  it('leave in the order in which they were given, also when the first has to wait', async () => {
    const { share: shared } = await underWay()
    await carryUntil(inState(shared.id, 'delivered'))
    const { id } = await buyer.service.db.inbox.findFirstOrThrow({ where: { documentId: shared.documentId } })
    const say = async (body: object) => {
      const answer = await buyer.service.request('POST', `/v1/inbox/${id}/verdict`, { body })
      expect(answer.status, answer.text).toBe(202)
    }
    const messages = async () =>
      await buyer.service.db.message.findMany({ where: { kind: 'verdict', documentId: shared.documentId }, orderBy: { createdAt: 'asc' } })
    buyer.fleet.away.add(sessionSignDocument.subject)
    await say({ verdict: 'disputed', code: 'QTY' })
    const first = await until(async () => (await messages()).find((row) => row.lastCode === 'Network' && row.leaseToken === null))
    await buyer.service.db.message.update({ where: { id: first.id }, data: { nextAttemptAt: new Date(Date.now() + 3_600_000) } })
    buyer.fleet.away.clear()
    await say({ verdict: 'accepted' })
    for (let n = 0; n < 5; n++) await pumpOnce(buyer.service.app)
    expect((await messages()).map((row) => row.seq)).toEqual([null, null])
    await buyer.service.db.message.update({ where: { id: first.id }, data: { nextAttemptAt: new Date() } })
    await carryUntil(async () => (await seller.service.db.verdict.count({ where: { documentId: shared.documentId } })) === 2)
    expect((await shareState(shared.id)).state).toBe('accepted')
  })
})

it('a verdict from a time that no clock shows is refused, and does not come again for ever', async () => {
  const { share: shared } = await underWay()
  const { contentDigest: digest } = await seller.service.db.document.findUniqueOrThrow({ where: { id: shared.documentId } })
  const issuedAt = Date.now()
  const body = encodeVerdict({ documentId: shared.documentId, contentDigest: digest!, verdict: 'accepted', at: Number.MAX_SAFE_INTEGER })
  const signed = await buyer.fleet.rpc.call(sessionSignDocument, {
    kind: 'verdict',
    documentId: shared.documentId,
    contentDigest: contentDigest(body),
    audience: seller.fleet.fleetId,
    issuedAt,
    expiresAt: issuedAt + 60_000,
  })
  if (!signed.ok) expect.unreachable()
  const payload = encodePayload({
    v: 1,
    kind: 'verdict',
    id: newId(),
    seq: 90,
    prevHash: new Uint8Array(32),
    issuedAt,
    contentDigest: contentDigest(body),
    body,
    statement: signed.statement,
  })
  expect(await replay({ envelope: sealForTest(payload) }, buyer.fleet, seller.service)).toMatchObject([
    { outcome: 'refused', code: 'InvalidRequest' },
  ])
})

it('an Idempotency-Key is free again when the transaction of its answer was rolled back', async () => {
  const { app, db } = seller.service
  const request = { operation: 'POST /v1/invoices', body: new Uint8Array(), mediaType: 'application/json' }
  const claim = await claimOperation(app, 'admin', 'rolled-back', request)
  if (!('run' in claim)) expect.unreachable()
  const lost = db.$transaction(async (tx) => {
    await claim.run.finish(tx, 201, {})
    throw new Error('the commit failed')
  })
  await expect(lost).rejects.toThrow('the commit failed')
  claim.run.end()
  await claim.run.release()
  const again = await claimOperation(app, 'admin', 'rolled-back', request)
  if (!('run' in again)) expect.unreachable()
  again.run.end()
})

describe('a share that waits', () => {
  it('is not sent any more once its consent is withdrawn, and can be retried under a new one', async () => {
    const documentId = await issued()
    seller.fleet.away.add(sessionSignDocument.subject)
    const { json } = await share(documentId)
    await until(async () => (await shareState(json.id)).code === 'Network')
    expect((await seller.service.request('DELETE', `/v1/consents/${consentId}`)).status).toBe(204)
    seller.fleet.away.clear()
    const ended = await until(async () => {
      const row = await shareState(json.id)
      return ['refused', 'relayed'].includes(row.state as string) && row
    })
    expect([ended.state, ended.code]).toEqual(['refused', 'ConsentRequired'])
    expect(seller.fleet.sent.some((item) => item.messageId === json.messageId)).toBe(false)
    const message = await seller.service.db.message.findUniqueOrThrow({ where: { id: json.messageId } })
    expect([message.state, message.seq]).toEqual(['refused', null])
    expect((await seller.service.request('POST', `/v1/shares/${json.id}/retry`)).json.code).toBe('ConsentRequired')
    consentId = await consent(seller, buyer.fleet, 'share')
    expect((await seller.service.request('POST', `/v1/shares/${json.id}/retry`)).status).toBe(202)
    await until(inState(json.id as string, 'relayed'))
  })

  it('is not refused for an answer of session-svc that could not be read', async () => {
    const documentId = await issued()
    seller.fleet.away.add(sessionSignDocument.subject)
    const { json } = await share(documentId)
    await until(async () => (await shareState(json.id)).code === 'Network')
    const app = watching(seller.service.app, async (subject) => {
      if (subject === sessionSignDocument.subject)
        throw new RpcFault('Serialization', subject, 'the answer has no known form', { origin: 'transport' })
      if (subject === relaySend.subject) expect.unreachable()
      await Promise.resolve()
    })
    await until(async () => {
      await pumpOnce(app)
      return (await shareState(json.id)).code === 'Serialization'
    })
    expect((await shareState(json.id)).state).toBe('queued')
    seller.fleet.away.clear()
    await until(inState(json.id as string, 'relayed'))
  })
})

describe('a retry', () => {
  it('keeps the receipt of the new message, not the one of the message that was refused', async () => {
    const { share: shared, item } = await underWay()
    await recordProgress(seller.service.app, [
      { state: 'refused', messageId: shared.messageId, at: Date.now(), code: 'QuotaExceeded', cause: 'full' } as never,
    ])
    // It had arrived all the same, and its receipt comes late.
    seller.fleet.queue.length = 0
    await replay(item, seller.fleet, buyer.service)
    await carryUntil(async () => (await seller.service.db.share.findUniqueOrThrow({ where: { id: shared.id } })).receipt !== null)
    const retried = await seller.service.request('POST', `/v1/shares/${shared.id}/retry`)
    expect(retried.status, retried.text).toBe(202)
    await carryUntil(inState(shared.id, 'delivered'))
    const evidence = await seller.service.request('GET', `/v1/documents/${shared.documentId}/evidence`)
    expect(evidence.json.errors.filter(({ pointer }: { pointer: string }) => pointer === '/receipt')).toEqual([])
  })

  it('and a new share at once: one of them is the share, the other is told so', async () => {
    for (let n = 0; n < 6; n++) {
      const { share: shared } = await underWay()
      await recordProgress(seller.service.app, [
        { state: 'refused', messageId: shared.messageId, at: Date.now(), code: 'QuotaExceeded', cause: 'full' } as never,
      ])
      const [retried, created] = await Promise.all([
        seller.service.request('POST', `/v1/shares/${shared.id}/retry`),
        share(shared.documentId),
      ])
      expect([202, 409], retried.text).toContain(retried.status)
      expect(created.status, created.text).toBe(202)
      const live = await seller.service.db.share.count({ where: { documentId: shared.documentId, state: { not: 'refused' } } })
      expect(live).toBe(1)
    }
  })
})

describe('listeners', () => {
  const feedOn = (db: Db) =>
    new ChangeFeed({
      db,
      log: createLogger({ service: 'invoice-svc', level: 'silent' }),
      limits: { changesListeners: 10, changesPollMs: 10 },
    })

  /** The database, whose answers can be held back. */
  function held(): { db: Db; hold(): void; asked(): Promise<unknown>; release(): void } {
    const real = seller.service.db
    let gate = Promise.withResolvers<void>()
    let asked = Promise.withResolvers<void>()
    gate.resolve()
    const db = {
      $queryRaw: async (...query: Parameters<Db['$queryRaw']>) => {
        const rows: unknown = await real.$queryRaw(...query)
        asked.resolve()
        await gate.promise
        return rows
      },
    } as unknown as Db
    return {
      db,
      hold: () => {
        gate = Promise.withResolvers()
        asked = Promise.withResolvers()
      },
      asked: () => asked.promise,
      release: () => gate.resolve(),
    }
  }

  it('that resume while others are being served miss nothing', async () => {
    const { db, hold, asked, release } = held()
    const feed = feedOn(db)
    const changed = async () => {
      const subject = newId()
      await recordChange(seller.service.db, new Date(), { topic: 'breaker', subject, data: { subject } })
      return subject
    }
    const start = await presentCursor(seller.service.db)
    const missed = [await changed(), await changed()]
    await feed.listen(
      undefined,
      () => undefined,
      () => undefined,
    )
    hold()
    const next = await changed()
    await asked()
    const seen: string[] = []
    await feed.listen(
      start,
      (row) => seen.push(row.subject),
      () => undefined,
    )
    release()
    await until(() => Promise.resolve(seen.includes(next)))
    feed.close()
    expect(seen.filter((subject) => [...missed, next].includes(subject))).toEqual([...missed, next])
  })

  it('that come while the service stops are not left behind', async () => {
    const { db, hold, asked, release } = held()
    const feed = feedOn(db)
    hold()
    const listening = feed.listen(
      undefined,
      () => undefined,
      () => undefined,
    )
    await asked()
    feed.close()
    release()
    await expect(listening).rejects.toMatchObject({ code: 'NotReady' })
  })
})

describe('without its database', () => {
  it('says that it is not there, and when to come again', async () => {
    const service = await startInvoiceService({ databaseUrl: 'postgresql://nobody:nothing@127.0.0.1:9/nowhere' })
    try {
      for (const request of [{}, { token: 'not-a-token-at-all' }]) {
        const answer = await service.request('GET', '/v1/invoices', request)
        expect([answer.status, answer.json.code, answer.json.retryAfterMs], answer.text).toEqual([503, 'NotReady', 2_000])
        expect(answer.headers['retry-after']).toBe('2')
        expect(answer.text).not.toMatch(/nobody|nothing|127\.0\.0\.1|prisma/i)
      }
    } finally {
      await service.stop()
    }
  })
})

it('a filter that no number can have is refused as such', async () => {
  const answer = await seller.service.request('GET', '/v1/invoices?number=%00')
  expect([answer.status, answer.json.code], answer.text).toEqual([400, 'InvalidRequest'])
})

it('a peer that is blocked while an older change is still being told is told of once more', async () => {
  const { fleetId } = buyer.fleet
  const { db } = seller.service
  await db.peer.update({ where: { fleetId }, data: { version: { increment: 1 }, nextSyncAt: new Date(Date.now() + 3_600_000) } })
  const told = () => seller.fleet.calls.filter((subject) => subject === relaySetPeer.subject).length
  let before: number | undefined
  const app = watching(seller.service.app, async (subject) => {
    if (subject !== relaySetPeer.subject || before !== undefined) return
    before = told() + 2 // the one for the block, and the late one
    expect((await seller.service.request('POST', `/v1/peers/${fleetId}/block`)).json).toMatchObject({
      state: 'blocked',
      nextAttemptAt: null,
    })
  })
  await syncPeer(app, fleetId)
  await until(() => Promise.resolve(told() > before!))
  await until(async () => {
    const row = await db.peer.findUniqueOrThrow({ where: { fleetId } })
    return row.syncedVersion === row.version && row.state === 'blocked'
  })
})

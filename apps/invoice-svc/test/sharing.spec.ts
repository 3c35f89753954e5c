import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { MAX_NOTE_LENGTH } from '@tallystick/invoice-domain/verdict'
import { encodeVerdict } from '@tallystick/wire/messages'
import { readStatement } from '@tallystick/wire/document'
import { contentDigest, decodePayload, encodePayload } from '@tallystick/wire/payload'
import { newId } from '../src/ids.js'
import { sweepNonces } from '../src/inbound/inbound.store.js'
import { pumpOnce } from '../src/messages/pump.js'
import { recordProgress } from '../src/messages/relay-progress.js'
import { draftInvoice } from './harness.ts'
import { buyer, carryUntil, consent, inState, issued, seller, share, shareState, startPair, stopPair, until } from './pair.ts'
import { carry, replay, sealedPayload, sealForTest } from './two-fleets.ts'

beforeAll(startPair)
afterAll(stopPair)

/** The receipt that the buyer has for a message of the seller. */
async function receiptOf(messageId: string) {
  const { receiptMessageId } = await buyer.service.db.inbound.findFirstOrThrow({ where: { messageId, receiptMessageId: { not: null } } })
  return await buyer.service.db.message.findUniqueOrThrow({ where: { id: receiptMessageId! } })
}

describe('consent', () => {
  it('nothing is sealed without it, and nothing after it was withdrawn', async () => {
    const documentId = await issued()
    const before = seller.fleet.calls.filter((subject) => subject === 'session.v1.seal').length
    const refused = await share(documentId)
    expect([refused.status, refused.json.code]).toEqual([409, 'ConsentRequired'])
    const id = await consent(seller, buyer.fleet, 'share')
    expect((await seller.service.request('DELETE', `/v1/consents/${id}`)).status).toBe(204)
    expect((await share(documentId)).json.code).toBe('ConsentRequired')
    expect(seller.fleet.calls.filter((subject) => subject === 'session.v1.seal').length).toBe(before)
    expect(await seller.service.db.share.count()).toBe(0)
    await consent(seller, buyer.fleet, 'share')
  })

  it('granted and withdrawn is audited, each once and without a name', async () => {
    const granted = (await seller.service.request('POST', '/v1/consents', {
      body: { peerId: buyer.fleet.fleetId, purpose: 'log', kinds: ['invoice', 'verdict'] },
    })) as { json: { id: string } }
    const { id } = granted.json
    for (let n = 0; n < 2; n++) expect((await seller.service.request('DELETE', `/v1/consents/${id}`)).status).toBe(204)
    const of = (type: string) =>
      seller.fleet.events.filter((event) => event.type === type && (event.body as { consentId: string }).consentId === id)
    await until(async () => of('ConsentGranted').length > 0 && of('ConsentWithdrawn').length > 0)
    const about = { consentId: id, peer: buyer.fleet.fleetId, purpose: 'log' }
    expect(of('ConsentGranted')).toMatchObject([
      { stream: 'security', actor: 'client:admin', body: { ...about, kinds: ['invoice', 'verdict'] } },
    ])
    expect(of('ConsentWithdrawn')).toMatchObject([{ stream: 'security', actor: 'client:admin', body: about }])
    const text = JSON.stringify([...of('ConsentGranted'), ...of('ConsentWithdrawn')])
    for (const name of [seller.fleet.name, buyer.fleet.name, 'Acme GmbH', 'Globex BV']) expect(text).not.toContain(name)
  })
})

describe('one invoice', () => {
  it('travels, is confirmed, accepted and paid; every stage has its time', async () => {
    const documentId = await issued()
    const shared = await share(documentId)
    expect([shared.status, shared.json.state], shared.text).toEqual([202, 'queued'])
    const id = shared.json.shareId as string
    await until(inState(id, 'relayed'))
    await carryUntil(inState(id, 'delivered'))
    const item = (await buyer.service.request('GET', '/v1/inbox')).json.items[0]
    expect(item).toMatchObject({ documentId, peerId: seller.fleet.fleetId, state: 'received', payableAmount: '166.24' })
    const full = (await buyer.service.request('GET', `/v1/inbox/${item.id}`)).json
    expect(full.document).toEqual((await seller.service.request('GET', `/v1/invoices/${documentId}`)).json.document)
    expect(full.verification.map((check: { check: string }) => check.check)).toEqual([
      'envelope',
      'content-digest',
      'certificate',
      'document-signature',
      'domain-rules',
    ])
    expect((await buyer.service.request('GET', `/v1/inbox/${item.id}`, { headers: { accept: 'application/xml' } })).text).toContain(
      '<cbc:ID>',
    )

    expect((await buyer.service.request('POST', `/v1/inbox/${item.id}/verdict`, { body: { verdict: 'rejected' } })).status).toBe(422)
    expect((await buyer.service.request('POST', `/v1/inbox/${item.id}/verdict`, { body: { verdict: 'accepted' } })).status).toBe(202)
    const accepted = await carryUntil(inState(id, 'accepted'))
    expect(accepted.verdict).toMatchObject({ verdict: 'accepted', code: null })
    expect(
      (
        await buyer.service.request('POST', `/v1/inbox/${item.id}/verdict`, {
          body: { verdict: 'rejected', code: 'OTH', note: 'too late' },
        })
      ).status,
    ).toBe(409)
    await buyer.service.request('POST', `/v1/inbox/${item.id}/verdict`, { body: { verdict: 'paid' } })
    const paid = await carryUntil(inState(id, 'paid'))
    const times = ['queued', 'sealed', 'relayed', 'stored', 'delivered', 'accepted', 'paid'].map((stage) => paid.times[stage] as string)
    expect(times.every((at) => /^\d{4}-\d\d-\d\dT.*Z$/.test(at))).toBe(true)
    expect(paid).toMatchObject({ cause: null, nextAttemptAt: null })
    expect(buyer.fleet.unacknowledged + seller.fleet.unacknowledged).toBe(0)
    expect((await seller.service.request('GET', `/v1/invoices/${documentId}`)).json.status).toBe('paid')
  })

  it('carries the longest note that a message can hold, and refuses a longer one', async () => {
    const documentId = await issued()
    const id = (await share(documentId)).json.shareId as string
    await carryUntil(inState(id, 'delivered'))
    const item = (await buyer.service.request('GET', '/v1/inbox?limit=1')).json.items[0]
    const verdict = (note: string) =>
      buyer.service.request('POST', `/v1/inbox/${item.id}/verdict`, { body: { verdict: 'rejected', code: 'OTH', note } })
    const body = { documentId, contentDigest: new Uint8Array(32), verdict: 'rejected', code: 'OTH', at: 1 } as const
    expect(() => encodeVerdict({ ...body, note: 'x'.repeat(MAX_NOTE_LENGTH) })).not.toThrow()
    expect(() => encodeVerdict({ ...body, note: 'x'.repeat(MAX_NOTE_LENGTH + 1) })).toThrow()
    expect((await verdict('x'.repeat(MAX_NOTE_LENGTH + 1))).status).toBe(400)
    expect((await verdict('')).status).toBe(400)
    expect((await verdict('x'.repeat(MAX_NOTE_LENGTH))).status).toBe(202)
    expect((await carryUntil(inState(id, 'rejected'))).verdict).toMatchObject({ note: 'x'.repeat(MAX_NOTE_LENGTH) })
  })

  it('asked for twice is one share; a draft is not shared', async () => {
    const documentId = await issued()
    const answers = await Promise.all(Array.from({ length: 6 }, () => share(documentId)))
    expect(new Set(answers.map((answer) => answer.json.shareId)).size).toBe(1)
    expect(await seller.service.db.message.count({ where: { documentId } })).toBe(1)
    await carryUntil(inState(answers[0]!.json.shareId as string, 'delivered'))
    const draft = await seller.service.request('POST', '/v1/invoices', { body: draftInvoice() })
    expect((await share(draft.json.id as string)).status).toBe(409)
  })

  it('replayed as it came, changes nothing: it has its answer', async () => {
    const documentId = await issued()
    const id = (await share(documentId)).json.shareId as string
    const { messageId } = await carryUntil(inState(id, 'delivered'))
    const count = await buyer.service.db.inbox.count()
    const sent = buyer.fleet.sent.length
    const original = seller.fleet.sent.find((item) => item.messageId === messageId)!
    const receipt = await receiptOf(messageId)
    buyer.service.clock.advance(60_000)
    expect((await replay(original, seller.fleet, buyer.service)).map((answer) => answer.outcome)).toEqual(['taken'])
    await pumpOnce(buyer.service.app)
    expect(await receiptOf(messageId)).toEqual(receipt)
    expect(receipt).toMatchObject({ state: 'stored' })
    expect(buyer.fleet.sent).toHaveLength(sent)
    expect(await buyer.service.db.inbox.count()).toBe(count)
  })

  it('replayed after the peer’s relay has refused its receipt, gets the same receipt under a new id, once and not too often', async () => {
    const documentId = await issued()
    const id = (await share(documentId)).json.shareId as string
    const { messageId } = await until(inState(id, 'relayed'))
    await carry(seller, buyer)
    const original = seller.fleet.sent.find((item) => item.messageId === messageId)!
    const before = await until(async () => ((await receiptOf(messageId)).state === 'relayed' ? await receiptOf(messageId) : undefined))
    buyer.fleet.queue.splice(0)
    await recordProgress(buyer.service.app, [
      { state: 'refused', messageId: before.id, at: Date.now(), code: 'UnauthorizedPeer', cause: 'The peer does not know us.' },
    ])
    await replay(original, seller.fleet, buyer.service)
    expect(await receiptOf(messageId)).toMatchObject({ id: before.id, state: 'refused' })
    buyer.service.clock.advance(30_001)
    await Promise.all(Array.from({ length: 4 }, () => replay(original, seller.fleet, buyer.service)))
    const after = await receiptOf(messageId)
    expect(after.id).not.toBe(before.id)
    expect(Buffer.from(after.body).equals(before.body)).toBe(true)
    expect(await buyer.service.db.message.count({ where: { body: before.body } })).toBe(2)
    await carryUntil(inState(id, 'delivered'))
    expect((await buyer.service.db.message.findUniqueOrThrow({ where: { id: before.id } })).state).toBe('refused')
  })

  it('a changed body is refused as VerificationFailed, audited and never stored; the genuine one still arrives', async () => {
    const documentId = await issued()
    const id = (await share(documentId)).json.shareId as string
    await until(inState(id, 'relayed'))
    const item = seller.fleet.queue[0]!
    const count = await buyer.service.db.inbox.count()
    // A digest that does not belong to the body, as it would be after an edit that kept everything else.
    buyer.fleet.tamper = (payload) => {
      const bytes = payload.slice()
      const { body } = decodePayload(payload)
      const at = Buffer.from(bytes).indexOf(Buffer.from(body))
      bytes[at + body.length - 1]! ^= 1
      return bytes
    }
    const [answer] = await replay({ envelope: item.envelope.slice() }, seller.fleet, buyer.service)
    buyer.fleet.tamper = undefined
    expect(answer).toMatchObject({ outcome: 'refused', code: 'VerificationFailed' })
    expect(await buyer.service.db.inbox.count()).toBe(count)
    await until(async () =>
      buyer.fleet.events.some((event) => event.type === 'VerificationFailed' && (event.body as { what: string }).what === 'content-digest'),
    )
    // The refusal is final for that envelope; a fresh message of the same document is taken.
    await seller.service.db.$executeRaw`UPDATE share SET state = 'refused', ended_at = now() WHERE id = ${id}::uuid`
    seller.fleet.queue.splice(0)
    expect((await seller.service.request('POST', `/v1/shares/${id}/retry`)).status).toBe(202)
    await carryUntil(inState(id, 'delivered'))
    expect(await buyer.service.db.inbox.count()).toBe(count + 1)
  })

  it('a statement made for somebody else is refused and audited', async () => {
    const documentId = await issued()
    const id = (await share(documentId)).json.shareId as string
    await until(inState(id, 'relayed'))
    const item = seller.fleet.queue.splice(0)[0]!
    buyer.fleet.tamper = (payload) => {
      const { statement: _statement, ...rest } = decodePayload(payload)
      const body = rest.body.slice()
      return encodePayload({ ...rest, body, contentDigest: contentDigest(body) })
    }
    const [answer] = await replay(item, seller.fleet, buyer.service)
    buyer.fleet.tamper = undefined
    expect(answer).toMatchObject({ outcome: 'refused', code: 'InvalidSignature' })
    await until(async () => buyer.fleet.events.some((event) => event.type === 'SignatureRejected'))
  })

  it('a statement that was used before is a replay, under whichever message id it comes', async () => {
    const documentId = await issued()
    const id = (await share(documentId)).json.shareId as string
    const { messageId } = await carryUntil(inState(id, 'delivered'))
    const genuine = sealedPayload(seller.fleet.sent.find((item) => item.messageId === messageId)!.envelope)
    const forged = encodePayload({ ...decodePayload(genuine), id: '0198c0de-0000-7000-8000-00000000abcd', seq: 9_000 })
    const [answer] = await replay({ envelope: sealForTest(forged) }, seller.fleet, buyer.service)
    expect(answer).toMatchObject({ outcome: 'refused', code: 'ReplayDetected' })
    await until(async () => buyer.fleet.events.some((event) => event.type === 'ReplayRejected'))
    expect(await buyer.service.db.inbox.count({ where: { documentId } })).toBe(1)
  })

  it('a statement that comes twice at once, under two message ids, counts once', async () => {
    for (let round = 0; round < 5; round++) {
      const documentId = await issued()
      const id = (await share(documentId)).json.shareId as string
      await until(inState(id, 'relayed'))
      const [item] = seller.fleet.queue.splice(0)
      const genuine = decodePayload(sealedPayload(item!.envelope))
      // Places of their own: the unbroken sequence of this file is looked at below.
      const copies = [0, 2, 4, 6].map((n) => sealForTest(encodePayload({ ...genuine, id: newId(), seq: 20_000 + round * 10 + n })))
      const answers = (await Promise.all(copies.map((envelope) => replay({ envelope }, seller.fleet, buyer.service)))).flat()
      expect(answers.map((answer) => answer.outcome).sort()).toEqual(['refused', 'refused', 'refused', 'taken'])
      for (const answer of answers) if (answer.outcome === 'refused') expect(answer.code).toBe('ReplayDetected')
      expect(await buyer.service.db.inbox.count({ where: { documentId } })).toBe(1)
      const { nonce } = readStatement(genuine.statement!)
      expect(await buyer.service.db.statementNonce.count({ where: { nonce: new Uint8Array(nonce) } })).toBe(1)
    }
  })

  it('its nonce is kept until expiry and skew are over, and from then on the statement itself has expired', async () => {
    const documentId = await issued()
    const id = (await share(documentId)).json.shareId as string
    const { messageId } = await carryUntil(inState(id, 'delivered'))
    const genuine = decodePayload(sealedPayload(seller.fleet.sent.find((item) => item.messageId === messageId)!.envelope))
    const { nonce, expiresAt } = readStatement(genuine.statement!)
    const last = expiresAt + 120_000
    const kept = async () => await buyer.service.db.statementNonce.count({ where: { nonce: new Uint8Array(nonce) } })
    const at = async (time: number) => {
      const app = { ...buyer.service.app, clock: { now: () => time } }
      await sweepNonces(app.db, new Date(time))
      const [answer] = await replay({ envelope: sealForTest(encodePayload({ ...genuine, id: newId() })) }, seller.fleet, { app })
      return answer
    }
    expect(await at(last)).toMatchObject({ outcome: 'refused', code: 'ReplayDetected' })
    expect(await kept()).toBe(1)
    expect(await at(last + 1)).toMatchObject({ outcome: 'refused', code: 'ExpiredSignature' })
    expect(await kept()).toBe(0)
  })

  it('what the relay reports is shown; a refusal ends the share until it is retried', async () => {
    const documentId = await issued()
    const id = (await share(documentId)).json.shareId as string
    const { messageId } = await until(inState(id, 'relayed'))
    seller.fleet.queue.splice(0)
    const at = Date.now()
    await recordProgress(seller.service.app, [
      { state: 'waiting', messageId, at, code: 'Network', cause: 'The peer does not answer.', attempts: 3, nextAttemptAt: at + 5_000 },
    ])
    expect(await shareState(id)).toMatchObject({
      state: 'relayed',
      cause: 'The peer does not answer.',
      code: 'Network',
      attempts: 3,
      nextAttemptAt: new Date(at + 5_000).toISOString(),
    })
    await recordProgress(seller.service.app, [
      { state: 'refused', messageId, at, code: 'UnauthorizedPeer', cause: 'The peer does not know us.' },
    ])
    expect(await shareState(id)).toMatchObject({ state: 'refused', code: 'UnauthorizedPeer', times: { refused: expect.any(String) } })
    // Late news of the old message change nothing.
    await recordProgress(seller.service.app, [{ state: 'stored', messageId, at, hopReceipt: new Uint8Array(8) }])
    expect((await shareState(id)).state).toBe('refused')
    const retried = await seller.service.request('POST', `/v1/shares/${id}/retry`)
    expect(retried.json.messageId).not.toBe(messageId)
    await carryUntil(inState(id, 'delivered'))
  })
})

describe('waiting', () => {
  it('says why and when, and goes on when the service is back', async () => {
    const documentId = await issued()
    seller.fleet.away.add('session')
    const id = (await share(documentId)).json.shareId as string
    const waiting = await until(async () => {
      const row = await shareState(id)
      return row.cause === null ? undefined : row
    })
    expect(waiting).toMatchObject({
      state: 'queued',
      code: 'Network',
      cause: expect.stringContaining('session-svc'),
      nextAttemptAt: expect.any(String),
    })
    seller.fleet.away.clear()
    await carryUntil(inState(id, 'delivered'))
    expect(await shareState(id)).toMatchObject({ cause: null, nextAttemptAt: null })
  })

  it('is cancelled before it is sealed, and not after', async () => {
    const documentId = await issued()
    seller.fleet.away.add('session')
    const id = (await share(documentId)).json.shareId as string
    expect((await seller.service.request('POST', `/v1/shares/${id}/cancel`)).json).toMatchObject({ state: 'cancelled' })
    seller.fleet.away.clear()
    const again = (await share(documentId)).json.shareId as string
    expect(again).not.toBe(id)
    await carryUntil(inState(again, 'delivered'))
    expect((await seller.service.request('POST', `/v1/shares/${again}/cancel`)).status).toBe(409)
  })

  it.each(['ResyncRequired', 'IdentityChanged'] as const)('an envelope that waits for a person is kept: %s', async (code) => {
    const documentId = await issued()
    const id = (await share(documentId)).json.shareId as string
    await until(inState(id, 'relayed'))
    buyer.fleet.undecided = code
    expect(await carry(seller, buyer)).toMatchObject([{ outcome: 'retry', code }])
    buyer.fleet.undecided = undefined
    await carryUntil(inState(id, 'delivered'))
    expect(await buyer.service.db.inbox.count({ where: { documentId } })).toBe(1)
  })

  it('a plaintext that could not be acknowledged is kept until it can be', async () => {
    const documentId = await issued()
    buyer.fleet.away.add('session.v1.acknowledge')
    const id = (await share(documentId)).json.shareId as string
    await until(inState(id, 'relayed'))
    expect((await carry(seller, buyer)).map((answer) => answer.outcome)).toEqual(['retry'])
    expect(await buyer.service.db.inbox.count({ where: { documentId } })).toBe(1)
    buyer.fleet.away.clear()
    await carryUntil(inState(id, 'delivered'))
    expect(buyer.fleet.unacknowledged).toBe(0)
    expect(await buyer.service.db.inbox.count({ where: { documentId } })).toBe(1)
  })
})

describe('many at once', () => {
  it('40 invoices arrive once each, in one unbroken sequence', async () => {
    const ids: string[] = []
    for (let n = 0; n < 40; n++) ids.push(await issued())
    const shares = await Promise.all(ids.map((documentId) => share(documentId)))
    await carryUntil(
      async () =>
        (await seller.service.db.share.count({
          where: { id: { in: shares.map((answer) => answer.json.shareId as string) }, state: 'delivered' },
        })) === 40,
    )
    expect(await buyer.service.db.inbox.count({ where: { documentId: { in: ids } } })).toBe(40)
    const rows = await buyer.service.db.inbound.findMany({
      where: { peer: seller.fleet.fleetId, outcome: 'taken' },
      orderBy: { seq: 'asc' },
    })
    expect(new Set(rows.map((row) => row.seq)).size).toBe(rows.length)
    for (const [n, row] of rows.entries()) {
      const before = rows[n - 1]
      // The forged positions above are ahead of what the seller has sent: it goes on after them.
      if (before !== undefined && before.seq! < 9_000n && row.seq === before.seq! + 1n)
        expect(Buffer.from(row.prevHash!).equals(before.payloadHash!)).toBe(true)
    }
    const batched = await buyer.service.db.message.count({ where: { kind: 'receipt' } })
    expect(batched).toBeLessThan(await buyer.service.db.inbox.count())
  })
})

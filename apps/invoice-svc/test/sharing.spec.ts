import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { decodePayload, encodePayload, contentDigest } from '@tallystick/wire/payload'
import { startPostgres, type TestPostgres } from '../../../tools/testing/postgres.ts'
import { draftInvoice, startInvoiceService, type Service } from './harness.ts'
import { recordProgress } from '../src/messages/relay-progress.js'
import { carry, replay, sealedPayload, sealForTest, StandInFleet } from './two-fleets.ts'

let postgres: TestPostgres
const seller = { fleet: new StandInFleet('acme') } as { fleet: StandInFleet; service: Service }
const buyer = { fleet: new StandInFleet('globex') } as { fleet: StandInFleet; service: Service }

beforeAll(async () => {
  postgres = await startPostgres()
  for (const side of [seller, buyer])
    side.service = await startInvoiceService({
      databaseUrl: (await postgres.createFleet(side.fleet.name)).urls.invoice,
      rpc: side.fleet.rpc,
      background: true,
    })
  for (const [one, other] of [
    [seller, buyer],
    [buyer, seller],
  ] as const) {
    const { invitation } = (await other.service.request('GET', '/v1/fleet')).json as { invitation: string }
    const pinned = await one.service.request('POST', '/v1/peers', { body: { invitation } })
    expect([pinned.status, pinned.json.state], pinned.text).toEqual([201, 'active'])
  }
})
afterAll(async () => {
  await seller.service?.stop()
  await buyer.service?.stop()
  await postgres?.stop()
})

async function until<T>(look: () => Promise<T | undefined | false>): Promise<T> {
  for (const deadline = Date.now() + 15_000; Date.now() < deadline;) {
    const seen = await look()
    if (seen !== undefined && seen !== false) return seen
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  throw new Error('it did not happen in 15 s')
}

/** Both relays carry whatever waits, both ways, until the condition holds. */
async function carryUntil<T>(look: () => Promise<T | undefined | false>): Promise<T> {
  return await until(async () => {
    await carry(seller, buyer)
    await carry(buyer, seller)
    return await look()
  })
}

async function issued(overrides: Record<string, unknown> = {}): Promise<string> {
  const draft = await seller.service.request('POST', '/v1/invoices', { body: draftInvoice(overrides) })
  const answer = await seller.service.request('POST', `/v1/invoices/${draft.json.id}/issue`)
  expect(answer.status, answer.text).toBe(200)
  return answer.json.id as string
}

const consent = async (side: typeof seller, peer: StandInFleet, purpose: string) => {
  const answer = await side.service.request('POST', '/v1/consents', {
    body: { peerId: peer.fleetId, purpose, kinds: ['invoice', 'credit-note', 'verdict'] },
  })
  expect(answer.status, answer.text).toBe(201)
  return answer.json.id as string
}
const share = async (documentId: string) =>
  await seller.service.request('POST', `/v1/documents/${documentId}/shares`, { body: { peerId: buyer.fleet.fleetId } })
const shareState = async (id: string) => (await seller.service.request('GET', `/v1/shares/${id}`)).json
const inState = (id: string, state: string) => async () => {
  const row = await shareState(id)
  return row.state === state ? row : undefined
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

  it('asked for twice is one share; a draft is not shared', async () => {
    const documentId = await issued()
    const answers = await Promise.all(Array.from({ length: 6 }, () => share(documentId)))
    expect(new Set(answers.map((answer) => answer.json.shareId)).size).toBe(1)
    expect(await seller.service.db.message.count({ where: { documentId } })).toBe(1)
    await carryUntil(inState(answers[0]!.json.shareId as string, 'delivered'))
    const draft = await seller.service.request('POST', '/v1/invoices', { body: draftInvoice() })
    expect((await share(draft.json.id as string)).status).toBe(409)
  })

  it('replayed, changes nothing and has its own receipt sent again', async () => {
    const documentId = await issued()
    const id = (await share(documentId)).json.shareId as string
    const { messageId } = await carryUntil(inState(id, 'delivered'))
    const count = await buyer.service.db.inbox.count()
    const original = seller.fleet.sent.find((item) => item.messageId === messageId)!
    const receipt = (await buyer.service.db.inbound.findFirst({ where: { messageId } }))!.receiptMessageId!
    expect(buyer.fleet.sent.filter((item) => item.messageId === receipt)).toHaveLength(1)
    buyer.service.clock.advance(60_000)
    expect((await replay(original, seller.fleet, buyer.service)).map((answer) => answer.outcome)).toEqual(['taken'])
    await until(async () => buyer.fleet.sent.filter((item) => item.messageId === receipt).length === 2)
    const [first, second] = buyer.fleet.sent.filter((item) => item.messageId === receipt)
    expect(Buffer.from(second!.envelope).equals(first!.envelope)).toBe(true)
    expect(await buyer.service.db.inbox.count()).toBe(count)
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
      if (before !== undefined && row.seq === before.seq! + 1n) expect(Buffer.from(row.prevHash!).equals(before.payloadHash!)).toBe(true)
    }
    const batched = await buyer.service.db.message.count({ where: { kind: 'receipt' } })
    expect(batched).toBeLessThan(await buyer.service.db.inbox.count())
  })
})

describe('the sharing stream of the audit log', () => {
  it('has nothing without consent, and commitments with it; proofs are exchanged', async () => {
    const sharing = () => [...seller.fleet.events, ...buyer.fleet.events].filter((event) => event.stream === 'sharing')
    expect(sharing()).toEqual([])
    await consent(seller, buyer.fleet, 'log')
    await consent(buyer, seller.fleet, 'log')
    const documentId = await issued()
    const id = (await share(documentId)).json.shareId as string
    await carryUntil(inState(id, 'delivered'))
    const item = (await buyer.service.request('GET', '/v1/inbox?limit=1')).json.items[0]
    await buyer.service.request('POST', `/v1/inbox/${item.id}/verdict`, { body: { verdict: 'accepted' } })
    await carryUntil(inState(id, 'accepted'))
    const proofs = async (side: typeof seller) => await side.service.db.peerProof.count({ where: { documentId } })
    await carryUntil(async () => (await proofs(seller)) === 2 && (await proofs(buyer)) === 2)
    expect(
      sharing()
        .map((event) => event.type)
        .sort(),
    ).toEqual(['MessageReceived', 'MessageReceived', 'MessageSent', 'MessageSent'])
    const { verifyEvidence } = await import('@tallystick/merkle-log/evidence-verify')
    for (const [side, path] of [
      [seller, documentId],
      [buyer, documentId],
      [buyer, item.id as string],
    ] as const) {
      const evidence = await side.service.request('GET', `/v1/documents/${path}/evidence`)
      expect([evidence.status, evidence.headers['tallystick-evidence']], evidence.text).toEqual([200, 'complete'])
      const verified = verifyEvidence(evidence.json)
      expect(verified.checks.filter((check) => !check.ok)).toEqual([])
      expect(verified).toMatchObject({ ok: true, missing: [], summary: { verdict: { verdict: 'accepted' } } })
    }
    const digest = (await seller.service.request('GET', `/v1/invoices/${documentId}`)).json.contentDigest as string
    expect(JSON.stringify(sharing())).not.toContain(digest)
    expect(sharing()[0]!.body).toMatchObject({ commitment: expect.stringMatching(/^[0-9a-f]{64}$/) })
  })

  it('a proof from another log is refused', async () => {
    const { encodeLogProof, decodeLogProof } = await import('@tallystick/wire/messages')
    const documentId = await issued()
    const id = (await share(documentId)).json.shareId as string
    seller.fleet.tamper = (payload) => {
      const read = decodePayload(payload)
      if (read.kind !== 'log-proof') return payload
      const proof = decodeLogProof(read.body)
      const body = encodeLogProof({
        ...proof,
        entries: proof.entries.map((entry) => ({ ...entry, leaf: new Uint8Array([...entry.leaf, 0]) })),
      })
      return encodePayload({ ...read, body, contentDigest: contentDigest(body) })
    }
    await carryUntil(inState(id, 'delivered'))
    await carryUntil(async () => (await seller.service.db.inbound.count({ where: { outcome: 'refused', code: 'VerificationFailed' } })) > 0)
    seller.fleet.tamper = undefined
    expect(await seller.service.db.peerProof.count({ where: { documentId } })).toBe(0)
    const evidence = await seller.service.request('GET', `/v1/documents/${documentId}/evidence`)
    expect(evidence.status).toBe(409)
    expect(evidence.json.errors.map((missing: { pointer: string }) => missing.pointer)).toEqual(
      expect.arrayContaining(['/verdicts', '/recipient/log']),
    )
    const partial = await seller.service.request('GET', `/v1/documents/${documentId}/evidence?partial=true`)
    expect([partial.status, partial.headers['tallystick-evidence']]).toEqual([200, 'incomplete'])
  })
})

describe('peers', () => {
  it('shows session and connection, and what could not be asked', async () => {
    const seen = await seller.service.request('GET', `/v1/peers/${buyer.fleet.fleetId}`)
    expect(seen.json).toMatchObject({
      state: 'active',
      keyState: 'pinned',
      connection: { connected: true },
      session: null,
      missing: expect.any(Number),
    })
    seller.fleet.away.add('relay')
    expect((await seller.service.request('GET', `/v1/peers/${buyer.fleet.fleetId}`)).json).toMatchObject({
      connection: null,
      unavailable: ['relay'],
    })
    seller.fleet.away.clear()
  })

  it('a pin that was interrupted is finished by itself', async () => {
    const third = new StandInFleet('initech')
    const { encodeInvitation } = await import('@tallystick/wire/invitation')
    seller.fleet.away.add('relay')
    const pinned = await seller.service.request('POST', '/v1/peers', {
      body: { invitation: encodeInvitation({ certificate: third.certificate, multiaddrs: [third.address] }) },
    })
    expect([pinned.status, pinned.json.state]).toEqual([201, 'pending'])
    expect(pinned.json.cause).toContain('relay-svc')
    seller.fleet.away.clear()
    await until(async () => (await seller.service.request('GET', `/v1/peers/${third.fleetId}`)).json.state === 'active')
    expect((await seller.service.request('POST', `/v1/peers/${third.fleetId}/verify`, { body: { fingerprint: '1' } })).status).toBe(409)
    const { fingerprint } = pinned.json as { fingerprint: string }
    expect((await seller.service.request('POST', `/v1/peers/${third.fleetId}/verify`, { body: { fingerprint } })).json.keyState).toBe(
      'verified',
    )
    expect((await seller.service.request('POST', `/v1/peers/${third.fleetId}/block`)).json.state).toBe('blocked')
    expect((await replay({ envelope: new Uint8Array(8) }, third, seller.service))[0]).toMatchObject({
      outcome: 'refused',
      code: 'UnauthorizedPeer',
    })
    expect((await seller.service.request('DELETE', `/v1/peers/${third.fleetId}`)).status).toBe(204)
    expect((await seller.service.request('GET', `/v1/peers/${third.fleetId}`)).status).toBe(404)
  })

  it('does not pin itself', async () => {
    const { invitation } = (await seller.service.request('GET', '/v1/fleet')).json as { invitation: string }
    expect((await seller.service.request('POST', '/v1/peers', { body: { invitation } })).status).toBe(409)
  })
})

describe('events', () => {
  it('are streamed as they happen and resumed where they were left', async () => {
    await seller.service.nest.listen(0, '127.0.0.1')
    const { port } = seller.service.nest.getHttpServer().address() as { port: number }
    const read = async (lastId: string | undefined, wanted: number) => {
      const abort = new AbortController()
      const response = await fetch(`http://127.0.0.1:${port}/v1/events`, {
        headers: { authorization: `Bearer ${seller.service.tokens.admin}`, ...(lastId === undefined ? {} : { 'last-event-id': lastId }) },
        signal: abort.signal,
      })
      expect(response.headers.get('content-type')).toMatch(/^text\/event-stream/)
      let text = ''
      const events: Array<{ id: string; event: string; data: Record<string, string> }> = []
      const opened = Promise.withResolvers<void>()
      const done = (async () => {
        for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
          text += chunk
          opened.resolve()
          events.splice(
            0,
            events.length,
            ...[...text.matchAll(/id: (\S+)\nevent: (\S+)\ndata: (.*)\n/g)].map((match) => ({
              id: match[1]!,
              event: match[2]!,
              data: JSON.parse(match[3]!) as Record<string, string>,
            })),
          )
          if (events.length >= wanted) break
        }
        abort.abort()
        return events
      })()
      await opened.promise
      return { events: done }
    }
    const first = await read(undefined, 2)
    const id = await issued()
    const seen = await first.events
    expect(seen.map((event) => [event.event, event.data.id, event.data.state])).toEqual([
      ['document', id, 'draft'],
      ['document', id, 'issued'],
    ])
    const later = await issued()
    const resumed = await (await read(seen[0]!.id, 3)).events
    expect(resumed.map((event) => [event.data.id, event.data.state])).toEqual([
      [id, 'issued'],
      [later, 'draft'],
      [later, 'issued'],
    ])
  })
})

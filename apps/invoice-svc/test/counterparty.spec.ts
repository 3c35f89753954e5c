import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { contentDigest, decodePayload, encodePayload } from '@tallystick/wire/payload'
import { buyer, carryUntil, consent, inState, issued, seller, share, startPair, stopPair, until } from './pair.ts'
import { replay, StandInFleet } from './two-fleets.ts'

beforeAll(async () => {
  await startPair()
  await consent(seller, buyer.fleet, 'share')
})
afterAll(stopPair)

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

describe('proofs of a peer', () => {
  it('beyond what one document can have are refused', async () => {
    const documentId = await issued()
    const id = (await share(documentId)).json.shareId as string
    const peer = buyer.fleet.fleetId
    await seller.service.db.$executeRaw`
      INSERT INTO peer_proof (peer, document_id, leaf_hash, leaf, leaf_index, tree_size, proof, note, vkey, salt, received_at)
      SELECT ${peer}, ${documentId}::uuid, sha256(n::text::bytea), 'x', n, 100, '{}', 'x', 'x', 'x', now() FROM generate_series(1, 64) n`
    await carryUntil(inState(id, 'delivered'))
    await carryUntil(
      async () => (await seller.service.db.inbound.count({ where: { peer, outcome: 'refused', code: 'QuotaExceeded' } })) === 1,
    )
    expect(await seller.service.db.peerProof.count({ where: { documentId } })).toBe(64)
  })
})

describe('peers', () => {
  it('shows session and connection, and what could not be asked', async () => {
    const seen = await seller.service.request('GET', `/v1/peers/${buyer.fleet.fleetId}`)
    expect(seen.json).toMatchObject({
      state: 'active',
      trust: 'pinned',
      keyState: null,
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
    expect((await seller.service.request('POST', `/v1/peers/${third.fleetId}/verify`, { body: { fingerprint } })).json.trust).toBe(
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

/** The main job with two real fleets: eight processes, two NATS servers, PostgreSQL. */
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { decodeEnvelope, encodeEnvelope } from '@tallystick/wire/envelope'
import { verifyEvidence } from '@tallystick/merkle-log/evidence-verify'
import { createLibp2p } from 'libp2p'
import { createHash, randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  auditEvents,
  exampleInvoice,
  get,
  grant,
  inboxItem,
  issueUbl,
  pinEachOther,
  share,
  shareReaches,
  sql,
  startTwoFleets,
  until,
  type TwoFleets,
} from './support.ts'

let fleets: TwoFleets
beforeAll(async () => {
  fleets = await startTwoFleets()
  await pinEachOther(fleets)
})
afterAll(() => fleets?.stop())

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest()
let number = 0
const sampleWithOwnNumber = () => {
  const text = exampleInvoice('ubl-tc434-example9.xml', 'acme-invoice.xml').toString()
  return text.replace(
    /(<cbc:ID[^>]*>)([^<]*)(<\/cbc:ID>)/,
    (_, open: string, id: string, close: string) => `${open}${id}-${++number}${close}`,
  )
}

/** Envelopes that acme's relay holds for globex, newest last. */
const outbound = () => sql(fleets, 'acme', 'SELECT message_id, envelope, digest, hop_receipt, state, code FROM relay.outbound ORDER BY id')
const enqueue = (envelope: Uint8Array) => {
  const id = randomUUID()
  return sql(fleets, 'acme', 'INSERT INTO relay.outbound (message_id, fleet_id, envelope, digest, size) VALUES ($1, $2, $3, $4, $5)', [
    id,
    fleets.globexId,
    Buffer.from(envelope),
    sha256(envelope),
    envelope.length,
  ]).then(() => id)
}

describe('two fleets', () => {
  it('a share without consent is refused with ConsentRequired, and nothing leaves', async () => {
    const { acme, globexId } = fleets
    const { id } = await issueUbl(acme, sampleWithOwnNumber())
    const answer = await acme.api(`/v1/documents/${id}/shares`, { method: 'POST', body: { peerId: globexId } })
    expect(answer.status).toBe(409)
    expect(answer.body).toMatchObject({ code: 'ConsentRequired' })
    expect(await outbound()).toEqual([])
    await grant(acme, globexId)
    await grant(fleets.globex, fleets.acmeId)
  })

  it.each([
    ['ubl-tc434-example1.xml', 'acme-invoice.xml'],
    ['ubl-tc434-example5.xml', 'acme-invoice.xml'],
    ['ubl-tc434-creditnote1.xml', 'acme-credit-note.xml'],
  ])('%s arrives, is accepted with a signed verdict, and the evidence verifies offline', async (name, fallback) => {
    const { acme, globex, globexId } = fleets
    const source = exampleInvoice(name, fallback)
    const { id, contentDigest } = await issueUbl(acme, source)
    const { shareId } = await share(acme, id, globexId)
    const item = await inboxItem(globex, contentDigest)
    expect(item.state).toBe('received')
    const verdict = await globex.api(`/v1/inbox/${item.id}/verdict`, { method: 'POST', body: { verdict: 'accepted' } })
    expect(verdict.status).toBe(202)
    const done = await shareReaches(acme, shareId, 'accepted')
    const times = ['queued', 'sealed', 'relayed', 'stored', 'delivered', 'accepted'].map((stage) => Date.parse(done.times[stage]))
    expect(times.every(Number.isFinite)).toBe(true)
    expect(times.at(-1)).toBeGreaterThanOrEqual(times[0] ?? Infinity)

    for (const [fleet, documentId] of [
      [acme, id],
      [globex, item.id],
    ] as const) {
      const evidence = await until(`complete evidence at ${fleet.info.name}`, async () => {
        const answer = await fleet.api(`/v1/documents/${documentId}/evidence`)
        return answer.status === 200 ? answer.body : undefined
      })
      const report = verifyEvidence(evidence)
      expect(report.checks.filter((check) => !check.ok)).toEqual([])
      expect(report.ok).toBe(true)
    }
  })

  it('a changed commitment is refused with VerificationFailed and audited, and the genuine envelope still opens', async () => {
    const { acme, globex, globexId } = fleets
    const before = (await get(globex, '/v1/inbox?limit=200')).items.length
    await globex.suspend('relay-svc')
    const { id, contentDigest } = await issueUbl(acme, sampleWithOwnNumber())
    const { shareId } = await share(acme, id, globexId)
    await shareReaches(acme, shareId, 'relayed')
    const genuine = await until('the envelope is queued', async () => (await outbound()).find((row) => row.state === 'queued'))
    const parts = decodeEnvelope(new Uint8Array(genuine.envelope))
    const commit = Uint8Array.from(parts.commit)
    commit[0] = (commit[0] ?? 0) ^ 1
    // The edited copy goes first: it must not burn the key of the genuine one.
    await sql(fleets, 'acme', 'DELETE FROM relay.outbound WHERE message_id = $1', [genuine.message_id])
    const edited = await enqueue(encodeEnvelope({ ...parts, commit }))
    await globex.resume('relay-svc')
    await until('globex has refused the edited copy', async () =>
      (await outbound()).some((row) => row.message_id === edited && row.state === 'stored'),
    )
    const event = await until('the refusal is audited', async () =>
      (await auditEvents(globex)).find((e) => e.type === 'VerificationFailed'),
    )
    expect(event.body).toMatchObject({ peer: fleets.acmeId, what: 'commitment', code: 'VerificationFailed' })
    expect((await get(globex, '/v1/inbox?limit=200')).items).toHaveLength(before)

    await sql(fleets, 'acme', 'INSERT INTO relay.outbound (message_id, fleet_id, envelope, digest, size) VALUES ($1, $2, $3, $4, $5)', [
      genuine.message_id,
      globexId,
      genuine.envelope,
      genuine.digest,
      genuine.envelope.length,
    ])
    await shareReaches(acme, shareId, 'delivered')
    expect(await inboxItem(globex, contentDigest)).toMatchObject({ state: 'received' })
  })

  it('a replayed envelope changes nothing and gets the original receipt', async () => {
    const { acme, globex, globexId } = fleets
    await globex.suspend('relay-svc')
    const { id } = await issueUbl(acme, sampleWithOwnNumber())
    const { shareId } = await share(acme, id, globexId)
    await shareReaches(acme, shareId, 'relayed')
    const original = await until('the envelope is queued', async () => (await outbound()).find((row) => row.state === 'queued'))
    await globex.resume('relay-svc')
    await shareReaches(acme, shareId, 'delivered')
    const receipt = (await outbound()).find((row) => row.message_id === original.message_id)?.hop_receipt
    const inbox = await get(globex, '/v1/inbox?limit=200')
    const received = (await auditEvents(globex)).filter((e) => e.type === 'MessageReceived').length

    for (let times = 0; times < 2; times++) {
      const again = await enqueue(new Uint8Array(original.envelope))
      const row = await until('the replay is answered', async () =>
        (await outbound()).find((r) => r.message_id === again && r.state === 'stored'),
      )
      expect(row.hop_receipt).toEqual(receipt)
      // Also after a restart of everything that took part.
      await Promise.all([globex.kill('relay-svc', 'SIGKILL'), globex.kill('session-svc', 'SIGKILL')])
      await globex.ready()
    }
    expect(await get(globex, '/v1/inbox?limit=200')).toEqual(inbox)
    expect((await auditEvents(globex)).filter((e) => e.type === 'MessageReceived')).toHaveLength(received)
  })

  it('an unknown PeerId never reaches a stream handler', async () => {
    const { globex } = fleets
    const stranger = await createLibp2p({
      transports: [tcp()],
      connectionEncrypters: [noise()],
      streamMuxers: [yamux()],
      connectionGater: { denyDialMultiaddr: () => false },
    })
    try {
      const address = globex.info.multiaddrs.find((text: string) => text.includes('/tcp/'))
      const reached = async () => {
        const connection = await stranger.dial(multiaddr(address))
        const stream = await connection.newStream('/tallystick/relay/1.0.0', { signal: AbortSignal.timeout(5_000) })
        return new Promise((resolve, reject) => {
          stream.addEventListener('message', () => resolve('answered'))
          stream.addEventListener('close', () => reject(new Error('closed')))
        })
      }
      await expect(reached()).rejects.toThrow()
      const metrics = await (await fetch(globex.info.metrics['relay-svc'])).text()
      expect(metrics).toMatch(/tallystick_handshakes_total\{[^}]*outcome="(unknown|unauthorized|refused|denied)[^"]*"[^}]*\} [1-9]/)
    } finally {
      await stranger.stop()
    }
  })

  it('with globex down a share waits and says why, and arrives after it comes back', async () => {
    const { acme, globex, globexId } = fleets
    for (const service of ['relay-svc', 'invoice-svc', 'session-svc', 'audit-svc'] as const) await globex.suspend(service)
    const { id, contentDigest } = await issueUbl(acme, sampleWithOwnNumber())
    const { shareId } = await share(acme, id, globexId)
    const waiting = await until('the share says why it waits', async () => {
      const now = await get(acme, `/v1/shares/${shareId}`)
      return now.state === 'relayed' && now.cause ? now : undefined
    })
    expect(waiting.cause).toMatch(/[a-z]+ .*[a-z]/)
    expect(Date.parse(waiting.nextAttemptAt)).toBeGreaterThan(0)
    for (const service of ['relay-svc', 'invoice-svc', 'session-svc', 'audit-svc'] as const) await globex.resume(service)
    await globex.ready()
    const done = await shareReaches(acme, shareId, 'delivered')
    expect(done.cause).toBeNull()
    expect(await inboxItem(globex, contentDigest)).toMatchObject({ state: 'received' })
  })
})

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { buildEvidence } from '@tallystick/merkle-log/evidence'
import { signCheckpoint } from '@tallystick/merkle-log/checkpoint'
import { verifierKey } from '@tallystick/merkle-log/note'
import { append, consistencyRanges, EMPTY_FRONTIER, frontierRoot, leafHash, type NodeId, rangeHash } from '@tallystick/merkle-log/tree'
import { toBase64Url, toHex } from '@tallystick/primitives/bytes'
import { sha256 } from '@tallystick/primitives/hash'
import { encode } from '@tallystick/wire/cbor'
import { logOrigin, logVkey, readCertificate } from '@tallystick/wire/certificate'
import { assembleStatement, encodeStatementPayload } from '@tallystick/wire/document'
import { contentDigest } from '@tallystick/wire/payload'
import { NOW, testFleet } from '../../../libs/wire/test/fixtures.js'
import { run } from './program.js'

const acme = testFleet('acme', { notBefore: Date.now() - 60_000, notAfter: Date.now() + 3_600_000 })
const globex = testFleet('globex')
const origin = logOrigin(acme.fleetId)

let directory: string
let server: Server
let url: string
/** What the stand-in API answers, by method and path without the query. */
let answers: Record<string, (request: { query: URLSearchParams; body: string; headers: Record<string, unknown> }) => unknown>

beforeAll(async () => {
  directory = mkdtempSync(path.join(os.tmpdir(), 'tallystick-cli-'))
  server = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://localhost')
    let body = ''
    request.on('data', (chunk: Buffer) => (body += chunk.toString()))
    request.on('end', () => {
      const answer = answers[`${request.method} ${pathname}`]?.({ query: searchParams, body, headers: request.headers })
      if (answer === undefined) {
        response
          .writeHead(404, { 'content-type': 'application/problem+json' })
          .end(JSON.stringify({ code: 'NotFound', detail: 'There is nothing at this path.' }))
      } else if (typeof answer === 'object' && answer !== null && 'problem' in answer) {
        const { status, ...problem } = answer.problem as { status: number }
        response.writeHead(status, { 'content-type': 'application/problem+json' }).end(JSON.stringify(problem))
      } else
        response.writeHead(200, { 'content-type': 'application/json' }).end(typeof answer === 'string' ? answer : JSON.stringify(answer))
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  writeFileSync(
    path.join(directory, 'fleet.json'),
    JSON.stringify({ api: { url, tokens: { admin: 'secret-token' } }, metrics: { 'audit-svc': `${url}/metrics` } }),
  )
})
afterAll(async () => {
  await new Promise((resolve) => server.close(resolve))
  rmSync(directory, { recursive: true, force: true })
})
beforeEach(() => {
  answers = {}
})

async function cli(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  let out = ''
  let err = ''
  const code = await run(args, { out: { write: (text) => (out += text) }, err: { write: (text) => (err += text) }, env: {} })
  return { code, out, err }
}
const fleet = () => ['--fleet', directory]

describe('usage', () => {
  it('help is 0; unknown verbs, missing arguments and a missing target are 2', async () => {
    expect(await cli('--help')).toMatchObject({ code: 0, out: expect.stringContaining('evidence') })
    for (const args of [
      ['nonsense'],
      ['evidence', 'verify'],
      ['peer', 'list', '--no-such-option'],
      ['peer', 'list'],
      ['peer', 'list', '--fleet', '/nonexistent'],
      ['peer', 'list', '--url', 'ftp://x', '--token-file', '/dev/null'],
      ['invoice', 'import', '/nonexistent', ...fleet()],
      ['invoice', 'watch', 'x', '--until', 'noon', ...fleet()],
    ]) {
      expect((await cli(...args)).code, args.join(' ')).toBe(2)
    }
  })

  it('an API that is not there is 4; a refusal is 3 with its rules; a failing service is 4', async () => {
    writeFileSync(path.join(directory, 'token'), 'secret-token\n')
    expect(await cli('peer', 'list', '--url', 'http://127.0.0.1:9', '--token-file', path.join(directory, 'token'), '--json')).toMatchObject(
      { code: 4, out: expect.stringContaining('"exitCode":4') },
    )
    answers['POST /v1/peers'] = () => ({
      problem: {
        status: 422,
        code: 'Serialization',
        detail: 'checksum',
        errors: [{ pointer: '/invitation', rule: 'Serialization', message: 'mistyped' }],
      },
    })
    const refused = await cli('peer', 'add', 'tally1xyz', ...fleet())
    expect(refused).toMatchObject({ code: 3, err: expect.stringContaining('/invitation: mistyped') })
    answers['GET /v1/peers'] = () => ({ problem: { status: 503, code: 'NotReady', detail: 'not yet' } })
    expect((await cli('peer', 'list', ...fleet())).code).toBe(4)
    expect(refused.err + refused.out).not.toContain('secret-token')
  })
})

describe('peer and invoice', () => {
  it('sends the token, an idempotency key and the document as it is', async () => {
    const seen: Record<string, unknown>[] = []
    const document = {
      id: 'd1',
      kind: 'invoice',
      state: 'draft',
      status: 'draft',
      number: null,
      seller: 'S',
      buyer: 'B\u001b[31m',
      currency: 'EUR',
      payableAmount: '1.00',
      unmapped: [{ path: '/Invoice/Note', value: 'x' }],
    }
    answers['POST /v1/invoices'] = ({ headers, body }) => (seen.push({ ...headers, body }), document)
    answers['POST /v1/invoices/d1/issue'] = () => ({ ...document, state: 'issued', number: 'F-1' })
    writeFileSync(path.join(directory, 'i.xml'), '<Invoice/>')
    const { code, out } = await cli('invoice', 'import', path.join(directory, 'i.xml'), '--issue', ...fleet())
    expect(code).toBe(0)
    expect(seen[0]).toMatchObject({
      authorization: 'Bearer secret-token',
      'content-type': 'application/xml',
      body: '<Invoice/>',
      'idempotency-key': expect.stringMatching(/^[0-9a-f-]{36}$/),
    })
    expect(out).toContain('F-1')
    expect(out).toContain('not kept: /Invoice/Note')
    expect(out).not.toContain('\u001b')
  })

  it('follows a share to its verdict, and gives up with 4', async () => {
    let polls = 0
    const times = { queued: 't0', sealed: 't1', relayed: 't2' }
    answers['GET /v1/shares/s1'] = () =>
      ++polls < 3
        ? { shareId: 's1', state: 'relayed', times, cause: 'The peer does not answer.', code: 'Network', nextAttemptAt: null }
        : {
            shareId: 's1',
            state: 'accepted',
            times: { ...times, stored: 't3', delivered: 't4', accepted: 't5' },
            cause: null,
            code: null,
            nextAttemptAt: null,
          }
    const { code, out } = await cli('invoice', 'watch', 's1', ...fleet())
    expect(code).toBe(0)
    expect(out.match(/queued|sealed|relayed|stored|delivered|accepted/g)).toEqual([
      'queued',
      'sealed',
      'relayed',
      'stored',
      'delivered',
      'accepted',
    ])
    expect(out).toContain('waiting: The peer does not answer.')
    polls = -100
    expect((await cli('invoice', 'watch', 's1', '--timeout', '0.1', ...fleet())).code).toBe(4)
    expect((await cli('invoice', 'watch', 's1', '--until', 'sealed', ...fleet())).code).toBe(0)
  })

  it('waits its turn when the API says so', async () => {
    let asked = 0
    answers['GET /v1/peers'] = () =>
      ++asked < 3 ? { problem: { status: 429, code: 'RateLimited', detail: 'later', retryAfterMs: 60 } } : { items: [], next: null }
    expect(await cli('peer', 'list', ...fleet())).toMatchObject({ code: 0, out: 'no peers yet\n' })
    expect(asked).toBe(3)
  })

  it('lists all pages of peers', async () => {
    const peer = (fleetId: string) => ({
      fleetId,
      displayName: 'X',
      fingerprint: '1',
      state: 'active',
      verified: false,
      cause: null,
      session: null,
      connection: null,
    })
    answers['GET /v1/peers'] = ({ query }) =>
      query.get('after') === null ? { items: [peer('a')], next: 'a' } : { items: [peer('b')], next: null }
    expect(JSON.parse((await cli('peer', 'list', '--json', ...fleet())).out)).toMatchObject({ items: [{ fleetId: 'a' }, { fleetId: 'b' }] })
  })
})

describe('audit verify', () => {
  const events = Array.from({ length: 450 }, (_, i) => ({
    eventId: `e${i}`,
    stream: 'security',
    type: 'DocumentShredded',
    at: i,
    actor: 'x',
    body: { documentId: `d${i}` } as Record<string, unknown>,
  }))
  let log: typeof events
  const hashes = () => log.map((event) => leafHash(encode(event)))
  const rootOf = (size: number) => frontierRoot(append(EMPTY_FRONTIER, hashes().slice(0, size)).frontier)
  const noteOf = (size: number) =>
    signCheckpoint({ origin, size, root: rootOf(size), extensions: [] }, verifierKey(origin, acme.log.publicKey), acme.log.sign)

  beforeEach(() => {
    log = structuredClone(events)
    answers['GET /v1/fleet'] = () => ({
      fleetId: acme.fleetId,
      displayName: 'acme',
      multiaddrs: [],
      certificate: toBase64Url(acme.certificate),
      logVkey: logVkey(readCertificate(acme.certificate, Date.now())),
    })
    answers['GET /v1/audit/checkpoint'] = () => ({ note: noteOf(log.length) })
    answers['GET /v1/audit/events'] = ({ query }) => {
      const after = Number(query.get('after'))
      const all = hashes()
      return {
        items: log
          .slice(after + 1, after + 1 + Number(query.get('limit')))
          .map((event, i) => ({ index: after + 1 + i, leafHash: toHex(all[after + 1 + i]!), event })),
      }
    }
    answers['GET /v1/audit/consistency'] = ({ query }) => {
      const all = hashes()
      const nodeOf = ({ level, index }: NodeId) =>
        frontierRoot(append(EMPTY_FRONTIER, all.slice(index * 2 ** level, (index + 1) * 2 ** level)).frontier)
      const [from, to] = [Number(query.get('from')), Number(query.get('to'))]
      return { proof: consistencyRanges(from, to).map((range) => toHex(rangeHash(range, nodeOf))), fromRoot: '', toRoot: '' }
    }
  })

  it('recomputes the root and remembers the checkpoint', async () => {
    const state = path.join(directory, 'seen')
    log = log.slice(0, 400)
    expect(await cli('audit', 'verify', '--state', state, ...fleet())).toMatchObject({
      code: 0,
      out: expect.stringContaining('root recomputed from 400 events'),
    })
    log = structuredClone(events)
    const { code, out } = await cli('audit', 'verify', '--state', state, '--json', ...fleet())
    expect(code).toBe(0)
    expect(JSON.parse(out)).toMatchObject({ ok: true, size: 450, seenBefore: 400 })
    expect(readFileSync(state, 'utf8')).toContain('\n450\n')
  })

  it('finds a changed event, a rewritten history, a shrunken log, another key', async () => {
    const state = path.join(directory, 'seen2')
    expect((await cli('audit', 'verify', '--state', state, ...fleet())).code).toBe(0)
    const eventsAnswer = answers['GET /v1/audit/events']!
    answers['GET /v1/audit/events'] = (request) => {
      const page = structuredClone(eventsAnswer(request)) as { items: { event: { at: number } }[] }
      if (page.items[7]) page.items[7].event.at += 1
      return page
    }
    expect(await cli('audit', 'verify', ...fleet())).toMatchObject({ code: 5, err: expect.stringContaining('Event 7') })
    answers['GET /v1/audit/events'] = eventsAnswer
    log[3]!.at = 999
    log.push(structuredClone(log[0]!))
    expect(await cli('audit', 'verify', '--state', state, ...fleet())).toMatchObject({ code: 5, err: expect.stringContaining('rewritten') })
    log = structuredClone(events).slice(0, 100)
    expect(await cli('audit', 'verify', '--state', state, ...fleet())).toMatchObject({ code: 5, err: expect.stringContaining('shrank') })
    log = structuredClone(events)
    answers['GET /v1/audit/events'] = () => ({ items: [] })
    expect((await cli('audit', 'verify', ...fleet())).code).toBe(5)
    expect((await cli('audit', 'verify', '--vkey', logVkey(readCertificate(globex.certificate, NOW)), ...fleet())).code).toBe(5)
  })

  it('doctor names what is wrong', async () => {
    answers['GET /v1/breakers'] = () => ({ items: [{ target: 'session.v1.seal', state: 'closed' }] })
    answers['GET /v1/peers'] = () => ({ items: [] })
    answers['GET /health/ready'] = () => ({ status: 'ok', checks: { nats: 'up' } })
    expect(await cli('doctor', ...fleet())).toMatchObject({ code: 0, out: expect.stringContaining('checkpoint of 450 events') })
    answers['GET /v1/breakers'] = () => ({ items: [{ target: 'session.v1.seal', state: 'open' }] })
    expect(await cli('doctor', ...fleet())).toMatchObject({ code: 4, out: expect.stringContaining('session.v1.seal open') })
    answers['GET /v1/audit/checkpoint'] = () => ({
      note: signCheckpoint({ origin, size: 1, root: sha256(), extensions: [] }, verifierKey(origin, globex.log.publicKey), globex.log.sign),
    })
    expect((await cli('doctor', ...fleet())).code).toBe(5)
  })
})

describe('evidence verify', () => {
  const body = encode({ invoice: 'F-1' })
  const payload = encodeStatementPayload({
    kind: 'invoice',
    documentId: '0190a1b2-0000-7000-8000-000000000001',
    contentDigest: contentDigest(body),
    signer: globex.fleetId,
    audience: testFleet('initech').fleetId,
    issuedAt: NOW,
    expiresAt: NOW + 1,
    nonce: sha256(),
  })
  const evidence = () =>
    buildEvidence(
      {
        kind: 'invoice',
        documentId: '0190a1b2-0000-7000-8000-000000000001',
        body,
        statement: assembleStatement(payload, globex.root.sign(payload)),
        senderCertificate: globex.certificate,
        recipientCertificate: testFleet('initech').certificate,
      },
      contentDigest(body),
    )

  it('0 for a good file, offline; 5 and the check’s name for a changed one; 5 for no file of this kind', async () => {
    const file = path.join(directory, 'e.json')
    writeFileSync(file, JSON.stringify(evidence()))
    expect(await cli('evidence', 'verify', file)).toMatchObject({ code: 0, out: expect.stringContaining('absent verdicts') })
    expect(JSON.parse((await cli('evidence', 'verify', file, '--json')).out)).toMatchObject({ ok: true })
    const changed = evidence() as { document: { body: string } }
    changed.document.body = toBase64Url(encode({ invoice: 'F-2' }))
    writeFileSync(file, JSON.stringify(changed))
    expect(await cli('evidence', 'verify', file, '--quiet')).toMatchObject({
      code: 5,
      out: '',
      err: expect.stringContaining('document.digest'),
    })
    for (const text of ['', '{', '[]', '{"format":"x"}', '['.repeat(100_000)]) {
      writeFileSync(file, text)
      expect((await cli('evidence', 'verify', file)).code).toBe(5)
    }
    expect((await cli('evidence', 'verify', path.join(directory, 'absent.json'))).code).toBe(2)
  })
})

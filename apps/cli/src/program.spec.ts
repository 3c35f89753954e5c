import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
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
    answers['GET /v1/custody'] = () => custody()
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

const custody = (memory: Record<string, unknown> = {}) => ({
  provider: 'file',
  kekId: 'a1b2',
  dataKeys: [{ id: 'd1', version: 1 }],
  signingKey: 'sealed',
  memory: { arenaBytes: 4096, usedBytes: 96, lockedBytes: 8192, locked: true, guardPages: true, excludedFromCoreDumps: true, ...memory },
  prekeys: [{ kind: 'one-time', available: 88, newestAt: null }],
  generation: { value: 12, restoredAt: null },
})
const peerView = (fields: Record<string, unknown> = {}) => ({
  fleetId: 'tsf1peer',
  displayName: 'Globex',
  fingerprint: '11111 22222',
  state: 'active',
  verified: true,
  cause: null,
  session: { epoch: 4, startedAt: '2026-11-21T00:00:00.000Z', messagesLeft: 60, confirmed: true },
  connection: null,
  keyState: 'ok',
  pendingFingerprint: null,
  recovery: { state: 'ok', reason: '', since: null },
  oldEpochs: 0,
  rotateEvery: null,
  ...fields,
})

describe('keys', () => {
  it('status shows custody and the key state of every peer, or one session in full', async () => {
    answers['GET /v1/custody'] = () => custody()
    answers['GET /v1/peers'] = () => ({ items: [peerView({ keyState: 'suspect' })], next: null })
    const all = await cli('keys', 'status', ...fleet())
    expect(all).toMatchObject({ code: 0, out: expect.stringMatching(/key-encryption key a1b2[^]*locked \(8192 bytes\)[^]*suspect/) })
    answers['GET /v1/peers/tsf1peer'] = () =>
      peerView({
        keyState: 'resync',
        recovery: { state: 'resync_required', reason: 'three messages did not open', since: '2026-11-21T01:00:00.000Z' },
        oldEpochs: 2,
        rotateEvery: 1,
      })
    const { out } = await cli('keys', 'status', 'tsf1peer', ...fleet())
    for (const part of ['epoch 4', '60 documents left', 'three messages did not open', '2, kept', 'every 1 documents'])
      expect(out).toContain(part)
  })

  it('rotate, resync and policy say what will happen, and ask the API for it', async () => {
    const bodies: string[] = []
    answers['POST /v1/peers/tsf1peer/rotate'] = () => peerView()
    answers['POST /v1/peers/tsf1peer/resync'] = () => peerView({ recovery: { state: 'resync_required', reason: 'asked for', since: null } })
    answers['PATCH /v1/peers/tsf1peer'] = ({ body }) => (bodies.push(body), peerView())
    expect(await cli('keys', 'rotate', 'tsf1peer', ...fleet())).toMatchObject({
      code: 0,
      out: expect.stringContaining('the present one is 4'),
    })
    expect(await cli('keys', 'resync', 'tsf1peer', ...fleet())).toMatchObject({ code: 0, out: expect.stringContaining('resync_required') })
    expect((await cli('keys', 'policy', 'tsf1peer', '--rotate-every', '1', ...fleet())).code).toBe(0)
    expect((await cli('keys', 'policy', 'tsf1peer', '--rotate-every', 'default', ...fleet())).code).toBe(0)
    expect(bodies).toEqual(['{"rotateEvery":1}', '{"rotateEvery":null}'])
    for (const value of ['0', '101', '1.5', 'x'])
      expect((await cli('keys', 'policy', 'tsf1peer', '--rotate-every', value, ...fleet())).code).toBe(2)
    answers['POST /v1/peers/tsf1peer/rotate'] = () => ({ problem: { status: 409, code: 'Conflict', detail: 'This peer is blocked' } })
    expect((await cli('keys', 'rotate', 'tsf1peer', ...fleet())).code).toBe(3)
  })

  it('renew-identity does nothing before the fleet id is typed', async () => {
    const bodies: string[] = []
    answers['GET /v1/fleet'] = () => ({ fleetId: 'tsf1own', fingerprint: '1' })
    answers['POST /v1/fleet/renew-identity'] = ({ body }) => (
      bodies.push(body),
      { fleetId: 'tsf1own', sequence: 2, fingerprint: '99999 88888', sessionsWiped: 3, prekeysDestroyed: 202, repeated: false }
    )
    const warned = await cli('keys', 'renew-identity', ...fleet())
    expect(warned).toMatchObject({
      code: 2,
      out: expect.stringContaining('Every session is wiped'),
      err: expect.stringContaining('--confirm tsf1own'),
    })
    expect((await cli('keys', 'renew-identity', '--confirm', 'tsf1other', ...fleet())).code).toBe(2)
    expect(bodies).toEqual([])
    const done = await cli('keys', 'renew-identity', '--confirm', 'tsf1own', ...fleet())
    expect(done).toMatchObject({ code: 0, out: expect.stringContaining('99999 88888') })
    expect(bodies).toEqual(['{"confirm":"tsf1own"}'])
  })

  it('backup writes a new file for its owner alone, and never over another', async () => {
    const file = path.join(directory, 'fleet.age')
    const bodies: string[] = []
    answers['POST /v1/custody/backup'] = ({ body }) => (bodies.push(body), 'age-encryption.org/v1\n-> X25519 \u00e9')
    expect((await cli('keys', 'backup', file, ...fleet())).code).toBe(2)
    expect(await cli('keys', 'backup', file, '--recipient', 'age1a', '--recipient', 'age1b', ...fleet())).toMatchObject({ code: 0 })
    expect(JSON.parse(bodies[0]!)).toEqual({ recipients: ['age1a', 'age1b'] })
    expect([readFileSync(file, 'utf8'), statSync(file).mode & 0o777]).toEqual(['age-encryption.org/v1\n-> X25519 \u00e9', 0o600])
    expect(await cli('keys', 'backup', file, '--recipient', 'age1a', ...fleet())).toMatchObject({
      code: 3,
      err: expect.stringContaining('not overwritten'),
    })
    expect(bodies).toHaveLength(1)
  })

  it('rotate-kek names both keys', async () => {
    answers['POST /v1/custody/rotate-kek'] = () => ({ from: 'a', to: 'b', rewrapped: 3 })
    expect(await cli('keys', 'rotate-kek', ...fleet())).toMatchObject({
      code: 0,
      out: expect.stringContaining('3 data keys are now wrapped under b'),
    })
  })
})

describe('keys restore', () => {
  const place = (name: string, text: string) => {
    const file = path.join(directory, name)
    writeFileSync(file, text)
    return file
  }
  const secrets = () => {
    const folder = mkdtempSync(path.join(directory, 'secrets-'))
    return folder
  }
  const restore = (file: string, identity: string, into: string) => cli('keys', 'restore', file, '--identity', identity, '--secrets', into)

  it('puts both files there, readable by their owner alone, without asking any service', async () => {
    const [backup, identity] = [place('b.age', 'age-encryption.org/v1\nx'), place('id', '# created\nAGE-SECRET-KEY-1QQ\n')]
    const into = secrets()
    expect(await restore(backup, identity, into)).toMatchObject({ code: 0, out: expect.stringContaining('Then remove both files') })
    for (const [name, text] of [
      ['restore.age', 'age-encryption.org/v1\nx'],
      ['restore.identity', '# created\nAGE-SECRET-KEY-1QQ\n'],
    ] as const)
      expect([readFileSync(path.join(into, name), 'utf8'), statSync(path.join(into, name)).mode & 0o777]).toEqual([text, 0o400])
    const armored = place('b.asc', '-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n-----END AGE ENCRYPTED FILE-----\n')
    expect((await restore(armored, identity, secrets())).code).toBe(0)
  })

  it('overwrites nothing, takes nothing else, and leaves no half behind', async () => {
    const [backup, identity] = [place('b2.age', 'age-encryption.org/v1\nx'), place('id2', 'AGE-SECRET-KEY-1QQ\n')]
    for (const present of ['restore.age', 'restore.identity']) {
      const into = secrets()
      writeFileSync(path.join(into, present), 'kept')
      expect(await restore(backup, identity, into), present).toMatchObject({ code: 3, err: expect.stringContaining('not overwritten') })
      expect(readFileSync(path.join(into, present), 'utf8')).toBe('kept')
      expect(['restore.age', 'restore.identity'].filter((name) => existsSync(path.join(into, name)))).toEqual([present])
    }
    const into = secrets()
    expect((await restore(place('n.age', 'something else'), identity, into)).code).toBe(3)
    expect((await restore(backup, place('n.id', 'age1publickey'), into)).code).toBe(3)
    expect((await restore(place('big.age', `age-encryption.org/v1\n${'x'.repeat(400_000)}`), identity, into)).code).toBe(3)
    expect((await restore(path.join(directory, 'absent'), identity, into)).code).toBe(2)
    expect((await restore(backup, identity, path.join(directory, 'b2.age'))).code).toBe(2)
    mkdirSync(path.join(into, 'sub'))
    expect(['restore.age', 'restore.identity'].filter((name) => existsSync(path.join(into, name)))).toEqual([])
  })
})

describe('a peer with new identity keys', () => {
  const pending = { keyState: 'identity-changed', pendingFingerprint: '77777 66666' }

  it('is shown to be compared, and approved only by what was typed', async () => {
    const bodies: string[] = []
    answers['GET /v1/peers/tsf1peer'] = () => peerView(pending)
    answers['POST /v1/peers/tsf1peer/verify'] = ({ body }) => (bodies.push(body), peerView())
    const shown = await cli('peer', 'verify', 'tsf1peer', ...fleet())
    expect(shown).toMatchObject({ code: 3, err: expect.stringContaining('Nothing was approved') })
    for (const part of ['11111 22222', '77777 66666']) expect(shown.out).toContain(part)
    expect(bodies).toEqual([])
    const approved = await cli('peer', 'verify', 'tsf1peer', '--fingerprint', '77777 66666', ...fleet())
    expect(approved).toMatchObject({ code: 0, out: expect.stringContaining('approved the new identity of Globex') })
    expect(bodies).toEqual(['{"fingerprint":"77777 66666"}'])
    answers['GET /v1/peers'] = () => ({ items: [peerView(pending)], next: null })
    expect((await cli('peer', 'list', ...fleet())).out).toContain('identity-changed')
  })

  it('and peers that do not understand us, unlocked memory, missing prekeys are what doctor finds', async () => {
    answers['GET /v1/fleet'] = () => ({
      fleetId: acme.fleetId,
      displayName: 'acme',
      multiaddrs: [],
      certificate: toBase64Url(acme.certificate),
    })
    answers['GET /v1/breakers'] = () => ({ items: [] })
    answers['GET /health/ready'] = () => ({ checks: {} })
    answers['GET /v1/audit/checkpoint'] = () => ({
      note: signCheckpoint({ origin, size: 1, root: sha256(), extensions: [] }, verifierKey(origin, acme.log.publicKey), acme.log.sign),
    })
    answers['GET /v1/custody'] = () => custody()
    answers['GET /v1/peers'] = () => ({
      items: [peerView(), peerView({ keyState: 'rotation-due' }), peerView({ keyState: null })],
      next: null,
    })
    expect((await cli('doctor', ...fleet())).code).toBe(0)
    for (const [keyState, code, text] of [
      ['suspect', 4, 'sent messages that do not open'],
      ['resync', 4, 'needs a new session'],
      ['rotation-blocked', 4, 'messages wait'],
      ['identity-changed', 5, 'nobody has approved'],
    ] as const) {
      answers['GET /v1/peers'] = () => ({ items: [peerView({ keyState })], next: null })
      expect(await cli('doctor', ...fleet())).toMatchObject({ code, out: expect.stringContaining(`FAILED keys: Globex `) })
      expect((await cli('doctor', ...fleet())).out).toContain(text)
    }
    answers['GET /v1/peers'] = () => ({ items: [], next: null })
    for (const memory of [{ locked: false }, { lockedBytes: 4095 }, { excludedFromCoreDumps: false }]) {
      answers['GET /v1/custody'] = () => custody(memory)
      expect(await cli('doctor', ...fleet())).toMatchObject({ code: 5, out: expect.stringContaining('FAILED custody') })
    }
    answers['GET /v1/custody'] = () => ({ ...custody(), prekeys: [{ kind: 'one-time', available: 0, newestAt: null }] })
    expect((await cli('doctor', ...fleet())).out).toContain('no one-time prekey is left')
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

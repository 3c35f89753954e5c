/** What people see of the keys with a peer, and what they can do about them; session-svc is scripted here. */
import { randomUUID, sign } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { fingerprint, issueCertificate, peerIdFromKey, readCertificate } from '@tallystick/wire/certificate'
import { encodeInvitation } from '@tallystick/wire/invitation'
import { startPostgres, type TestPostgres } from '../../../tools/testing/postgres.ts'
import type { Rpc } from '../src/app.js'
import { draftInvoice, startInvoiceService, type Service } from './harness.ts'
import { until } from './pair.ts'
import { StandInFleet } from './two-fleets.ts'

const NEW_FINGERPRINT = '11111 22222 33333 44444 55555 66666 77777 88888 99999 00000 12345 67890'

let postgres: TestPostgres
let service: Service
const own = new StandInFleet('acme')
const peer = new StandInFleet('globex')
const calls: Array<{ subject: string; request: Record<string, unknown> }> = []
let answers: Record<string, (request: never) => unknown>

/** What session-svc says about the peer. */
let keys: Record<string, unknown>
let certificate: Uint8Array
const renewed = (sequence: number, peerIds: string[] = [peer.peerId]) =>
  issueCertificate(
    { ...readCertificate(peer.certificate, Date.now()), peerIds, sequence },
    (message) => new Uint8Array(sign(null, message, peer.signing.secret)),
  )

const rpc: Rpc = {
  circuits: () => [],
  call: async (contract, input) => {
    const request = contract.request.parse(input) as Record<string, unknown>
    calls.push({ subject: contract.subject, request })
    const answer = answers[contract.subject]
    return answer === undefined ? own.rpc.call(contract, input) : (contract.response.parse(answer(request as never)) as never)
  },
}
const asked = (subject: string) => calls.filter((call) => call.subject === subject).map((call) => call.request)
const get = async (path = `/v1/peers/${peer.fleetId}`) => (await service.request('GET', path)).json
const events = async () =>
  (await service.db.changeEvent.findMany({ where: { topic: 'peer' }, orderBy: { id: 'asc' } })).map(
    (row) => row.data as Record<string, string>,
  )

beforeAll(async () => {
  postgres = await startPostgres()
  certificate = peer.certificate
  keys = healthy()
  answers = standard()
  service = await startInvoiceService({
    databaseUrl: (await postgres.createFleet('acme')).urls.invoice,
    rpc,
    background: true,
    limits: { keyWatchMs: 30, stepPollMs: 20, retryBlockedMs: 600_000 },
  })
  const pinned = await service.request('POST', '/v1/peers', {
    body: { invitation: encodeInvitation({ certificate, multiaddrs: [peer.address] }) },
  })
  expect(pinned.status, pinned.text).toBe(201)
})
afterAll(async () => {
  await service?.stop()
  await postgres?.stop()
})
beforeEach(() => {
  calls.length = 0
  answers = standard()
})

function healthy(): Record<string, unknown> {
  return {
    trust: 'pinned',
    session: { epoch: 3, startedAt: 1_700_000_000_000, ageMs: 5, sent: 40, messagesLeft: 60, confirmed: true },
    keyState: 'ok',
    recovery: { state: 'ok', reason: '', since: null },
    oldEpochs: 2,
    rotateEvery: null,
    pendingFingerprint: null,
  }
}
function standard(): typeof answers {
  return {
    'session.v1.peer': () => ({
      ok: true,
      fleetId: peer.fleetId,
      certificateDigest: readCertificate(certificate, Date.now()).digest,
      certificate,
      ...keys,
    }),
    'session.v1.pinPeer': ({ certificate: shown }: { certificate: Uint8Array }) => {
      const { fleetId, displayName, peerIds, signKey, digest, sequence } = readCertificate(shown, Date.now())
      if (sequence < readCertificate(certificate, Date.now()).sequence)
        return { ok: false, code: 'IdentityChanged', message: 'does not follow the pinned one' }
      return { ok: true, fleetId, displayName, peerIds, fingerprint: fingerprint(signKey), certificateDigest: digest, sequence }
    },
    'session.v1.rotate': () => ({ ok: true, epoch: 3 }),
    'session.v1.resync': () => ({ ok: true, state: 'resync_required' }),
    'session.v1.setPeerPolicy': () => ({ ok: true }),
  }
}

describe('the session with a peer', () => {
  it('is shown with its key state; lists have the state alone', async () => {
    expect(await get()).toMatchObject({
      trust: 'pinned',
      keyState: 'ok',
      recovery: { state: 'ok', reason: '', since: null },
      oldEpochs: 2,
      rotateEvery: null,
      pendingFingerprint: null,
      session: { epoch: 3, messagesLeft: 60, startedAt: '2023-11-14T22:13:20.000Z' },
    })
    expect((await get('/v1/peers')).items[0]).toMatchObject({ keyState: 'ok', recovery: null, session: null })
  })

  it('is rotated, resynchronised and given a policy on demand, each audited with who asked', async () => {
    const rotated = await service.request('POST', `/v1/peers/${peer.fleetId}/rotate`)
    expect([rotated.status, rotated.json.session.epoch]).toEqual([202, 3])
    expect((await service.request('POST', `/v1/peers/${peer.fleetId}/resync`)).status).toBe(202)
    keys = { ...healthy(), rotateEvery: 1 }
    const set = await service.request('PATCH', `/v1/peers/${peer.fleetId}`, { body: { rotateEvery: 1 } })
    expect([set.status, set.json.rotateEvery]).toEqual([200, 1])
    expect(asked('session.v1.setPeerPolicy')).toEqual([{ fleetId: peer.fleetId, rotateEvery: 1 }])
    for (const rotateEvery of [0, 101, 1.5, '1', undefined])
      expect((await service.request('PATCH', `/v1/peers/${peer.fleetId}`, { body: { rotateEvery } })).status, String(rotateEvery)).toBe(400)
    await until(() =>
      Promise.resolve(
        ['session-rotated', 'session-resynced', 'peer-policy-set'].every((action) =>
          own.events.some((event) => event.actor === 'client:admin' && (event.body as { action?: string }).action === action),
        ),
      ),
    )
    keys = healthy()
  })

  it('of nobody, or while session-svc refuses or is away, is left alone', async () => {
    const stranger = new StandInFleet('nobody').fleetId
    for (const action of ['rotate', 'resync']) {
      expect((await service.request('POST', `/v1/peers/${stranger}/${action}`)).status).toBe(404)
      expect((await service.request('POST', `/v1/peers/${peer.fleetId}/${action}`, { token: service.tokens.auditor })).status).toBe(403)
    }
    answers['session.v1.rotate'] = () => ({ ok: false, code: 'IdentityChanged', message: 'a new identity waits' })
    const refused = await service.request('POST', `/v1/peers/${peer.fleetId}/rotate`)
    expect(refused).toMatchObject({ status: 409, json: { code: 'IdentityChanged', type: 'urn:tallystick:problem:IdentityChanged' } })
    delete answers['session.v1.resync']
    own.away.add('session.v1.resync')
    expect((await service.request('POST', `/v1/peers/${peer.fleetId}/resync`)).status).toBe(503)
    own.away.clear()
  })

  it('a repeated Idempotency-Key asks session-svc once', async () => {
    const headers = { 'idempotency-key': randomUUID() }
    for (const replayed of [undefined, 'true']) {
      const answer = await service.request('POST', `/v1/peers/${peer.fleetId}/rotate`, { headers })
      expect([answer.status, answer.headers['idempotency-replayed']]).toEqual([202, replayed])
    }
    expect(asked('session.v1.rotate')).toHaveLength(1)
  })
})

describe('a change of the key state', () => {
  it('is an event and shows in lists, without anybody looking', async () => {
    keys = { ...healthy(), keyState: 'resync', recovery: { state: 'resync_required', reason: 'three messages did not open', since: 1 } }
    await until(async () => (await get('/v1/peers')).items[0].keyState === 'resync')
    expect((await events()).at(-1)).toEqual({ id: peer.fleetId, state: 'active', keyState: 'resync' })
    expect((await get()).recovery).toEqual({
      state: 'resync_required',
      reason: 'three messages did not open',
      since: '1970-01-01T00:00:00.001Z',
    })
    keys = healthy()
    await until(async () => (await get('/v1/peers')).items[0].keyState === 'ok')
  })

  it('a certificate that the peer has renewed is taken over, and its PeerIds reach relay-svc', async () => {
    const moved = peerIdFromKey(new Uint8Array(32).fill(7))
    certificate = renewed(2, [peer.peerId, moved])
    await until(async () => asked('relay.v1.setPeer').some((request) => (request.peerIds as string[]).includes(moved)))
    expect(await get()).toMatchObject({ sequence: 2, peerIds: [peer.peerId, moved], state: 'active' })
  })

  it('a change that is told with an older certificate than session-svc has takes that one over, and is told again', async () => {
    answers['session.v1.peer'] = () => ({ ok: false, code: 'NotFound', message: 'not now' })
    await service.db.peer.update({ where: { fleetId: peer.fleetId }, data: { multiaddrs: [] } })
    certificate = renewed(3)
    answers = standard()
    await service.request('POST', `/v1/peers/${peer.fleetId}/verify`)
    await until(async () => asked('relay.v1.setPeer').some((request) => (request.peerIds as string[]).length === 1))
    await until(async () => (await service.db.peer.findUnique({ where: { fleetId: peer.fleetId } }))!.sequence === 3n)
    expect(await get()).toMatchObject({ state: 'active', cause: null })
  })
})

describe('a new identity of a peer', () => {
  let messageId: string

  it('stops sending, is an event, and is shown to be compared', async () => {
    answers['session.v1.seal'] = ({ items }: { items: Array<{ messageId: string }> }) => ({
      items: items.map((item) => ({ ok: false, messageId: item.messageId, code: 'IdentityChanged', message: 'waits for approval' })),
    })
    keys = { ...healthy(), keyState: 'identity-changed', pendingFingerprint: NEW_FINGERPRINT }
    await until(async () => (await get('/v1/peers')).items[0].keyState === 'identity-changed')
    expect((await events()).at(-1)).toEqual({
      id: peer.fleetId,
      state: 'active',
      keyState: 'identity-changed',
      pendingFingerprint: NEW_FINGERPRINT,
    })
    for (const purpose of ['share', 'log'])
      await service.request('POST', '/v1/consents', { body: { peerId: peer.fleetId, purpose, kinds: ['invoice'] } })
    const draft = await service.request('POST', '/v1/invoices', { body: draftInvoice() })
    await service.request('POST', `/v1/invoices/${draft.json.id}/issue`)
    const share = await service.request('POST', `/v1/documents/${draft.json.id}/shares`, { body: { peerId: peer.fleetId } })
    expect(share.status, share.text).toBe(202)
    const waiting = await until(async () => {
      const view = await get(`/v1/shares/${share.json.shareId}`)
      return view.cause === null ? undefined : view
    })
    expect(waiting).toMatchObject({ state: 'queued', code: 'IdentityChanged' })
    messageId = (await service.db.share.findUnique({ where: { id: share.json.shareId } }))!.messageId
  })

  it('is not approved without a fingerprint, with the old one, or with another', async () => {
    const verify = async (body?: unknown) => await service.request('POST', `/v1/peers/${peer.fleetId}/verify`, { body })
    for (const body of [undefined, {}]) expect(await verify(body)).toMatchObject({ status: 409, json: { code: 'IdentityChanged' } })
    expect(await verify({ fingerprint: (await get()).fingerprint })).toMatchObject({ status: 409, json: { code: 'Conflict' } })
    expect(await verify({ fingerprint: NEW_FINGERPRINT.replace('1', '2') })).toMatchObject({ status: 409, json: { code: 'Conflict' } })
    expect(asked('session.v1.setPeerTrust').filter((request) => request.fingerprint !== undefined)).toEqual([])
    expect(await get()).toMatchObject({ keyState: 'identity-changed', pendingFingerprint: NEW_FINGERPRINT })
  })

  it('is approved by its own fingerprint: the new PeerIds reach relay-svc, what waited goes on', async () => {
    const moved = peerIdFromKey(new Uint8Array(32).fill(9))
    answers['session.v1.setPeerTrust'] = ({ fingerprint: given }: { fingerprint?: string }) => {
      if (given !== undefined) {
        expect(given).toBe(NEW_FINGERPRINT)
        certificate = renewed(4, [moved])
        keys = { ...healthy(), trust: 'verified' }
        delete answers['session.v1.seal']
      }
      return { ok: true }
    }
    expect((await service.db.message.findUnique({ where: { id: messageId } }))!.nextAttemptAt.getTime()).toBeGreaterThan(
      Date.now() + 500_000,
    )
    const approved = await service.request('POST', `/v1/peers/${peer.fleetId}/verify`, {
      body: { fingerprint: NEW_FINGERPRINT.replaceAll(' ', '-') },
    })
    expect(approved.status, approved.text).toBe(200)
    expect(approved.json).toMatchObject({
      verified: true,
      trust: 'verified',
      keyState: 'ok',
      pendingFingerprint: null,
      sequence: 4,
      peerIds: [moved],
    })
    expect(asked('relay.v1.setPeer').at(-1)).toMatchObject({ peerIds: [moved], state: 'allowed' })
    await until(async () => (await service.db.message.findUnique({ where: { id: messageId } }))!.state === 'relayed')
    await until(() => Promise.resolve(own.events.some((event) => (event.body as { action?: string }).action === 'peer-identity-approved')))
    expect((await events()).findLast((event) => event.keyState !== undefined)).toEqual({
      id: peer.fleetId,
      state: 'active',
      keyState: 'ok',
    })
  })
})

describe('custody', () => {
  const custody = {
    ok: true,
    provider: 'file',
    kekId: 'a1b2',
    dataKeys: [{ id: 'd2', version: 2, kekId: 'a1b2', createdAt: 1_700_000_000_000 }],
    signingKey: 'sealed',
    memory: { arenaBytes: 4096, usedBytes: 96, lockedBytes: 8192, locked: true, guardPages: true, excludedFromCoreDumps: true },
    prekeys: [{ kind: 'one-time', available: 88, newestAt: null }],
    generation: { value: 12, restoredAt: null },
  }

  it('is shown to whoever may read operations', async () => {
    answers['session.v1.custody'] = () => custody
    const answer = await service.request('GET', '/v1/custody', { token: service.tokens.auditor })
    expect([answer.status, answer.json.provider, answer.json.memory.locked]).toEqual([200, 'file', true])
    expect(answer.json.dataKeys).toEqual([{ id: 'd2', version: 2, kekId: 'a1b2', createdAt: '2023-11-14T22:13:20.000Z' }])
  })

  it('a backup is the age file itself, for the administrator alone', async () => {
    const file = new TextEncoder().encode('age-encryption.org/v1\n...')
    answers['session.v1.backup'] = () => ({ ok: true, file, fleetId: own.fleetId, createdAt: 1_700_000_000_000 })
    const body = { recipients: ['age1example'] }
    expect((await service.request('POST', '/v1/custody/backup', { body, token: service.tokens.auditor })).status).toBe(403)
    const answer = await service.request('POST', '/v1/custody/backup', { body, headers: { 'idempotency-key': 'backup-1' } })
    expect([answer.status, answer.headers['content-type'], answer.text]).toEqual([
      200,
      'application/octet-stream',
      new TextDecoder().decode(file),
    ])
    expect(answer.headers['content-disposition']).toMatch(/^attachment; filename="tallystick-tsf1[a-z2-7]{8}-2023-11-14\.age"$/)
    expect(await service.db.idempotency.count({ where: { key: 'backup-1' } })).toBe(0)
    for (const recipients of [[], Array<string>(9).fill('age1x'), ['']])
      expect((await service.request('POST', '/v1/custody/backup', { body: { recipients } })).status).toBe(400)
    answers['session.v1.backup'] = () => ({ ok: false, code: 'InvalidRequest', message: 'recipient 1 is not one that age knows' })
    expect(await service.request('POST', '/v1/custody/backup', { body })).toMatchObject({ status: 400, json: { code: 'InvalidRequest' } })
  })

  it('rewraps the data keys, or says that no next key is there', async () => {
    answers['session.v1.rotateKek'] = () => ({ ok: false, code: 'Conflict', message: 'no next key is configured' })
    expect(await service.request('POST', '/v1/custody/rotate-kek')).toMatchObject({
      status: 409,
      json: { detail: 'no next key is configured' },
    })
    answers['session.v1.rotateKek'] = () => ({ ok: true, from: 'a', to: 'b', rewrapped: 3 })
    expect((await service.request('POST', '/v1/custody/rotate-kek')).json).toEqual({ from: 'a', to: 'b', rewrapped: 3 })
    expect((await service.request('POST', '/v1/custody/rotate-kek', { token: service.tokens.auditor })).status).toBe(403)
  })
})

describe('renewing the own identity', () => {
  const renew = async (body: unknown, options: Record<string, unknown> = {}) =>
    await service.request('POST', '/v1/fleet/renew-identity', { body, ...options })

  it('needs the fleet’s own id typed, and the administrator', async () => {
    for (const confirm of [peer.fleetId, 'yes', undefined, ''])
      expect(await renew({ confirm }), String(confirm)).toMatchObject({ status: 400, json: { errors: [{ pointer: '/confirm' }] } })
    expect((await renew({ confirm: own.fleetId }, { token: service.tokens.auditor })).status).toBe(403)
    expect(asked('session.v1.renewIdentity')).toEqual([])
  })

  it('asks session-svc under one id however often it is repeated, and signs again what is not encoded yet', async () => {
    const requests = new Set<unknown>()
    let sequence = 2
    answers['session.v1.renewIdentity'] = ({ requestId }: { requestId: string }) => {
      requests.add(requestId)
      return { ok: true, fleetId: own.fleetId, sequence, fingerprint: NEW_FINGERPRINT, sessionsWiped: 5, prekeysDestroyed: 202 }
    }
    const row = await service.db.message.findFirstOrThrow({ where: { statement: { not: null } } })
    const { payload: _payload, ...unsent } = row
    await service.db.message.create({
      data: {
        ...unsent,
        id: randomUUID(),
        seq: null,
        state: 'queued',
        nextAttemptAt: new Date(Date.now() + 600_000),
        relayedAt: null,
      } as never,
    })
    const signed = async () => await service.db.message.count({ where: { payload: null, statement: { not: null } } })
    expect(await signed()).toBe(1)
    const headers = { 'idempotency-key': 'compromise-1' }
    const first = await renew({ confirm: own.fleetId }, { headers })
    expect(first.json).toEqual({
      fleetId: own.fleetId,
      sequence: 2,
      fingerprint: NEW_FINGERPRINT,
      sessionsWiped: 5,
      prekeysDestroyed: 202,
      repeated: false,
    })
    expect(await signed()).toBe(0)
    // The process died before its answer was stored: the same request comes again.
    await service.db.idempotency.deleteMany({ where: { key: 'compromise-1' } })
    sequence = 1
    expect((await renew({ confirm: own.fleetId }, { headers })).json.repeated).toBe(true)
    expect(requests.size).toBe(1)
    await renew({ confirm: own.fleetId }, { headers: { 'idempotency-key': 'compromise-2' } })
    await renew({ confirm: own.fleetId })
    expect(requests.size).toBe(3)
  })
})

it('nothing is asked of the session with a blocked peer', async () => {
  await service.request('POST', `/v1/peers/${peer.fleetId}/block`)
  for (const action of ['rotate', 'resync'])
    expect(await service.request('POST', `/v1/peers/${peer.fleetId}/${action}`)).toMatchObject({ status: 409, json: { code: 'Conflict' } })
  expect((await service.request('PATCH', `/v1/peers/${peer.fleetId}`, { body: { rotateEvery: 2 } })).status).toBe(409)
  expect(['session.v1.rotate', 'session.v1.resync', 'session.v1.setPeerPolicy'].flatMap(asked)).toEqual([])
})

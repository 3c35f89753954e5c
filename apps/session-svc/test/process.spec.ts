/** The service as it ships: the built process, real NATS with the generated permissions, real PostgreSQL. */
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, copyFileSync, chmodSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { auditAppend, auditIdentity } from '@tallystick/contracts/audit'
import { relayFetchBundle, relayIdentity } from '@tallystick/contracts/relay'
import {
  sessionAcknowledge,
  sessionFleet,
  sessionOpen,
  sessionPeer,
  sessionPinPeer,
  sessionSeal,
  sessionSignDocument,
  sessionTakeBundle,
} from '@tallystick/contracts/session'
import type { AuditEvent } from '@tallystick/contracts/audit-events'
import { generateSigningKey } from '@tallystick/primitives/ed25519'
import { SecretArena } from '@tallystick/secret-bytes/arena'
import { peerIdFromKey, readCertificate } from '@tallystick/wire/certificate'
import { verifyStatement } from '@tallystick/wire/document'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { answer, startTestService, type TestService } from '../../../libs/nats-rpc/test/bus-fixture.ts'
import { startNats, type TestNats } from '../../../tools/testing/nats.ts'
import { startPostgres, type TestPostgres } from '../../../tools/testing/postgres.ts'
import { type Child, startChild } from '../../../tools/process/child.ts'
import { freePort, returnPort } from '../../../tools/process/ports.ts'
import { pinPeer } from '../src/peers/pin-peer.js'
import { bytes, digestOf, plain, TestClock, TestFleet } from './fleet.js'

const MAIN = path.resolve(import.meta.dirname, '../dist/main.js')
const POLL = { timeout: 20_000, interval: 100 }

let postgres: TestPostgres
let nats: TestNats
let home: string
let port: number
let child: Child
let invoice: TestService
let relay: TestService
let audit: TestService
let peer: TestFleet
const arena = SecretArena.open(4096, { allowUnlocked: true })
const peerId = peerIdFromKey(generateSigningKey(arena).publicKey)
const logKey = plain(generateSigningKey(arena).publicKey)
const events: AuditEvent[] = []

const start = async () => {
  child = await startChild({
    command: process.execPath,
    args: [MAIN],
    logFile: path.join(home, 'session.log'),
    env: {
      PATH: process.env.PATH,
      TALLYSTICK_FLEET: 'acme',
      TALLYSTICK_NATS_URL: nats.url,
      TALLYSTICK_SECRETS_DIR: path.join(home, 'secrets'),
      TALLYSTICK_OPS_PORT: String(port),
      TALLYSTICK_WIRE_TAP: path.join(home, 'tap.jsonl'),
      TALLYSTICK_ALLOW_UNLOCKED: '1',
    },
  })
}
const status = async (route: string) => {
  try {
    return (await fetch(`http://127.0.0.1:${port}${route}`)).status
  } catch {
    return 0 // not listening
  }
}
const log = () => readFileSync(path.join(home, 'session.log'), 'utf8')

beforeAll(async () => {
  expect(existsSync(MAIN), 'build first: tsc -b apps/session-svc').toBe(true)
  ;[postgres, nats] = await Promise.all([startPostgres(), startNats()])
  home = mkdtempSync(path.join(tmpdir(), 'tallystick-session-'))
  const secrets = path.join(home, 'secrets')
  mkdirSync(secrets, { mode: 0o700 })
  writeFileSync(path.join(secrets, 'database-url'), (await postgres.createFleet('acme')).urls.session, { mode: 0o400 })
  writeFileSync(path.join(secrets, 'kek'), randomBytes(32), { mode: 0o400 })
  copyFileSync(nats.seedFile('session-svc'), path.join(secrets, 'nats.nk'))
  chmodSync(path.join(secrets, 'nats.nk'), 0o400)
  port = await freePort()
  invoice = startTestService(nats, 'invoice-svc')
  relay = startTestService(nats, 'relay-svc')
  audit = startTestService(nats, 'audit-svc')
  const clock = new TestClock()
  clock.advance(Date.now() - clock.now())
  peer = await TestFleet.start({ url: (await postgres.createFleet('globex')).urls.session, clock })
  await start()
})
afterAll(async () => {
  await child.end('SIGKILL')
  await peer.stop()
  await Promise.all([invoice.close(), relay.close(), audit.close()])
  await nats.stop()
  await postgres.stop()
  returnPort(port)
  rmSync(home, { recursive: true, force: true })
})

const sealOne = async (text: string, messageId = peer.newId()) => {
  const { items } = await invoice.rpc.call(sessionSeal, {
    items: [{ messageId, fleetId: peer.id, class: 'application', payload: bytes(text) }],
  })
  return items[0]!
}
let ownId: string

describe('session-svc as a process', { timeout: 60_000 }, () => {
  it('is alive and not ready until relay and audit have told their keys; then it issues its certificate', async () => {
    await expect.poll(() => status('/health/live'), POLL).toBe(200)
    await expect.poll(() => invoice.rpc.call(sessionFleet, {}), POLL).toMatchObject({ ok: false, code: 'NotReady' })
    expect(await status('/health/ready')).toBe(503)
    await relay.serve([
      answer(relayIdentity)(() => Promise.resolve({ ok: true, peerId, multiaddrs: [] })),
      answer(relayFetchBundle)(() => peer.take(ownId)),
    ])
    await audit.serve([
      answer(auditIdentity)(() => Promise.resolve({ ok: true, publicKey: logKey })),
      answer(auditAppend)((request) => {
        const from = events.length
        events.push(...request.events)
        return Promise.resolve({ ok: true, items: request.events.map(({ eventId }, i) => ({ eventId, index: from + i })) })
      }),
    ])
    await relay.rpc.call(sessionFleet, {})
    await audit.rpc.call(sessionFleet, {})
    await expect.poll(() => status('/health/ready'), POLL).toBe(200)
    const fleet = await invoice.rpc.call(sessionFleet, {})
    if (!fleet.ok) throw new Error(fleet.message)
    const certificate = readCertificate(fleet.certificate, Date.now())
    expect(certificate).toMatchObject({ fleetId: fleet.fleetId, displayName: 'acme', peerIds: [peerId], logKey, sequence: 1 })
    ownId = fleet.fleetId
    await expect
      .poll(() => events.map(({ type }) => type), POLL)
      .toEqual(expect.arrayContaining(['KeyStored', 'KeyAccessed', 'AdminAction']))
  })

  it('exchanges messages with a peer over the bus, and signs', async () => {
    expect(await sealOne('too early')).toMatchObject({ ok: false, code: 'NotFound' })
    const fleet = await invoice.rpc.call(sessionFleet, {})
    if (!fleet.ok) throw new Error(fleet.message)
    expect((await pinPeer(peer.context, peer.id, fleet.certificate)).ok).toBe(true)
    peer.peers = () => ({ take: (forFleetId) => relay.rpc.call(sessionTakeBundle, { forFleetId }) })
    expect(await invoice.rpc.call(sessionPinPeer, { certificate: plain(await peer.certificate()) })).toMatchObject({
      ok: true,
      fleetId: peer.id,
    })

    const messageId = peer.newId()
    const sealed = await sealOne('over the bus', messageId)
    if (!sealed.ok) throw new Error(sealed.message)
    expect(await peer.open({ id: ownId } as TestFleet, sealed.envelope)).toBe('over the bus')
    expect(await sealOne('over the bus', messageId)).toEqual(sealed)

    const reply = await peer.seal({ id: ownId } as TestFleet, 'reply')
    const item = { fleetId: peer.id, envelopeDigest: digestOf(reply), envelope: plain(reply) }
    for (let i = 0; i < 2; i++) {
      const { items } = await invoice.rpc.call(sessionOpen, { items: [item] })
      expect(items[0]).toMatchObject({ ok: true, payload: bytes('reply'), epoch: 1 })
    }
    expect(await invoice.rpc.call(sessionAcknowledge, { envelopeDigests: [item.envelopeDigest] })).toEqual({ ok: true })
    expect((await invoice.rpc.call(sessionOpen, { items: [item] })).items[0]).toMatchObject({ ok: false, code: 'DuplicateMessage' })
    expect(await invoice.rpc.call(sessionPeer, { fleetId: peer.id })).toMatchObject({
      ok: true,
      trust: 'pinned',
      session: { epoch: 1, sent: 1, messagesLeft: 99, confirmed: true },
    })

    const now = Date.now()
    const fields = {
      kind: 'invoice' as const,
      documentId: peer.newId(),
      contentDigest: plain(randomBytes(32)),
      audience: peer.id,
      issuedAt: now,
      expiresAt: now + 60_000,
    }
    const signed = await invoice.rpc.call(sessionSignDocument, fields)
    if (!signed.ok) throw new Error(signed.message)
    verifyStatement(signed.statement, {
      certificate: readCertificate(fleet.certificate, now),
      audience: peer.id,
      now,
      contentDigest: fields.contentDigest,
      kind: 'invoice',
      documentId: fields.documentId,
    })
  })

  it('after kill -9 answers a retry with the stored bytes and goes on with the session', async () => {
    const messageId = peer.newId()
    const sealed = await sealOne('before the kill', messageId)
    await child.end('SIGKILL')
    await start()
    await expect.poll(() => status('/health/ready'), POLL).toBe(200)
    expect(await sealOne('before the kill', messageId)).toEqual(sealed)
    const after = await sealOne('after the kill')
    if (!sealed.ok || !after.ok) throw new Error('not sealed')
    expect(await peer.open({ id: ownId } as TestFleet, after.envelope)).toBe('after the kill')
    expect(await peer.open({ id: ownId } as TestFleet, sealed.envelope)).toBe('before the kill')
  })

  it('reports its metrics, taps digests only, logs no content, and refuses callers that the catalogue does not name', async () => {
    const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
    for (const name of [
      'tallystick_custody_locked_bytes',
      'tallystick_session_messages_total{direction="out"',
      'tallystick_prekeys_available{kind="one-time"',
      'tallystick_replay_rejected_total',
    ]) {
      expect(text).toContain(name)
    }
    const lines = readFileSync(path.join(home, 'tap.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>)
    const byChain = new Map<unknown, Set<unknown>>()
    for (const line of lines) {
      expect(Object.keys(line)).toEqual(['at', 'service', 'direction', 'peer', 'epoch', 'chain', 'ct'])
      byChain.set(
        `${line.direction as string}${line.chain as string}`,
        (byChain.get(`${line.direction as string}${line.chain as string}`) ?? new Set()).add(line.ct),
      )
    }
    expect([...byChain.values()].every((cts) => cts.size === 1)).toBe(true)
    expect(log()).not.toMatch(/over the bus|before the kill|postgresql:\/\//)
    await expect(
      relay.rpc.call(
        sessionOpen,
        { items: [{ fleetId: peer.id, envelopeDigest: plain(new Uint8Array(32)), envelope: bytes('x') }] },
        { timeoutMs: 1_000 },
      ),
    ).rejects.toThrow(/permission/)
  })

  it('stops in order on SIGTERM, and does not start with another key file', async () => {
    expect(await child.end('SIGTERM')).toEqual({ code: 0, signal: null })
    writeFileSync(path.join(home, 'secrets', 'other'), randomBytes(32), { mode: 0o400 })
    rmSync(path.join(home, 'secrets', 'kek'))
    copyFileSync(path.join(home, 'secrets', 'other'), path.join(home, 'secrets', 'kek'))
    chmodSync(path.join(home, 'secrets', 'kek'), 0o400)
    await start()
    expect(await child.exited).toEqual({ code: 1, signal: null })
    expect(log()).toContain('sealed under key')
  })
})

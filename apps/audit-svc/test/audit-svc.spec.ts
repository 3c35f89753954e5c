/** audit-svc against a real PostgreSQL and a real NATS server. */
import { randomInt } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync, copyFileSync, chmodSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { Controller, Module } from '@nestjs/common'
import { Test } from '@nestjs/testing'
import { newAuditEvent } from '@tallystick/audit-outbox/outbox'
import {
  auditAppend,
  auditCheckpoint,
  auditConsistency,
  auditEvents,
  auditIdentity,
  auditInclusion,
  auditTile,
} from '@tallystick/contracts/audit'
import type { AuditEvent } from '@tallystick/contracts/audit-events'
import type { ServiceName } from '@tallystick/contracts/call'
import { sessionFleet } from '@tallystick/contracts/session'
import { verifyCheckpoint } from '@tallystick/merkle-log/checkpoint'
import { decodeVkey } from '@tallystick/merkle-log/note'
import { decodeEntries } from '@tallystick/merkle-log/tiles'
import { append, EMPTY_FRONTIER, frontierRoot, leafHash, verifyConsistency, verifyInclusion } from '@tallystick/merkle-log/tree'
import { ServiceClient } from '@tallystick/nats-rpc/client'
import { type Bus, connectBus } from '@tallystick/nats-rpc/connection'
import { Handles } from '@tallystick/nats-rpc/handles'
import { NatsTransport } from '@tallystick/nats-rpc/transport'
import { toHex } from '@tallystick/primitives/bytes'
import { systemRandom } from '@tallystick/primitives/random'
import { type RunningService, startService } from '../../../libs/service-host/src/lifecycle.ts'
import { logVkey } from '@tallystick/wire/certificate'
import pg from 'pg'
import { pino } from 'pino'
import { Registry } from 'prom-client'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { testFleet } from '../../../libs/wire/test/fixtures.js'
import { type TestNats, startNats } from '../../../tools/testing/nats.ts'
import { startPostgres, type TestFleetDatabase, type TestPostgres } from '../../../tools/testing/postgres.ts'
import { auditEnv, startAudit } from '../src/app.js'
import { uuidv7 } from '../src/ids.js'
import { openLogKey } from '../src/log-key.js'

const SEED = new Uint8Array(32).fill(5)
const logKey = openLogKey(SEED.slice()).publicKey
const acme = testFleet('acme', { logKey, notBefore: Date.now() - 60_000, notAfter: Date.now() + 86_400_000 })
const quiet = pino({ level: 'silent' })

let postgres: TestPostgres
let nats: TestNats
const undo: (() => Promise<unknown> | void)[] = []
beforeAll(async () => {
  ;[postgres, nats] = await Promise.all([startPostgres(), startNats()])
})
afterAll(async () => {
  for (const step of undo.toReversed()) await step()
  await nats?.stop()
  await postgres?.stop()
})

function secrets(database: string): string {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'tallystick-audit-'))
  undo.push(() => rmSync(directory, { recursive: true, force: true }))
  writeFileSync(path.join(directory, 'database-url'), database, { mode: 0o400 })
  writeFileSync(path.join(directory, 'log.seed'), SEED, { mode: 0o400 })
  copyFileSync(nats.seedFile('audit-svc'), path.join(directory, 'nats.nk'))
  chmodSync(path.join(directory, 'nats.nk'), 0o400)
  return directory
}

async function runAudit(database: TestFleetDatabase, variables: Record<string, string> = {}): Promise<RunningService> {
  const service = await startService(
    { name: 'audit-svc', env: auditEnv, start: startAudit },
    {
      variables: {
        TALLYSTICK_FLEET: 'acme',
        TALLYSTICK_NATS_URL: nats.url,
        TALLYSTICK_SECRETS_DIR: secrets(database.urls.audit),
        TALLYSTICK_OPS_PORT: '0',
        LOG_LEVEL: 'silent',
        NODE_ENV: 'test',
        ...variables,
      },
      onFatal: (error) => {
        throw error
      },
    },
  )
  // A log that has stopped never becomes ready: then being on the bus is enough.
  await eventually(
    async () => (await fetch(`http://127.0.0.1:${service.opsPort}/health/ready`)).json() as Promise<{ checks: Record<string, string> }>,
    ({ checks }) => checks.nats === 'up',
  )
  return service
}

async function busAs(service: ServiceName): Promise<Bus> {
  const bus = connectBus({
    url: nats.url,
    seedFile: nats.seedFile(service),
    service,
    name: `test/${service}`,
    log: quiet,
    metrics: new Registry(),
  })
  undo.push(() => bus.close())
  await eventually(
    async () => bus.connected,
    (connected) => connected,
  )
  return bus
}

async function clientAs(service: ServiceName): Promise<ServiceClient> {
  const client = new ServiceClient({ bus: await busAs(service), service, metrics: new Registry() })
  undo.push(() => client.close())
  return client
}

/** Stands in for session-svc: answers who this fleet is. */
async function runSessionStandIn(): Promise<void> {
  class Fleet {
    async fleet() {
      return {
        ok: true as const,
        fleetId: acme.fleetId,
        displayName: 'acme',
        certificate: acme.certificate as Uint8Array<ArrayBuffer>,
        peerIds: acme.fields.peerIds,
        fingerprint: '0',
      }
    }
  }
  // Decorators applied by hand: outside src nothing transforms them.
  const method = Object.getOwnPropertyDescriptor(Fleet.prototype, 'fleet') as TypedPropertyDescriptor<Fleet['fleet']>
  Handles(sessionFleet)(Fleet.prototype, 'fleet', method)
  Object.defineProperty(Fleet.prototype, 'fleet', method)
  Controller()(Fleet)
  class FleetModule {}
  Module({ controllers: [Fleet] })(FleetModule)
  const app = (await Test.createTestingModule({ imports: [FleetModule] }).compile()).createNestMicroservice({
    strategy: new NatsTransport({ bus: await busAs('session-svc'), service: 'session-svc', log: quiet, metrics: new Registry() }),
    logger: false,
  })
  await app.listen()
  undo.push(() => app.close())
}

const event = (size = 1): AuditEvent =>
  newAuditEvent({
    type: 'DocumentShredded',
    actor: 'invoice-svc',
    body: { documentId: uuidv7(size, systemRandom) },
    at: Date.now(),
    id: uuidv7(Date.now(), systemRandom),
  })
const events = (count: number): AuditEvent[] => Array.from({ length: count }, () => event())
const items = (answer: { ok: boolean }) => (answer as unknown as { items: { eventId: string; index: number }[] }).items

async function eventually<T>(work: () => Promise<T>, holds: (value: T) => boolean, ms = 15_000): Promise<T> {
  const end = performance.now() + ms
  for (;;) {
    const value = await work()
    if (holds(value)) return value
    if (performance.now() > end)
      throw new Error(`not in time: ${JSON.stringify(value, (_key, v: unknown) => (typeof v === 'bigint' ? String(v) : v))?.slice(0, 300)}`)
    await new Promise((resolve) => setTimeout(resolve, 25))
  }
}

async function asOwner<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    await client.query('SET search_path = audit').catch(() => undefined)
    return await work(client)
  } finally {
    await client.end()
  }
}

describe('the log of one fleet', () => {
  let database: TestFleetDatabase
  let replicas: RunningService[]
  let invoice: ServiceClient
  beforeAll(async () => {
    database = await postgres.createFleet('acme')
    await runSessionStandIn()
    replicas = await Promise.all([runAudit(database), runAudit(database)])
    invoice = await clientAs('invoice-svc')
  })
  // Other databases follow, behind the same NATS server.
  afterAll(async () => {
    for (const replica of replicas) await replica.stop()
  })

  /** Until everything appended so far is under a checkpoint. */
  const covered = (size: number) =>
    eventually(
      () => invoice.call(auditCheckpoint, {}),
      (answer) => answer.ok && answer.size >= size,
    )

  it('gives its public key and appends idempotently', async () => {
    expect(toHex((await invoice.call(auditIdentity, {})).publicKey)).toBe(toHex(logKey))
    const batch = events(5)
    const first = await invoice.call(auditAppend, { events: batch })
    expect(items(first).map((item) => item.eventId)).toEqual(batch.map((each) => each.eventId))
    const again = await invoice.call(auditAppend, { events: [...batch.toReversed(), ...batch.slice(0, 2)] })
    expect(new Set(items(again).map((item) => `${item.eventId} ${item.index}`))).toEqual(
      new Set(items(first).map((item) => `${item.eventId} ${item.index}`)),
    )
    const { index } = items(await invoice.call(auditAppend, { events: [event()] }))[0]!
    expect(index).toBe(items(first).at(-1)!.index + 1)
  })

  it('two replicas and four clients at once make one consistent tree', async () => {
    const clients = [invoice, await clientAs('session-svc'), await clientAs('relay-svc'), await clientAs('invoice-svc')]
    const shared = events(10)
    const answers = await Promise.all(
      clients.flatMap((client) =>
        Array.from({ length: 12 }, (_, i) => client.call(auditAppend, { events: i === 5 ? shared : events(1 + (i % 7) * 5) })),
      ),
    )
    const indexes = new Map<string, number>()
    for (const item of answers.flatMap(items)) {
      expect(indexes.get(item.eventId) ?? item.index).toBe(item.index)
      indexes.set(item.eventId, item.index)
    }
    expect(new Set(indexes.values()).size).toBe(indexes.size)
    const { rows } = await asOwner(database.ownerUrl, (client) =>
      client.query<{ leaf: Buffer; idx: string }>('SELECT idx, leaf FROM audit_leaf ORDER BY idx'),
    )
    expect(rows.map((row) => Number(row.idx))).toEqual(rows.map((_, i) => i))
    const head = await asOwner(database.ownerUrl, (client) =>
      client.query<{ size: string; root: Buffer }>('SELECT size, root FROM audit_head'),
    )
    expect(Number(head.rows[0]!.size)).toBe(rows.length)
    expect(toHex(head.rows[0]!.root)).toBe(
      toHex(
        frontierRoot(
          append(
            EMPTY_FRONTIER,
            rows.map((row) => leafHash(row.leaf)),
          ).frontier,
        ),
      ),
    )
    const [one] = items(answers[0]!)
    expect((await covered(rows.length)).ok && one).toBeTruthy()
  })

  it('checkpoints, inclusion and consistency proofs verify for many sizes, beyond one tile', async () => {
    for (let i = 0; i < 8; i++) await invoice.call(auditAppend, { events: events(100) })
    const { size: total } = await eventually(
      async () => {
        const { rows } = await asOwner(database.ownerUrl, (client) => client.query<{ size: string }>('SELECT size FROM audit_head'))
        return { size: Number(rows[0]!.size) }
      },
      () => true,
    )
    const checkpoint = await covered(total)
    if (!checkpoint.ok) throw new Error('no checkpoint')
    expect(checkpoint.vkey).toBe(logVkey({ fleetId: acme.fleetId, logKey }))
    const key = decodeVkey(checkpoint.vkey)
    const verified = verifyCheckpoint(checkpoint.note, [key], key.name)
    expect(verified.size).toBe(checkpoint.size)
    expect(toHex(verified.root)).toBe(toHex(checkpoint.rootHash))
    expect(verified.size).toBeGreaterThan(800)

    const listed: { index: number; leafHash: Uint8Array; event: AuditEvent }[] = []
    for (;;) {
      const { items: page } = await invoice.call(auditEvents, { after: listed.at(-1)?.index ?? -1, limit: 256 })
      listed.push(...page)
      if (page.length < 256) break
    }
    const rootOf = (size: number) =>
      frontierRoot(
        append(
          EMPTY_FRONTIER,
          listed.slice(0, size).map((each) => each.leafHash),
        ).frontier,
      )
    expect(toHex(rootOf(verified.size))).toBe(toHex(verified.root))

    for (const {
      event: { eventId },
      index,
    } of listed.filter((_, i) => i % 37 === 0 || i === 255 || i === 256 || i === verified.size - 1)) {
      const proof = await invoice.call(auditInclusion, { eventId })
      if (!proof.ok) throw new Error(proof.message)
      expect(proof.index).toBe(index)
      const { root } = verifyCheckpoint(proof.note, [key], key.name)
      expect(verifyInclusion(leafHash(proof.leaf), proof.index, proof.size, proof.proof, root)).toBe(true)
    }
    for (let i = 0; i < 40; i++) {
      const [from, to] = [randomInt(verified.size), randomInt(verified.size)].sort((a, b) => a - b) as [number, number]
      const proof = await invoice.call(auditConsistency, { from, to })
      if (!proof.ok) throw new Error(proof.message)
      expect([toHex(proof.fromRoot), toHex(proof.toRoot)]).toEqual([toHex(rootOf(from)), toHex(rootOf(to))])
      expect(verifyConsistency(from, to, proof.fromRoot, proof.toRoot, proof.proof)).toBe(true)
    }
    const tile = await invoice.call(auditTile, { path: 'tile/1/000.p/3' })
    expect(tile.ok && toHex(tile.bytes.subarray(32, 64))).toBe(
      toHex(
        frontierRoot(
          append(
            EMPTY_FRONTIER,
            listed.slice(256, 512).map((each) => each.leafHash),
          ).frontier,
        ),
      ),
    )
    const entries = await invoice.call(auditTile, { path: 'tile/entries/001' })
    expect(entries.ok && decodeEntries(entries.bytes).map((leaf) => toHex(leafHash(leaf)))).toEqual(
      listed.slice(256, 512).map((each) => toHex(each.leafHash)),
    )
    for (const bad of ['tile/0/999', 'tile/x', '../secret', 'tile/1/000'])
      expect(await invoice.call(auditTile, { path: bad })).toMatchObject({ ok: false, code: 'NotFound' })
    expect(await invoice.call(auditInclusion, { eventId: event().eventId })).toMatchObject({ ok: false, code: 'NotFound' })
    expect(await invoice.call(auditConsistency, { from: 5, to: 10_000_000 })).toMatchObject({ ok: false, code: 'NotFound' })
  })

  it('records its own key once and does not chase its own checkpoints', async () => {
    const { items: first } = await invoice.call(auditEvents, { after: -1, limit: 256 })
    const kinds = first.map((each) => each.event.type)
    expect(kinds.filter((type) => type === 'KeyStored')).toHaveLength(1)
    const before = await invoice.call(auditCheckpoint, {})
    // Longer than several checkpoint intervals: an event per checkpoint would keep the tree growing.
    const { rows } = await asOwner(database.ownerUrl, (client) =>
      client.query<{ n: string }>('SELECT pg_sleep(1.2), count(*) AS n FROM audit_checkpoint'),
    )
    expect(Number(rows[0]!.n)).toBeLessThan(60)
    expect(await invoice.call(auditCheckpoint, {})).toEqual(before)
  })

  it('crossing 1,024 leaves makes one CheckpointSigned event', async () => {
    for (let i = 0; i < 5; i++) await invoice.call(auditAppend, { events: events(60) })
    const signed = async () =>
      (
        await asOwner(database.ownerUrl, (client) => client.query<{ leaf: Buffer }>('SELECT leaf FROM audit_leaf WHERE idx >= 1024'))
      ).rows.filter((row) => row.leaf.includes('CheckpointSigned'))
    expect(await eventually(signed, (found) => found.length > 0)).toHaveLength(1)
  })

  it('PostgreSQL refuses UPDATE, DELETE and TRUNCATE, to the owner and to the service', async () => {
    for (const table of ['audit_leaf', 'audit_tile_node', 'audit_checkpoint']) {
      const column = table === 'audit_leaf' ? 'stream' : table === 'audit_checkpoint' ? 'note' : 'hash'
      for (const statement of [`UPDATE ${table} SET ${column} = ${column}`, `DELETE FROM ${table}`, `TRUNCATE ${table} CASCADE`]) {
        await expect(
          asOwner(database.ownerUrl, (client) => client.query(statement)),
          `owner: ${statement}`,
        ).rejects.toThrow(/append-only/)
        await expect(
          asOwner(database.urls.audit, (client) => client.query(statement)),
          `service: ${statement}`,
        ).rejects.toThrow(/permission denied/)
      }
    }
    for (const statement of [
      'UPDATE audit_head SET size = 0',
      `UPDATE audit_head SET root = '\\x${'00'.repeat(32)}'`,
      'UPDATE audit_head SET checkpoint_size = 0',
      `UPDATE audit_head SET origin = 'other'`,
      `UPDATE audit_head SET log_key = '\\x${'00'.repeat(32)}'`,
    ]) {
      await expect(
        asOwner(database.urls.audit, (client) => client.query(statement)),
        statement,
      ).rejects.toThrow(/only grows/)
    }
    for (const statement of ['DELETE FROM audit_head', 'TRUNCATE audit_head'])
      await expect(asOwner(database.ownerUrl, (client) => client.query(statement))).rejects.toThrow(/append-only/)
    // Triggers hold even where replication would switch ordinary ones off.
    await expect(
      asOwner(onDatabase(postgres.url, database.name), async (client) => {
        await client.query('SET session_replication_role = replica')
        await client.query('DELETE FROM audit_leaf')
      }),
    ).rejects.toThrow(/append-only/)
  })

  it('the other services’ roles see nothing of it', async () => {
    for (const short of ['invoice', 'session', 'relay'] as const) {
      for (const statement of [
        'SELECT * FROM audit.audit_leaf',
        "INSERT INTO audit.audit_outbox (event_id, event) VALUES (gen_random_uuid(), '{}')",
        'SELECT * FROM audit.audit_head',
      ]) {
        await expect(
          asOwner(database.urls[short], (client) => client.query(statement)),
          `${short}: ${statement}`,
        ).rejects.toThrow(/permission denied/)
      }
    }
  })
})

function onDatabase(url: string, database: string): string {
  const changed = new URL(url)
  changed.pathname = `/${database}`
  return changed.href
}

describe('a log that somebody has touched', () => {
  /** Each in a database of its own: what a superuser with the triggers off can do, and how it is found. */
  it.each([
    ['a leaf is exchanged', `UPDATE audit_leaf SET leaf = (SELECT leaf FROM audit_leaf WHERE idx = 3) WHERE idx = 2`, /leaf 2 was changed/],
    [
      'a leaf and its hash are exchanged',
      `UPDATE audit_leaf a SET leaf = b.leaf, leaf_hash = b.leaf_hash FROM audit_leaf b WHERE a.idx = 2 AND b.idx = 3`,
      /leaf 2 are not those/,
    ],
    ['the last leaf is removed', `DELETE FROM audit_leaf WHERE idx = (SELECT max(idx) FROM audit_leaf)`, /the last one is/],
    ['a leaf in the middle is removed', `DELETE FROM audit_leaf WHERE idx = 4`, /not all there/],
    ['the head is set back', `UPDATE audit_head SET size = size - 1, checkpoint_size = 0`, /the last one is|not that of its 9 leaves/],
    ['the root of the head is changed', `UPDATE audit_head SET root = sha256('x')`, /not that of its/],
    ['a stream is changed', `UPDATE audit_leaf SET stream = 'sharing' WHERE idx = 1`, /columns of leaf 1/],
  ])('%s: detected, the log stops and stays stopped', async (_name, tampering, reason) => {
    const database = await postgres.createFleet(`t${randomInt(1_000_000)}`)
    const first = await runAudit(database)
    const invoice = await clientAs('invoice-svc')
    const { items: appended } = (await invoice.call(auditAppend, { events: events(9) })) as { items: { eventId: string; index: number }[] }
    await eventually(
      () => invoice.call(auditCheckpoint, {}),
      (answer) => answer.ok && answer.size > 9,
    )
    expect(appended).toHaveLength(9)
    await first.stop()

    await asOwner(onDatabase(postgres.url, database.name), async (client) => {
      for (const table of ['audit_leaf', 'audit_head']) await client.query(`ALTER TABLE ${table} DISABLE TRIGGER ALL`)
      await client.query(tampering)
      for (const table of ['audit_leaf', 'audit_head']) await client.query(`ALTER TABLE ${table} ENABLE TRIGGER ALL`)
    })
    const second = await runAudit(database, { TALLYSTICK_AUDIT_RESCAN_MS: '1000' })
    try {
      // Whether the append or the rescan meets it first: in the end every append is refused.
      const refused = await eventually(
        () => invoice.call(auditAppend, { events: [event()] }),
        (answer) => !answer.ok,
      )
      expect(refused).toMatchObject({ ok: false, code: 'VerificationFailed', message: expect.stringMatching(reason) })
      const frozen = await asOwner(database.ownerUrl, (client) =>
        client.query<{ size: string; checkpoint_size: string; halted_reason: string }>(
          'SELECT size, checkpoint_size, halted_reason FROM audit_head',
        ),
      )
      expect(frozen.rows[0]!.halted_reason).toMatch(reason)
      await expect(
        asOwner(database.urls.audit, (client) => client.query('UPDATE audit_head SET halted_at = NULL, halted_reason = NULL')),
      ).rejects.toThrow(/has stopped/)
      await eventually(
        async () => (await fetch(`http://127.0.0.1:${second.opsPort}/health/ready`)).status,
        (status) => status === 503,
      )
      expect((await fetch(`http://127.0.0.1:${second.opsPort}/health/live`)).status).toBe(200)
      expect(await (await fetch(`http://127.0.0.1:${second.opsPort}/metrics`)).text()).toMatch(/tallystick_audit_halted 1/)
    } finally {
      await second.stop()
    }
  })
})

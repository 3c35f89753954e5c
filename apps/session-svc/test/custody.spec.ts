import { randomBytes } from 'node:crypto'
import { inspect } from 'node:util'
import { systemRandom } from '@tallystick/primitives/random'
import { SecretArena, secretFrom, withSecret } from '@tallystick/secret-bytes/arena'
import { readStatement, verifyStatement } from '@tallystick/wire/document'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startPostgres, type TestFleetDatabase, type TestPostgres } from '../../../tools/testing/postgres.ts'
import { FileCustody } from '../src/custody/file-custody.js'
import { lockedBytes, openLockedArena } from '../src/custody/locked-memory.js'
import { SecretScope } from '../src/custody/secret-scope.js'
import { uuidv7 } from '../src/ids.js'
import { introduce, TestClock, TestFleet } from './fleet.js'

const binding = { table: 'session', row: 'ab', version: 3 }
/** Offsets in a session state: root key, own ratchet key, sending and receiving chain, newest exporter. The public keys between them travel in headers. */
const STATE_SECRETS = [120, 152, 248, 280, 313]
const refused = { code: 'KeyStorage', reason: 'accessControlFailed' }

describe('file custody', () => {
  const arena = SecretArena.open(64 * 1024, { allowUnlocked: true })
  const custody = FileCustody.open(arena, randomBytes(32))

  it('wipes the buffer that the key file came in, and takes 32 bytes only', () => {
    const kek = randomBytes(32)
    FileCustody.open(arena, kek).close()
    expect(kek.every((byte) => byte === 0)).toBe(true)
    const long = randomBytes(33)
    expect(() => FileCustody.open(arena, long)).toThrow(expect.objectContaining(refused) as Error)
    expect(long.every((byte) => byte === 0)).toBe(true)
  })

  it('opens what it sealed, and nothing that was moved, put back, changed or sealed under another key', () => {
    const plain = randomBytes(100)
    const value = custody.sealBytes(plain, binding)
    expect(value.kekId).toMatch(/^[0-9a-f]{16}$/)
    expect(Buffer.from(custody.openBytes(value, binding))).toEqual(plain)
    for (const other of [
      { ...binding, table: 'prekey' },
      { ...binding, row: 'ac' },
      { ...binding, version: 2 },
    ]) {
      expect(() => custody.openBytes(value, other)).toThrow(expect.objectContaining(refused) as Error)
    }
    for (let i = 0; i < value.sealed.length; i++) {
      const changed = value.sealed.slice()
      changed[i]! ^= 1
      expect(() => custody.openBytes({ ...value, sealed: changed }, binding)).toThrow(expect.objectContaining(refused) as Error)
    }
    for (const length of [0, 11, 27])
      expect(() => custody.openBytes({ ...value, sealed: value.sealed.slice(0, length) }, binding)).toThrow(
        expect.objectContaining(refused) as Error,
      )
    const other = FileCustody.open(arena, randomBytes(32))
    expect(() => other.openBytes(value, binding)).toThrow(/sealed under key/)
    expect(() => other.openBytes({ ...value, kekId: other.kekId }, binding)).toThrow(expect.objectContaining(refused) as Error)
    other.close()
  })

  it('never gives the same ciphertext twice, and fingerprints by content and key', () => {
    const plain = randomBytes(32)
    expect(custody.sealBytes(plain, binding).sealed).not.toEqual(custody.sealBytes(plain, binding).sealed)
    expect(custody.fingerprint(plain)).toEqual(custody.fingerprint(Uint8Array.from(plain)))
    const other = FileCustody.open(arena, randomBytes(32))
    expect(other.fingerprint(plain)).not.toEqual(custody.fingerprint(plain))
    other.close()
  })

  it('brings secrets back into the arena; handles print nothing of them', () => {
    const key = randomBytes(32)
    const copy = Buffer.from(key)
    const secret = secretFrom(arena, key)
    const back = custody.openSecret(custody.sealSecret(secret, binding), binding)
    expect(withSecret(back, (bytes) => Buffer.from(bytes).equals(copy))).toBe(true)
    expect(`${inspect(back)}${JSON.stringify({ back })}${back}`).not.toContain(copy.toString('hex').slice(0, 8))
    secret.destroy()
    back.destroy()
  })

  it('a scope wipes everything it owns, also after a throw', async () => {
    const before = arena.usedBytes
    await expect(
      SecretScope.run((scope) => {
        scope.own(arena.allocate(32))
        scope.drop(scope.own(arena.allocate(32)))
        return Promise.reject(new Error('half way'))
      }),
    ).rejects.toThrow('half way')
    expect(arena.usedBytes).toBe(before)
  })
})

describe('locked memory', () => {
  it('reads what the kernel says, and refuses an arena beyond the limit', () => {
    const arena = openLockedArena(1024 * 1024, false)
    expect(lockedBytes()).toBeGreaterThanOrEqual(1024 * 1024)
    arena.close()
    expect(lockedBytes('/nonexistent/status')).toBe(0)
    // More than any memlock limit of a test machine, less than its memory.
    const limit = process.getuid?.() === 0 ? undefined : 1024 * 1024 * 1024
    if (limit !== undefined)
      expect(() => openLockedArena(limit, false)).toThrow(expect.objectContaining({ code: 'KeyStorage', reason: 'locked' }) as Error)
  })
})

describe('uuidv7', () => {
  it('carries the time in front, version 7 and variant 2', () => {
    const id = uuidv7(0x0123_4567_89ab, systemRandom)
    expect(id).toMatch(/^01234567-89ab-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  })
})

describe('at rest', () => {
  let postgres: TestPostgres
  let database: TestFleetDatabase
  let clock: TestClock
  let a: TestFleet
  let b: TestFleet

  beforeAll(async () => {
    postgres = await startPostgres()
    clock = new TestClock()
    database = await postgres.createFleet('acme')
    a = await TestFleet.start({ url: database.urls.session, clock })
    b = await TestFleet.start({ url: (await postgres.createFleet('globex')).urls.session, clock })
    await introduce(a, b)
  })
  afterAll(async () => {
    await a.stop()
    await b.stop()
    await postgres.stop()
  })

  /** Every row of every table of the schema as text, byte columns in hex. */
  async function dump(): Promise<string> {
    const client = new pg.Client({ connectionString: database.ownerUrl })
    await client.connect()
    const tables = await client.query<{ t: string }>("SELECT quote_ident(tablename) AS t FROM pg_tables WHERE schemaname = 'session'")
    let text = ''
    for (const { t } of tables.rows)
      for (const row of (await client.query<{ r: string }>(`SELECT row_to_json(x)::text AS r FROM session.${t} x`)).rows) text += row.r
    await client.end()
    return text
  }

  it('no private key and no plaintext can be read from the database, in any encoding', async () => {
    const secret = `canary ${'-'.repeat(40)} canary`
    const envelope = await b.seal(a, secret)
    expect(await a.open(b, envelope)).toBe(secret)
    await a.seal(b, secret)
    const text = await dump()
    expect(text).toContain(Buffer.from(a.core.identity.signKey).toString('hex'))
    const { db, custody } = a.context
    const hidden: [string, Buffer][] = [
      ['plaintext', Buffer.from(secret)],
      ['key file', Buffer.from(a.kek)],
    ]
    const keep = (name: string, value: { sealed: Uint8Array; kekId: string }, table: string, row: string, version: number) => {
      const opened = custody.openSecret(value, { table, row, version })
      hidden.push([name, withSecret(opened, (bytes) => Buffer.from(bytes.subarray(0, 32)))])
      opened.destroy()
    }
    for (const row of await db.identityKey.findMany()) keep(`identity ${row.kind}`, row, 'identity_key', row.kind, row.version)
    for (const row of await db.prekey.findMany()) keep(`prekey ${row.kind}`, row, 'prekey', String(row.id), row.version)
    for (const row of await db.session.findMany()) {
      const opened = custody.openSecret(
        { sealed: row.state!, kekId: row.kekId },
        { table: 'session', row: Buffer.from(row.sid).toString('hex'), version: row.version },
      )
      for (const at of STATE_SECRETS) {
        const part = withSecret(opened, (bytes) => Buffer.from(bytes.subarray(at, at + 32)))
        if (part.some((byte) => byte !== 0)) hidden.push([`state at ${at}`, part])
      }
      opened.destroy()
    }
    expect(hidden.length).toBeGreaterThan(200)
    const lower = text.toLowerCase()
    for (const [name, value] of hidden) {
      expect(lower.includes(value.toString('hex')), `${name} in hex`).toBe(false)
      expect(text.includes(value.toString('base64')), `${name} in base64`).toBe(false)
      expect(text.includes(value.toString('latin1')), `${name} as text`).toBe(false)
    }
  })

  it('a ciphertext moved to another row does not open: the service stops instead of using it', async () => {
    const { db } = a.context
    const [one, two] = await db.prekey.findMany({ where: { kind: 'one-time', handedAt: null }, orderBy: { id: 'asc' }, take: 2 })
    await db.prekey.update({ where: { id: one!.id }, data: { sealed: two!.sealed } })
    const fresh = await TestFleet.start({ url: (await postgres.createFleet('third')).urls.session, clock })
    await introduce(a, fresh)
    await expect(a.open(fresh, await fresh.seal(a, 'x'))).rejects.toMatchObject(refused)
    expect(await db.session.count({ where: { fleetId: fresh.id } })).toBe(0)
    await fresh.stop()
  })

  it('leaves nothing of a batch in the arena', async () => {
    const used = a.context.arena.usedBytes
    await b.open(a, await a.seal(b, 'x'))
    expect(await a.tryOpen(b, await a.seal(b, 'my own'))).toMatchObject({ ok: false })
    expect(a.context.arena.usedBytes).toBe(used)
  })

  it('the roles of the other services cannot reach into the schema', async () => {
    for (const other of ['invoice', 'relay', 'audit'] as const) {
      const client = new pg.Client({ connectionString: database.urls[other] })
      await client.connect()
      for (const sql of [
        'SELECT * FROM session.identity_key',
        'SELECT state FROM session.session',
        'UPDATE session.peer SET trust = $$pinned$$',
        'DELETE FROM session.prekey',
      ]) {
        await expect(client.query(sql), `${other}: ${sql}`).rejects.toMatchObject({ code: '42501' })
      }
      await client.end()
    }
  })

  it('the own role cannot delete identity, certificates, sessions or replay memory', async () => {
    const client = new pg.Client({ connectionString: database.urls.session })
    await client.connect()
    for (const table of [
      'identity_key',
      'certificate',
      'peer',
      'peer_certificate',
      'session',
      'handshake_seen',
      'sealed_envelope',
      'opened_envelope',
    ]) {
      await expect(client.query(`DELETE FROM session.${table}`), table).rejects.toMatchObject({ code: '42501' })
    }
    await expect(client.query('UPDATE session.identity_key SET public_key = sealed')).rejects.toMatchObject({ code: '42501' })
    await expect(client.query('SELECT 1 FROM session._prisma_migrations')).rejects.toMatchObject({ code: '42501' })
    await client.end()
  })

  it('signs statements that verify under the certificate, and nothing that is no statement', async () => {
    const fields = {
      kind: 'invoice' as const,
      documentId: a.newId(),
      contentDigest: new Uint8Array(randomBytes(32)),
      audience: b.id,
      issuedAt: clock.now(),
      expiresAt: clock.now() + 86_400_000,
    }
    const signed = await a.core.signer.sign(fields)
    if (!signed.ok) throw new Error(signed.message)
    const certificate = { fleetId: a.id, signKey: a.core.identity.signKey }
    const { kind, documentId, contentDigest } = fields
    verifyStatement(signed.statement, { certificate, audience: b.id, now: clock.now(), contentDigest, kind, documentId })
    const again = await a.core.signer.sign(fields)
    if (!again.ok) throw new Error(again.message)
    expect(readStatement(again.statement).nonce).not.toEqual(readStatement(signed.statement).nonce)
    expect(await a.core.signer.sign({ ...fields, expiresAt: fields.issuedAt })).toMatchObject({ ok: false, code: 'InvalidRequest' })
    const accesses = async () => (await a.audited()).filter((type) => type === 'KeyAccessed').length
    const before = await accesses()
    await a.core.signer.sign(fields)
    expect(await accesses()).toBe(before)
    clock.advance(a.context.limits.keyAccessAuditMs)
    await a.core.signer.sign(fields)
    expect(await accesses()).toBe(before + 1)
  })
})

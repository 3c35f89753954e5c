import { createCipheriv, createHash, createHmac, hkdfSync, randomBytes } from 'node:crypto'
import { inspect } from 'node:util'
import { argon2id as noble } from '@noble/hashes/argon2.js'
import { argon2id } from '@tallystick/primitives/argon2id'
import { generateSigningKey } from '@tallystick/primitives/ed25519'
import { systemRandom } from '@tallystick/primitives/random'
import { generateKeyPair } from '@tallystick/primitives/x25519'
import { SecretArena, secretFrom, withSecret } from '@tallystick/secret-bytes/arena'
import { readStatement, verifyStatement } from '@tallystick/wire/document'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startPostgres, type TestFleetDatabase, type TestPostgres } from '../../../tools/testing/postgres.ts'
import { DataKey } from '../src/custody/data-key.js'
import { fileCustody } from '../src/custody/file-custody.js'
import { KeyFile } from '../src/custody/key-file.js'
import { ARGON2_COST, protectKeyFile } from '../src/custody/protected-key-file.js'
import { SecretScope } from '../src/custody/secret-scope.js'
import { openDatabase } from '../src/db.js'
import { uuidv7 } from '../src/ids.js'
import { DATA_KEY_LIFETIME_MS, DATA_KEY_SPREAD_MS, limitsEnv, limitsFrom } from '../src/limits.js'
import { custodyContract } from './custody-contract.js'
import { introduce, TestClock, TestFleet } from './fleet.js'

/** Offsets in a session state: root key, own ratchet key, sending and receiving chain, newest exporter. The public keys between them travel in headers. */
const STATE_SECRETS = [120, 152, 248, 280, 313]
const refused = { code: 'KeyStorage', reason: 'accessControlFailed' }

const arena = SecretArena.open(128 * 1024, { allowUnlocked: true })
let postgres: TestPostgres
beforeAll(async () => {
  postgres = await startPostgres()
})
afterAll(() => postgres.stop())

custodyContract({
  name: 'file',
  signing: 'sealed',
  postgres: () => postgres,
  arena,
  keys: () => {
    const [kek, next, other] = [randomBytes(32), randomBytes(32), randomBytes(32)]
    return {
      custody: (a) => fileCustody(a, { kek: Uint8Array.from(kek) }),
      withNext: (a) => fileCustody(a, { kek: Uint8Array.from(kek), next: Uint8Array.from(next) }),
      nextOnly: (a) => fileCustody(a, { kek: Uint8Array.from(next) }),
      stranger: (a) => fileCustody(a, { kek: Uint8Array.from(other) }),
    }
  },
})

describe('key files', () => {
  it('wipes the buffer that the key file came in, and takes 32 bytes only', () => {
    const kek = randomBytes(32)
    fileCustody(arena, { kek }).close()
    expect(kek.every((byte) => byte === 0)).toBe(true)
    const long = randomBytes(33)
    expect(() => fileCustody(arena, { kek: long })).toThrow(expect.objectContaining(refused) as Error)
    expect(long.every((byte) => byte === 0)).toBe(true)
  })

  it('a protected one opens with its passphrase only, and wipes that as well', () => {
    const used = arena.usedBytes
    const kek = randomBytes(32)
    const copy = Uint8Array.from(kek)
    const secret = secretFrom(arena, kek)
    const cost = { passes: 1, memoryKiB: 8 * 1024 }
    const file = protectKeyFile(arena, secret, Buffer.from('correct horse'), cost)
    secret.destroy()
    expect(file).toHaveLength(90)
    expect(Buffer.from(file).includes(Buffer.from(copy))).toBe(false)
    const idOf = (content: Uint8Array, passphrase?: string) => {
      const typed = passphrase === undefined ? undefined : Buffer.from(passphrase)
      try {
        const opened = KeyFile.open(arena, 'the key file "kek"', content.slice(), typed)
        opened.close()
        return opened.id
      } finally {
        expect(typed?.every((byte) => byte === 0) ?? true).toBe(true)
      }
    }
    // A line end, as an editor leaves it, is no part of the passphrase.
    for (const typed of ['correct horse', 'correct horse\n']) expect(idOf(file, typed)).toBe(idOf(copy))
    expect(() => idOf(file, 'correct horse ')).toThrow(/does not open with this passphrase/)
    expect(() => idOf(file)).toThrow(/kek\.passphrase/)
    expect(() => idOf(file.slice(0, 89), 'correct horse')).toThrow(/cut off/)
    for (let i = 0; i < file.length; i++) {
      const changed = file.slice()
      changed[i]! ^= 1
      expect(() => idOf(changed, 'correct horse'), `byte ${i}`).toThrow(expect.objectContaining(refused) as Error)
    }
    // 4 GiB of memory, or 2^20 passes, would end the process instead of opening.
    for (const [at, value] of [
      [6, 17],
      [6, 0],
      [10, 512 * 1024 + 1],
      [10, 1024],
    ] as const) {
      const costly = file.slice()
      new DataView(costly.buffer).setUint32(at, value)
      expect(() => idOf(costly, 'correct horse')).toThrow(/asks for/)
    }
    expect(arena.usedBytes).toBe(used)
  })

  it('uses Argon2id as another implementation knows it, at a cost that takes a moment', () => {
    const secret = argon2id(arena, Buffer.from('password'), Buffer.alloc(16, 2), 3, 8 * 1024)
    const oracle = noble(Buffer.from('password'), Buffer.alloc(16, 2), { t: 3, m: 8 * 1024, p: 1, dkLen: 32 })
    expect(withSecret(secret, (bytes) => Buffer.from(bytes))).toEqual(Buffer.from(oracle))
    secret.destroy()
    expect(ARGON2_COST).toEqual({ passes: 3, memoryKiB: 262_144 })
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

describe('data keys', () => {
  const binding = { table: 'session', row: 'ab', version: 3 }
  const gcm = (key: Uint8Array, id: string) => ({
    sealBytes(plain: Uint8Array, { table, row, version }: typeof binding) {
      const nonce = randomBytes(12)
      const cipher = createCipheriv('aes-256-gcm', key, nonce)
      cipher.setAAD(Buffer.from(JSON.stringify(['tallystick/at-rest/v1', table, row, version, id])))
      return { sealed: new Uint8Array(Buffer.concat([nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()])), kekId: id }
    },
  })

  it('opens what it sealed, and nothing that was moved, put back, changed or sealed under another key', () => {
    const key = DataKey.generate(arena)
    const bytes = randomBytes(64)
    const former = new DataKey(arena, 'feed', secretFrom(arena, Uint8Array.from(bytes)), 'aes-256-gcm')
    const plain = randomBytes(100)
    for (const [opener, value] of [
      [key, key.sealBytes(plain, binding)],
      [former, gcm(bytes.subarray(0, 32), 'feed').sealBytes(plain, binding)],
    ] as const) {
      expect(Buffer.from(opener.openBytes(value, binding))).toEqual(plain)
      const used = arena.usedBytes
      const throws = (changed: Uint8Array, at = binding) => {
        for (const open of [
          () => opener.openBytes({ ...value, sealed: changed }, at),
          () => opener.openSecret({ ...value, sealed: changed }, at),
        ])
          expect(open).toThrow(expect.objectContaining(refused) as Error)
      }
      for (const other of [{ table: 'prekey' }, { row: 'ac' }, { version: 2 }]) throws(value.sealed, { ...binding, ...other })
      for (let i = 0; i < value.sealed.length; i++) throws(value.sealed.map((byte, at) => (at === i ? byte ^ 1 : byte)))
      for (const length of [0, 27, 39, value.sealed.length - 1]) throws(value.sealed.slice(0, length))
      const other = DataKey.generate(arena)
      expect(() => other.openBytes(value, binding)).toThrow(expect.objectContaining(refused) as Error)
      other.destroy()
      expect(arena.usedBytes).toBe(used)
    }
    key.destroy()
    former.destroy()
  })

  it('never gives the same ciphertext twice, and fingerprints by content and key', () => {
    const [key, other] = [DataKey.generate(arena), DataKey.generate(arena)]
    const plain = randomBytes(32)
    const sealed = Array.from({ length: 100 }, () => Buffer.from(key.sealBytes(plain, binding).sealed).toString('hex'))
    expect(new Set(sealed.map((hex) => hex.slice(0, 48))).size).toBe(100)
    expect(key.fingerprint(plain)).toEqual(key.fingerprint(Uint8Array.from(plain)))
    expect(other.fingerprint(plain)).not.toEqual(key.fingerprint(plain))
    key.destroy()
    other.destroy()
  })

  it('brings secrets back into the arena; handles print nothing of them', () => {
    const key = DataKey.generate(arena)
    const bytes = randomBytes(32)
    const copy = Buffer.from(bytes)
    const secret = secretFrom(arena, bytes)
    const back = key.openSecret(key.sealSecret(secret, binding), binding)
    expect(withSecret(back, (opened) => Buffer.from(opened).equals(copy))).toBe(true)
    expect(`${inspect(back)}${JSON.stringify({ back })}${back}`).not.toContain(copy.toString('hex').slice(0, 8))
    for (const each of [secret, back, key]) each.destroy()
  })

  it('seals for thirty days under one, and under the next five minutes after it was made', async () => {
    const clock = new TestClock()
    const fleet = await TestFleet.start({ url: (await postgres.createFleet('monthly')).urls.session, clock })
    const { custody, limits } = fleet.context
    expect([limits.dataKeyLifetimeMs, limits.dataKeySpreadMs]).toEqual([DATA_KEY_LIFETIME_MS, DATA_KEY_SPREAD_MS])
    const first = custody.kekId
    clock.advance(DATA_KEY_LIFETIME_MS)
    await custody.refresh()
    expect(custody.dataKeys).toHaveLength(1)
    clock.advance(1)
    await custody.refresh()
    expect(custody.dataKeys).toHaveLength(2)
    clock.advance(DATA_KEY_SPREAD_MS - 1)
    expect(custody.kekId).toBe(first)
    clock.advance(1)
    expect(custody.kekId).toBe(custody.dataKeys[0]!.id)
    await fleet.stop()
  })
})

describe('an installation from before data keys', () => {
  it('keeps working: its rows open under data key number one, under the name they have; nothing is sealed anew', async () => {
    const { urls } = await postgres.createFleet('former')
    const kek = randomBytes(32)
    const clock = new TestClock()
    // What that version did: AES-256-GCM under a key derived from the file, named by the file's own id.
    const derive = (info: string, length: number) => Buffer.from(hkdfSync('sha256', kek, Buffer.alloc(32), info, length))
    const kekId = derive('tallystick/kek-id/v1', 8).toString('hex')
    const sealAsBefore = (plain: Uint8Array, table: string, row: string, version: number) => {
      const nonce = randomBytes(12)
      const cipher = createCipheriv('aes-256-gcm', derive('tallystick/at-rest/v1', 32), nonce)
      cipher.setAAD(Buffer.from(JSON.stringify(['tallystick/at-rest/v1', table, row, version, kekId])))
      return new Uint8Array(Buffer.concat([nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()]))
    }
    const signing = generateSigningKey(arena)
    const agreement = generateKeyPair(arena)
    const db = openDatabase(urls.session, limitsFrom(limitsEnv.parse({})))
    for (const [kind, pair] of [
      ['sign', signing],
      ['agreement', agreement],
    ] as const)
      await db.identityKey.create({
        data: {
          kind,
          publicKey: new Uint8Array(pair.publicKey),
          sealed: withSecret(pair.secret, (bytes) => sealAsBefore(bytes, 'identity_key', kind, 1)),
          kekId,
          version: 1,
          createdAt: new Date(clock.now()),
        },
      })
    const before = await db.identityKey.findMany({ orderBy: { kind: 'asc' } })

    const fleet = await TestFleet.start({ url: urls.session, clock, kek })
    expect(fleet.core.identity.signKey).toEqual(new Uint8Array(signing.publicKey))
    // New rows go under a random key at once; the derived one only opens.
    expect(fleet.context.custody.dataKeys.map(({ version, id }) => [version, id === kekId])).toEqual([
      [2, false],
      [1, true],
    ])
    expect(fleet.context.custody.kekId).toBe(fleet.context.custody.dataKeys[0]!.id)
    expect(fleet.context.custody.fingerprint(Buffer.from('x'), kekId)).toEqual(
      new Uint8Array(
        createHmac('sha256', derive('tallystick/fingerprint/v1', 32)).update(createHash('sha256').update('x').digest()).digest(),
      ),
    )
    expect(await db.identityKey.findMany({ orderBy: { kind: 'asc' } })).toEqual(before)

    const next = randomBytes(32)
    const withNext = fileCustody(arena, { kek: Uint8Array.from(kek), next: Uint8Array.from(next) })
    await withNext.open(fleet.context)
    expect(await withNext.rotateKek()).toMatchObject({ from: kekId, rewrapped: 2 })
    const nextOnly = fileCustody(arena, { kek: Uint8Array.from(next) })
    await nextOnly.open(fleet.context)
    nextOnly.openSecret({ ...before[0]!, sealed: before[0]!.sealed! }, { table: 'identity_key', row: 'agreement', version: 1 }).destroy()
    for (const custody of [withNext, nextOnly]) custody.close()
    await fleet.stop()
    await db.$disconnect()
  })

  it('does not start with another key file, and makes no data key', async () => {
    const { urls } = await postgres.createFleet('former-2')
    const clock = new TestClock()
    const db = openDatabase(urls.session, limitsFrom(limitsEnv.parse({})))
    const bytes = new Uint8Array(randomBytes(92))
    await db.identityKey.create({
      data: { kind: 'sign', publicKey: bytes, sealed: bytes, kekId: 'feedfeedfeedfeed', version: 1, createdAt: new Date(clock.now()) },
    })
    await expect(TestFleet.start({ url: urls.session, clock })).rejects.toThrow(
      /sealed under key feedfeedfeedfeed, but the key file "kek" is/,
    )
    expect(await db.dataKey.count()).toBe(0)
    await db.$disconnect()
  })
})

describe('uuidv7', () => {
  it('carries the time in front, version 7 and variant 2', () => {
    const id = uuidv7(0x0123_4567_89ab, systemRandom)
    expect(id).toMatch(/^01234567-89ab-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  })
})

describe('at rest', () => {
  let database: TestFleetDatabase
  let clock: TestClock
  let a: TestFleet
  let b: TestFleet

  beforeAll(async () => {
    clock = new TestClock()
    database = await postgres.createFleet('acme')
    a = await TestFleet.start({ url: database.urls.session, clock })
    b = await TestFleet.start({ url: (await postgres.createFleet('globex')).urls.session, clock })
    await introduce(a, b)
  })
  afterAll(async () => {
    await a.stop()
    await b.stop()
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
    for (const row of await db.identityKey.findMany())
      keep(`identity ${row.kind}`, { ...row, sealed: row.sealed! }, 'identity_key', row.kind, row.version)
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

  it('a ciphertext moved to another row does not open, and no session comes of it', async () => {
    const { db } = a.context
    const [one, two] = await db.prekey.findMany({ where: { kind: 'one-time', handedAt: null }, orderBy: { id: 'asc' }, take: 2 })
    await db.prekey.update({ where: { id: one!.id }, data: { sealed: two!.sealed } })
    const fresh = await TestFleet.start({ url: (await postgres.createFleet('third')).urls.session, clock })
    await introduce(a, fresh)
    expect(await a.tryOpen(fresh, await fresh.seal(a, 'x'))).toMatchObject({ ok: false, code: 'Decryption' })
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

  it('the own role cannot delete identity, certificates, data keys, peers or sessions', async () => {
    const client = new pg.Client({ connectionString: database.urls.session })
    await client.connect()
    for (const table of ['identity_key', 'certificate', 'peer', 'peer_certificate', 'session', 'data_key', 'fence']) {
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

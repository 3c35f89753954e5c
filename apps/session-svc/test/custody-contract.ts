/** What every custody provider must do. Run for `file` and for `pkcs11`: nothing in it knows which one it has. */
import { randomBytes } from 'node:crypto'
import { verify } from '@tallystick/primitives/ed25519'
import { systemRandom } from '@tallystick/primitives/random'
import { type SecretArena, secretFrom, withSecret } from '@tallystick/secret-bytes/arena'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { TestFleetDatabase, TestPostgres } from '../../../tools/testing/postgres.ts'
import { auditTrail } from '../src/audit.js'
import type { Custody } from '../src/custody/custody.js'
import type { CustodyHost } from '../src/custody/key-custody.js'
import { type Db, openDatabase } from '../src/db.js'
import { limitsEnv, limitsFrom } from '../src/limits.js'
import { TestClock } from './fleet.js'

/** One installation: its key-encryption keys stay the same from one custody to the next. */
export interface CustodyKeys {
  /** As a start of the service makes it. */
  custody(arena: SecretArena): Custody
  /** The same after a next key-encryption key was configured. */
  withNext(arena: SecretArena): Custody
  /** Only that next key: the old one is gone. */
  nextOnly(arena: SecretArena): Custody
  /** Another installation's key. */
  stranger(arena: SecretArena): Custody
}

export interface ContractParts {
  readonly name: string
  readonly signing: 'sealed' | 'in-token'
  postgres(): TestPostgres
  arena: SecretArena
  /** Fresh keys for one test. */
  keys(): Promise<CustodyKeys> | CustodyKeys
}

const binding = { table: 'session', row: 'ab', version: 3 }
const signBinding = { table: 'identity_key', row: 'sign', version: 1 }
const refused = { code: 'KeyStorage', reason: 'accessControlFailed' }
const throws = (fn: () => unknown) => expect(fn).toThrow(expect.objectContaining(refused) as Error)

export function custodyContract(parts: ContractParts): void {
  describe(`key custody: ${parts.name}`, () => {
    const { arena } = parts
    const clock = new TestClock()
    const limits = limitsFrom(limitsEnv.parse({}))
    const databases: Db[] = []
    const custodies: Custody[] = []
    let count = 0

    interface Installation {
      keys: CustodyKeys
      database: TestFleetDatabase
      host: CustodyHost & { db: Db }
      /** Another start of the service. */
      start(which?: keyof CustodyKeys): Promise<Custody>
    }

    async function install(): Promise<Installation> {
      const keys = await parts.keys()
      const database = await parts.postgres().createFleet(`${parts.name.replaceAll(/[^a-z0-9]/g, '')}-${++count}`)
      const db = openDatabase(database.urls.session, limits)
      databases.push(db)
      const host = { db, clock, audit: auditTrail(clock, systemRandom, () => undefined), limits }
      const start = async (which: keyof CustodyKeys = 'custody') => {
        const custody = keys[which](arena)
        custodies.push(custody)
        await custody.open(host)
        return custody
      }
      return { keys, database, host, start }
    }

    let one: Installation
    let custody: Custody
    beforeAll(async () => {
      one = await install()
      custody = await one.start()
    })
    afterAll(async () => {
      for (const each of custodies) each.close()
      for (const db of databases) await db.$disconnect()
    })

    it('does nothing before it is open, and says that time will mend it', async () => {
      const { keys } = await install()
      const closed = keys.custody(arena)
      custodies.push(closed)
      for (const use of [
        () => closed.kekId,
        () => closed.sealBytes(randomBytes(1), binding),
        () => closed.openBytes({ sealed: randomBytes(40), kekId: 'x' }, binding),
        () => closed.createSigningKey(signBinding),
      ])
        expect(use).toThrow(expect.objectContaining({ code: 'KeyStorage', reason: 'locked' }) as Error)
    })

    it('opens what it sealed, and nothing that was moved, put back, changed or named otherwise', () => {
      const plain = randomBytes(100)
      const value = custody.sealBytes(plain, binding)
      expect(value.kekId).toBe(custody.kekId)
      expect(Buffer.from(custody.openBytes(value, binding))).toEqual(plain)
      for (const other of [
        { ...binding, table: 'prekey' },
        { ...binding, row: 'ac' },
        { ...binding, version: 2 },
      ])
        throws(() => custody.openBytes(value, other))
      for (let i = 0; i < value.sealed.length; i++) {
        const changed = value.sealed.slice()
        changed[i]! ^= 1
        throws(() => custody.openBytes({ ...value, sealed: changed }, binding))
      }
      for (const length of [0, 11, 27]) throws(() => custody.openBytes({ ...value, sealed: value.sealed.slice(0, length) }, binding))
      throws(() => custody.openBytes({ ...value, kekId: 'f'.repeat(16) }, binding))
    })

    it('never gives the same ciphertext twice, and fingerprints by content and key', async () => {
      const plain = randomBytes(32)
      expect(custody.sealBytes(plain, binding).sealed).not.toEqual(custody.sealBytes(plain, binding).sealed)
      expect(custody.fingerprint(plain)).toEqual(custody.fingerprint(Uint8Array.from(plain)))
      const other = await (await install()).start()
      expect(other.fingerprint(plain)).not.toEqual(custody.fingerprint(plain))
      throws(() => other.openBytes(custody.sealBytes(plain, binding), binding))
    })

    it('brings secrets back into the arena', () => {
      const key = randomBytes(32)
      const copy = Buffer.from(key)
      const used = arena.usedBytes
      const secret = secretFrom(arena, key)
      const back = custody.openSecret(custody.sealSecret(secret, binding), binding)
      expect(withSecret(back, (bytes) => Buffer.from(bytes).equals(copy))).toBe(true)
      secret.destroy()
      back.destroy()
      expect(arena.usedBytes).toBe(used)
    })

    it('opens the same database again after a restart, in any replica', async () => {
      const value = custody.sealBytes(randomBytes(10), binding)
      const again = await one.start()
      expect(again.kekId).toBe(custody.kekId)
      expect(again.openBytes(value, binding)).toEqual(custody.openBytes(value, binding))
      expect(again.dataKeys).toEqual(custody.dataKeys)
    })

    it('two replicas that start at once on an empty database agree on one data key', async () => {
      const { start, host } = await install()
      const all = await Promise.all([start(), start(), start()])
      expect(new Set(all.map(({ kekId }) => kekId)).size).toBe(1)
      expect(await host.db.dataKey.count()).toBe(1)
    })

    it('refuses another key, a changed row, and a row under another version', async () => {
      const { keys, host } = await install()
      const first = keys.custody(arena)
      custodies.push(first)
      await first.open(host)
      const stranger = keys.stranger(arena)
      custodies.push(stranger)
      await expect(stranger.open(host)).rejects.toMatchObject(refused)
      const row = (await host.db.dataKey.findFirst())!
      for (let i = 0; i < row.wrapped.length; i += 7) {
        const changed = row.wrapped.slice()
        changed[i]! ^= 1
        await host.db.dataKey.update({ where: { id: row.id }, data: { wrapped: changed } })
        const custody = keys.custody(arena)
        custodies.push(custody)
        await expect(custody.open(host), `byte ${i}`).rejects.toMatchObject(refused)
      }
      await host.db.dataKey.update({ where: { id: row.id }, data: { wrapped: row.wrapped, version: 2 } })
      const moved = keys.custody(arena)
      custodies.push(moved)
      await expect(moved.open(host)).rejects.toMatchObject(refused)
    })

    it('signs by RFC 8032, finds its key again, and refuses one that is not that of the public key', async () => {
      const { key, stored } = custody.createSigningKey(signBinding)
      expect(key.location).toBe(parts.signing)
      expect(custody.locationOf(stored, signBinding)).toBe(parts.signing)
      for (const message of [randomBytes(1), randomBytes(32), randomBytes(100_000)]) {
        const signature = key.sign(message)
        expect(signature).toHaveLength(64)
        expect(verify(key.publicKey, message, signature)).toBe(true)
        // Deterministic: no second key for the same message, whatever the provider.
        expect(key.sign(message)).toEqual(signature)
      }
      const again = (await one.start()).openSigningKey(stored, key.publicKey, signBinding)
      expect(again.sign(Uint8Array.of(1))).toEqual(key.sign(Uint8Array.of(1)))
      throws(() => custody.openSigningKey(stored, randomBytes(32), signBinding))
      throws(() => custody.openSigningKey(stored, key.publicKey, { ...signBinding, version: 2 }))
      key.destroy()
      again.destroy()
    })

    it('erases a signing key for good where it is not the row that holds it', () => {
      const { key, stored } = custody.createSigningKey(signBinding)
      custody.eraseSigningKey(stored, signBinding)
      if (parts.signing === 'in-token') throws(() => custody.openSigningKey(stored, key.publicKey, signBinding))
      key.destroy()
    })

    it('rotates the key-encryption key: sealed bytes stay as they are, and open with the old key gone', async () => {
      const { start, host } = await install()
      const before = await start()
      const secret = secretFrom(arena, randomBytes(64))
      const rows = Array.from({ length: 20 }, (_, i) => ({ i, value: before.sealSecret(secret, { ...binding, version: i + 1 }) }))
      const copies = rows.map(({ value }) => Buffer.from(value.sealed))
      const rowBefore = (await host.db.dataKey.findFirst())!
      expect(await before.rotateKek()).toBeUndefined()

      const during = await start('withNext')
      const outcome = (await during.rotateKek())!
      expect(outcome).toMatchObject({ from: rowBefore.kekId, rewrapped: 1 })
      expect(outcome.to).not.toBe(outcome.from)
      expect(await during.rotateKek()).toEqual({ from: outcome.to, to: outcome.to, rewrapped: 0 })
      const rowAfter = (await host.db.dataKey.findUnique({ where: { id: rowBefore.id } }))!
      expect({ ...rowAfter, kekId: '', wrapped: '' }).toEqual({ ...rowBefore, kekId: '', wrapped: '' })
      expect(Buffer.from(rowAfter.wrapped)).not.toEqual(Buffer.from(rowBefore.wrapped))

      // A replica that started before the rotation works on, and a start before the files are exchanged works too.
      expect(before.openBytes(rows[0]!.value, { ...binding, version: 1 })).toHaveLength(64)
      const between = await start('withNext')
      const after = await start('nextOnly')
      for (const opener of [between, after]) {
        for (const { i, value } of rows) {
          const back = opener.openSecret(value, { ...binding, version: i + 1 })
          expect(withSecret(back, (a) => withSecret(secret, (b) => Buffer.compare(a, b)))).toBe(0)
          back.destroy()
        }
      }
      expect(rows.map(({ value }) => Buffer.from(value.sealed))).toEqual(copies)
      await expect(start('custody')).rejects.toMatchObject(refused)
      const events = await host.db.auditOutbox.findMany()
      expect(events.map(({ event }) => event)).toContainEqual(
        expect.objectContaining({ type: 'AdminAction', body: { action: 'kek-rotated', subject: `${outcome.from} to ${outcome.to}` } }),
      )
      secret.destroy()
    })

    it('makes a new data key each month, which seals only when every replica has had time to see it', async () => {
      const { start } = await install()
      const [a, b] = [await start(), await start()]
      const first = a.kekId
      const old = a.sealBytes(randomBytes(8), binding)
      await a.refresh()
      expect(a.dataKeys).toHaveLength(1)
      clock.advance(limits.dataKeyLifetimeMs + 1)
      await a.refresh()
      expect(a.dataKeys.map(({ version }) => version)).toEqual([2, 1])
      // Made, and not in use yet: b could not open what it would seal.
      expect(a.kekId).toBe(first)
      await b.refresh()
      clock.advance(limits.dataKeySpreadMs)
      expect(a.kekId).toBe(a.dataKeys[0]!.id)
      expect(a.kekId).not.toBe(first)
      const fresh = a.sealBytes(randomBytes(8), binding)
      expect(fresh.kekId).toBe(a.kekId)
      expect(b.openBytes(fresh, binding)).toEqual(a.openBytes(fresh, binding))
      expect(a.openBytes(old, binding)).toEqual(b.openBytes(old, binding))
      expect(a.fingerprint(randomBytes(3), first)).toHaveLength(32)
      const later = await start()
      expect(later.dataKeys).toEqual(a.dataKeys)
    })

    it('leaves nothing in the arena when it is closed', async () => {
      const { keys, host } = await install()
      const used = arena.usedBytes
      const each = keys.custody(arena)
      await each.open(host)
      const { key } = each.createSigningKey(signBinding)
      key.destroy()
      each.close()
      expect(arena.usedBytes).toBe(used)
    })
  })
}

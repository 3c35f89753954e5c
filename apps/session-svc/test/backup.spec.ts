/** Backup and restore of the identity: from a fleet that is lost to one that its peers talk to. */
import { randomBytes } from 'node:crypto'
import { decode } from '@tallystick/wire/cbor'
import { Decrypter, Encrypter, generateHybridIdentity, generateX25519Identity, identityToRecipient } from 'age-encryption'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startPostgres, type TestPostgres } from '../../../tools/testing/postgres.ts'
import { readAgeIdentity } from '../src/backup/age-identity.js'
import { encodeBackup } from '../src/backup/backup-file.js'
import { restoreBackup } from '../src/backup/restore-backup.js'
import { writeBackup } from '../src/backup/write-backup.js'
import type { Context } from '../src/context.js'
import { pinPeer } from '../src/peers/pin-peer.js'
import { introduce, TestClock, TestFleet } from './fleet.js'

const refused = { code: 'KeyStorage', reason: 'accessControlFailed' }
/** Control messages bring an answer about, as receipts do. */
const ROUND_TRIPS = 10

let postgres: TestPostgres
let identity: string
let recipient: string
beforeAll(async () => {
  postgres = await startPostgres()
  identity = await generateX25519Identity()
  recipient = await identityToRecipient(identity)
})
afterAll(() => postgres.stop())

async function backupOf(fleet: TestFleet, ...recipients: string[]): Promise<Uint8Array> {
  const answer = await writeBackup(fleet.context, fleet.core.identity, recipients.length > 0 ? recipients : [recipient])
  if (!answer.ok) throw new Error(answer.message)
  return answer.file
}

const restoring = (backup: Uint8Array, key = identity) => ({
  before: async (context: Context) => {
    expect(await restoreBackup(context, { backup, identity: Buffer.from(key) })).toBe('restored')
  },
})

async function plainOf(backup: Uint8Array): Promise<Buffer> {
  const decrypter = new Decrypter()
  decrypter.addIdentity(identity)
  return Buffer.from(await decrypter.decrypt(backup))
}

describe('a backup', () => {
  it('brings a fleet back in a new database: the same id, new prekeys, and a message each way with a peer that knew it', async () => {
    const clock = new TestClock()
    const a = await TestFleet.start({ url: (await postgres.createFleet('lost')).urls.session, clock, limits: { rotateAfterMessages: 2 } })
    const b = await TestFleet.start({ url: (await postgres.createFleet('peer')).urls.session, clock })
    await introduce(a, b)
    for (let i = 0; i < 3; i++) {
      expect(await b.open(a, await a.seal(b, `to b ${i}`))).toBe(`to b ${i}`)
      expect(await a.open(b, await b.seal(a, `to a ${i}`))).toBe(`to a ${i}`)
    }
    const backup = await backupOf(a)
    expect(await a.audited()).toEqual(expect.arrayContaining(['KeyAccessed', 'AdminAction']))
    // What happened after the backup is lost, a certificate and an epoch included.
    await a.certify()
    const [before, id, sequence] = [await a.context.db.prekey.findMany(), a.id, (await a.context.db.certificate.count()) + 1]
    await a.stop()

    const restored = await TestFleet.start({ url: (await postgres.createFleet('found')).urls.session, clock, ...restoring(backup) })
    expect(restored.id).toBe(id)
    expect(restored.core.identity.signKey).toEqual(a.core.identity.signKey)
    const after = await restored.context.db.prekey.findMany()
    expect(after.length).toBeGreaterThan(200)
    const old = new Set(before.map(({ publicKey }) => Buffer.from(publicKey).toString('hex')))
    expect(after.filter(({ publicKey, id: row }) => old.has(Buffer.from(publicKey).toString('hex')) || row < 100_000)).toEqual([])
    expect(await restored.context.db.session.count()).toBe(0)
    const newest = await restored.context.db.certificate.findFirst({ orderBy: { sequence: 'desc' } })
    expect(newest!.sequence).toBeGreaterThan(sequence)
    expect((await restored.context.db.auditOutbox.findMany()).map(({ event }) => (event as { body: unknown }).body)).toContainEqual({
      action: 'keys-restored',
      subject: id,
    })

    // The peer has pinned the fleet already; the restored one pins its peer again, by an invitation.
    expect(await pinPeer(restored.context, restored.id, await b.certificate())).toMatchObject({ ok: true })
    expect(await pinPeer(b.context, b.id, await restored.certificate())).toMatchObject({ ok: true })
    restored.peers = (fleetId) => (fleetId === b.id ? b : undefined)
    b.peers = (fleetId) => (fleetId === restored.id ? restored : undefined)
    let trips = 0
    let healed = false
    while (!healed && trips < ROUND_TRIPS) {
      trips += 1
      clock.advance(61_000)
      const there = await restored.trySeal(b, `ping ${trips}`, { class: 'control' })
      const arrived = there.ok && (await b.tryOpen(restored, there.envelope)).ok
      const back = await b.trySeal(restored, `pong ${trips}`, { class: 'control' })
      const answered = back.ok && (await restored.tryOpen(b, back.envelope)).ok
      healed = arrived && answered
    }
    expect(healed).toBe(true)
    expect(await b.open(restored, await restored.seal(b, 'here again'))).toBe('here again')
    expect(await restored.open(b, await b.seal(restored, 'welcome back'))).toBe('welcome back')
    process.stdout.write(`backup: restored into a new database, healed within ${trips} round trips, one message each way\n`)
    await restored.stop()
    await b.stop()
  })

  it('holds identity keys and certificates, and nothing of any session or prekey', async () => {
    const clock = new TestClock()
    const a = await TestFleet.start({ url: (await postgres.createFleet('closed')).urls.session, clock })
    const b = await TestFleet.start({ url: (await postgres.createFleet('closed-peer')).urls.session, clock })
    await introduce(a, b)
    expect(await b.open(a, await a.seal(b, 'x'))).toBe('x')
    expect(await a.open(b, await b.seal(a, 'y'))).toBe('y')
    const plain = await plainOf(await backupOf(a))

    // A closed list, by an own walk over the decoded form.
    const paths = new Set<string>()
    const walk = (value: unknown, at: string) => {
      if (Array.isArray(value)) for (const each of value) walk(each, `${at}[]`)
      else if (value !== null && typeof value === 'object' && !(value instanceof Uint8Array))
        for (const [key, each] of Object.entries(value)) walk(each, `${at}.${key}`)
      else paths.add(at)
    }
    walk(decode(plain), '')
    expect([...paths].sort()).toEqual([
      '.certificates[].certificate',
      '.certificates[].issuedAt',
      '.certificates[].sequence',
      '.createdAt',
      '.domain',
      '.fleetId',
      '.keys[].createdAt',
      '.keys[].kind',
      '.keys[].publicKey',
      '.keys[].retiredAt',
      '.keys[].secret',
      '.keys[].succession',
      '.keys[].version',
      '.v',
    ])

    // And by value: no run of 16 bytes of any state, prekey or data key, sealed or not, is anywhere in it.
    const { db, custody } = a.context
    const secrets: Buffer[] = []
    const keep = (value: { sealed: Uint8Array; kekId: string }, table: string, row: string, version: number) => {
      secrets.push(Buffer.from(value.sealed), Buffer.from(custody.openBytes(value, { table, row, version })))
    }
    for (const row of await db.prekey.findMany()) keep(row, 'prekey', String(row.id), row.version)
    for (const row of await db.session.findMany())
      keep({ sealed: row.state!, kekId: row.kekId }, 'session', Buffer.from(row.sid).toString('hex'), row.version)
    for (const { wrapped } of await db.dataKey.findMany()) secrets.push(Buffer.from(wrapped))
    secrets.push(Buffer.from(a.kek))
    // Public halves of IK_dh and certificate digests are in states as well; only what is not public counts.
    const certificates = Buffer.concat((await db.certificate.findMany()).map(({ certificate }) => Buffer.from(certificate)))
    let runs = 0
    let found = 0
    for (const secret of secrets)
      for (let at = 0; at + 16 <= secret.length; at += 4) {
        const run = secret.subarray(at, at + 16)
        if (run.every((byte) => byte === run[0]) || certificates.includes(run)) continue
        runs += 1
        if (plain.includes(run)) found += 1
      }
    expect(found).toBe(0)
    expect(plain.includes(Buffer.from(a.core.identity.signKey))).toBe(true)
    process.stdout.write(`backup: ${found} of ${runs} pieces of states, prekeys and data keys found in it\n`)
    await a.stop()
    await b.stop()
  })

  it('opens for each of its recipients, post-quantum ones included, and for nobody else', async () => {
    const fleet = await TestFleet.start({ url: (await postgres.createFleet('readers')).urls.session, clock: new TestClock() })
    const [hybrid, other, stranger] = [await generateHybridIdentity(), await generateX25519Identity(), await generateX25519Identity()]
    const file = await backupOf(fleet, recipient, await identityToRecipient(other), await identityToRecipient(hybrid))
    for (const key of [identity, other, hybrid]) {
      const decrypter = new Decrypter()
      decrypter.addIdentity(key)
      expect((await decrypter.decrypt(file)).length).toBeGreaterThan(300)
    }
    const start = async (backup: Uint8Array, key: string) =>
      TestFleet.start({
        url: (await postgres.createFleet(`r${randomBytes(3).toString('hex')}`)).urls.session,
        clock: new TestClock(),
        ...restoring(backup, key),
      })
    await expect(start(file, stranger)).rejects.toMatchObject({
      ...refused,
      message: expect.stringContaining('restore.identity') as string,
    })
    await expect(start(file, hybrid)).rejects.toMatchObject(refused)
    const changed = file.slice()
    changed[changed.length - 1]! ^= 1
    await expect(start(changed, identity)).rejects.toMatchObject(refused)
    const encrypter = new Encrypter()
    encrypter.addRecipient(recipient)
    await expect(start(await encrypter.encrypt('no backup'), identity)).rejects.toThrow(/is not a backup/)
    for (const bad of ['age1nothing', 'ssh-ed25519 AAAA', identity])
      expect(await writeBackup(fleet.context, fleet.core.identity, [recipient, bad])).toMatchObject({
        ok: false,
        code: 'InvalidRequest',
        message: expect.stringContaining('recipient 2') as string,
      })
    await fleet.stop()
  })

  it('is not imported over another identity, and not twice', async () => {
    const clock = new TestClock()
    const one = await TestFleet.start({ url: (await postgres.createFleet('one')).urls.session, clock })
    const backup = await backupOf(one)
    expect(await restoreBackup(one.context, { backup, identity: Buffer.from(identity) })).toBe('already-there')
    const two = await TestFleet.start({ url: (await postgres.createFleet('two')).urls.session, clock })
    await expect(restoreBackup(two.context, { backup, identity: Buffer.from(identity) })).rejects.toThrow(/identity of another fleet/)
    expect(await two.context.db.identityKey.count()).toBe(2)
    await one.stop()
    await two.stop()
  })

  it('whose keys do not belong together is refused as a whole', async () => {
    const clock = new TestClock()
    const fleet = await TestFleet.start({ url: (await postgres.createFleet('whole')).urls.session, clock })
    const content = decode(await plainOf(await backupOf(fleet))) as never as Parameters<typeof encodeBackup>[0]
    const { urls } = await postgres.createFleet('whole-2')
    const encrypted = async (changed: typeof content) => {
      const encrypter = new Encrypter()
      encrypter.addRecipient(recipient)
      return encrypter.encrypt(encodeBackup(changed))
    }
    const [sign, agreement] = [content.keys.find(({ kind }) => kind === 'sign')!, content.keys.find(({ kind }) => kind === 'agreement')!]
    const kek = randomBytes(32)
    for (const keys of [
      [{ ...sign, publicKey: agreement.publicKey }, agreement],
      [sign, { ...agreement, secret: sign.secret }],
      [sign, { ...agreement, secret: null }],
      [sign, { ...sign, version: 2 }],
    ])
      await expect(
        TestFleet.start({ url: urls.session, clock, kek, ...restoring(await encrypted({ ...content, keys })) }),
      ).rejects.toMatchObject({ ...refused, message: expect.stringContaining('the backup') as string })
    const after = await TestFleet.start({ url: urls.session, clock, kek, ...restoring(await encrypted(content)) })
    expect(after.id).toBe(fleet.id)
    await after.stop()
    await fleet.stop()
  })
})

describe('an age identity file', () => {
  it('is read without a string, comments and line ends and all, and wiped', async () => {
    for (const text of [identity, `${identity}\n`, `# created: today\n# public key: ${recipient}\n${identity}\r\n`]) {
      const content = Buffer.from(text)
      const key = await readAgeIdentity(content)
      expect(await identityToRecipient(key)).toBe(recipient)
      expect(content.every((byte) => byte === 0)).toBe(true)
    }
  })

  it('is refused for every wrong character and length', async () => {
    for (let at = 0; at < identity.length; at++) {
      const changed = Buffer.from(identity)
      changed[at] = changed[at] === 0x51 ? 0x50 : 0x51
      await expect(readAgeIdentity(changed), `character ${at}`).rejects.toMatchObject(refused)
    }
    for (const text of [
      '',
      '#\n',
      identity.slice(1),
      identity.slice(0, -1),
      `${identity}Q`,
      identity.toLowerCase(),
      await generateHybridIdentity(),
    ])
      await expect(readAgeIdentity(Buffer.from(text))).rejects.toMatchObject(refused)
  })
})

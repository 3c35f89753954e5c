/** Custody as main.ts sets it up from environment and files, and what is told about it. */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { sessionBackup, sessionCustody, sessionRotateKek } from '@tallystick/contracts/session'
import { SecretArena } from '@tallystick/secret-bytes/arena'
import { readSecretFile } from '@tallystick/service-host/secrets'
import { Registry } from 'prom-client'
import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { startPostgres, type TestPostgres } from '../../../tools/testing/postgres.ts'
import { prepareRestore } from '../src/backup/prepare-restore.js'
import { writeBackup } from '../src/backup/write-backup.js'
import { configureCustody, custodyEnv } from '../src/custody/configure-custody.js'
import { custodyMetrics } from '../src/custody/custody-metrics.js'
import { custodyView } from '../src/custody/custody-view.js'
import { rotateKek } from '../src/custody/rotate-kek.js'
import { TestClock, TestFleet } from './fleet.js'

const arena = SecretArena.open(64 * 1024, { allowUnlocked: true })
const TOOL = path.resolve(import.meta.dirname, '../dist/custody/protect-key-file-main.js')
let postgres: TestPostgres
let directory: string

beforeAll(async () => {
  postgres = await startPostgres()
})
afterAll(() => postgres.stop())
beforeEach(() => {
  directory = mkdtempSync(path.join(os.tmpdir(), 'tallystick-custody-'))
  return () => rmSync(directory, { recursive: true, force: true })
})

const put = (name: string, content: Uint8Array | string) => writeFileSync(path.join(directory, name), content, { mode: 0o400 })
const files = () => ({ directory, read: (name: string) => readSecretFile(directory, name) })
const configure = (env: Record<string, string> = {}) => configureCustody(custodyEnv.parse(env), arena, files())

describe('custody from environment and files', () => {
  it('reads kek, and kek.next while there is one', async () => {
    await expect(configure()).rejects.toThrow(/secret kek: cannot be opened/)
    put('kek', randomBytes(32))
    ;(await configure()).close()
    put('kek.next', randomBytes(31))
    await expect(configure()).rejects.toThrow(/"kek\.next" must hold exactly 32 bytes/)
  })

  it('opens a key file that the tool has protected, with the passphrase from its own file', async () => {
    expect(existsSync(TOOL), 'build first: tsc -b apps/session-svc').toBe(true)
    const kek = randomBytes(32)
    put('kek', kek)
    put('kek.passphrase', 'correct horse battery staple\n')
    const { urls } = await postgres.createFleet('protected')
    const clock = new TestClock()
    const before = await TestFleet.start({ url: urls.session, clock, kek })
    await before.stop()
    expect(execFileSync(process.execPath, [TOOL, directory], { encoding: 'utf8' })).toContain('protected')
    expect(statSync(path.join(directory, 'kek')).mode & 0o777).toBe(0o400)
    const content = readFileSync(path.join(directory, 'kek'))
    expect(content).toHaveLength(90)
    expect(content.includes(kek)).toBe(false)
    expect(() => execFileSync(process.execPath, [TOOL, directory], { stdio: 'pipe' })).toThrow(/protected already/)
    const custody = await configure()
    const after = await before.again({ custody: () => custody })
    expect(after.id).toBe(before.id)
    await after.stop()
    rmSync(path.join(directory, 'kek.passphrase'))
    put('kek.passphrase', 'another')
    await expect(configure()).rejects.toThrow(/does not open with this passphrase/)
    rmSync(path.join(directory, 'kek.passphrase'))
    await expect(configure()).rejects.toThrow(/kek\.passphrase/)
  })

  it('says what pkcs11 needs', async () => {
    await expect(configure({ TALLYSTICK_CUSTODY: 'pkcs11' })).rejects.toThrow(/TALLYSTICK_PKCS11_MODULE and TALLYSTICK_PKCS11_TOKEN/)
    const env = { TALLYSTICK_CUSTODY: 'pkcs11', TALLYSTICK_PKCS11_MODULE: '/nonexistent.so', TALLYSTICK_PKCS11_TOKEN: 't' }
    await expect(configure(env)).rejects.toThrow(/secret pkcs11\.pin/)
    expect(custodyEnv.safeParse({ TALLYSTICK_CUSTODY: 'cloud' }).success).toBe(false)
  })
})

describe('what is told about custody', () => {
  it('names provider, keys, memory and stock, and no key; rotation shows in it', async () => {
    const [kek, next] = [randomBytes(32), randomBytes(32)]
    put('kek', kek)
    const { urls } = await postgres.createFleet('told')
    const clock = new TestClock()
    const first = await configure()
    const one = await TestFleet.start({ url: urls.session, clock, custody: () => first })
    expect(await rotateKek(one.context)).toMatchObject({
      ok: false,
      code: 'Conflict',
      message: expect.stringContaining('kek.next') as string,
    })
    const view = sessionCustody.response.parse(await custodyView(one.context))
    if (!view.ok) throw new Error(view.message)
    expect(view).toMatchObject({
      provider: 'file',
      kekId: first.wrappingKekId,
      signingKey: 'sealed',
      dataKeys: [{ id: first.kekId, version: 1, kekId: first.wrappingKekId }],
      memory: { arenaBytes: one.context.arena.size, locked: one.context.arena.locked },
      prekeys: [
        { kind: 'signed', available: 1 },
        { kind: 'last-resort', available: 1 },
        { kind: 'one-time', available: 100 },
        { kind: 'pq-one-time', available: 100 },
      ],
      generation: { restoredAt: null },
    })
    expect(view.memory.usedBytes).toBeGreaterThan(0)
    if (process.platform === 'linux') expect(view.memory).toMatchObject({ guardPages: true, excludedFromCoreDumps: true })
    expect(JSON.stringify(view)).not.toContain(kek.toString('hex').slice(0, 16))

    const registry = new Registry()
    custodyMetrics(registry, one.context.arena, first)
    const metrics = await registry.metrics()
    expect(metrics).toContain(`tallystick_custody_arena_bytes ${one.context.arena.size}`)
    expect(metrics).toMatch(/tallystick_custody_arena_used_bytes [1-9]/)
    expect(metrics).toContain('tallystick_custody_info{provider="file"} 1')
    await one.stop()

    put('kek.next', next)
    const second = await configure()
    const two = await one.again({ custody: () => second })
    const rotated = sessionRotateKek.response.parse(await rotateKek(two.context))
    expect(rotated).toMatchObject({ ok: true, from: view.kekId, rewrapped: 1 })
    expect(await custodyView(two.context)).toMatchObject({ kekId: rotated.ok ? rotated.to : '', dataKeys: [{ id: view.dataKeys[0]!.id }] })
    expect(await two.audited()).toContain('AdminAction')
    await two.stop()

    // The end of the rotation: the next file takes the place of the first.
    for (const name of ['kek', 'kek.next']) rmSync(path.join(directory, name))
    put('kek', next)
    const third = await configure()
    const three = await one.again({ custody: () => third })
    expect(three.id).toBe(one.id)
    await three.stop()
  })
})

describe('a restore from the secrets folder', () => {
  it('happens before the identity is made, once, and says that the files can go', async () => {
    const clock = new TestClock()
    const lost = await TestFleet.start({ url: (await postgres.createFleet('folder-1')).urls.session, clock })
    const identity = await generateX25519Identity()
    const backup = sessionBackup.response.parse(await writeBackup(lost.context, lost.core.identity, [await identityToRecipient(identity)]))
    if (!backup.ok) throw new Error(backup.message)
    await lost.stop()
    put('restore.age', backup.file)
    put('restore.identity', `${identity}\n`)
    const said: string[] = []
    const before: NonNullable<Parameters<typeof TestFleet.start>[0]['before']> = async (context) => {
      const log = { ...context.log, warn: (_: unknown, text: string) => void said.push(text) }
      await prepareRestore({ ...context, log }, files())()
    }
    const found = await TestFleet.start({ url: (await postgres.createFleet('folder-2')).urls.session, clock, before })
    expect(found.id).toBe(lost.id)
    const again = await found.again({ before })
    expect(said).toEqual([expect.stringMatching(/were restored from the backup/), expect.stringMatching(/has been restored before/)])
    await again.stop()
    await found.stop()
    rmSync(path.join(directory, 'restore.identity'))
    await expect(TestFleet.start({ url: (await postgres.createFleet('folder-3')).urls.session, clock, before })).rejects.toThrow(
      /secret restore\.identity/,
    )
  })
})

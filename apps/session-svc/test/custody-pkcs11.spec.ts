/** Custody in a PKCS#11 token, against SoftHSM2. `npm run test:interop` runs the same and fails where this is skipped. */
import { randomBytes } from 'node:crypto'
import { createRequire } from 'node:module'
import { SecretArena } from '@tallystick/secret-bytes/arena'
import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openSoftHsm, type SoftHsm, softHsmMissing } from '../../../tools/softhsm.ts'
import { startPostgres, type TestPostgres } from '../../../tools/testing/postgres.ts'
import { writeBackup } from '../src/backup/write-backup.js'
import { custodyView } from '../src/custody/custody-view.js'
import { tokenCustody } from '../src/custody/token-custody.js'
import { custodyContract } from './custody-contract.js'
import { introduce, TestClock, TestFleet } from './fleet.js'

const missing = softHsmMissing()
if (missing !== undefined) process.stdout.write(`custody-pkcs11: not run on this machine: ${missing}\n`)

const TOKENS = 14
const arena = SecretArena.open(128 * 1024, { allowUnlocked: true })
const refused = { code: 'KeyStorage', reason: 'accessControlFailed' }

// vitest wants a test in every file; where there is no token, this one says so.
describe('PKCS#11', () => {
  it(missing === undefined ? 'SoftHSM is here' : `is not tested here: ${missing}`, () => {
    if (process.env.TALLYSTICK_REQUIRE_PKCS11 === '1') expect(missing).toBeUndefined()
  })
})

if (missing === undefined) {
  let hsm: SoftHsm
  let postgres: TestPostgres
  let next = 0
  const freshToken = () => `token-${next++}`

  beforeAll(async () => {
    hsm = openSoftHsm()
    // All at the beginning: SoftHSM reads its list of tokens when the library is initialised.
    for (let i = 0; i < TOKENS; i++) hsm.makeToken(`token-${i}`)
    postgres = await startPostgres()
  })
  afterAll(async () => {
    await postgres.stop()
    hsm.remove()
  })

  const options = (token: string, keyLabel: string, more: { nextLabel?: string; pin?: string; former?: { kek: Uint8Array } } = {}) => ({
    module: hsm.module,
    token,
    keyLabel,
    nextLabel: more.nextLabel,
    pin: Buffer.from(more.pin ?? hsm.pin),
    former: more.former,
  })

  custodyContract({
    name: 'pkcs11',
    signing: 'in-token',
    postgres: () => postgres,
    arena,
    keys: () => {
      const token = freshToken()
      return {
        custody: (a) => tokenCustody(a, options(token, 'kek')),
        withNext: (a) => tokenCustody(a, options(token, 'kek', { nextLabel: 'kek-2' })),
        nextOnly: (a) => tokenCustody(a, options(token, 'kek-2')),
        stranger: (a) => tokenCustody(a, options(token, 'another')),
      }
    },
  })

  describe('keys in the token', () => {
    it('cannot be read, wrapped or copied out of it', async () => {
      const token = freshToken()
      const { urls } = await postgres.createFleet('unreadable')
      const fleet = await TestFleet.start({
        url: urls.session,
        clock: new TestClock(),
        custody: (a) => tokenCustody(a, options(token, 'kek')),
      })
      fleet.context.custody.createSigningKey({ table: 'identity_key', row: 'sign', version: 9 }).key.destroy()
      const lib = createRequire(import.meta.url)('pkcs11js')
      const p11 = new lib.PKCS11()
      p11.load(hsm.module)
      const slot = p11.C_GetSlotList(true).find((each: Buffer) => p11.C_GetTokenInfo(each).label.startsWith(`${token}\0`))
      const session = p11.C_OpenSession(slot, lib.CKF_SERIAL_SESSION | lib.CKF_RW_SESSION)
      const objects = (kind: number): Buffer[] => {
        p11.C_FindObjectsInit(session, [{ type: lib.CKA_CLASS, value: kind }])
        const found = p11.C_FindObjects(session, 10)
        p11.C_FindObjectsFinal(session)
        return found
      }
      const kek = objects(lib.CKO_SECRET_KEY)
      const signing = objects(lib.CKO_PRIVATE_KEY)
      expect(kek).toHaveLength(1)
      expect(signing.length).toBeGreaterThanOrEqual(1)
      let attempts = 0
      const fails = (fn: () => unknown, name: RegExp) => {
        attempts += 1
        expect(fn).toThrow(name)
      }
      for (const key of [...kek, ...signing]) {
        const flags = p11.C_GetAttributeValue(session, key, [
          { type: lib.CKA_SENSITIVE },
          { type: lib.CKA_ALWAYS_SENSITIVE },
          { type: lib.CKA_EXTRACTABLE },
          { type: lib.CKA_NEVER_EXTRACTABLE },
        ])
        expect(flags.map(({ value }: { value: Buffer }) => value[0])).toEqual([1, 1, 0, 1])
        fails(() => p11.C_GetAttributeValue(session, key, [{ type: lib.CKA_VALUE }]), /CKR_ATTRIBUTE_SENSITIVE/)
        fails(() => p11.C_SetAttributeValue(session, key, [{ type: lib.CKA_EXTRACTABLE, value: true }]), /CKR_/)
        fails(() => p11.C_SetAttributeValue(session, key, [{ type: lib.CKA_SENSITIVE, value: false }]), /CKR_/)
        fails(() => p11.C_CopyObject(session, key, [{ type: lib.CKA_EXTRACTABLE, value: true }]), /CKR_/)
        fails(() => p11.C_WrapKey(session, { mechanism: lib.CKM_AES_KEY_WRAP }, kek[0], key, Buffer.alloc(256)), /CKR_/)
      }
      process.stdout.write(`pkcs11: ${attempts} of ${attempts} attempts to get a key out of the token refused\n`)
      p11.C_CloseSession(session)
      await fleet.stop()
    })

    it('say what is wrong: no such library, no such token, a wrong PIN', async () => {
      const token = freshToken()
      const { urls } = await postgres.createFleet('wrong')
      const start = (custody: Parameters<typeof tokenCustody>[1]) =>
        TestFleet.start({ url: urls.session, clock: new TestClock(), custody: (a) => tokenCustody(a, custody) })
      await expect(start({ ...options(token, 'kek'), module: '/nonexistent.so' })).rejects.toThrow(/TALLYSTICK_PKCS11_MODULE/)
      await expect(start(options('nobody', 'kek'))).rejects.toMatchObject({
        code: 'KeyStorage',
        reason: 'locked',
        message: expect.stringContaining('"nobody"') as string,
      })
      await expect(start(options(token, 'kek', { pin: '0000' }))).rejects.toMatchObject({
        ...refused,
        message: expect.stringContaining('pkcs11.pin') as string,
      })
    })

    it('that could be read out are refused, and so are two with one label', async () => {
      const token = freshToken()
      const lib = createRequire(import.meta.url)('pkcs11js')
      const p11 = new lib.PKCS11()
      p11.load(hsm.module)
      p11.C_Initialize()
      const slot = p11.C_GetSlotList(true).find((each: Buffer) => p11.C_GetTokenInfo(each).label.startsWith(`${token}\0`))
      const session = p11.C_OpenSession(slot, lib.CKF_SERIAL_SESSION | lib.CKF_RW_SESSION)
      p11.C_Login(session, lib.CKU_USER, hsm.pin)
      const make = (label: string, extractable: boolean) =>
        p11.C_GenerateKey(session, { mechanism: lib.CKM_AES_KEY_GEN }, [
          { type: lib.CKA_CLASS, value: lib.CKO_SECRET_KEY },
          { type: lib.CKA_KEY_TYPE, value: lib.CKK_AES },
          { type: lib.CKA_VALUE_LEN, value: 32 },
          { type: lib.CKA_LABEL, value: label },
          { type: lib.CKA_ID, value: randomBytes(8) },
          { type: lib.CKA_TOKEN, value: true },
          { type: lib.CKA_SENSITIVE, value: !extractable },
          { type: lib.CKA_EXTRACTABLE, value: extractable },
          { type: lib.CKA_ENCRYPT, value: true },
          { type: lib.CKA_DECRYPT, value: true },
        ])
      make('open', true)
      make('twice', false)
      make('twice', false)
      p11.C_CloseSession(session)
      p11.C_Finalize()
      const { urls } = await postgres.createFleet('readable')
      const start = (label: string) =>
        TestFleet.start({ url: urls.session, clock: new TestClock(), custody: (a) => tokenCustody(a, options(token, label)) })
      await expect(start('open')).rejects.toThrow(/can be read out of the token/)
      await expect(start('twice')).rejects.toThrow(/2 keys with the label/)
    })

    it('a fleet that begins with a token signs there, talks, starts again, and cannot be backed up', async () => {
      const token = freshToken()
      const clock = new TestClock()
      const peer = await TestFleet.start({ url: (await postgres.createFleet('visitor')).urls.session, clock })
      const custody = (a: SecretArena) => tokenCustody(a, options(token, 'kek'))
      const fleet = await TestFleet.start({ url: (await postgres.createFleet('in-token')).urls.session, clock, custody })
      await introduce(fleet, peer)
      expect(await peer.open(fleet, await fleet.seal(peer, 'hello'))).toBe('hello')
      expect(await fleet.open(peer, await peer.seal(fleet, 'hello yourself'))).toBe('hello yourself')
      expect(await custodyView(fleet.context)).toMatchObject({ ok: true, provider: 'pkcs11', signingKey: 'in-token' })
      const recipient = await identityToRecipient(await generateX25519Identity())
      expect(await writeBackup(fleet.context, fleet.core.identity, [recipient])).toMatchObject({ ok: false, code: 'Conflict' })
      const again = await fleet.again()
      expect(again.core.identity.signKey).toEqual(fleet.core.identity.signKey)
      expect(await peer.open(again, await again.seal(peer, 'still here'))).toBe('still here')
      for (const each of [fleet, again, peer]) await each.stop()
    })

    it('a fleet moves from a key file to the token: its rows stay, its identity stays, and the file can go', async () => {
      const token = freshToken()
      const clock = new TestClock()
      const { urls } = await postgres.createFleet('moving')
      const peer = await TestFleet.start({ url: (await postgres.createFleet('friend')).urls.session, clock })
      const kek = randomBytes(32)
      const before = await TestFleet.start({ url: urls.session, clock, kek })
      await introduce(before, peer)
      expect(await peer.open(before, await before.seal(peer, 'from the file'))).toBe('from the file')
      const { signKey, fleetId } = before.core.identity
      await before.stop()

      const moving = await before.again({
        custody: (a) => tokenCustody(a, options(token, 'kek', { former: { kek: Uint8Array.from(kek) } })),
      })
      expect(moving.core.identity.signKey).toEqual(signKey)
      expect(await moving.context.custody.rotateKek()).toMatchObject({ rewrapped: 1 })
      expect(await moving.context.custody.rotateKek()).toBeUndefined()
      await moving.stop()

      const moved = await before.again({ custody: (a) => tokenCustody(a, options(token, 'kek')) })
      expect(moved.id).toBe(fleetId)
      expect(await peer.open(moved, await moved.seal(peer, 'from the token'))).toBe('from the token')
      await moved.stop()
      await peer.stop()
    })
  })
}

/** A fleet that lost everything but the backup of its identity keys: docs/runbooks/restore.md, part B. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { startFleet, type RunningFleet } from '../tools/fleet/start.ts'
import { blocksOf, runBlock } from './runbook.ts'
import {
  auditEvents,
  exampleInvoice,
  folderOf,
  get,
  grant,
  inboxItem,
  issueUbl,
  pinEachOther,
  post,
  share,
  shareReaches,
  startTwoFleets,
  until,
  type TwoFleets,
} from './support.ts'

/** A message that crosses the first one after the restore is lost with its session; it is sent again after this. */
const SOONER = { TALLYSTICK_INVOICE_KEY_WATCH_MS: '500', TALLYSTICK_INVOICE_RESEND_AFTER_MS: '3000' }

let fleets: TwoFleets
let restored: RunningFleet | undefined
let folder: string
beforeAll(async () => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'tallystick-keys-'))
  fleets = await startTwoFleets(SOONER)
  await pinEachOther(fleets)
  await grant(fleets.acme, fleets.globexId)
  await grant(fleets.globex, fleets.acmeId)
})
afterAll(async () => {
  await restored?.stop()
  await fleets?.stop()
  rmSync(folder, { recursive: true, force: true })
})

let number = 0
async function exchange(from: RunningFleet, to: RunningFleet, toId: string): Promise<void> {
  const xml = exampleInvoice('ubl-tc434-example9.xml', 'acme-invoice.xml')
    .toString()
    .replace(/(<cbc:ID[^>]*>)([^<]*)(<\/cbc:ID>)/, (_, open: string, id: string, close: string) => `${open}${id}-${++number}${close}`)
  const { id, contentDigest } = await issueUbl(from, xml)
  const { shareId } = await share(from, id, toId)
  await inboxItem(to, contentDigest, 120_000)
  await shareReaches(from, shareId, 'delivered', 120_000)
}

it("a fleet with an empty database comes back by the runbook's own commands", { timeout: 400_000 }, async () => {
  const { acme, globex, acmeId, globexId } = fleets
  await exchange(acme, globex, globexId)
  await exchange(globex, acme, acmeId)
  await exchange(acme, globex, globexId)
  const before = await get(acme, '/v1/fleet')

  const identity = await generateX25519Identity()
  const variables = {
    BACKUP_FILE: path.join(folder, 'identity.age'),
    AGE_IDENTITY_FILE: path.join(folder, 'age.identity'),
    SESSION_SECRETS: path.join(folder, 'acme', 'secrets', 'session-svc'),
  }
  writeFileSync(variables.AGE_IDENTITY_FILE, `# for the test\n${identity}\n`, { mode: 0o600 })
  const backup = { name: 'backup', exitCode: 0, script: `npx tallystick keys backup "$BACKUP_FILE" --recipient "$AGE_RECIPIENT"` }
  const recipient = await identityToRecipient(identity)
  const made = await runBlock(backup, { ...variables, AGE_RECIPIENT: recipient, TALLYSTICK_FLEET_DIR: folderOf(acme) })
  expect([made.code, readFileSync(variables.BACKUP_FILE).subarray(0, 21).toString()], made.out).toEqual([0, 'age-encryption.org/v1'])
  await exchange(globex, acme, acmeId)
  await acme.stop()

  // Another folder, another database, every secret new.
  mkdirSync(variables.SESSION_SECRETS, { recursive: true, mode: 0o700 })
  const [restore, tidy] = blocksOf('restore.md')
  expect([restore?.name, tidy?.name]).toEqual(['restore', 'restored'])
  const laid = await runBlock(restore!, variables)
  expect(laid.code, laid.out).toBe(0)
  restored = await startFleet({
    name: 'acme-restored',
    dataDir: path.join(folder, 'acme'),
    postgres: fleets.postgres.server,
    env: { NODE_ENV: 'test', TALLYSTICK_API_RATE_PER_MINUTE: '100000', ...SOONER },
  })
  const tidied = await runBlock(tidy!, { ...variables, TALLYSTICK_FLEET_DIR: folderOf(restored) })
  expect(tidied.code, tidied.out).toBe(0)
  expect(['restore.age', 'restore.identity'].filter((name) => existsSync(path.join(variables.SESSION_SECRETS, name)))).toEqual([])
  const after = await get(restored, '/v1/fleet')
  expect([after.fleetId, after.fingerprint]).toEqual([acmeId, before.fingerprint])
  expect(after.sequence).toBeGreaterThan(before.sequence + 999)
  expect(after.peerIds).not.toEqual(before.peerIds)
  expect(tidied.out).toContain(after.invitation)
  expect((await get(restored, '/v1/peers')).items).toEqual([])

  // The same identity at another place: nothing to compare, an invitation to take.
  await pinEachOther({ ...fleets, acme: restored })
  expect(await get(globex, `/v1/peers/${acmeId}`)).toMatchObject({ peerIds: after.peerIds, sequence: after.sequence })
  await grant(restored, globexId)
  await exchange(restored, globex, globexId)
  await exchange(globex, restored, acmeId)
  await until('keys are well on both sides', async () => {
    const [ours, theirs] = [await get(restored!, `/v1/peers/${globexId}`), await get(globex, `/v1/peers/${acmeId}`)]
    return ours.keyState === 'ok' && theirs.keyState === 'ok'
  })
  await until('the audit log has it', async () =>
    (await auditEvents(restored!)).some((event) => event.type === 'AdminAction' && event.body.action === 'keys-restored'),
  )

  // Without the files it is a fleet like any other.
  await restored.suspend('session-svc')
  await restored.resume('session-svc')
  await restored.ready()
  await exchange(restored, globex, globexId)
  await exchange(globex, restored, acmeId)
})

it(
  'a rotation and a resync that a person asks for need no document; rotateEvery 1 gives each document an epoch',
  { timeout: 300_000 },
  async () => {
    const { globex, globexId, acmeId } = fleets
    const ours = restored!
    const epochs = async () => {
      const [a, b] = [await get(ours, `/v1/peers/${globexId}`), await get(globex, `/v1/peers/${acmeId}`)]
      return { ours: a.session.epoch as number, theirs: b.session.epoch as number, well: a.keyState === 'ok' && b.keyState === 'ok', a, b }
    }
    const both = async (what: string, since: number) =>
      await until(what, async () => {
        const now = await epochs()
        return now.ours > since && now.ours === now.theirs && now.well && now
      })
    const first = await epochs()
    const rotated = await post(ours, `/v1/peers/${globexId}/rotate`, undefined, 202)
    expect(rotated.session.epoch).toBe(first.ours)
    const second = await both('the next epoch on both sides', first.ours)

    const asked = await post(ours, `/v1/peers/${globexId}/resync`, undefined, 202)
    expect(asked.recovery.state).toBe('resync_required')
    const third = await both('a session that continues nothing, on both sides', second.ours)

    expect((await ours.api(`/v1/peers/${globexId}`, { method: 'PATCH', body: { rotateEvery: 1 } })).status).toBe(200)
    await exchange(ours, globex, globexId)
    await exchange(ours, globex, globexId)
    await exchange(ours, globex, globexId)
    const last = await epochs()
    expect(last.ours).toBeGreaterThanOrEqual(third.ours + 2)
    expect(last.a.rotateEvery).toBe(1)
  },
)

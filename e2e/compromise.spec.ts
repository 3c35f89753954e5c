/** A suspected compromise at acme: docs/runbooks/compromise.md, command by command, with globex on the other side. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { RunningFleet } from '../tools/fleet/start.ts'
import { blocksOf, runBlock, type Block } from './runbook.ts'
import {
  auditEvents,
  exampleInvoice,
  folderOf,
  get,
  grant,
  inboxItem,
  issueUbl,
  pinEachOther,
  share,
  shareReaches,
  sql,
  startTwoFleets,
  until,
  type TwoFleets,
} from './support.ts'

let fleets: TwoFleets
let folder: string
beforeAll(async () => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'tallystick-compromise-'))
  fleets = await startTwoFleets({ TALLYSTICK_RELAY_CERTIFICATE_POLL_MS: '500', TALLYSTICK_INVOICE_KEY_WATCH_MS: '500' })
  await pinEachOther(fleets)
  await grant(fleets.acme, fleets.globexId)
  await grant(fleets.globex, fleets.acmeId)
})
afterAll(async () => {
  await fleets?.stop()
  rmSync(folder, { recursive: true, force: true })
})

let number = 0
const invoice = () =>
  exampleInvoice('ubl-tc434-example9.xml', 'acme-invoice.xml')
    .toString()
    .replace(/(<cbc:ID[^>]*>)([^<]*)(<\/cbc:ID>)/, (_, open: string, id: string, close: string) => `${open}${id}-${++number}${close}`)

async function exchange(from: RunningFleet, to: RunningFleet, toId: string): Promise<void> {
  const { id, contentDigest } = await issueUbl(from, invoice())
  const { shareId } = await share(from, id, toId)
  await inboxItem(to, contentDigest)
  await shareReaches(from, shareId, 'delivered')
}
const liveSessions = async (fleet: string) =>
  (await sql(fleets, fleet, 'SELECT epoch, started_at FROM session.session WHERE state IS NOT NULL ORDER BY started_at')) as {
    epoch: number
    started_at: Date
  }[]

describe('a suspected compromise', () => {
  it("renewing the identity by the runbook's own commands", { timeout: 240_000 }, async () => {
    const { acme, globex, acmeId, globexId } = fleets
    await exchange(acme, globex, globexId)
    await exchange(globex, acme, acmeId)
    expect((await liveSessions('acme')).length).toBeGreaterThan(0)
    const before = await get(acme, '/v1/fleet')

    const identity = await generateX25519Identity()
    const variables: Record<string, string> = {
      FLEET_ID: acmeId,
      PEER_ID: globexId,
      BACKUP_FILE: path.join(folder, 'after.age'),
      AGE_RECIPIENT: await identityToRecipient(identity),
    }
    const blocks = blocksOf('compromise.md')
    expect(blocks.map((block) => block.name)).toEqual(['ours', 'ours', 'ours', 'theirs', 'theirs', 'theirs', 'ours', 'theirs'])
    const next = async (): Promise<string> => {
      const block = blocks.shift() as Block
      const fleet = block.name === 'ours' ? acme : globex
      const { code, out } = await runBlock(block, { ...variables, TALLYSTICK_FLEET_DIR: folderOf(fleet) })
      expect([code, block.script], out).toEqual([block.exitCode, block.script])
      return out
    }

    // Ours: how it stands, the renewal, a new backup.
    expect(await next()).toMatch(/custody +file/)
    // One invoice is on its way, in the old session and under the old signature, when the keys go.
    await globex.suspend('relay-svc')
    const caught = await issueUbl(acme, invoice())
    const caughtShare = await share(acme, caught.id, globexId)
    await shareReaches(acme, caughtShare.shareId, 'relayed')
    const renewedAt = new Date()
    const renewed = await next()
    await globex.resume('relay-svc')
    const after = await get(acme, '/v1/fleet')
    expect(after.fleetId).toBe(acmeId)
    expect(after.fingerprint).not.toBe(before.fingerprint)
    expect(after.sequence).toBeGreaterThan(before.sequence)
    expect(after.invitation).not.toBe(before.invitation)
    expect(renewed).toContain(after.fingerprint)
    expect((await liveSessions('acme')).filter((row) => row.started_at < renewedAt)).toEqual([])
    await next()
    expect(readFileSync(variables.BACKUP_FILE!).subarray(0, 21).toString()).toBe('age-encryption.org/v1')

    // Theirs: told by the relay, without a message; sending has stopped.
    await until(
      'globex has heard of the new identity',
      async () => (await get(globex, `/v1/peers/${acmeId}`)).keyState === 'identity-changed',
    )
    const pending = await get(globex, `/v1/peers/${acmeId}`)
    expect(pending.pendingFingerprint).toBe(after.fingerprint)
    expect(pending.fingerprint).toBe(before.fingerprint)
    const waiting = await issueUbl(globex, invoice())
    const held = await share(globex, waiting.id, acmeId)
    await until('the share says why it waits', async () => (await get(globex, `/v1/shares/${held.shareId}`)).code === 'IdentityChanged')
    // What acme shares now waits at globex until the approval.
    const early = await issueUbl(acme, invoice())
    const earlyShare = await share(acme, early.id, globexId)
    expect(await next()).toMatch(/FAILED keys: .*nobody has approved/)
    const shown = await next()
    expect(shown).toContain(before.fingerprint)
    expect(shown).toContain(after.fingerprint)
    const wrong = await globex.api(`/v1/peers/${acmeId}/verify`, { method: 'POST', body: { fingerprint: before.fingerprint } })
    expect([wrong.status, (wrong.body as { code: string }).code]).toEqual([409, 'Conflict'])
    expect((await get(globex, `/v1/shares/${held.shareId}`)).state).toBe('queued')

    // Approved by the fingerprint that was read out, in other groups.
    variables.NEW_FINGERPRINT = after.fingerprint.replaceAll(' ', '-')
    const approvedAt = new Date()
    await next()
    expect(await get(globex, `/v1/peers/${acmeId}`)).toMatchObject({
      verified: true,
      pendingFingerprint: null,
      fingerprint: after.fingerprint,
    })

    // What waited goes on by itself, both ways, and so does everything new.
    await shareReaches(globex, held.shareId, 'delivered', 90_000)
    await inboxItem(acme, waiting.contentDigest)
    await shareReaches(acme, earlyShare.shareId, 'delivered', 90_000)
    await inboxItem(globex, early.contentDigest)
    await shareReaches(acme, caughtShare.shareId, 'delivered', 150_000)
    await inboxItem(globex, caught.contentDigest)
    await next()
    await next()
    expect(blocks).toEqual([])
    await exchange(acme, globex, globexId)
    await exchange(globex, acme, acmeId)

    // Old sessions are gone on both sides.
    for (const [fleet, since] of [
      ['acme', renewedAt],
      ['globex', approvedAt],
    ] as const) {
      const live = await liveSessions(fleet)
      expect(live.length).toBeGreaterThan(0)
      expect(live.filter((row) => row.started_at < since)).toEqual([])
    }
    const actions = async (fleet: RunningFleet) =>
      (await auditEvents(fleet)).map((event) => `${event.actor} ${event.type} ${event.body.action ?? ''}`.trim())
    await until('both audit logs have it', async () => {
      const [ours, theirs] = [await actions(acme), await actions(globex)]
      return (
        ours.includes('client:admin AdminAction identity-renewed') &&
        ours.includes('session-svc KeyRotated') &&
        theirs.includes('client:admin AdminAction peer-identity-approved') &&
        theirs.includes('session-svc IdentityChanged')
      )
    })
  })
})

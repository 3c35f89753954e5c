/** The whole exchange by the `tallystick` command alone, as a person at a terminal would do it. */
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { RunningFleet } from '../tools/fleet/start.ts'
import { root, startTwoFleets, until, type TwoFleets } from './support.ts'

const run = promisify(execFile)
let fleets: TwoFleets
let folder: string
beforeAll(async () => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'tallystick-cli-'))
  fleets = await startTwoFleets()
})
afterAll(async () => {
  await fleets?.stop()
  rmSync(folder, { recursive: true, force: true })
})

const command = (args: readonly string[]) => run(process.execPath, ['apps/cli/bin/tallystick.mjs', ...args], { cwd: root })
/** With --json against a fleet. */
const tallystick = async (fleet: RunningFleet, ...args: string[]) =>
  JSON.parse((await command([...args, '--json', '--fleet', path.dirname(fleet.logFile('nats')).replace(/\/logs$/, '')])).stdout)

it('pin, consent, import, send, verdict and evidence need nothing but the command', async () => {
  const { acme, globex, acmeId, globexId } = fleets
  for (const [self, peer] of [
    [acme, globex],
    [globex, acme],
  ] as const) {
    const { invitation } = await tallystick(peer, 'peer', 'invite')
    await tallystick(self, 'peer', 'add', invitation)
  }
  // Without a consent the refusal says which one is missing, and the exit code is that of a refusal.
  const document = await tallystick(acme, 'invoice', 'import', 'samples/acme-invoice.xml', '--issue')
  await expect(tallystick(acme, 'invoice', 'send', document.id, globexId)).rejects.toMatchObject({
    code: 3,
    stdout: expect.stringContaining('ConsentRequired'),
  })

  await tallystick(acme, 'peer', 'consent', globexId)
  await tallystick(globex, 'peer', 'consent', acmeId)
  const share = await tallystick(acme, 'invoice', 'send', document.id, globexId, '--watch', '--until', 'delivered', '--timeout', '60')
  const { items } = await tallystick(globex, 'inbox', 'list', '--state', 'received')
  expect(items).toHaveLength(1)
  expect(await tallystick(globex, 'inbox', 'verdict', items[0].id, 'accepted', '--note', 'thank you')).toMatchObject({ state: 'accepted' })
  expect(await tallystick(acme, 'invoice', 'watch', share.shareId, '--timeout', '60')).toMatchObject({ state: 'accepted' })
  expect(await tallystick(acme, 'audit', 'verify')).toMatchObject({ ok: true })

  const file = path.join(folder, 'evidence.json')
  await until('the evidence is complete', () => tallystick(acme, 'evidence', 'fetch', document.id, file).catch(() => undefined))
  await fleets.stop()
  expect((await command(['evidence', 'verify', file])).stdout).toContain('signed this invoice for globex')
})

/** `npm run fleet` as a user runs it: one fleet as real processes, in the background. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { ROOT, SERVICES } from '../paths.ts'
import { identityOf, isAlive, type ProcessIdentity } from '../process/child.ts'
import { startPostgres, type TestPostgres } from '../testing/postgres.ts'
import { callApi } from './api-client.ts'
import { layoutOf, readJson, type FleetInfo, type SupervisorState } from './layout.ts'

const directory = mkdtempSync(path.join(os.tmpdir(), 'tallystick-launcher-'))
const layout = layoutOf(directory)
const built = SERVICES.every((service) => existsSync(path.join(ROOT, 'apps', service, 'dist', 'main.js')))
let postgres: TestPostgres
beforeAll(async () => {
  if (!built) throw new Error('this test needs `npm run build`')
  postgres = await startPostgres()
})
afterAll(async () => {
  fleet('down')
  await postgres.stop()
  rmSync(directory, { recursive: true, force: true })
})

function fleet(command: string, ...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['tools/fleet.mjs', command, '--data', directory, ...args], {
    cwd: ROOT,
    encoding: 'utf8',
    env: { ...process.env, TALLYSTICK_DATABASE_URL: postgres.url },
  })
  return { status, stdout, stderr }
}

const info = () => readJson<FleetInfo>(layout.info) as FleetInfo
const processes = () => Object.values((readJson<SupervisorState>(layout.lock) as SupervisorState).children)
const own = async ({ api }: FleetInfo) =>
  (await callApi(api.url, api.tokens, '/v1/fleet', { token: 'auditor' })).body as {
    fleetId: string
    peerIds: string[]
    multiaddrs: string[]
  }

it('starts, describes itself, stops, and is the same fleet on the same ports afterwards', { timeout: 240_000 }, async () => {
  expect(fleet('status').status).toBe(1)
  const up = fleet('up', '--name', 'seller')
  expect(up.stderr).toMatch(/fleet seller is ready/)
  expect(up.status).toBe(0)

  const first = info()
  expect(statSync(layout.info).mode & 0o777).toBe(0o600)
  const answer = await own(first)
  expect(first).toMatchObject({ name: 'seller', fleetId: answer.fleetId, peerId: answer.peerIds[0], multiaddrs: answer.multiaddrs })
  expect(Object.keys(first.api.tokens)).toEqual(['admin', 'operator', 'auditor'])
  for (const service of SERVICES) {
    expect(isAlive({ pid: first.pids[service] })).toBe(true)
    expect(await (await fetch(first.metrics[service])).text()).toContain('process_cpu_user_seconds_total')
  }
  expect(JSON.parse(fleet('status', '--json').stdout)).toMatchObject({ state: 'up', fleetId: first.fleetId })

  const again = fleet('up', '--name', 'seller')
  expect(again.status).toBe(0)
  expect(again.stderr).toMatch(/already running/)
  expect(info().pids).toEqual(first.pids)

  const before: ProcessIdentity[] = [...processes(), identityOf(first.supervisor.pid)]
  expect(fleet('down').status).toBe(0)
  expect(before.filter(isAlive)).toEqual([])
  expect(fleet('down').stderr).toMatch(/no fleet is running/)

  expect(fleet('up', '--name', 'other').status).toBe(1)
  expect(fleet('up', '--name', 'seller').status).toBe(0)
  const second = info()
  expect({ ...second, pids: 0, nats: 0, supervisor: 0 }).toEqual({ ...first, pids: 0, nats: 0, supervisor: 0 })
  expect(second.nats.url).toBe(first.nats.url)
  expect((await own(second)).fleetId).toBe(first.fleetId)
})

it('says what is wrong with its arguments', () => {
  expect(fleet('up', '--name', 'Seller').status).toBe(2)
  expect(fleet('up').status).toBe(2)
  expect(fleet('sideways').status).toBe(2)
  expect(fleet('up', '--name', 'seller', '--http-port', '70000').stderr).toMatch(/70000 is not a port/)
})

import { rmSync, writeFileSync, mkdtempSync, readFileSync } from 'node:fs'
import { spawnSync } from 'node:child_process'
import os from 'node:os'
import path from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { SHORTS } from '../paths.ts'
import { startPostgres, type TestFleetDatabase, type TestPostgres } from '../testing/postgres.ts'
import { withRole } from './migrations.ts'
import { migrateAsOwner, provisionFleet } from './provision.ts'
import { newRolePasswords, onDatabase } from './roles.ts'

let postgres: TestPostgres
let fleet: TestFleetDatabase
beforeAll(async () => {
  postgres = await startPostgres()
  fleet = await postgres.createFleet('seller')
})
afterAll(() => postgres.stop())

async function as<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}

const passwordOf = (url: string) => decodeURIComponent(new URL(url).password)
const passwordsOf = (database: TestFleetDatabase) => ({
  ...newRolePasswords(),
  owner: passwordOf(database.ownerUrl),
  ...Object.fromEntries(SHORTS.map((short) => [short, passwordOf(database.urls[short])])),
})

it.each(SHORTS)('lets the role of %s into its own schema and into no other', async (own) => {
  await as(fleet.urls[own], async (client) => {
    expect((await client.query('SHOW search_path')).rows[0].search_path).toBe(own)
    await client.query('SELECT count(*) FROM audit_outbox')
    for (const other of SHORTS.filter((short) => short !== own)) {
      await expect(client.query(`SELECT count(*) FROM "${other}".audit_outbox`)).rejects.toMatchObject({ code: '42501' })
    }
    await expect(client.query('CREATE TABLE intruder (id int)')).rejects.toMatchObject({ code: '42501' })
    await expect(client.query('CREATE TABLE public.intruder (id int)')).rejects.toMatchObject({ code: '42501' })
    await expect(client.query('SELECT count(*) FROM _prisma_migrations')).rejects.toMatchObject({ code: '42501' })
    const { rows } = await client.query(
      'SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls FROM pg_roles WHERE rolname = current_user',
    )
    expect(Object.values(rows[0])).toEqual([false, false, false, false, false])
  })
})

it('keeps fleets on one server apart', async () => {
  const other = await postgres.createFleet('buyer')
  const stranger = new URL(fleet.urls.session)
  await expect(as(onDatabase(stranger.href, other.name), async () => undefined)).rejects.toMatchObject({ code: '42501' })
})

it('does nothing the second time, and takes back a right that grants.sql does not name', async () => {
  await as(fleet.ownerUrl, (owner) => owner.query(`GRANT TRUNCATE ON audit.audit_outbox TO "${fleet.name}_audit"`))
  const again = await provisionFleet({ adminUrl: postgres.url, fleet: fleet.name, passwords: passwordsOf(fleet) })
  expect(again.applied).toEqual([])
  expect(again.urls).toEqual(fleet.urls)
  await expect(as(fleet.urls.audit, (client) => client.query('TRUNCATE audit_outbox'))).rejects.toMatchObject({ code: '42501' })
})

it('refuses a database whose migrations are not those of this checkout', async () => {
  const drifted = await postgres.createFleet('drifted')
  const again = () => migrateAsOwner({ url: onDatabase(postgres.url, drifted.name), fleet: drifted.name, passwords: passwordsOf(drifted) })
  await as(drifted.ownerUrl, (owner) => owner.query(`UPDATE relay._prisma_migrations SET checksum = repeat('0', 64)`))
  await expect(again()).rejects.toThrow(/schema "relay": migration \w+ was changed after it had been applied/)
  await as(drifted.ownerUrl, (owner) => owner.query(`UPDATE relay._prisma_migrations SET migration_name = '29990101000000_future'`))
  await expect(again()).rejects.toThrow(/29990101000000_future is applied but not in this version/)
})

it('works as one command for an account that is no superuser, and applies the migrations itself', async () => {
  await as(postgres.url, (admin) => admin.query(`CREATE ROLE clerk LOGIN CREATEROLE CREATEDB PASSWORD 'clerk-password'`))
  const folder = mkdtempSync(path.join(os.tmpdir(), 'tallystick-provision-'))
  try {
    for (const role of ['owner', ...SHORTS]) writeFileSync(path.join(folder, role), `password-of-${role}`, { mode: 0o400 })
    const adminUrl = new URL(postgres.url)
    adminUrl.username = 'clerk'
    adminUrl.password = 'clerk-password'
    writeFileSync(path.join(folder, 'admin-url'), adminUrl.href, { mode: 0o400 })
    const command = [
      'tools/prisma/migrate.ts',
      '--fleet',
      'managed',
      '--passwords',
      folder,
      '--admin-url-file',
      path.join(folder, 'admin-url'),
      '--write-secrets',
      path.join(folder, 'secrets'),
    ]
    const run = () => spawnSync(process.execPath, command, { cwd: path.resolve(import.meta.dirname, '..', '..'), encoding: 'utf8' })
    const first = run()
    expect(first.stderr).toMatch(/up to date \([1-9]\d* migrations applied/)
    expect(first.status).toBe(0)
    expect(run().stderr).toMatch(/up to date \(0 migrations applied/)
    const url = readFileSync(path.join(folder, 'secrets', 'relay-svc', 'database-url'), 'utf8')
    await as(url, (client) => client.query('SELECT count(*) FROM audit_outbox'))
  } finally {
    rmSync(folder, { recursive: true, force: true })
    await as(postgres.url, (admin) => admin.query('DROP DATABASE IF EXISTS managed WITH (FORCE)'))
  }
}, 120_000)

it('puts the role where :role stands and nowhere else', () => {
  expect(withRole(`GRANT SELECT ON t TO :role; SELECT 'x'::role, a:role, :roles`, '"fleet_audit"')).toBe(
    `GRANT SELECT ON t TO "fleet_audit"; SELECT 'x'::role, a:role, :roles`,
  )
})

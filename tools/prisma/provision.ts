/** One fleet's place in a PostgreSQL server: database, roles, schemas, migrations, grants. Idempotent. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import pg from 'pg'
import { FLEET_NAME, SHORTS, type Short } from '../paths.ts'
import { applyGrants, deployMigrations, pendingMigrations } from './migrations.ts'
import { asRole, createDatabase, databaseExists, ensureRolesAndSchemas, onDatabase, roleName, type RolePasswords } from './roles.ts'

export interface ProvisionOptions {
  /** Account that may make roles and the database; see roles.ts. */
  adminUrl: string
  fleet: string
  /** Default: the fleet's name. */
  database?: string
  passwords: RolePasswords
  /** Asked for the name of a migrated database to copy, only when the fleet's own is new. @see template.ts */
  template?: () => Promise<string>
  say?: (text: string) => void
}

export interface FleetDatabase {
  ownerUrl: string
  urls: Record<Short, string>
  /** Migrations that were applied now, `invoice/20261121…`. */
  applied: string[]
}

/** Two launchers at once take turns: first key of pg_advisory_lock, 'tlly' in ASCII. */
export const LOCK_CLASS = 0x746c6c79

export async function provisionFleet(options: ProvisionOptions): Promise<FleetDatabase> {
  const { fleet, passwords } = options
  if (!FLEET_NAME.test(fleet)) throw new Error(`"${fleet}" is not a fleet name (a-z, 0-9 and "-", at most 31, a letter first)`)
  const database = options.database ?? fleet
  await withClient(options.adminUrl, async (admin) => {
    await admin.query('SELECT pg_advisory_lock($1, hashtext($2))', [LOCK_CLASS, database])
    if (!(await databaseExists(admin, database))) await createDatabase(admin, database, await options.template?.())
  })
  const databaseUrl = onDatabase(options.adminUrl, database)
  return withClient(databaseUrl, async (admin) => {
    await admin.query('SELECT pg_advisory_lock($1, 0)', [LOCK_CLASS])
    await ensureRolesAndSchemas(admin, fleet, passwords)
    return migrateAsOwner({ url: databaseUrl, fleet, passwords, ...(options.say === undefined ? {} : { say: options.say }) })
  })
}

/** Migrations and grants alone, for a server whose roles and schemas somebody else has made. */
export async function migrateAsOwner(options: {
  url: string
  fleet: string
  passwords: RolePasswords
  say?: (text: string) => void
}): Promise<FleetDatabase> {
  const { url, fleet, passwords } = options
  const ownerRole = roleName(fleet, 'owner')
  const ownerUrl = asRole(url, ownerRole, passwords.owner)
  const applied: string[] = []
  await withClient(ownerUrl, async (owner) => {
    const pending: [Short, string[]][] = []
    for (const short of SHORTS) {
      const names = await pendingMigrations(owner, short)
      if (names.length > 0) pending.push([short, names])
    }
    if (pending.length > 0) {
      options.say?.(`applying migrations: ${pending.map(([short, names]) => `${short} (${names.length})`).join(', ')}`)
      await withPasswordFile(url, ownerRole, passwords.owner, (env) =>
        Promise.all(pending.map(([short]) => deployMigrations(short, asRole(url, ownerRole), env))),
      )
      applied.push(...pending.flatMap(([short, names]) => names.map((name) => `${short}/${name}`)))
    }
    for (const short of SHORTS) await applyGrants(owner, fleet, short)
  })
  const urls = Object.fromEntries(SHORTS.map((short) => [short, asRole(url, roleName(fleet, short), passwords[short])])) as Record<
    Short,
    string
  >
  return { ownerUrl, urls, applied }
}

/** The password reaches Prisma as a file that only this user can read: neither arguments nor environment hold it. */
export async function withPasswordFile(
  url: string,
  role: string,
  password: string,
  work: (env: NodeJS.ProcessEnv) => Promise<unknown>,
): Promise<void> {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'tallystick-migrate-'))
  try {
    const file = path.join(folder, 'pgpass')
    const escape = (text: string) => text.replace(/[\\:]/g, '\\$&')
    const { hostname, port } = new URL(url)
    writeFileSync(
      file,
      `${[hostname.replace(/^\[|\]$/g, ''), port || '5432', '*', role, password].map((field) => (field === '*' ? field : escape(field))).join(':')}\n`,
      { mode: 0o600 },
    )
    await work({ PGPASSFILE: file, PGPASSWORD: undefined })
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

export async function withClient<T>(connectionString: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString, connectionTimeoutMillis: 15_000 })
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}

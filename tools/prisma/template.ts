/**
 * A migrated database without a fleet, from which new fleets on the same server are copied: running Prisma takes
 * seconds, copying a fraction of one. Only for servers that a launcher or a test has to itself (it needs a superuser).
 */
import { createHash, randomBytes } from 'node:crypto'
import pg from 'pg'
import { SHORTS } from '../paths.ts'
import { scramVerifier } from '../postgres/scram.ts'
import { deployMigrations, migrationsOf } from './migrations.ts'
import { LOCK_CLASS, withClient, withPasswordFile } from './provision.ts'
import { asRole, createDatabase, databaseExists, onDatabase } from './roles.ts'

/** @returns the template's database name; it changes with the migrations */
export async function ensureTemplate(adminUrl: string): Promise<string> {
  const migrations = createHash('sha256')
    .update(JSON.stringify(SHORTS.map((short) => [short, migrationsOf(short)])))
    .digest('hex')
  const name = `tallystick-template-${migrations.slice(0, 16)}`
  return withClient(adminUrl, async (admin) => {
    await admin.query('SELECT pg_advisory_lock($1, 1)', [LOCK_CLASS])
    if (await databaseExists(admin, name)) return name
    const { rows } = await admin.query<{ datname: string }>(`SELECT datname FROM pg_database WHERE datname LIKE 'tallystick-template-%'`)
    for (const { datname } of rows) {
      await admin.query(`DROP DATABASE ${pg.escapeIdentifier(datname)}`)
      await admin.query(`DROP ROLE IF EXISTS ${pg.escapeIdentifier(`${datname.replace('-unfinished', '')}_owner`)}`)
    }
    await build(admin, adminUrl, name)
    return name
  })
}

/** Made under another name and renamed at the end: a template that was cut off half-way is never copied. */
async function build(admin: pg.Client, adminUrl: string, name: string): Promise<void> {
  const unfinished = `${name}-unfinished`
  const owner = `${name}_owner`
  const password = randomBytes(18).toString('base64url')
  await createDatabase(admin, unfinished)
  if ((await admin.query('SELECT 1 FROM pg_roles WHERE rolname = $1', [owner])).rowCount === 0)
    await admin.query(`CREATE ROLE ${pg.escapeIdentifier(owner)}`)
  await admin.query(`ALTER ROLE ${pg.escapeIdentifier(owner)} LOGIN PASSWORD ${pg.escapeLiteral(scramVerifier(password))}`)
  const url = onDatabase(adminUrl, unfinished)
  await withClient(url, async (inside) => {
    for (const short of SHORTS)
      await inside.query(`CREATE SCHEMA ${pg.escapeIdentifier(short)} AUTHORIZATION ${pg.escapeIdentifier(owner)}`)
  })
  const present = SHORTS.filter((short) => migrationsOf(short).length > 0)
  await withPasswordFile(url, owner, password, (env) =>
    Promise.all(present.map((short) => deployMigrations(short, asRole(url, owner), env))),
  )
  await admin.query(`ALTER ROLE ${pg.escapeIdentifier(owner)} NOLOGIN PASSWORD NULL`)
  await admin.query(`ALTER DATABASE ${pg.escapeIdentifier(unfinished)} RENAME TO ${pg.escapeIdentifier(name)}`)
}

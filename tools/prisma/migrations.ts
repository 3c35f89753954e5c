/** Brings one service's schema to the migrations of this checkout, and its grants to `grants.sql`. */
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import pg from 'pg'
import { ROOT, type Short } from '../paths.ts'
import { runPrisma } from './prisma-cli.ts'
import { roleName } from './roles.ts'

export interface Migration {
  name: string
  /** SHA-256 of the script, hex: what Prisma records. */
  checksum: string
}

export function migrationsOf(short: Short): Migration[] {
  const folder = path.join(ROOT, 'prisma', short, 'migrations')
  if (!existsSync(folder)) return []
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => ({
      name: entry.name,
      checksum: createHash('sha256')
        .update(readFileSync(path.join(folder, entry.name, 'migration.sql')))
        .digest('hex'),
    }))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
}

/** The database and this checkout contradict each other; nothing was changed. */
export class DriftError extends Error {}

interface Applied {
  migration_name: string
  checksum: string
  finished_at: Date | null
  rolled_back_at: Date | null
}

/**
 * @param owner connected as the fleet's owner
 * @returns names that are still to be applied
 * @throws DriftError
 */
export async function pendingMigrations(owner: pg.ClientBase, short: Short): Promise<string[]> {
  const wanted = migrationsOf(short)
  const { rows: exists } = await owner.query<{ t: string | null }>('SELECT to_regclass($1) AS t', [`${short}._prisma_migrations`])
  if (exists[0]?.t == null) return wanted.map((migration) => migration.name)
  const { rows } = await owner.query<Applied>(
    `SELECT migration_name, checksum, finished_at, rolled_back_at FROM ${pg.escapeIdentifier(short)}._prisma_migrations WHERE rolled_back_at IS NULL`,
  )
  const applied = new Map(rows.map((row) => [row.migration_name, row]))
  for (const row of rows) {
    if (row.finished_at === null)
      throw new DriftError(
        `schema "${short}": migration ${row.migration_name} began and never finished. See the server's log; then prisma migrate resolve.`,
      )
    if (!wanted.some((migration) => migration.name === row.migration_name))
      throw new DriftError(
        `schema "${short}": migration ${row.migration_name} is applied but not in this version of Tallystick. The database belongs to a newer version.`,
      )
  }
  for (const migration of wanted) {
    const row = applied.get(migration.name)
    if (row !== undefined && row.checksum !== migration.checksum)
      throw new DriftError(
        `schema "${short}": migration ${migration.name} was changed after it had been applied (database ${row.checksum.slice(0, 12)}, file ${migration.checksum.slice(0, 12)}). Restore the file and add a new migration.`,
      )
  }
  return wanted.filter((migration) => !applied.has(migration.name)).map((migration) => migration.name)
}

/** @param ownerUrl without a password, which PGPASSFILE in `env` holds */
export async function deployMigrations(short: Short, ownerUrl: string, env: NodeJS.ProcessEnv): Promise<void> {
  const url = new URL(ownerUrl)
  url.searchParams.set('schema', short)
  // The caller holds a lock of its own for the whole database; Prisma's would make the four wait for one another.
  const { code, output } = await runPrisma(short, ['migrate', 'deploy'], {
    ...env,
    TALLYSTICK_MIGRATE_URL: url.href,
    PRISMA_SCHEMA_DISABLE_ADVISORY_LOCK: '1',
  })
  if (code !== 0) throw new Error(`prisma migrate deploy failed for schema "${short}":\n${output}`)
}

/**
 * Take back everything, then grant what `grants.sql` names, in one transaction: a right that is no longer listed goes.
 * @param owner connected as the fleet's owner
 */
export async function applyGrants(owner: pg.ClientBase, fleet: string, short: Short): Promise<void> {
  const file = path.join(ROOT, 'prisma', short, 'grants.sql')
  if (!existsSync(file)) return
  const role = pg.escapeIdentifier(roleName(fleet, short))
  const schema = pg.escapeIdentifier(short)
  await owner.query('BEGIN')
  try {
    await owner.query(`SET LOCAL search_path = ${schema}`)
    for (const kind of ['TABLES', 'SEQUENCES', 'FUNCTIONS']) {
      await owner.query(`REVOKE ALL ON ALL ${kind} IN SCHEMA ${schema} FROM PUBLIC, ${role}`)
    }
    await owner.query(`GRANT USAGE ON SCHEMA ${schema} TO ${role}`)
    await owner.query(withRole(readFileSync(file, 'utf8'), role))
    await owner.query('COMMIT')
  } catch (error) {
    await owner.query('ROLLBACK')
    throw new Error(`prisma/${short}/grants.sql: ${(error as Error).message}`, { cause: error })
  }
}

/** `:role` as a word of its own becomes the quoted role; casts (`::role`) stay. */
export function withRole(sql: string, quotedRole: string): string {
  return sql.replace(/(?<![:\w]):role\b/g, () => quotedRole)
}

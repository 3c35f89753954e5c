/**
 * Roles, database and schemas of one fleet: `<fleet>_owner` owns everything and is used by migrations alone;
 * `<fleet>_<short>` is a service's login and gets what `grants.sql` names, nothing else.
 *
 * Needs a superuser, or on a managed server an account with CREATEROLE (and CREATEDB, unless the database exists and
 * that account owns it).
 */
import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { SHORTS, type Short } from '../paths.ts'
import { scramVerifier } from '../postgres/scram.ts'

export type RolePasswords = Record<'owner' | Short, string>

/** Connections of one service: replicas times pool size stay below this. */
const CONNECTIONS_PER_SERVICE = 60
/** Four migrations at once, each with a pool of up to four. */
const CONNECTIONS_OF_OWNER = 40

export function newRolePasswords(): RolePasswords {
  return Object.fromEntries(['owner', ...SHORTS].map((role) => [role, randomBytes(18).toString('base64url')])) as RolePasswords
}

export const roleName = (fleet: string, role: 'owner' | Short): string => `${fleet}_${role}`

/** The same server and account, another database. */
export function onDatabase(url: string, database: string): string {
  const changed = new URL(url)
  changed.pathname = `/${encodeURIComponent(database)}`
  return changed.href
}

/** The same server and database for another role; @param password absent: left to PGPASSFILE */
export function asRole(url: string, role: string, password?: string): string {
  const changed = new URL(url)
  changed.username = encodeURIComponent(role)
  changed.password = password === undefined ? '' : encodeURIComponent(password)
  return changed.href
}

export async function databaseExists(admin: pg.ClientBase, database: string): Promise<boolean> {
  return (await admin.query('SELECT 1 FROM pg_database WHERE datname = $1', [database])).rowCount === 1
}

/** @param template a database to copy */
export async function createDatabase(admin: pg.ClientBase, database: string, template?: string): Promise<void> {
  await admin.query(
    `CREATE DATABASE ${pg.escapeIdentifier(database)}${template === undefined ? '' : ` TEMPLATE ${pg.escapeIdentifier(template)}`}`,
  )
}

/** A schema that came with a copied database still belongs to the template's owner. */
async function takeOver(admin: pg.ClientBase, owner: string): Promise<void> {
  const { rows } = await admin.query<{ name: string }>(
    `SELECT DISTINCT rolname AS name FROM pg_namespace JOIN pg_roles ON pg_roles.oid = nspowner WHERE nspname = ANY($1) AND rolname <> $2`,
    [SHORTS, owner],
  )
  for (const { name } of rows) await admin.query(`REASSIGN OWNED BY ${pg.escapeIdentifier(name)} TO ${pg.escapeIdentifier(owner)}`)
}

/**
 * Idempotent. @param admin connected to the fleet's database
 */
export async function ensureRolesAndSchemas(admin: pg.ClientBase, fleet: string, passwords: RolePasswords): Promise<void> {
  const owner = pg.escapeIdentifier(roleName(fleet, 'owner'))
  const { rows } = await admin.query<{ database: string; version: number }>(
    `SELECT current_database() AS database, current_setting('server_version_num')::int AS version`,
  )
  const database = pg.escapeIdentifier(rows[0]?.database ?? '')
  for (const role of ['owner', ...SHORTS] as const) {
    const name = roleName(fleet, role)
    const quoted = pg.escapeIdentifier(name)
    const { rowCount } = await admin.query('SELECT 1 FROM pg_roles WHERE rolname = $1', [name])
    // A new role has no attribute that is not given here: no superuser, no CREATEDB, no CREATEROLE, no replication.
    if (rowCount === 0) await admin.query(`CREATE ROLE ${quoted} LOGIN NOINHERIT`)
    const limit = role === 'owner' ? CONNECTIONS_OF_OWNER : CONNECTIONS_PER_SERVICE
    await admin.query(`ALTER ROLE ${quoted} CONNECTION LIMIT ${limit} PASSWORD ${pg.escapeLiteral(scramVerifier(passwords[role]))}`)
  }
  // Whoever makes a role may only give objects to it as its member, unless superuser. From PostgreSQL 16 on the right
  // to become a member comes with CREATEROLE.
  const { rows: self } = await admin.query<{ rolsuper: boolean }>('SELECT rolsuper FROM pg_roles WHERE rolname = current_user')
  if (self[0]?.rolsuper !== true) await admin.query(`GRANT ${owner} TO CURRENT_USER`)

  await takeOver(admin, roleName(fleet, 'owner'))
  await admin.query(`REVOKE ALL ON DATABASE ${database} FROM PUBLIC`)
  await admin.query('REVOKE ALL ON SCHEMA public FROM PUBLIC')
  await admin.query(`GRANT CONNECT ON DATABASE ${database} TO ${owner}`)
  for (const short of SHORTS) {
    const role = pg.escapeIdentifier(roleName(fleet, short))
    const schema = pg.escapeIdentifier(short)
    await admin.query(`CREATE SCHEMA IF NOT EXISTS ${schema} AUTHORIZATION ${owner}`)
    await admin.query(`GRANT CONNECT ON DATABASE ${database} TO ${role}`)
    await admin.query(`ALTER ROLE ${role} IN DATABASE ${database} SET search_path = ${schema}`)
    // A service that loses its thread inside a transaction must not hold its locks for ever.
    await admin.query(`ALTER ROLE ${role} IN DATABASE ${database} SET idle_in_transaction_session_timeout = '60s'`)
  }
}

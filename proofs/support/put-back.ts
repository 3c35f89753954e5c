/**
 * A database that is copied and put back, as an operator does it with a backup. The copy is PostgreSQL's own physical
 * one (`CREATE DATABASE … TEMPLATE`): sequences, row versions and all. (The embedded server brings no pg_dump.)
 */
import pg from 'pg'
import type { TestPostgres } from '../../tools/testing/postgres.ts'

export interface Copy {
  readonly name: string
  readonly of: string
}

/** For its time nobody is connected: what a service still holds is cut off, and it cannot come back before the copy is made. */
export async function copyDatabase(postgres: TestPostgres, database: string, name: string): Promise<Copy> {
  await asAdmin(postgres, async (admin) => {
    const original = pg.escapeIdentifier(database)
    await admin.query(`ALTER DATABASE ${original} ALLOW_CONNECTIONS false`)
    try {
      await admin.query('SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = $1', [database])
      await admin.query(`CREATE DATABASE ${pg.escapeIdentifier(name)} TEMPLATE ${original}`)
    } finally {
      await admin.query(`ALTER DATABASE ${original} ALLOW_CONNECTIONS true`)
    }
  })
  return { name, of: database }
}

/** What happened since the copy is gone. The copy stays: it can be put back again. Roles and their rights are as before. */
export async function putBack(postgres: TestPostgres, { name, of }: Copy): Promise<void> {
  await asAdmin(postgres, async (admin) => {
    const database = pg.escapeIdentifier(of)
    // Rights and settings of a database are not part of a copy, nor of a dump of one database.
    const { rows: grants } = await admin.query<{ role: string }>(
      `SELECT DISTINCT grantee::regrole::text AS role FROM pg_database, aclexplode(datacl)
        WHERE datname = $1 AND privilege_type = 'CONNECT' AND grantee <> 0`,
      [of],
    )
    const { rows: settings } = await admin.query<{ role: string; setting: string }>(
      `SELECT setrole::regrole::text AS role, unnest(setconfig) AS setting FROM pg_db_role_setting
         JOIN pg_database ON pg_database.oid = setdatabase WHERE datname = $1`,
      [of],
    )
    await admin.query(`DROP DATABASE ${database} WITH (FORCE)`)
    await admin.query(`CREATE DATABASE ${database} TEMPLATE ${pg.escapeIdentifier(name)}`)
    await admin.query(`REVOKE ALL ON DATABASE ${database} FROM PUBLIC`)
    for (const { role } of grants) await admin.query(`GRANT CONNECT ON DATABASE ${database} TO ${role}`)
    for (const { role, setting } of settings) {
      const at = setting.indexOf('=')
      await admin.query(
        `ALTER ROLE ${role} IN DATABASE ${database} SET ${setting.slice(0, at)} = ${pg.escapeLiteral(setting.slice(at + 1))}`,
      )
    }
  })
}

export async function dropCopy(postgres: TestPostgres, { name }: Copy): Promise<void> {
  await asAdmin(postgres, (admin) => admin.query(`DROP DATABASE ${pg.escapeIdentifier(name)} WITH (FORCE)`))
}

async function asAdmin(postgres: TestPostgres, work: (admin: pg.Client) => Promise<unknown>): Promise<void> {
  const client = new pg.Client({ connectionString: postgres.url })
  await client.connect()
  try {
    await work(client)
  } finally {
    await client.end()
  }
}

/**
 * The rows of a fleet's session database put aside and put back, sequences included: what restoring an older backup
 * does, without stopping the server. Test support only.
 */
import pg from 'pg'
import type { TestFleetDatabase, TestPostgres } from '../../../tools/testing/postgres.ts'

const ASIDE = 'session_aside'

export class Rows {
  readonly #client: pg.Client

  private constructor(client: pg.Client) {
    this.#client = client
  }

  /** As the superuser: whoever restores a database is none of its roles. */
  static async of(server: TestPostgres, database: TestFleetDatabase): Promise<Rows> {
    const url = new URL(server.url)
    url.pathname = `/${database.name}`
    const client = new pg.Client({ connectionString: url.href })
    await client.connect()
    return new Rows(client)
  }

  async dump(): Promise<void> {
    await this.#client.query(`DROP SCHEMA IF EXISTS ${ASIDE} CASCADE; CREATE SCHEMA ${ASIDE}`)
    for (const table of await this.#tables()) await this.#client.query(`CREATE TABLE ${ASIDE}."${table}" AS TABLE session."${table}"`)
    await this.#client.query(`CREATE TABLE ${ASIDE}.sequences (name text, last_value bigint, is_called boolean)`)
    for (const name of await this.#sequences())
      await this.#client.query(`INSERT INTO ${ASIDE}.sequences SELECT '${name}', last_value, is_called FROM session."${name}"`)
  }

  async restore(): Promise<void> {
    const tables = await this.#tables()
    await this.#client.query('BEGIN')
    await this.#client.query(`TRUNCATE ${tables.map((table) => `session."${table}"`).join(', ')}`)
    // Foreign keys point at peers.
    for (const table of tables.toSorted((a, b) => Number(b === 'peer') - Number(a === 'peer')))
      await this.#client.query(`INSERT INTO session."${table}" SELECT * FROM ${ASIDE}."${table}"`)
    await this.#client.query(`SELECT setval('session.' || quote_ident(name), last_value, is_called) FROM ${ASIDE}.sequences`)
    await this.#client.query('COMMIT')
  }

  async stop(): Promise<void> {
    await this.#client.end()
  }

  async #tables(): Promise<string[]> {
    return this.#names('r')
  }

  async #sequences(): Promise<string[]> {
    return this.#names('S')
  }

  async #names(kind: 'r' | 'S'): Promise<string[]> {
    const { rows } = await this.#client.query<{ relname: string }>(
      `SELECT relname FROM pg_class WHERE relnamespace = 'session'::regnamespace AND relkind = $1 AND relname NOT LIKE '\\_prisma%'`,
      [kind],
    )
    return rows.map(({ relname }) => relname)
  }
}

/** A real PostgreSQL for integration tests: migrations and grants applied, roles as in production. */
import { randomBytes } from 'node:crypto'
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import pg from 'pg'
import { SHORTS, type Short } from '../paths.ts'
import { provisionFleet } from '../prisma/provision.ts'
import { newRolePasswords, roleName } from '../prisma/roles.ts'
import { ensureTemplate } from '../prisma/template.ts'
import { guardDirectory } from '../process/guard.ts'
import { copyMigratedCluster, startTestCluster } from './migrated-cluster.ts'

export interface TestPostgres {
  /** Superuser, database `postgres`. */
  readonly url: string
  /** For `startFleet({ postgres })`: fleets on this server, copied from a migrated template. */
  readonly server: { adminUrl: string; template: () => Promise<string> }
  /** A database of its own with all four schemas; the name is also the fleet's. */
  createFleet(name: string): Promise<TestFleetDatabase>
  stop(): Promise<void>
}

export interface TestFleetDatabase {
  readonly name: string
  readonly ownerUrl: string
  /** As the services log in. */
  readonly urls: Record<Short, string>
}

/** TALLYSTICK_TEST_DATABASE_URL names a server to use instead (its superuser); databases made there are dropped at the end. */
export async function startPostgres(): Promise<TestPostgres> {
  const given = process.env.TALLYSTICK_TEST_DATABASE_URL
  if (given !== undefined && given !== '') return overServer(given, `-${randomBytes(3).toString('hex')}`, async () => undefined)

  const directory = mkdtempSync(path.join(os.tmpdir(), 'tallystick-postgres-'))
  chmodSync(directory, 0o755) // the server may run under an account of its own
  guardDirectory(directory)
  await copyMigratedCluster(directory)
  const server = await startTestCluster(directory)
  return overServer(server.adminUrl, '', async () => {
    await server.stop()
    rmSync(directory, { recursive: true, force: true })
  })
}

function overServer(url: string, suffix: string, stopServer: () => Promise<void>): TestPostgres {
  const made: string[] = []
  return {
    url,
    server: { adminUrl: url, template: () => ensureTemplate(url) },
    async createFleet(name) {
      const fleet = `${name}${suffix}`
      made.push(fleet)
      const { ownerUrl, urls } = await provisionFleet({
        adminUrl: url,
        fleet,
        passwords: newRolePasswords(),
        template: () => ensureTemplate(url),
      })
      return { name: fleet, ownerUrl, urls }
    },
    async stop() {
      if (suffix !== '') await dropAll(url, made)
      await stopServer()
    },
  }
}

async function dropAll(url: string, fleets: string[]): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    for (const fleet of fleets) await client.query(`DROP DATABASE IF EXISTS ${pg.escapeIdentifier(fleet)} WITH (FORCE)`)
    for (const fleet of fleets) {
      for (const role of ['owner', ...SHORTS] as const)
        await client.query(`DROP ROLE IF EXISTS ${pg.escapeIdentifier(roleName(fleet, role))}`)
    }
  } finally {
    await client.end()
  }
}

#!/usr/bin/env node
/**
 * The one command that prepares a fleet's database, for the launcher and for container images alike.
 *
 *   node tools/prisma/migrate.ts --fleet NAME --passwords DIR --admin-url-file FILE [--database NAME] [--write-secrets DIR]
 *   node tools/prisma/migrate.ts --fleet NAME --passwords DIR --url-file FILE       [--write-secrets DIR]
 *
 * DIR of `--passwords` holds one file per role: owner, invoice, session, relay, audit (text, mode 0400 or 0600).
 * `--admin-url-file`: URL of an account that makes roles and database: a superuser, or on a managed server one with
 *   CREATEROLE and CREATEDB (PostgreSQL 16 or newer; without CREATEDB it must own the existing database).
 * `--url-file`: URL of the existing database for servers where somebody else makes roles and schemas; its user part is
 *   not used, `<fleet>_owner` logs in with its own password. Needed there: LOGIN roles `<fleet>_owner` and
 *   `<fleet>_{invoice,session,relay,audit}`, schemas invoice, session, relay, audit owned by `<fleet>_owner`, and per
 *   service role `ALTER ROLE … IN DATABASE … SET search_path = <its schema>`.
 * `--write-secrets`: writes DIR/<service>/database-url (mode 0400) for the four services.
 *
 * Exit codes: 0 done or nothing to do, 2 usage, 3 the database contradicts this version, 1 anything else.
 */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { SHORTS, serviceOf } from '../paths.ts'
import { writeSecret } from '../secrets/write-secret.ts'
import { DriftError } from './migrations.ts'
import { migrateAsOwner, provisionFleet, type FleetDatabase } from './provision.ts'
import type { RolePasswords } from './roles.ts'

const say = (text: string) => void process.stderr.write(`${text}\n`)

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      fleet: { type: 'string' },
      passwords: { type: 'string' },
      database: { type: 'string' },
      'admin-url-file': { type: 'string' },
      'url-file': { type: 'string' },
      'write-secrets': { type: 'string' },
    },
  })
  const { fleet, passwords: folder } = values
  const adminFile = values['admin-url-file']
  const urlFile = values['url-file']
  if (fleet === undefined || folder === undefined || (adminFile === undefined) === (urlFile === undefined)) {
    say('usage: migrate.ts --fleet NAME --passwords DIR (--admin-url-file FILE | --url-file FILE) [--database NAME] [--write-secrets DIR]')
    return 2
  }
  const passwords = Object.fromEntries(['owner', ...SHORTS].map((role) => [role, readText(path.join(folder, role))])) as RolePasswords
  const started = Date.now()
  const database: FleetDatabase =
    adminFile === undefined
      ? await migrateAsOwner({ url: readText(urlFile as string), fleet, passwords, say })
      : await provisionFleet({
          adminUrl: readText(adminFile),
          fleet,
          passwords,
          say,
          ...(values.database === undefined ? {} : { database: values.database }),
        })
  const secrets = values['write-secrets']
  if (secrets !== undefined)
    for (const short of SHORTS) writeSecret(path.join(secrets, serviceOf(short), 'database-url'), database.urls[short])
  say(
    `database of fleet ${fleet} is up to date (${database.applied.length} migrations applied, ${((Date.now() - started) / 1000).toFixed(1)} s)`,
  )
  return 0
}

function readText(file: string): string {
  return readFileSync(file, 'utf8').trim()
}

try {
  process.exitCode = await main()
} catch (error) {
  say(`migrate: ${(error as Error).message}`)
  process.exitCode = error instanceof DriftError ? 3 : 1
}

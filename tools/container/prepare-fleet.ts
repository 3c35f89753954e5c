/**
 * Files of a fleet whose parts run in containers. Each folder is a volume of its own, so that a container sees its own
 * secrets and nobody else's:
 *
 * | folder | holds | mounted in |
 * |---|---|---|
 * | secrets/SERVICE | the service's TALLYSTICK_SECRETS_DIR | that service |
 * | secrets/launcher | API tokens, all passwords | nothing that stays up |
 * | tokens | one API token a file | cli, while a command runs |
 * | migrate | passwords of the database roles, the superuser's URL | migrate |
 * | postgres, grafana | the first password of that program's administrator | that program |
 * | nats | nats.conf, which holds public keys only | nats |
 */
import { randomBytes } from 'node:crypto'
import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { natsServerConfig } from '@tallystick/nats-rpc/server-config'
import { SHORTS, serviceOf } from '../paths.ts'
import { asRole, onDatabase, roleName } from '../prisma/roles.ts'
import { ensureFleetSecrets, TOKEN_NAMES } from '../secrets/fleet-secrets.ts'
import { writeSecret } from '../secrets/write-secret.ts'

/** Group ids of the official images of PostgreSQL and Grafana. */
const POSTGRES_GROUP = 999
const GRAFANA_GROUP = 472
const DATABASE = 'postgresql://postgres:5432/postgres'
const NATS_PORT = 4222
/** Reached from inside the container only, by its health check. */
const NATS_MONITOR = '127.0.0.1:8222'

export interface PrepareOptions {
  /** Who may read a file beside its owner: by group. Default chown; absent groups are for tests. */
  readonly groups?: { postgres: number; grafana: number }
}

/**
 * Idempotent; what exists is kept.
 * @param root mode 0755, usually /run/tallystick
 * @throws Error when the folders belong to another fleet, or keys of a complete fleet are gone
 */
export function prepareFleet(
  root: string,
  fleet: string,
  { groups = { postgres: POSTGRES_GROUP, grafana: GRAFANA_GROUP } }: PrepareOptions = {},
): { isNew: boolean } {
  const launcher = path.join(root, 'secrets', 'launcher')
  const nameFile = path.join(launcher, 'fleet')
  const owner = existsSync(nameFile) ? readFileSync(nameFile, 'utf8').trim() : undefined
  if (owner !== undefined && owner !== fleet)
    throw new Error(
      `these volumes belong to the fleet "${owner}": its roles and its database have that name. Use another project name for "${fleet}".`,
    )

  const secrets = ensureFleetSecrets(path.join(root, 'secrets'))
  for (const short of SHORTS) {
    const url = asRole(onDatabase(DATABASE, fleet), roleName(fleet, short), secrets.passwords[short])
    writeSecret(path.join(secrets.folder(serviceOf(short)), 'database-url'), url)
  }

  const administrators = keptAdministrators(path.join(launcher, 'administrators.json'))
  for (const role of ['owner', ...SHORTS] as const) writeSecret(path.join(root, 'migrate', role), secrets.passwords[role])
  writeSecret(path.join(root, 'migrate', 'admin-url'), asRole(DATABASE, 'postgres', administrators.postgres))
  shared(path.join(root, 'postgres', 'password'), administrators.postgres, groups.postgres)
  shared(path.join(root, 'grafana', 'password'), administrators.grafana, groups.grafana)

  const natsConf = `${natsServerConfig({ port: NATS_PORT, host: '0.0.0.0', users: secrets.natsUsers })}http: "${NATS_MONITOR}"\n`
  writeSecret(path.join(root, 'nats', 'nats.conf'), natsConf)

  for (const name of TOKEN_NAMES) writeSecret(path.join(root, 'tokens', name), `${secrets.tokens[name]}\n`)

  // Last: a fleet that has its name was prepared whole.
  if (owner === undefined) writeSecret(nameFile, `${fleet}\n`)
  return { isNew: owner === undefined }
}

interface Administrators {
  readonly postgres: string
  readonly grafana: string
}

function keptAdministrators(file: string): Administrators {
  if (existsSync(file)) return JSON.parse(readFileSync(file, 'utf8')) as Administrators
  const made = { postgres: randomBytes(24).toString('base64url'), grafana: randomBytes(18).toString('base64url') }
  writeSecret(file, JSON.stringify(made))
  return made
}

/** For a program that runs as another user: readable by its group, which this process must belong to. */
function shared(file: string, content: string, group: number): void {
  mkdirSync(path.dirname(file), { recursive: true })
  writeSecret(file, content)
  chownSync(file, -1, group)
  chmodSync(file, 0o440)
}

/** Keys, tokens and passwords of one fleet: made once, then kept. */
import { createHash, randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { createNkey, publicNkey } from '@tallystick/nats-rpc/nkeys'
import { SERVICES, type Service } from '../paths.ts'
import { newRolePasswords, type RolePasswords } from '../prisma/roles.ts'
import { writeSecret } from './write-secret.ts'

export const TOKEN_NAMES = ['admin', 'operator', 'auditor'] as const
export type TokenName = (typeof TOKEN_NAMES)[number]

const SCOPES = [
  'documents:read',
  'documents:write',
  'shares:write',
  'peers:read',
  'peers:write',
  'consents:write',
  'inbox:read',
  'verdicts:write',
  'audit:read',
  'fleet:read',
  'ops:read',
  'keys:write',
]
/** Who may change whom this fleet trusts, or its own keys. */
const ADMIN_ONLY = ['peers:write', 'keys:write']
const SCOPES_OF: Record<TokenName, string[]> = {
  admin: SCOPES,
  operator: SCOPES.filter((scope) => !ADMIN_ONLY.includes(scope)),
  auditor: SCOPES.filter((scope) => scope.endsWith(':read')),
}

/** Files that hold an identity or unlock stored data: never made a second time. */
const KEYS: readonly (readonly [Service, string])[] = [
  ['session-svc', 'kek'],
  ['relay-svc', 'transport.seed'],
  ['audit-svc', 'log.seed'],
]
const KEY_BYTES = 32

export interface FleetSecrets {
  /** Folder of a service's secret files: its TALLYSTICK_SECRETS_DIR. */
  folder(service: Service): string
  passwords: RolePasswords
  tokens: Record<TokenName, string>
  /** Public nkeys for the NATS server's configuration. */
  natsUsers: Record<Service, string>
}

/**
 * @param directory mode 0700; one folder per service below it, and `launcher` for what only the launcher needs
 * @throws when keys of a fleet that was complete before are gone: new ones could not open its stored data
 */
export function ensureFleetSecrets(directory: string): FleetSecrets {
  const folder = (service: Service | 'launcher') => path.join(directory, service)
  const complete = path.join(folder('launcher'), 'complete')
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  for (const service of [...SERVICES, 'launcher'] as const) mkdirSync(folder(service), { recursive: true, mode: 0o700 })

  for (const [service, name] of KEYS) {
    const file = path.join(folder(service), name)
    if (existsSync(file)) continue
    if (existsSync(complete))
      throw new Error(
        `${file} is missing. Restore it from a backup: the fleet's stored data cannot be read without it. (To begin again with a new identity, remove the fleet's whole folder.)`,
      )
    const key = randomBytes(KEY_BYTES)
    writeSecret(file, key)
    key.fill(0)
  }

  const natsUsers = {} as Record<Service, string>
  for (const service of SERVICES) {
    const file = path.join(folder(service), 'nats.nk')
    if (!existsSync(file)) {
      const { seed } = createNkey()
      writeSecret(file, seed)
      seed.fill(0)
    }
    const seed = readFileSync(file)
    natsUsers[service] = publicNkey(seed)
    seed.fill(0)
  }

  const passwords = keptPasswords(path.join(folder('launcher'), 'roles'))
  const tokens = kept(
    path.join(folder('launcher'), 'tokens.json'),
    () =>
      Object.fromEntries(TOKEN_NAMES.map((name) => [name, `tly_${randomBytes(24).toString('base64url')}`])) as Record<TokenName, string>,
  )
  // Rewritten each time: what a token may do follows this version.
  const entries = TOKEN_NAMES.map((name) => ({
    name,
    scopes: SCOPES_OF[name],
    sha256: createHash('sha256').update(tokens[name]).digest('hex'),
  }))
  writeSecret(path.join(folder('invoice-svc'), 'api-tokens.json'), JSON.stringify(entries, null, 2))

  if (!existsSync(complete)) writeSecret(complete, 'keys made\n')
  return { folder, passwords, tokens, natsUsers }
}

/** A file per role, as `tools/prisma/migrate.ts --passwords` reads them. */
function keptPasswords(directory: string): RolePasswords {
  const fresh = newRolePasswords()
  return Object.fromEntries(
    Object.entries(fresh).map(([role, password]) => {
      const file = path.join(directory, role)
      if (!existsSync(file)) writeSecret(file, password)
      return [role, readFileSync(file, 'utf8')]
    }),
  ) as RolePasswords
}

function kept<T>(file: string, make: () => T): T {
  if (existsSync(file)) return JSON.parse(readFileSync(file, 'utf8')) as T
  const value = make()
  writeSecret(file, JSON.stringify(value))
  return value
}

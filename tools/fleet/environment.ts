/** The environment of a service process: what it needs, and nothing of the launcher's own secrets. */
import path from 'node:path'
import { CACHE, type Service } from '../paths.ts'
import type { Ports } from './layout.ts'

const PASSED_ON = ['PATH', 'HOME', 'TZ', 'LANG', 'LC_ALL', 'NODE_ENV', 'NODE_OPTIONS', 'LOG_LEVEL', 'LD_PRELOAD', 'TMPDIR']
/** They hold credentials that no service may see. */
const WITHHELD = new Set(['TALLYSTICK_DATABASE_URL', 'TALLYSTICK_TEST_DATABASE_URL'])

export interface EnvironmentInput {
  service: Service
  fleet: string
  ports: Ports
  secretsDir: string
  /** What session-svc keeps outside the database. */
  stateDir: string
  /** For all services, then for this one: the later wins. */
  extra: readonly (NodeJS.ProcessEnv | undefined)[]
}

export function serviceEnvironment(input: EnvironmentInput): NodeJS.ProcessEnv {
  const { service, ports } = input
  const inherited = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => PASSED_ON.includes(name) || (name.startsWith('TALLYSTICK_') && !WITHHELD.has(name))),
  )
  return {
    NODE_ENV: 'development',
    // Compiled code is kept between starts: the second start of a service takes about half as long.
    NODE_COMPILE_CACHE: path.join(CACHE, 'compile'),
    ...inherited,
    ...Object.assign({}, ...input.extra),
    TALLYSTICK_FLEET: input.fleet,
    TALLYSTICK_NATS_URL: `nats://127.0.0.1:${ports.nats}`,
    TALLYSTICK_SECRETS_DIR: input.secretsDir,
    TALLYSTICK_HOST: '127.0.0.1',
    TALLYSTICK_OPS_PORT: String(ports.ops[service]),
    ...(service === 'invoice-svc' ? { TALLYSTICK_HTTP_PORT: String(ports.http) } : {}),
    ...(service === 'session-svc' ? { TALLYSTICK_STATE_DIR: input.stateDir } : {}),
    ...(service === 'relay-svc' ? { TALLYSTICK_P2P_PORT: String(ports.p2p) } : {}),
  }
}

/** The text of a nats-server configuration with one user per service. @see docs/spec/bus.md §6 */
import { MAX_BUS_BYTES, SERVICE_NAMES, type Contract, type ServiceName } from '@tallystick/contracts/call'
import { CATALOGUE } from '@tallystick/contracts/catalogue'
import { permissionsFor } from './permissions.js'

export interface NatsServerConfigOptions {
  readonly port: number
  /** Default 127.0.0.1. */
  readonly host?: string
  /** Public nkey of each service's user (`U…`), or `$NAME` to have the server read it from its environment. */
  readonly users: Readonly<Record<ServiceName, string>>
  readonly pidFile?: string
  /** Port of the server's own monitoring endpoint; absent: none. */
  readonly monitorPort?: number
  /** Bytes; default MAX_BUS_BYTES. */
  readonly maxPayload?: number
  /** Default: the catalogue of the product. */
  readonly catalogue?: readonly Contract[]
}

/** Most bytes that may wait for one slow client: several full messages. */
const MAX_PENDING_BYTES = 128 * 1024 * 1024

const PUBLIC_NKEY = /^(U[A-Z2-7]{55}|\$[A-Z][A-Z0-9_]*)$/

/** Variables stay bare (nats-server resolves them); everything else is quoted. */
function literal(value: string): string {
  return value.startsWith('$') ? value : JSON.stringify(value)
}

function list(subjects: readonly string[]): string {
  return `[${subjects.map((s) => JSON.stringify(s)).join(', ')}]`
}

/**
 * No JetStream and no storage: nothing of record lives in NATS. Anonymous clients are refused, since every user is named.
 * @throws TypeError when a user's key is not a public user nkey
 */
export function natsServerConfig(options: NatsServerConfigOptions): string {
  const catalogue = options.catalogue ?? CATALOGUE
  const lines = [
    '# Generated from the contracts catalogue by tools/nats-permissions.ts; do not edit.',
    `host: ${JSON.stringify(options.host ?? '127.0.0.1')}`,
    `port: ${options.port}`,
    ...(options.pidFile === undefined ? [] : [`pid_file: ${JSON.stringify(options.pidFile)}`]),
    ...(options.monitorPort === undefined ? [] : [`http: "${options.host ?? '127.0.0.1'}:${options.monitorPort}"`]),
    '# A sealed document with attachments is one message.',
    `max_payload: ${options.maxPayload ?? MAX_BUS_BYTES}`,
    `max_pending: ${MAX_PENDING_BYTES}`,
    'ping_interval: "20s"',
    'authorization {',
    '  users: [',
  ]
  for (const service of SERVICE_NAMES) {
    const key = options.users[service]
    if (!PUBLIC_NKEY.test(key)) throw new TypeError(`${service}: not a public user nkey`)
    const p = permissionsFor(service, catalogue)
    lines.push(
      `    # ${service}`,
      `    { nkey: ${literal(key)}, permissions: {`,
      `        publish: { allow: ${list(p.publish.allow)} }`,
      `        subscribe: { allow: ${list(p.subscribe.allow)} }`,
      `        allow_responses: { max: ${p.allow_responses.max}, expires: ${JSON.stringify(p.allow_responses.expires)} }`,
      '    } }',
    )
  }
  lines.push('  ]', '}', '')
  return lines.join('\n')
}

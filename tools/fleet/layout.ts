/** What lies where in a fleet's folder, and the two files that other programs read. */
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import type { Service } from '../paths.ts'
import type { ProcessIdentity } from '../process/child.ts'
import type { TokenName } from '../secrets/fleet-secrets.ts'

export interface Layout {
  root: string
  logs: string
  secrets: string
  /** Outside the database: shows that one was put back. Not part of a backup. */
  state: string
  nats: string
  postgres: string
  /** For people and programs: see FleetInfo. Kept while the fleet is down. */
  info: string
  /** Present while a supervisor runs. */
  lock: string
  ports: string
  log(name: string): string
}

export function layoutOf(directory: string): Layout {
  const root = path.resolve(directory)
  const at = (name: string) => path.join(root, name)
  return {
    root,
    logs: at('logs'),
    secrets: at('secrets'),
    state: at('state'),
    nats: at('nats'),
    postgres: at('postgres'),
    info: at('fleet.json'),
    lock: at('supervisor.json'),
    ports: at('ports.json'),
    log: (name) => path.join(at('logs'), `${name}.log`),
  }
}

export function makeLayout(layout: Layout): void {
  mkdirSync(layout.root, { recursive: true, mode: 0o755 })
  for (const folder of [layout.logs, layout.nats, layout.state]) mkdirSync(folder, { recursive: true, mode: 0o700 })
}

/** `fleet.json`, mode 0600. */
export interface FleetInfo {
  name: string
  fleetId: string
  peerId: string
  multiaddrs: string[]
  api: { url: string; tokens: Record<TokenName, string> }
  metrics: Record<Service, string>
  pids: Record<Service, number>
  nats: { url: string; pid: number }
  /** `url`: the fleet's database (superuser of an embedded server, owner of the tables on a given one); `roles`: as the services log in. */
  postgres: { url: string; pid?: number; roles: Record<string, string> }
  supervisor: { pid: number }
  logs: string
}

/** What `supervisor.json` holds: whom `down` has to end, also after the supervisor was lost. */
export interface SupervisorState {
  supervisor: ProcessIdentity
  children: Record<string, ProcessIdentity>
}

export interface Ports {
  http: number
  p2p: number
  nats: number
  postgres?: number
  ops: Record<Service, number>
}

export function readJson<T>(file: string): T | undefined {
  if (!existsSync(file)) return undefined
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as T
  } catch (error) {
    if (error instanceof SyntaxError) return undefined // cut off by a power loss; it is written anew
    throw error
  }
}

export function writeJson(file: string, value: unknown): void {
  const half = `${file}.${process.pid}.tmp`
  writeFileSync(half, `${JSON.stringify(value, null, 2)}\n`, { mode: 0o600 })
  renameSync(half, file)
}

export function removeFile(file: string): void {
  rmSync(file, { force: true })
}

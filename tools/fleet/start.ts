/**
 * One fleet on this machine: four service processes, nats-server, PostgreSQL, all below one folder. The launcher, the
 * demo and the end-to-end tests use this and nothing else.
 */
import { existsSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { natsServerConfig } from '@tallystick/nats-rpc/server-config'
import { findNatsServer, startNatsServer } from '../nats-server.ts'
import { FLEET_NAME, ROOT, SERVICES, SHORTS, serviceOf, type Service } from '../paths.ts'
import { startManagedPostgres, type ManagedPostgres } from '../postgres/managed.ts'
import { onDatabase } from '../prisma/roles.ts'
import { provisionFleet, type FleetDatabase } from '../prisma/provision.ts'
import { startChild } from '../process/child.ts'
import { KeepRunning, type KeepEvent } from '../process/keep-running.ts'
import { lastLines } from '../process/log-tail.ts'
import { freePort, isPortFree, returnPort } from '../process/ports.ts'
import { ensureFleetSecrets, type FleetSecrets } from '../secrets/fleet-secrets.ts'
import { writeSecret } from '../secrets/write-secret.ts'
import { callApi, type ApiAnswer, type ApiInit } from './api-client.ts'
import { serviceEnvironment } from './environment.ts'
import { layoutOf, makeLayout, readJson, writeJson, type FleetInfo, type Layout, type Ports } from './layout.ts'
import { takeLock, type Lock } from './lock.ts'

export type Part = Service | 'nats' | 'postgres'

export interface FleetOptions {
  name: string
  /** Everything of the fleet is below it; the same folder again is the same fleet. */
  dataDir: string
  /** A server shared with others, by an account that makes roles and databases; absent: an embedded one. */
  postgres?: { adminUrl: string; template?: () => Promise<string> }
  /** For all services. */
  env?: NodeJS.ProcessEnv
  serviceEnv?: Partial<Record<Service, NodeJS.ProcessEnv>>
  httpPort?: number
  p2pPort?: number
  /** Start a process again when it ends unasked. Default true. */
  restart?: boolean
  /** Gives up a start that is under way; afterwards nothing of it is left. */
  signal?: AbortSignal
  /** Progress of the start, then what happens to processes. */
  onEvent?: (event: FleetEvent) => void
}

export type FleetEvent = { kind: 'step'; text: string } | { kind: 'process'; part: Part; event: KeepEvent }

export interface RunningFleet {
  readonly info: FleetInfo
  readonly pids: Record<Part, number | undefined>
  api(path: string, init?: ApiInit): Promise<ApiAnswer>
  /** Resolves when the process is gone (at once for signals that do not end it); it is started again by itself. */
  kill(part: Part, signal?: NodeJS.Signals): Promise<void>
  /** End it and leave it down, until `resume`. */
  suspend(part: Exclude<Part, 'postgres'>, signal?: NodeJS.Signals): Promise<void>
  /** Start it again; a service may get another environment for this time and later. */
  resume(part: Exclude<Part, 'postgres'>, env?: NodeJS.ProcessEnv): Promise<void>
  /** Resolves when these (default: all) services say ready. */
  ready(services?: readonly Service[], withinMs?: number): Promise<void>
  logFile(part: Part): string
  stop(): Promise<void>
}

const STOP_ORDER: readonly (readonly Service[])[] = [['invoice-svc'], ['relay-svc', 'session-svc'], ['audit-svc']]
const READY_WITHIN_MS = 90_000
/** So many ends before it was ever ready mean that it will not start. */
const HOPELESS_STARTS = 3

export async function startFleet(options: FleetOptions): Promise<RunningFleet> {
  if (!FLEET_NAME.test(options.name))
    throw new Error(`"${options.name}" is not a fleet name (a-z, 0-9 and "-", at most 31 characters, a letter first)`)
  for (const service of SERVICES)
    if (!existsSync(mainOf(service))) throw new Error(`${path.relative(ROOT, mainOf(service))} is missing: run \`npm run build\``)
  const layout = layoutOf(options.dataDir)
  makeLayout(layout)
  const kept = readJson<FleetInfo>(layout.info)
  if (kept !== undefined && kept.name !== options.name)
    throw new Error(`${layout.root} holds the fleet "${kept.name}", not "${options.name}"`)
  const lock = await takeLock(layout)
  const fleet = new Fleet(options, layout, lock)
  const abort = () => void fleet.stop()
  options.signal?.addEventListener('abort', abort)
  try {
    options.signal?.throwIfAborted()
    await fleet.start()
    return fleet
  } catch (error) {
    await fleet.stop()
    throw error
  } finally {
    options.signal?.removeEventListener('abort', abort)
  }
}

const mainOf = (service: Service) => path.join(ROOT, 'apps', service, 'dist', 'main.js')

class Fleet implements RunningFleet {
  readonly #options: FleetOptions
  readonly #layout: Layout
  readonly #lock: Lock
  readonly #keepers = new Map<Exclude<Part, 'postgres'>, KeepRunning>()
  readonly #serviceEnv: Partial<Record<Service, NodeJS.ProcessEnv>>
  readonly #failedStarts = new Map<Service, number>()
  #postgres: ManagedPostgres | undefined
  #ports: Ports | undefined
  #secrets: FleetSecrets | undefined
  #database: FleetDatabase | undefined
  #info: FleetInfo | undefined
  #starting: Promise<void> | undefined
  #stopping: Promise<void> | undefined

  constructor(options: FleetOptions, layout: Layout, lock: Lock) {
    this.#options = options
    this.#layout = layout
    this.#lock = lock
    this.#serviceEnv = { ...options.serviceEnv }
  }

  start(): Promise<void> {
    this.#starting = this.#start()
    return this.#starting
  }

  async #start(): Promise<void> {
    const ports = (this.#ports = await this.#choosePorts())
    this.#secrets = ensureFleetSecrets(this.#layout.secrets)
    // Both to the end, also when one fails: what has started must be known before it is stopped.
    for (const outcome of await Promise.allSettled([this.#prepareDatabase(), this.#startNats()]))
      if (outcome.status === 'rejected') throw outcome.reason
    this.#step('starting services')
    await Promise.all(SERVICES.map((service) => this.#startService(service)))
    await this.ready()
    this.#info = await this.#readIdentity(ports)
    writeJson(this.#layout.info, this.#info)
  }

  get info(): FleetInfo {
    if (this.#info === undefined) throw new Error('the fleet has not started')
    return this.#info
  }

  get pids(): Record<Part, number | undefined> {
    const of = (part: Exclude<Part, 'postgres'>) => this.#keepers.get(part)?.pid
    return {
      'invoice-svc': of('invoice-svc'),
      'session-svc': of('session-svc'),
      'relay-svc': of('relay-svc'),
      'audit-svc': of('audit-svc'),
      nats: of('nats'),
      postgres: this.#postgres?.pid,
    }
  }

  api(where: string, init?: ApiInit): Promise<ApiAnswer> {
    return callApi(`http://127.0.0.1:${this.#ports?.http}`, (this.#secrets as FleetSecrets).tokens, where, init)
  }

  logFile(part: Part): string {
    return this.#layout.log(part)
  }

  async kill(part: Part, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    if (part === 'postgres') await this.#postgres?.kill(signal)
    else await this.#keepers.get(part)?.kill(signal)
  }

  async suspend(part: Exclude<Part, 'postgres'>, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await this.#keepers.get(part)?.stop(signal)
  }

  async resume(part: Exclude<Part, 'postgres'>, env?: NodeJS.ProcessEnv): Promise<void> {
    if (part !== 'nats') {
      if (env !== undefined) this.#serviceEnv[part] = { ...this.#serviceEnv[part], ...env }
      this.#failedStarts.set(part, 0)
    }
    await this.#keepers.get(part)?.start()
  }

  async ready(services: readonly Service[] = SERVICES, withinMs = READY_WITHIN_MS): Promise<void> {
    const deadline = Date.now() + withinMs
    await Promise.all(services.map((service) => this.#serviceReady(service, deadline)))
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#stop()
    return this.#stopping
  }

  async #stop(): Promise<void> {
    await this.#starting?.catch(() => undefined) // whoever started it hears of that
    // Callers before those whom they call: what is under way can finish, and no circuit opens over an orderly stop.
    for (const services of STOP_ORDER) await Promise.all(services.map(async (service) => this.#keepers.get(service)?.stop()))
    await this.#keepers.get('nats')?.stop('SIGTERM', 5_000)
    await this.#postgres?.stop()
    const ports = this.#ports
    if (ports !== undefined)
      for (const port of [ports.http, ports.p2p, ports.nats, ports.postgres, ...Object.values(ports.ops)])
        if (port !== undefined) returnPort(port)
    this.#lock.release()
  }

  /** A start that is being given up starts nothing more. */
  #proceed(): void {
    if (this.#stopping !== undefined) throw new Error('stopped while starting')
  }

  #step(text: string): void {
    this.#proceed()
    this.#options.onEvent?.({ kind: 'step', text })
  }

  #onProcess(part: Part, event: KeepEvent): void {
    if (event.kind === 'started') {
      this.#lock.record(part, event.pid)
      if (this.#info !== undefined) {
        if (part === 'nats' || part === 'postgres') this.#info[part].pid = event.pid
        else this.#info.pids[part] = event.pid
        writeJson(this.#layout.info, this.#info)
      }
    } else if (part !== 'nats' && part !== 'postgres') {
      this.#failedStarts.set(part, (this.#failedStarts.get(part) ?? 0) + 1)
    }
    this.#options.onEvent?.({ kind: 'process', part, event })
  }

  /** The same ports as last time where they are free; asked-for ports exactly, or not at all. */
  async #choosePorts(): Promise<Ports> {
    const { httpPort, p2pPort } = this.#options
    for (const [what, port] of [
      ['HTTP', httpPort],
      ['peer-to-peer', p2pPort],
    ] as const) {
      if (port !== undefined && !(await isPortFree(port))) throw new Error(`the ${what} port ${port} is not free`)
    }
    const old = readJson<Ports>(this.#layout.ports)
    const ports: Ports = {
      http: await freePort(httpPort ?? old?.http),
      p2p: await freePort(p2pPort ?? old?.p2p),
      nats: await freePort(old?.nats),
      ops: Object.fromEntries(
        await Promise.all(SERVICES.map(async (service) => [service, await freePort(old?.ops[service])] as const)),
      ) as Record<Service, number>,
      ...(this.#options.postgres === undefined ? { postgres: await freePort(old?.postgres) } : {}),
    }
    writeJson(this.#layout.ports, ports)
    return ports
  }

  async #prepareDatabase(): Promise<void> {
    const { name, postgres: given } = this.#options
    let adminUrl = given?.adminUrl
    if (adminUrl === undefined) {
      this.#step(existsSync(path.join(this.#layout.postgres, 'password')) ? 'starting PostgreSQL' : 'creating a PostgreSQL database')
      this.#postgres = await startManagedPostgres({
        directory: this.#layout.postgres,
        port: this.#ports?.postgres as number,
        logFile: this.#layout.log('postgres'),
        restart: this.#options.restart ?? true,
        onEvent: (event) => this.#onProcess('postgres', event),
      })
      adminUrl = this.#postgres.adminUrl
    }
    const { passwords, folder } = this.#secrets as FleetSecrets
    this.#database = await provisionFleet({
      adminUrl,
      fleet: name,
      passwords,
      say: (text) => this.#step(text),
      ...(given?.template === undefined ? {} : { template: given.template }),
    })
    for (const short of SHORTS) writeSecret(path.join(folder(serviceOf(short)), 'database-url'), this.#database.urls[short])
  }

  async #startNats(): Promise<void> {
    const { nats: port } = this.#ports as Ports
    const program = findNatsServer(this.#layout.root, (text) => this.#step(text))
    const configFile = path.join(this.#layout.nats, 'nats.conf')
    writeFileSync(configFile, natsServerConfig({ port, host: '127.0.0.1', users: (this.#secrets as FleetSecrets).natsUsers }), {
      mode: 0o600,
    })
    await this.#keep('nats', async () => (await startNatsServer({ program, configFile, port, logFile: this.#layout.log('nats') })).child)
  }

  #startService(service: Service): Promise<void> {
    return this.#keep(service, () =>
      startChild({
        // No core dump: it would hold keys.
        command: '/bin/sh',
        args: ['-c', 'ulimit -c 0; exec "$@"', 'sh', process.execPath, mainOf(service)],
        env: serviceEnvironment({
          service,
          fleet: this.#options.name,
          ports: this.#ports as Ports,
          secretsDir: (this.#secrets as FleetSecrets).folder(service),
          stateDir: this.#layout.state,
          extra: [this.#options.env, this.#serviceEnv[service]],
        }),
        cwd: this.#layout.root,
        logFile: this.#layout.log(service),
      }),
    )
  }

  async #keep(part: Exclude<Part, 'postgres'>, start: () => ReturnType<typeof startChild>): Promise<void> {
    this.#proceed()
    const keeper = new KeepRunning({ start, restart: this.#options.restart ?? true, onEvent: (event) => this.#onProcess(part, event) })
    this.#keepers.set(part, keeper)
    await keeper.start()
  }

  async #serviceReady(service: Service, deadline: number): Promise<void> {
    let last = 'it does not answer'
    for (;;) {
      this.#proceed()
      try {
        const response = await fetch(`http://127.0.0.1:${this.#ports?.ops[service]}/health/ready`, { signal: AbortSignal.timeout(5_000) })
        if (response.ok) {
          await response.body?.cancel()
          this.#failedStarts.set(service, 0)
          return
        }
        last = `${response.status} ${(await response.text()).slice(0, 400)}`
      } catch (error) {
        last = (error as Error).cause instanceof Error ? ((error as Error).cause as Error).message : (error as Error).message
      }
      const hopeless = (this.#failedStarts.get(service) ?? 0) >= (this.#options.restart === false ? 1 : HOPELESS_STARTS)
      if (hopeless || Date.now() > deadline)
        throw new Error(
          `${service} ${hopeless ? 'ends while starting' : `is not ready (${last})`}; end of ${this.#layout.log(service)}:\n${lastLines(this.#layout.log(service))}`,
        )
      await delay(100)
    }
  }

  async #readIdentity(ports: Ports): Promise<FleetInfo> {
    const deadline = Date.now() + READY_WITHIN_MS
    let answer = await this.api('/v1/fleet')
    while (answer.status === 503 && Date.now() < deadline) {
      await delay(100)
      answer = await this.api('/v1/fleet')
    }
    if (answer.status !== 200) throw new Error(`GET /v1/fleet answers ${answer.status}: ${JSON.stringify(answer.body)}`)
    const own = answer.body as { fleetId: string; peerIds: string[]; multiaddrs: string[] }
    const secrets = this.#secrets as FleetSecrets
    const database = this.#database as FleetDatabase
    const { 'invoice-svc': invoice, 'session-svc': session, 'relay-svc': relay, 'audit-svc': audit, nats } = this.pids
    return {
      name: this.#options.name,
      fleetId: own.fleetId,
      peerId: own.peerIds[0] ?? '',
      multiaddrs: own.multiaddrs,
      api: { url: `http://127.0.0.1:${ports.http}`, tokens: secrets.tokens },
      metrics: Object.fromEntries(SERVICES.map((service) => [service, `http://127.0.0.1:${ports.ops[service]}/metrics`])) as Record<
        Service,
        string
      >,
      pids: { 'invoice-svc': invoice ?? 0, 'session-svc': session ?? 0, 'relay-svc': relay ?? 0, 'audit-svc': audit ?? 0 },
      nats: { url: `nats://127.0.0.1:${ports.nats}`, pid: nats ?? 0 },
      postgres: {
        url: this.#postgres === undefined ? database.ownerUrl : onDatabase(this.#postgres.adminUrl, this.#options.name),
        ...(this.#postgres?.pid === undefined ? {} : { pid: this.#postgres.pid }),
        roles: database.urls,
      },
      supervisor: { pid: process.pid },
      logs: this.#layout.logs,
    }
  }
}

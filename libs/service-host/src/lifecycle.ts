/**
 * From environment variables to a running service, and back. No process-wide hooks here: see host.ts.
 *
 * Order of starting: operations endpoint, bus (in the background), the service's own start, handlers and HTTP. So a
 * service that waits for NATS or PostgreSQL is alive, says that it is not ready, and becomes ready by itself.
 * Order of stopping: not ready, no new requests, those in flight, the service's own stop, bus, operations endpoint.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { join } from 'node:path'
import type { DynamicModule, INestApplicationContext, Type } from '@nestjs/common'
import { NestFactory } from '@nestjs/core'
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify'
import type { ServiceName } from '@tallystick/contracts/call'
import { ServiceClient } from '@tallystick/nats-rpc/client'
import { connectBus, type Bus } from '@tallystick/nats-rpc/connection'
import { NatsTransport } from '@tallystick/nats-rpc/transport'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { DestinationStream, Logger } from 'pino'
import { collectDefaultMetrics, Registry } from 'prom-client'
import type { z } from 'zod'
import { clockFromEnv, clockIsShifted, type Clock } from './clock.js'
import { parseEnv, type BaseEnv } from './env.js'
import { createLogger } from './logger.js'
import { nestLogger } from './nest-logger.js'
import { startOps, type OpsServer } from './ops.js'
import { Readiness, type ReadinessCheck } from './readiness.js'
import { readSecretFile } from './secrets.js'

export interface Host<E = unknown> {
  readonly name: ServiceName
  readonly env: E & BaseEnv
  readonly log: Logger
  readonly metrics: Registry
  readonly clock: Clock
  readonly rpc: ServiceClient
  readonly bus: Bus
  /** A file of TALLYSTICK_SECRETS_DIR. @see readSecretFile */
  secret(name: string): Buffer
  /** A throw means not ready. Each check has 2 s. */
  readiness(name: string, check: ReadinessCheck): void
  /** For an error that could fork a log or reuse a key: log it and end the process with 1. */
  fatal(error: unknown): void
  /** Called when every readiness check has passed for the first time. */
  onReady(listener: () => void): void
}

export interface StartedService {
  /** Its controllers' @Handles methods answer the bus; with `http`, their routes are served too. */
  readonly module: Type<unknown> | DynamicModule
  readonly http?: HttpOptions
  /** After the last request has been answered; the bus still works. */
  stop?(): Promise<void>
}

export interface HttpOptions {
  readonly port: number
  /** Default TALLYSTICK_HOST. */
  readonly host?: string
  /** Default 1 MiB. */
  readonly bodyLimitBytes?: number
  /** Answers what the router refuses before any hook or filter could: a malformed URL. Default: plain JSON. */
  frameworkErrors?(error: Error, request: FastifyRequest, reply: FastifyReply): void
  /** Before it listens: pipes, filters, guards, hooks. */
  configure?(app: NestFastifyApplication): Promise<void> | void
}

export interface ServiceDefinition<Shape extends z.ZodRawShape> {
  readonly name: ServiceName
  /** The service's own variables beside BaseEnv. */
  readonly env: z.ZodObject<Shape>
  start(host: Host<z.output<z.ZodObject<Shape>>>): Promise<StartedService>
}

export interface RunningService {
  readonly log: Logger
  readonly opsPort: number
  readonly httpPort?: number
  /** Resolves when every readiness check has passed for the first time. */
  readonly ready: Promise<void>
  stop(): Promise<void>
}

const DEFAULT_BODY_LIMIT_BYTES = 1024 * 1024
/** Longest wait for open HTTP requests at shutdown, milliseconds; event streams never end by themselves. */
const HTTP_CLOSE_MS = 5_000
/** How often readiness is looked at until it holds for the first time, milliseconds. */
const READY_POLL_MS = 200
const SEED_FILE = 'nats.nk'

export async function startService<Shape extends z.ZodRawShape>(
  definition: ServiceDefinition<Shape>,
  options: { variables: Readonly<Record<string, string | undefined>>; onFatal(error: unknown): void; destination?: DestinationStream },
): Promise<RunningService> {
  const env = parseEnv(definition.env, options.variables)
  const log = createLogger({
    service: definition.name,
    fleet: env.TALLYSTICK_FLEET,
    level: env.LOG_LEVEL,
    ...(options.destination ? { destination: options.destination } : {}),
  })
  if (clockIsShifted(env)) log.warn('the clock follows TALLYSTICK_CLOCK_FILE')
  const metrics = new Registry()
  collectDefaultMetrics({ register: metrics })
  const readiness = new Readiness()
  const undo: Array<() => Promise<void> | void> = []
  const stop = async () => {
    readiness.stop()
    while (undo.length > 0) await undo.pop()?.()
  }
  try {
    const ops = await startOps({ host: env.TALLYSTICK_HOST, port: env.TALLYSTICK_OPS_PORT, readiness, metrics, logger: nestLogger(log) })
    undo.push(() => ops.close())
    log.info({ port: ops.port }, 'operations endpoint listens')

    readSecretFile(env.TALLYSTICK_SECRETS_DIR, SEED_FILE).fill(0)
    const bus = connectBus({
      url: env.TALLYSTICK_NATS_URL,
      seedFile: join(env.TALLYSTICK_SECRETS_DIR, SEED_FILE),
      service: definition.name,
      name: `${env.TALLYSTICK_FLEET}/${definition.name}`,
      log,
      metrics,
    })
    undo.push(() => bus.close())
    const rpc = new ServiceClient({ bus, service: definition.name, metrics, breaker: breakerNumbers(env) })
    undo.push(() => rpc.close())
    rpc.onTransition(({ target, from, to }) => log.warn({ target, from, to }, 'a circuit changed its state'))
    // Handlers subscribe as soon as a connection is there, but not before the service's own start has ended.
    let listening = false
    readiness.add('nats', () => {
      if (!bus.connected || !listening) throw new Error('not connected, or handlers not yet subscribed')
    })

    const becameReady = Promise.withResolvers<void>()
    const host: Host<z.output<z.ZodObject<Shape>>> = {
      name: definition.name,
      env,
      log,
      metrics,
      clock: clockFromEnv(env),
      rpc,
      bus,
      secret: (name) => readSecretFile(env.TALLYSTICK_SECRETS_DIR, name),
      readiness: (name, check) => readiness.add(name, check),
      fatal: options.onFatal,
      onReady: (listener) => void becameReady.promise.then(listener),
    }
    const started = await definition.start(host)
    undo.push(async () => started.stop?.())
    const app = await startApp(started, host, new NatsTransport({ bus, service: definition.name, log, metrics }))
    undo.push(() => app.close())
    listening = true
    undo.push(announceReadiness(readiness, log, ops, app, becameReady.resolve))
    return { log, opsPort: ops.port, ...(app.httpPort === undefined ? {} : { httpPort: app.httpPort }), ready: becameReady.promise, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

function breakerNumbers(env: BaseEnv) {
  return {
    failures: env.TALLYSTICK_BREAKER_FAILURES,
    windowMs: env.TALLYSTICK_BREAKER_WINDOW_MS,
    resetMs: env.TALLYSTICK_BREAKER_RESET_MS,
    maxResetMs: Math.max(env.TALLYSTICK_BREAKER_MAX_RESET_MS, env.TALLYSTICK_BREAKER_RESET_MS),
  }
}

interface RunningApp {
  readonly httpPort?: number
  close(): Promise<void>
}

async function startApp(started: StartedService, host: Host, transport: NatsTransport): Promise<RunningApp> {
  const options = { logger: nestLogger(host.log), abortOnError: false }
  if (started.http === undefined) {
    const app = await NestFactory.createMicroservice(started.module, { ...options, strategy: transport })
    await app.listen()
    return { close: () => closeApp(app, transport) }
  }
  const {
    port,
    host: address = host.env.TALLYSTICK_HOST,
    bodyLimitBytes = DEFAULT_BODY_LIMIT_BYTES,
    frameworkErrors,
    configure,
  } = started.http
  const adapter = new FastifyAdapter({ bodyLimit: bodyLimitBytes, ...(frameworkErrors === undefined ? {} : { frameworkErrors }) })
  const app = await NestFactory.create<NestFastifyApplication>(started.module, adapter, options)
  app.connectMicroservice({ strategy: transport })
  await configure?.(app)
  closeConnectionsOnceIdle(app)
  await app.startAllMicroservices()
  await app.listen(port, address)
  const bound = app.getHttpServer().address()
  return { httpPort: typeof bound === 'object' && bound !== null ? bound.port : port, close: () => closeApp(app, transport) }
}

/**
 * At shutdown, close every connection as soon as no request is in flight. Node itself waits for connections that have
 * never carried a request, and browsers and pools keep such.
 */
function closeConnectionsOnceIdle(app: NestFastifyApplication): void {
  const server = app.getHttpServer()
  let inFlight = 0
  let closing = false
  const look = () => {
    if (closing && inFlight === 0) server.closeAllConnections()
  }
  server.prependListener('request', (_request: IncomingMessage, response: ServerResponse) => {
    inFlight++
    response.once('close', () => {
      inFlight--
      look()
    })
  })
  // The last hook before the server stops listening, so a turn later no connection can come.
  const fastify = app.getHttpAdapter().getInstance() as unknown as FastifyInstance
  fastify.addHook('preClose', (done) => {
    setImmediate(() => {
      closing = true
      look()
    })
    done()
  })
}

async function closeApp(app: INestApplicationContext, transport: NatsTransport): Promise<void> {
  // Nest runs module hooks before it closes its listeners; handlers in flight still need what those would destroy.
  await transport.close()
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, HTTP_CLOSE_MS)
  })
  await Promise.race([app.close(), late])
  clearTimeout(timer)
}

/** Print one line when the service is ready for the first time. @returns ends the waiting */
function announceReadiness(readiness: Readiness, log: Logger, ops: OpsServer, app: RunningApp, ready: () => void): () => void {
  const startedAt = performance.now()
  let ended = false
  let timer: NodeJS.Timeout | undefined
  const look = async () => {
    const failing = await readiness.failing()
    if (ended) return
    if (failing.length > 0) {
      timer = setTimeout(() => void look(), READY_POLL_MS)
      return
    }
    log.info({ port: app.httpPort ?? ops.port, durationMs: Math.round(performance.now() - startedAt) }, 'ready')
    ready()
  }
  void look()
  return () => {
    ended = true
    clearTimeout(timer)
  }
}

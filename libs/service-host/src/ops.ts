/** The operations endpoint of each service: liveness, readiness, metrics. It listens before anything else is there. */
import 'reflect-metadata'
import { Controller, Get, Inject, Module, Res, type LoggerService } from '@nestjs/common'
import { NestFactory } from '@nestjs/core'
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify'
import { HealthCheckService, HealthIndicatorService, TerminusModule } from '@nestjs/terminus'
import type { Registry } from 'prom-client'
import { Readiness } from './readiness.js'

const REGISTRY = Symbol('metrics registry')

/** Nothing is posted here. */
const BODY_LIMIT_BYTES = 1024
/** Answers are shared this long, so that a probe every few milliseconds does not become a query every few milliseconds. */
const CACHE_MS = 250

/** The part of Fastify's reply that is used. */
interface Reply {
  header(name: string, value: string): Reply
  status(code: number): Reply
}

@Controller()
class OpsController {
  constructor(
    @Inject(Readiness) private readonly readiness: Readiness,
    @Inject(REGISTRY) private readonly registry: Registry,
    @Inject(HealthCheckService) private readonly health: HealthCheckService,
    @Inject(HealthIndicatorService) private readonly indicators: HealthIndicatorService,
  ) {}

  /** Never depends on others. */
  @Get('/health/live')
  live(): { status: 'ok' } {
    return { status: 'ok' }
  }

  /** 200 or 503, with the name and state of each check; why one is down stands in the log, not here. */
  @Get('/health/ready')
  async ready(@Res({ passthrough: true }) reply: Reply): Promise<{ status: 'ok' | 'error'; checks: Record<string, string> }> {
    const names = this.readiness.names
    const checks: Record<string, string> = Object.fromEntries(names.map((name) => [name, 'down']))
    await this.health
      .check(
        names.map((name) => async () => {
          const result = await this.indicators
            .check(name)
            .attempt(() => this.readiness.run(name))
            .cacheFor(CACHE_MS)
          checks[name] = Object.values(result)[0]?.status ?? 'down'
          return result
        }),
      )
      .catch(() => undefined) // Terminus throws when one is down; `checks` says which.
    const ok = Object.values(checks).every((state) => state === 'up')
    reply.status(ok ? 200 : 503)
    return { status: ok ? 'ok' : 'error', checks }
  }

  @Get('/metrics')
  async metrics(@Res({ passthrough: true }) reply: Reply): Promise<string> {
    reply.header('content-type', this.registry.contentType)
    return this.registry.metrics()
  }
}

export interface OpsServer {
  readonly port: number
  close(): Promise<void>
}

export async function startOps(options: {
  host: string
  port: number
  readiness: Readiness
  metrics: Registry
  logger: LoggerService
}): Promise<OpsServer> {
  class OpsModule {}
  Module({
    imports: [TerminusModule.forRoot({ logger: false })],
    controllers: [OpsController],
    providers: [
      { provide: Readiness, useValue: options.readiness },
      { provide: REGISTRY, useValue: options.metrics },
    ],
  })(OpsModule)
  const adapter = new FastifyAdapter({ bodyLimit: BODY_LIMIT_BYTES, forceCloseConnections: true })
  const app = await NestFactory.create<NestFastifyApplication>(OpsModule, adapter, { logger: options.logger, abortOnError: false })
  await app.listen(options.port, options.host)
  const address = app.getHttpServer().address()
  return { port: typeof address === 'object' && address !== null ? address.port : options.port, close: () => app.close() }
}

/** invoice-svc: the HTTP API, documents, consent, sharing, inbox. */
import 'reflect-metadata'
import { PrismaPg } from '@prisma/adapter-pg'
import { runService } from '@tallystick/service-host/host'
import { z } from 'zod'
import { TRANSACTION } from './app.js'
import { PrismaClient } from './gen/client.js'
import { configureEdge, frameworkErrors } from './http/configure.js'
import { TokenBook } from './http/tokens.js'
import { LIMITS_ENV, limitsWith } from './limits.js'
import { apiRoutes, assemble } from './module.js'

/** Connections to PostgreSQL per replica: API requests, the pump and the inbound transactions side by side. */
const DATABASE_CONNECTIONS = 16

await runService({
  name: 'invoice-svc',
  env: z.object({
    TALLYSTICK_HTTP_PORT: z.coerce.number().int().min(0).max(65_535),
    ...LIMITS_ENV,
    TALLYSTICK_HTTP_BEHIND_TLS: z.enum(['true', 'false']).default('false'),
  }),
  async start(host) {
    const db = new PrismaClient({
      transactionOptions: TRANSACTION,
      adapter: new PrismaPg(
        { connectionString: secretText(host.secret('database-url')), max: DATABASE_CONNECTIONS },
        { schema: 'invoice' },
      ),
    })
    const tokenFile = host.secret('api-tokens.json')
    const tokens = TokenBook.read(tokenFile)
    tokenFile.fill(0)
    const database = async (): Promise<void> => void (await db.$queryRaw`SELECT 1 FROM peer LIMIT 1`)
    host.readiness('database', database)
    const assembled = assemble({
      db,
      tokens,
      rpc: host.rpc,
      clock: host.clock,
      log: host.log,
      metrics: host.metrics,
      limits: limitsWith({}, host.env),
      missing: async () => [...(host.bus.connected ? [] : ['nats']), ...((await settles(database)) ? [] : ['database'])],
    })
    host.rpc.onTransition((transition) => {
      assembled
        .breakerChanged(transition)
        .catch((error: unknown) => host.log.error({ err: error, target: transition.target }, 'a change of a circuit could not be recorded'))
    })
    assembled.start()
    const behindTls = host.env.TALLYSTICK_HTTP_BEHIND_TLS === 'true'
    return {
      module: assembled.module,
      http: {
        port: host.env.TALLYSTICK_HTTP_PORT,
        frameworkErrors: frameworkErrors(assembled.app, { behindTls }),
        configure: (app) => configureEdge(app, assembled.app, { routes: apiRoutes(), behindTls }),
      },
      async stop() {
        await assembled.stop()
        await db.$disconnect()
      },
    }
  },
})

function secretText(secret: Buffer): string {
  const text = secret.toString('utf8').trim()
  secret.fill(0)
  return text
}

async function settles(check: () => Promise<void>): Promise<boolean> {
  try {
    await check()
    return true
  } catch {
    // The reason is in the database's own readiness check; here only the name counts.
    return false
  }
}

/** invoice-svc: the HTTP API, documents, consent, sharing, inbox. */
import 'reflect-metadata'
import { PrismaPg } from '@prisma/adapter-pg'
import { runService } from '@tallystick/service-host/host'
import { z } from 'zod'
import { TRANSACTION } from './app.js'
import { PrismaClient } from './gen/client.js'
import { configureEdge } from './http/configure.js'
import { TokenBook } from './http/tokens.js'
import { API_RATE_PER_MINUTE, limitsWith } from './limits.js'
import { apiRoutes, assemble } from './module.js'

/** Connections to PostgreSQL per replica: API requests, the pump and the inbound transactions side by side. */
const DATABASE_CONNECTIONS = 16

await runService({
  name: 'invoice-svc',
  env: z.object({
    TALLYSTICK_HTTP_PORT: z.coerce.number().int().min(0).max(65_535),
    TALLYSTICK_API_RATE_PER_MINUTE: z.coerce.number().int().min(1).max(1_000_000).default(API_RATE_PER_MINUTE),
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
      limits: limitsWith({ apiRatePerMinute: host.env.TALLYSTICK_API_RATE_PER_MINUTE }),
      missing: async () => [...(host.bus.connected ? [] : ['nats']), ...((await settles(database)) ? [] : ['database'])],
    })
    host.rpc.onTransition((transition) => {
      assembled
        .breakerChanged(transition)
        .catch((error: unknown) => host.log.error({ err: error, target: transition.target }, 'a change of a circuit could not be recorded'))
    })
    assembled.start()
    return {
      module: assembled.module,
      http: {
        port: host.env.TALLYSTICK_HTTP_PORT,
        configure: (app) =>
          configureEdge(app, assembled.app, { routes: apiRoutes(), behindTls: host.env.TALLYSTICK_HTTP_BEHIND_TLS === 'true' }),
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

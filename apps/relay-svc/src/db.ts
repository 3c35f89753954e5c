/** The service's own schema, through its own role, whose search_path is that schema. */
import { PrismaPg } from '@prisma/adapter-pg'
import { PrismaClient } from './gen/client.js'
import { DEFAULT_LIMITS, type Limits } from './limits.js'

/** Two senders, two delivery lanes, reports, audit, and calls: more would only queue in the server. */
const CONNECTIONS = 10

/** The client gives up on an answer this much later than the server on the statement, ms: then the network is what hangs. */
const ANSWER_GRACE_MS = 5_000

/**
 * Connects lazily: a database that is away shows in readiness, not in a failed start. One that hangs is one that is
 * away: without a limit a single silent connection would hold a queue up for as long as TCP keeps hoping.
 */
export function openDatabase(
  url: string,
  limits: Pick<Limits, 'databaseConnectMs' | 'databaseStatementMs'> = DEFAULT_LIMITS,
): PrismaClient {
  const connection = new URL(url)
  connection.searchParams.delete('schema')
  return new PrismaClient({
    adapter: new PrismaPg(
      {
        connectionString: connection.href,
        max: CONNECTIONS,
        connectionTimeoutMillis: limits.databaseConnectMs,
        statement_timeout: limits.databaseStatementMs,
        query_timeout: limits.databaseStatementMs + ANSWER_GRACE_MS,
      },
      { schema: 'relay' },
    ),
    transactionOptions: { maxWait: 5_000, timeout: 15_000 },
  })
}

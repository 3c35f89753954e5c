/** The service's own schema, through its own role, whose search_path is that schema. */
import { PrismaPg } from '@prisma/adapter-pg'
import { PrismaClient } from './gen/client.js'

/** Two senders, two delivery lanes, reports, audit, and calls: more would only queue in the server. */
const CONNECTIONS = 10

/** Connects lazily: a database that is away shows in readiness, not in a failed start. */
export function openDatabase(url: string): PrismaClient {
  const connection = new URL(url)
  connection.searchParams.delete('schema')
  return new PrismaClient({
    adapter: new PrismaPg({ connectionString: connection.href, max: CONNECTIONS }, { schema: 'relay' }),
    transactionOptions: { maxWait: 5_000, timeout: 15_000 },
  })
}

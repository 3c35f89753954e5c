/** The service's own schema, through its own role. */
import { PrismaPg } from '@prisma/adapter-pg'
import { Prisma, PrismaClient } from './gen/client.js'
import type { Limits } from './limits.js'

export type Db = PrismaClient
export type Tx = Prisma.TransactionClient

/** Connects lazily: a database that is away shows in readiness, not in a failed start. */
export function openDatabase(url: string, limits: Limits): Db {
  const connection = new URL(url)
  connection.searchParams.delete('schema')
  return new PrismaClient({
    adapter: new PrismaPg(
      {
        connectionString: connection.href,
        max: limits.databaseConnections,
        // A replica that is frozen in a transaction cannot end it by its own clock: the server does, and with it goes the
        // lock on the peer. What the replica writes when it wakes finds no transaction.
        idle_in_transaction_session_timeout: limits.transactionMs,
      },
      { schema: 'session' },
    ),
    transactionOptions: { maxWait: limits.transactionWaitMs, timeout: limits.transactionMs },
  })
}

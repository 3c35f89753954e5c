/** The service's own schema, through its own role. */
import { PrismaPg } from '@prisma/adapter-pg'
import { type Prisma, PrismaClient } from './gen/client.js'
import type { AuditLimits } from './limits.js'

export type Db = PrismaClient
export type Tx = Prisma.TransactionClient

/** Connects lazily: a database that is away shows in readiness, not in a failed start. */
export function openDatabase(url: string, limits: AuditLimits): Db {
  const connection = new URL(url)
  connection.searchParams.delete('schema')
  return new PrismaClient({
    adapter: new PrismaPg({ connectionString: connection.href, max: limits.databaseConnections }, { schema: 'audit' }),
    transactionOptions: { maxWait: limits.transactionWaitMs, timeout: limits.transactionMs },
  })
}

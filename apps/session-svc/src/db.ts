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
    adapter: new PrismaPg({ connectionString: connection.href, max: limits.databaseConnections }, { schema: 'session' }),
    transactionOptions: { maxWait: limits.transactionWaitMs, timeout: limits.transactionMs },
  })
}

/** Prisma's byte columns are `Uint8Array<ArrayBuffer>`; views into larger buffers are copied, others pass as they are. */
export function column(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return bytes.buffer instanceof ArrayBuffer ? (bytes as Uint8Array<ArrayBuffer>) : new Uint8Array(bytes)
}

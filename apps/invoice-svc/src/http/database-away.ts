/** Whether an error of Prisma means that PostgreSQL is not there, or has no place left: nothing about the request. */
import { Prisma } from '../gen/client.js'

/** Not reachable, timed out, connection closed, no connection or transaction to be had in time. */
const PRISMA_CODES: readonly string[] = ['P1001', 'P1002', 'P1008', 'P1017', 'P2024', 'P2028', 'P2037']
const DRIVER_KINDS: readonly string[] = ['DatabaseNotReachable', 'ConnectionClosed', 'SocketTimeout', 'TooManyConnections']
/** Connection exceptions, too many connections, shutdown and start of the server. */
const SQL_STATES = /^(?:08...|53300|57P0[1-3])$/

export function isDatabaseAway(error: unknown): boolean {
  if (error instanceof Prisma.PrismaClientInitializationError) return true
  if (!(error instanceof Prisma.PrismaClientKnownRequestError)) return false
  if (PRISMA_CODES.includes(error.code)) return true
  // Raw queries have one code for all: the driver's own reason is inside.
  const driver = error.meta?.driverAdapterError as { cause?: { kind?: string; originalCode?: string } } | undefined
  return DRIVER_KINDS.includes(driver?.cause?.kind ?? '') || SQL_STATES.test(driver?.cause?.originalCode ?? '')
}

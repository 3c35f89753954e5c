/** What is only of passing use is deleted after its time: answers of requests, changes, nonces, counters. */
import type { App } from './app.js'
import { sweepChanges } from './events/change.store.js'
import { sweepOperations } from './http/operation.js'
import { sweepNonces } from './inbound/inbound.store.js'
import { API_RATE_WINDOW_MS } from './limits.js'

/** How often, ms: the tables hold a minute more than they must. */
export const SWEEP_EVERY_MS = 60_000

/** One pass. @returns rows deleted */
export async function sweep(app: App): Promise<number> {
  const now = app.clock.now()
  const counts = await Promise.all([
    sweepOperations(app.db, new Date(now - app.limits.idempotencyTtlMs)),
    sweepChanges(app.db, new Date(now - app.limits.changesTtlMs)),
    sweepNonces(app.db, new Date(now)),
    app.db.$executeRaw`DELETE FROM rate_window WHERE updated_at < ${new Date(now - 2 * API_RATE_WINDOW_MS)}`,
  ])
  app.metrics.nonceStoreSize.set(await app.db.statementNonce.count())
  const { _sum } = await app.db.peer.aggregate({ _sum: { inMissing: true } })
  app.metrics.messagesMissing.set(Number(_sum.inMissing ?? 0n))
  return counts.reduce((sum, count) => sum + count, 0)
}

/**
 * An exact sliding window per endpoint and client, kept in PostgreSQL so that all replicas count together: one
 * statement per request. A client that is over its limit is remembered in memory until it may come again, so that a
 * flood costs the database nothing.
 */
import type { Db } from '../app.js'
import { API_RATE_WINDOW_MS } from '../limits.js'

/** Entries of the memory of refusals; beyond, the database is asked again. */
const REMEMBERED = 10_000

export type RateDecision = { readonly allowed: true } | { readonly allowed: false; readonly retryAfterMs: number; readonly first: boolean }

export class RateLimiter {
  readonly #refusedUntil = new Map<string, number>()

  constructor(
    private readonly db: Pick<Db, '$queryRaw'>,
    private readonly clock: { now(): number },
  ) {}

  /** Counts the request if it is allowed. @throws what the database throws: a limit that cannot be counted lets nobody in */
  async take(client: string, endpoint: string, limit: number): Promise<RateDecision> {
    const now = this.clock.now()
    const remembered = this.remembered(client, endpoint)
    if (remembered !== undefined) return { allowed: false, retryAfterMs: remembered, first: false }
    const since = BigInt(now - API_RATE_WINDOW_MS)
    const rows = await this.db.$queryRaw<Array<{ granted: boolean; oldest: bigint | null }>>`
      INSERT INTO rate_window AS w (client, endpoint, hits, granted, updated_at)
      VALUES (${client}, ${endpoint}, ARRAY[${BigInt(now)}]::bigint[], true, ${new Date(now)})
      ON CONFLICT (client, endpoint) DO UPDATE SET
        hits = CASE WHEN (SELECT count(*) FROM unnest(w.hits) h WHERE h > ${since}) < ${limit}
          THEN ARRAY(SELECT h FROM unnest(w.hits) h WHERE h > ${since} ORDER BY h) || ${BigInt(now)}::bigint
          ELSE ARRAY(SELECT h FROM unnest(w.hits) h WHERE h > ${since} ORDER BY h) END,
        granted = (SELECT count(*) FROM unnest(w.hits) h WHERE h > ${since}) < ${limit},
        updated_at = ${new Date(now)}
      RETURNING w.granted, w.hits[1] AS oldest`
    const row = rows[0]
    if (row === undefined || row.granted) return { allowed: true }
    const retryAfterMs = Math.max(1, Number(row.oldest ?? BigInt(now)) + API_RATE_WINDOW_MS - now)
    if (this.#refusedUntil.size >= REMEMBERED) this.sweep()
    if (this.#refusedUntil.size < REMEMBERED) this.#refusedUntil.set(`${client}\n${endpoint}`, now + retryAfterMs)
    return { allowed: false, retryAfterMs, first: true }
  }

  /** Milliseconds until this client may come again, if this process has refused it lately; asks nobody. */
  remembered(client: string, endpoint: string): number | undefined {
    const key = `${client}\n${endpoint}`
    const until = this.#refusedUntil.get(key)
    const left = (until ?? 0) - this.clock.now()
    // A clock that was set back must not lock anybody out for longer than a window.
    if (left > 0 && left <= API_RATE_WINDOW_MS) return left
    if (until !== undefined) this.#refusedUntil.delete(key)
    return undefined
  }

  sweep(): void {
    const now = this.clock.now()
    for (const [key, until] of this.#refusedUntil) if (until <= now) this.#refusedUntil.delete(key)
  }
}

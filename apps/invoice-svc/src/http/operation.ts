/**
 * Idempotency-Key: one row per client and key. The request that inserts the row runs; its answer is written by the
 * same transaction that has the effect, so a crash in between leaves neither. A request that was cut off before its
 * commit left nothing, and its retry takes the row over once the lease has run out; the old request, should it still
 * be alive, finds that the row is no longer its own and its transaction is refused.
 */
import { createHash, randomUUID } from 'node:crypto'
import type { Logger } from 'pino'
import type { Db, Tx } from '../app.js'
import type { Limits } from '../limits.js'
import { EdgeRefusal } from './problem.js'

export interface StoredAnswer {
  readonly status: number
  readonly text: string
}

/** The running request, as use cases see it. */
export interface Operation {
  /** Store the answer with the effect. To be called last in the transaction; does nothing without an Idempotency-Key. */
  finish(tx: Pick<Tx, '$executeRaw'>, status: number, body: unknown): Promise<void>
}

/** For requests without a key, and for what no client asked for. */
export const NO_OPERATION: Operation = { finish: () => Promise.resolve() }

export class KeyedOperation implements Operation {
  finished = false
  readonly #renewal: NodeJS.Timeout

  constructor(
    private readonly db: Db,
    private readonly clock: { now(): number },
    readonly client: string,
    readonly key: string,
    private readonly token: string,
    private readonly leaseMs: number,
    private readonly log: Pick<Logger, 'warn'>,
  ) {
    this.#renewal = setInterval(() => void this.#renew(), leaseMs / 3)
    this.#renewal.unref()
  }

  /** The request is over: its hold is no longer renewed. */
  end(): void {
    clearInterval(this.#renewal)
  }

  async finish(tx: Pick<Tx, '$executeRaw'>, status: number, body: unknown): Promise<void> {
    await this.#store(tx, status, JSON.stringify(body))
    this.finished = true
  }

  /** The answer of a request that stored nothing itself. If another has taken its place, that one's answer stays. */
  async finishText(status: number, text: string): Promise<void> {
    if (this.finished) return
    await this.#write(this.db, status, text)
    this.finished = true
  }

  /** A retry may run at once. An answer that was committed stays; one whose transaction was rolled back is none. */
  async release(): Promise<void> {
    await this.db
      .$executeRaw`DELETE FROM idempotency WHERE client = ${this.client} AND key = ${this.key} AND token = ${this.token}::uuid AND status IS NULL`
  }

  async #store(tx: Pick<Tx, '$executeRaw'>, status: number, text: string): Promise<void> {
    if ((await this.#write(tx, status, text)) === 1) return
    throw new EdgeRefusal(
      'IdempotencyKeyInUse',
      'This request took too long and another one with the same Idempotency-Key has taken its place.',
    )
  }

  async #renew(): Promise<void> {
    try {
      const until = new Date(this.clock.now() + this.leaseMs)
      await this.db.$executeRaw`
        UPDATE idempotency SET lease_until = ${until}
        WHERE client = ${this.client} AND key = ${this.key} AND token = ${this.token}::uuid AND status IS NULL AND lease_until > ${new Date(this.clock.now())}`
    } catch (error) {
      // The next renewal may succeed; if none does, the effect is refused when it comes to its commit.
      this.log.warn({ err: error }, 'the hold of a request on its Idempotency-Key could not be renewed')
    }
  }

  async #write(tx: Pick<Tx, '$executeRaw'>, status: number, text: string): Promise<number> {
    return await tx.$executeRaw`
      UPDATE idempotency SET status = ${status}, answer = ${text}
      WHERE client = ${this.client} AND key = ${this.key} AND token = ${this.token}::uuid AND status IS NULL AND lease_until > ${new Date(this.clock.now())}`
  }
}

export type Claim = { readonly run: KeyedOperation } | { readonly replay: StoredAnswer }

/**
 * @param request method and path, and the body as it came
 * @throws EdgeRefusal IdempotencyKeyReused (another request had this key), IdempotencyKeyInUse (it is still running)
 */
export async function claimOperation(
  deps: { db: Db; clock: { now(): number }; log: Pick<Logger, 'warn'>; limits: Pick<Limits, 'idempotencyLeaseMs' | 'idempotencyTtlMs'> },
  client: string,
  key: string,
  request: { operation: string; body: Uint8Array; mediaType: string },
): Promise<Claim> {
  const { db, clock, limits } = deps
  const at = clock.now()
  const now = new Date(at)
  const lease = new Date(at + limits.idempotencyLeaseMs)
  const forgotten = new Date(at - limits.idempotencyTtlMs)
  const token = randomUUID()
  const hash = createHash('sha256').update(request.mediaType).update('\n').update(request.body).digest()
  const claimed = await db.$executeRaw`
    INSERT INTO idempotency AS i (client, key, operation, body_hash, token, lease_until, created_at)
    VALUES (${client}, ${key}, ${request.operation}, ${hash}, ${token}::uuid, ${lease}, ${now})
    ON CONFLICT (client, key) DO UPDATE
      SET operation = EXCLUDED.operation, body_hash = EXCLUDED.body_hash, token = EXCLUDED.token, lease_until = EXCLUDED.lease_until, created_at = EXCLUDED.created_at, status = NULL, answer = NULL
      WHERE i.created_at < ${forgotten}
         OR (i.status IS NULL AND i.lease_until <= ${now} AND i.operation = EXCLUDED.operation AND i.body_hash = EXCLUDED.body_hash)`
  if (claimed === 1) return { run: new KeyedOperation(db, clock, client, key, token, limits.idempotencyLeaseMs, deps.log) }
  const row = await db.idempotency.findUnique({ where: { client_key: { client, key } } })
  // Released between the two statements: the client may simply try again.
  if (row === null)
    throw new EdgeRefusal('IdempotencyKeyInUse', 'The request with this Idempotency-Key has just ended without an effect; try again.')
  if (row.operation !== request.operation || !hash.equals(row.bodyHash)) {
    throw new EdgeRefusal('IdempotencyKeyReused', 'This Idempotency-Key was used for a request with another path or body.')
  }
  if (row.status === null || row.answer === null)
    throw new EdgeRefusal('IdempotencyKeyInUse', 'The request with this Idempotency-Key is still running; try again in a moment.')
  return { replay: { status: row.status, text: row.answer } }
}

/** Which answers a repeated request is given again. A refusal for want of a token, a scope or time is not an answer. */
export function isStorable(status: number): boolean {
  return status < 500 && status !== 401 && status !== 403 && status !== 429
}

/** Keys older than a day are forgotten. @returns rows deleted */
export async function sweepOperations(db: Db, before: Date): Promise<number> {
  return await db.$executeRaw`DELETE FROM idempotency WHERE (client, key) IN (SELECT client, key FROM idempotency WHERE created_at < ${before} LIMIT 1000)`
}

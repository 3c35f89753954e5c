/**
 * The stock of prekeys: one signed X25519 key and one last-resort ML-KEM key that are reused, and one-time keys of both
 * kinds, refilled when few are left. Weekly rotation of the reusable two retires a row (`retired_at`) and keeps its
 * private half for the grace time; that step is not here yet.
 * @see docs/spec/custody.md §4
 */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { generateKeyPair as generateKem } from '@tallystick/primitives/mlkem1024'
import { generateKeyPair as generateCurve } from '@tallystick/primitives/x25519'
import { pqMessage, spkMessage } from '@tallystick/ratchet/labels'
import type { Context } from '../context.js'
import { SecretScope } from '../custody/secret-scope.js'
import type { Tx } from '../db.js'
import type { Identity } from '../identity/identity.js'
import { countAvailable, newestReusable, type NewPrekey, type PrekeyKind, reserveIds, storePrekeys } from './prekeys.store.js'

/** Keys made before other work gets a turn: 16 ML-KEM keys take some 3 ms. */
const TURN = 16

export class PrekeyStock {
  readonly #context: Context
  readonly #identity: Identity
  #running: Promise<void> | undefined
  #again = false

  constructor(context: Context, identity: Identity) {
    this.#context = context
    this.#identity = identity
  }

  /**
   * Makes what is missing. Calls while one runs are answered by one more run after it, so that a stock emptied in
   * between is seen.
   */
  async ensure(): Promise<void> {
    if (this.#running) {
      this.#again = true
      return this.#running
    }
    this.#running = (async () => {
      do {
        this.#again = false
        await this.#refill()
      } while (this.#again)
    })().finally(() => {
      this.#running = undefined
    })
    return this.#running
  }

  /** After a bundle was handed out: looks at the stock in the background. */
  refillSoon(): void {
    this.ensure().catch((error: unknown) => this.#context.log.warn({ err: error }, 'prekey stock could not be refilled'))
  }

  /** For the gauge. */
  async report(): Promise<void> {
    for (const kind of ['one-time', 'pq-one-time'] as const)
      this.#context.metrics.prekeys.set({ kind }, await countAvailable(this.#context.db, kind))
  }

  async #refill(): Promise<void> {
    const { db, limits, audit } = this.#context
    if (await this.#isFull(db)) return this.report()
    // Two replicas that refill at once would only make twice the stock; the lock spares the work.
    await SecretScope.run(async (scope) => {
      await db.$transaction(async (tx) => {
        await tx.$executeRaw`SELECT pg_advisory_xact_lock(hashtextextended('tallystick/session/prekeys', 0))`
        if (!(await newestReusable(tx, 'signed'))) {
          await storePrekeys(this.#context, tx, await this.#make(tx, scope, 'signed', 1))
          await audit.record(tx, 'KeyStored', { keyKind: 'signed-prekey', count: 1 })
        }
        if (!(await newestReusable(tx, 'last-resort'))) {
          await storePrekeys(this.#context, tx, await this.#make(tx, scope, 'last-resort', 1))
          await audit.record(tx, 'KeyStored', { keyKind: 'last-resort-prekey', count: 1 })
        }
        for (const kind of ['one-time', 'pq-one-time'] as const) {
          const missing = limits.oneTimePrekeys - (await countAvailable(tx, kind))
          if (missing <= 0) continue
          await storePrekeys(this.#context, tx, await this.#make(tx, scope, kind, missing))
          await audit.record(tx, 'KeyStored', { keyKind: 'one-time-prekeys', count: missing })
        }
      })
    })
    audit.committed()
    await this.report()
  }

  async #isFull(tx: Tx): Promise<boolean> {
    const { refillBelow } = this.#context.limits
    if (!(await newestReusable(tx, 'signed')) || !(await newestReusable(tx, 'last-resort'))) return false
    return (await countAvailable(tx, 'one-time')) >= refillBelow && (await countAvailable(tx, 'pq-one-time')) >= refillBelow
  }

  async #make(tx: Tx, scope: SecretScope, kind: PrekeyKind, count: number): Promise<NewPrekey[]> {
    const made: NewPrekey[] = []
    for (const id of await reserveIds(tx, count)) {
      if (made.length % TURN === TURN - 1) await nextTurn()
      made.push(this.#makeOne(scope, kind, id))
    }
    return made
  }

  #makeOne(scope: SecretScope, kind: PrekeyKind, id: number): NewPrekey {
    const { arena } = this.#context
    const curve = kind === 'signed' || kind === 'one-time'
    const { secret, publicKey } = curve ? generateCurve(arena) : generateKem(arena)
    scope.own(secret)
    // One-time X25519 keys are unsigned, as in X3DH: a forged one costs its forger's victim a session, never a secret.
    if (kind === 'one-time') return { id, kind, publicKey, signature: null, secret }
    const message =
      kind === 'signed' ? spkMessage(id, publicKey) : pqMessage(kind === 'last-resort' ? 'last-resort' : 'one-time', id, publicKey)
    return { id, kind, publicKey, signature: this.#identity.sign(message), secret }
  }
}

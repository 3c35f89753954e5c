/**
 * Notices a database that was put back, and makes it safe to go on: nothing that was ever sent on, or handed out, is
 * used again.
 * @see docs/spec/custody.md §7.3
 */
import { randomUUID } from 'node:crypto'
import type { Context } from '../context.js'
import { SecretScope } from '../custody/secret-scope.js'
import type { Tx } from '../db.js'
import { reissueCertificate } from '../identity/certificates.js'
import type { Identity } from '../identity/identity.js'
import { renewAllPrekeys } from '../prekeys/make-prekeys.js'
import { DatabasePutBack, GENERATION_JUMP } from './generation-file.js'

/** Ids of prekeys that were made after the copy was taken are never given out a second time. */
const PREKEY_JUMP = 100_000
/** Peers may have been shown certificates that this database does not know; the next one has to follow those as well. */
const CERTIFICATE_JUMP = 10_000
const ONE = 1

export class DatabaseFence {
  readonly #context: Context
  readonly #identity: Identity
  #recovering: Promise<void> | undefined

  constructor(context: Context, identity: Identity) {
    this.#context = context
    this.#identity = identity
  }

  /** At the start, and every minute: looks at the database, and writes the number for a replica that has no work. */
  async check(): Promise<void> {
    try {
      await this.#look()
    } catch (error) {
      if (!(error instanceof DatabasePutBack)) throw error
      await this.recover(error.message)
    }
  }

  /**
   * Runs a transaction; when it finds the database put back it has changed nothing, and is run again after the recovery.
   * @param undo for a transaction that committed while another one found it: what it stored must not be there on a retry
   */
  async guard<T>(transaction: () => Promise<T>, undo: (result: T) => Promise<void> = async () => undefined): Promise<T> {
    try {
      const result = await transaction()
      if (!this.#context.generation.suspended) return result
      await this.recover('found by another transaction')
      await undo(result)
    } catch (error) {
      if (!(error instanceof DatabasePutBack)) throw error
      await this.recover(error.message)
    }
    return transaction()
  }

  /** Gives up every session and prekey. Calls at the same time share one run. */
  recover(why: string): Promise<void> {
    this.#recovering ??= this.#recover(why).finally(() => {
      this.#recovering = undefined
    })
    return this.#recovering
  }

  async #look(): Promise<void> {
    const { db, generation, clock } = this.#context
    const seen = await db.$transaction(async (tx) => {
      await lock(tx)
      const remembered = generation.value
      const known = await tx.fence.findUnique({ where: { id: ONE } })
      const value = await next(tx)
      if (known === null) {
        if (generation.databaseId !== undefined) generation.putBack('the number outside belongs to another database')
        const { databaseId } = await tx.fence.create({ data: { id: ONE, databaseId: randomUUID(), createdAt: new Date(clock.now()) } })
        return { databaseId, value }
      }
      // A commit that writes is a commit that is on the disk, and with it the number.
      await tx.$executeRaw`UPDATE session.fence SET database_id = database_id WHERE id = ${ONE}`
      const { databaseId } = known
      if (generation.databaseId === databaseId) {
        if (generation.suspended || value <= remembered) generation.putBack(`generation ${value} after ${remembered}`)
      } else if (generation.databaseId !== undefined || (await tx.session.count()) > 0) {
        generation.putBack(
          generation.databaseId === undefined ? 'there is no number outside' : 'the number outside belongs to another database',
        )
      }
      return { databaseId, value }
    })
    if (generation.databaseId === seen.databaseId) generation.passed(seen.value)
    else generation.adopt(seen.databaseId, seen.value)
  }

  async #recover(why: string): Promise<void> {
    const { db, generation, custody, clock, audit, log } = this.#context
    log.warn({ what: 'database', why }, 'the database was put back: every session is made anew')
    // A data key that was made after the copy is in memory only: nothing may be sealed under it any more.
    await custody.refresh()
    const now = new Date(clock.now())
    const work = async (tx: Tx, scope: SecretScope) => {
      await lock(tx)
      // Peers first, as everywhere: whoever seals or opens has finished, or waits and sees what is written here.
      await tx.$queryRaw`SELECT fleet_id FROM session.peer ORDER BY fleet_id FOR UPDATE`
      const known = await tx.fence.findUnique({ where: { id: ONE } })
      const given = await next(tx)
      // Another replica has done it since: the numbers have leapt over what this one remembers.
      if (known !== null && known.databaseId === generation.databaseId && given > generation.value)
        return { databaseId: known.databaseId, value: given, leap: false }
      const value = Math.max(given, generation.value) + GENERATION_JUMP
      // Counted by the number outside, not by the copy: the same copy may be put back again, and a recovery be cut off.
      const millions = Math.floor(value / GENERATION_JUMP)
      await tx.$queryRaw`
        SELECT setval('session.prekey_id_seq',
                      greatest(nextval('session.prekey_id_seq') + ${PREKEY_JUMP}::int, ${PREKEY_JUMP * millions}::bigint))`
      await tx.$executeRaw`
          UPDATE session.session SET active = false, lost = true, retired_at = coalesce(retired_at, ${now}) WHERE NOT lost`
      await tx.$executeRaw`
          UPDATE session.peer SET recovery = 'resync_required', recovery_reason = 'the database of this fleet was put back', recovery_since = ${now},
                 recovery_failures = 0, resync_attempts = 0`
      await tx.prefetchedBundle.deleteMany()
      await this.#identity.follow(tx)
      await renewAllPrekeys(this.#context, this.#identity, tx, scope)
      await reissueCertificate(this.#context, tx, this.#identity, CERTIFICATE_JUMP * millions)
      const fence = { databaseId: randomUUID(), createdAt: now, restoredAt: now }
      const { databaseId } = await tx.fence.upsert({ where: { id: ONE }, create: { id: ONE, ...fence }, update: { restoredAt: now } })
      await audit.record(tx, 'AdminAction', { action: 'database-restored', subject: databaseId })
      return { databaseId, value, leap: true }
    }
    const settled = await SecretScope.run((scope) => db.$transaction((tx) => work(tx, scope)))
    // Not in the transaction: a sequence does not go back with it, and after a recovery that was cut off its number would
    // tell everybody that there is nothing to recover. Cut off here, the recovery is merely done twice.
    if (settled.leap)
      await db.$queryRaw`SELECT setval('session.generation_seq', greatest(${settled.value}::bigint, nextval('session.generation_seq')))`
    generation.adopt(settled.databaseId, settled.value)
    audit.committed()
  }
}

async function lock(tx: Tx): Promise<void> {
  await tx.$executeRaw`SELECT pg_advisory_xact_lock(hashtextextended('tallystick/session/fence', 0))`
}

async function next(tx: Tx): Promise<number> {
  const rows = await tx.$queryRaw<{ value: bigint }[]>`SELECT nextval('session.generation_seq') AS value`
  return Number(rows[0]!.value)
}

/** A session in the hands of its one writer: the row, and the state in the arena. */
import type { SecretBytes } from '@tallystick/secret-bytes/arena'
import type { Context } from '../context.js'
import type { SecretScope } from '../custody/secret-scope.js'
import type { Tx } from '../db.js'
import type { SessionRow, SessionStore } from './sessions.store.js'

export class LiveSession {
  readonly row: SessionRow
  #state: SecretBytes
  readonly #scope: SecretScope
  #changed = false

  private constructor(row: SessionRow, state: SecretBytes, scope: SecretScope) {
    this.row = row
    this.#state = scope.own(state)
    this.#scope = scope
  }

  /** Unseals the state of a row that has one. */
  static open(context: Context, store: SessionStore, scope: SecretScope, row: SessionRow): LiveSession {
    return new LiveSession(row, store.openState(context, row), scope)
  }

  /** A session made in this transaction, inserted with `state` as version 1. */
  static created(row: SessionRow, state: SecretBytes, scope: SecretScope): LiveSession {
    return new LiveSession(row, state, scope)
  }

  get state(): SecretBytes {
    return this.#state
  }

  /** Takes over the state that the ratchet gave; the old one is wiped. */
  advance(state: SecretBytes, now: number): void {
    this.#scope.drop(this.#state)
    this.#state = this.#scope.own(state)
    this.touch(now)
  }

  /** Marks the row for writing. The clock may have gone back: the latest time ever seen stays. */
  touch(now: number): void {
    this.row.lastUsedAt = new Date(Math.max(now, this.row.lastUsedAt.getTime()))
    this.#changed = true
  }

  async save(context: Context, tx: Tx, store: SessionStore): Promise<void> {
    if (!this.#changed) return
    await store.save(context, tx, this.row, this.#state)
    this.row.version += 1
    this.#changed = false
  }
}

/**
 * What a batch of opened messages says about the understanding with their peer: kept in memory while the batch runs,
 * written once at its end when it has changed.
 * @see docs/spec/custody.md §7.1
 */
import type { ErrorCode } from '@tallystick/contracts/codes'
import type { Context } from '../context.js'
import type { Tx } from '../db.js'
import { saveRecovery, type SessionPeer } from '../sessions/session-peer.js'
import type { SessionRow } from '../sessions/sessions.store.js'
import { counts, failed, type Recovery, succeeded, wasOnItsWay } from './recovery-state.js'

export class Understanding {
  readonly #context: Context
  readonly #tx: Tx
  readonly #fleetId: string
  #saved: Recovery
  #recovery: Recovery

  constructor(context: Context, tx: Tx, { fleetId, recovery }: SessionPeer) {
    this.#context = context
    this.#tx = tx
    this.#fleetId = fleetId
    this.#saved = this.#recovery = recovery
  }

  get recovery(): Recovery {
    return this.#recovery
  }

  /** Somebody else has written the row already. */
  wasSaved(recovery: Recovery): void {
    this.#saved = this.#recovery = recovery
  }

  /** @param epoch of the envelope; undefined when it has none that can be read */
  async failed(code: ErrorCode, epoch: number | undefined): Promise<void> {
    if (!counts(code)) return
    const { clock, limits, log } = this.#context
    const now = clock.now()
    const before = this.#recovery
    // Only after a new session has begun lately does the present epoch matter.
    if (epoch !== undefined && before.sentAt !== null && wasOnItsWay(before, epoch, await this.#presentEpoch(), now, limits)) return
    this.#recovery = failed(before, now, limits)
    if (this.#recovery.state !== before.state)
      log.warn({ peer: this.#fleetId, from: before.state, to: this.#recovery.state, code }, 'the understanding with a peer has changed')
  }

  /**
   * A message opened in a session that was there before.
   * @param continued its handshake named an exporter; undefined when there is no handshake at hand any more
   */
  async opened(row: SessionRow, continued: boolean | undefined): Promise<void> {
    const before = this.#recovery
    if (before.state === 'ok') return
    const newest = before.state === 'resync_sent' && !row.lost && row.epoch >= (await this.#presentEpoch())
    this.#recovery = succeeded(before, newest)
    if (before.state !== 'resync_sent' || this.#recovery.state !== 'ok') return
    await this.#context.audit.record(this.#tx, 'ResyncCompleted', {
      peer: this.#fleetId,
      epoch: row.epoch,
      continuity: continued === true ? 'kept' : 'lost',
    })
    this.#context.metrics.resyncs.inc({ event: 'completed' })
  }

  async save(): Promise<void> {
    if (this.#recovery === this.#saved) return
    await saveRecovery(this.#tx, this.#fleetId, this.#recovery)
    this.#saved = this.#recovery
  }

  async #presentEpoch(): Promise<number> {
    const active = await this.#tx.session.findFirst({ where: { fleetId: this.#fleetId, active: true }, select: { epoch: true } })
    return active?.epoch ?? 0
  }
}

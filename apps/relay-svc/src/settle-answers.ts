/** What the peer's relay has answered, into the outbound table. */
import type { ErrorCode } from '@tallystick/contracts/codes'
import { backoffMs } from './backoff.js'
import { decodeHopReceipt, type Frame } from './frames.js'
import type { Limits } from './limits.js'
import type { RelayMetrics } from './metrics.js'
import { hex } from './octets.js'
import type { OutboundStore } from './outbound.store.js'

/** An envelope that has been sent and not been answered. */
export interface InFlight {
  readonly id: bigint
  readonly messageId: string
  readonly digest: Uint8Array
  readonly size: number
  readonly sentAt: number
}

export interface Answer {
  readonly item: InFlight
  /** A receipt or a refusal. */
  readonly frame: Frame
}

export interface WaitingReport {
  readonly messageId: string
  readonly code: ErrorCode
  readonly cause: string
  readonly attempts: number
  readonly nextAttemptAt: number
}

export interface SettleDeps {
  readonly outbound: OutboundStore
  readonly clock: { now(): number }
  readonly metrics: RelayMetrics
  readonly limits: Limits
  readonly random: () => number
  readonly log: { error(fields: object, text: string): void }
  reportWaiting(items: readonly WaitingReport[]): Promise<void>
}

/** Longest pause that a peer can ask for, ms. */
export const ASKED_AT_MOST_MS = 3_600_000

export interface Settled {
  readonly stored: number
  /** The peer itself asks for a pause, ms: it is over a rate, full, or not ready. */
  readonly askedMs: number | undefined
}

/**
 * @returns how many of them the peer has stored, and whether it wants less
 * @throws Error when the database is away; then nothing is lost: what is not settled is sent again, and the receiver
 *   answers a duplicate with the same receipt
 */
export async function settleAnswers(deps: SettleDeps, fleetId: string, answers: readonly Answer[]): Promise<Settled> {
  const { outbound, clock, metrics, limits, random, log } = deps
  const stored: { id: bigint; receipt: Uint8Array<ArrayBuffer>; at: number }[] = []
  const waiting: WaitingReport[] = []
  let askedMs: number | undefined
  try {
    for (const { item, frame } of answers) {
      const { header } = frame
      if (header.t === 'receipt' && isReceiptFor(frame.body, item.digest)) {
        metrics.hopSeconds.observe((performance.now() - item.sentAt) / 1000)
        metrics.envelopes.inc({ direction: 'out', outcome: header.status })
        stored.push({ id: item.id, receipt: frame.body, at: clock.now() })
        continue
      }
      metrics.envelopes.inc({ direction: 'out', outcome: 'refused' })
      if (header.t !== 'refusal') {
        waiting.push(
          ...(await putBack(deps, item, 'Serialization', "the peer's relay sent a receipt for other bytes", limits.backoffMaxMs)),
        )
      } else if (header.retryAfterMs === null) {
        await outbound.settleRefused(item.id, header.code, `the peer's relay refused the envelope: ${header.code}`, clock.now())
      } else {
        const least = backoffMs(1, limits.backoffFirstMs, limits.backoffMaxMs, random())
        const delay = Math.max(least, Math.min(header.retryAfterMs, ASKED_AT_MOST_MS))
        askedMs = Math.max(askedMs ?? 0, Math.min(delay, limits.backoffMaxMs))
        waiting.push(...(await putBack(deps, item, header.code, `the peer's relay asks to wait: ${header.code}`, delay)))
      }
    }
    await outbound.settleStored(stored)
  } catch (err) {
    log.error({ err, peer: fleetId, count: answers.length }, 'receipts not stored')
    throw err
  }
  if (waiting.length > 0) void deps.reportWaiting(waiting)
  return { stored: stored.length, askedMs }
}

/** Put one envelope back with a pause of its own, and say so. */
export async function postpone(deps: SettleDeps, item: InFlight, code: ErrorCode, cause: string, delayMs: number): Promise<void> {
  const waiting = await putBack(deps, item, code, cause, delayMs)
  if (waiting.length > 0) void deps.reportWaiting(waiting)
}

async function putBack(deps: SettleDeps, item: InFlight, code: ErrorCode, cause: string, delayMs: number): Promise<WaitingReport[]> {
  const row = await deps.outbound.postpone(item.id, code, cause, delayMs)
  if (row === undefined) return []
  const nextAttemptAt = Math.round(deps.clock.now() + delayMs)
  return [{ messageId: row.messageId, code, cause: cause.slice(0, 300), attempts: row.attempts, nextAttemptAt }]
}

function isReceiptFor(receipt: Uint8Array, digest: Uint8Array): boolean {
  try {
    return hex(decodeHopReceipt(receipt).digest) === hex(digest)
  } catch (error) {
    if (error instanceof Error) return false
    throw error
  }
}

/**
 * Everything that goes out to one peer: one loop that holds the peer's lease, keeps one stream, fills its window from
 * the queue in the database, and settles what comes back. The queue is the truth; what is in flight when a stream or
 * the process dies is still queued.
 * @see docs/spec/relay.md §5
 */
import type { ErrorCode } from '@tallystick/contracts/codes'
import type { Breaker } from '@tallystick/nats-rpc/breaker'
import type { AllowList } from './allow-list.js'
import { backoffMs } from './backoff.js'
import { causeOf, codeOf, DialFailure, retryOf } from './dial-failure.js'
import type { Frame } from './frames.js'
import type { Limits } from './limits.js'
import type { LinkEnd } from './link.js'
import type { RelayMetrics } from './metrics.js'
import type { RelayNode } from './node.js'
import type { OutboundStore } from './outbound.store.js'
import { openPeerLink, type PeerLink } from './peer-link.js'
import type { PeersStore } from './peers.store.js'
import { ASKED_AT_MOST_MS, postpone, settleAnswers, type Answer, type InFlight, type WaitingReport } from './settle-answers.js'
import { detached, Wake } from './wake.js'
import type { WireTap } from './wire-tap.js'

export interface SenderDeps {
  readonly node: RelayNode
  readonly limits: Limits
  readonly allowList: AllowList
  readonly peers: PeersStore
  readonly outbound: OutboundStore
  readonly metrics: RelayMetrics
  readonly tap: WireTap
  readonly clock: { now(): number }
  readonly log: {
    info(fields: object, text: string): void
    warn(fields: object, text: string): void
    error(fields: object, text: string): void
  }
  /** Names this replica in leases; the same after a restart, so that it takes its own leases back at once. */
  readonly owner: string
  readonly random: () => number
  breakerFor(fleetId: string): Breaker
  /** Some messages are settled for good. */
  onSettled(): void
  /** Best effort: these messages wait, and why. */
  reportWaiting(items: readonly WaitingReport[]): Promise<void>
}

export type BundleAnswer =
  { ok: true; bundle: Uint8Array<ArrayBuffer> } | { ok: false; code: ErrorCode; message: string; retryAfterMs?: number }

interface Trouble {
  readonly code: ErrorCode
  readonly cause: string
}

/** Waiting messages that get a report of their own when a peer is away; the others follow when they are looked at. */
const REPORTED_WAITING = 256
const DRAIN_POLL_MS = 20
/** For people: why messages to a removed peer end. */
export const PEER_REMOVED = 'the peer was removed here'

export class PeerSender {
  readonly fleetId: string
  readonly #deps: SenderDeps
  readonly #breaker: Breaker
  readonly #wake = new Wake()
  readonly #inFlight = new Map<number, InFlight>()
  readonly #bundles = new Map<number, (answer: BundleAnswer) => void>()
  #answers: Answer[] = []
  #link: PeerLink | undefined
  #opening: Promise<PeerLink> | undefined
  #seq = 0
  #failures = 0
  #notBefore = 0
  /** The peer answers, and has asked for a pause. */
  #heldUntil = 0
  #trouble: Trouble | undefined
  #ended: LinkEnd | undefined
  #lost: InFlight[] = []
  /**
   * Envelopes in flight at one time, besides the window: halved when a stream dies with some in flight, doubled when
   * they arrive. A bad line carries what it can, and an envelope that kills every stream ends up alone and is found.
   */
  #allowance = Infinity
  #heardAt = 0
  #leasedAt = -Infinity
  #stopped = false
  readonly #stopping = new AbortController()
  readonly #running: Promise<void>

  constructor(deps: SenderDeps, fleetId: string) {
    this.#deps = deps
    this.fleetId = fleetId
    this.#breaker = deps.breakerFor(fleetId)
    this.#running = detached(() => this.#run())
  }

  get transport(): 'tcp' | 'quic' | null {
    return this.#link?.link.open === true ? this.#link.transport : null
  }

  get trouble(): Trouble | undefined {
    return this.#trouble
  }

  wake(): void {
    this.#wake.wake()
  }

  /** The peer has just connected to us, or its addresses are new: what made it unreachable is gone. */
  reachable(): void {
    this.#failures = 0
    this.#notBefore = 0
    this.#heldUntil = 0
    if (this.#breaker.state === 'open') this.#breaker.probeNow()
    this.#wake.wake()
  }

  /** Connect once, with nothing to send: a peer that waits for us learns that we are here. Failures stay silent. */
  async announce(): Promise<void> {
    if (this.#deps.allowList.fleet(this.fleetId)?.state !== 'allowed') return
    try {
      await detached(() => this.#open())
    } catch (error) {
      this.#deps.log.info({ peer: this.fleetId, code: codeOf(error), reason: causeOf(error) }, 'peer not reached')
    }
  }

  async requestBundle(): Promise<BundleAnswer> {
    const { bundleTimeoutMs, backoffFirstMs } = this.#deps.limits
    const seq = this.#nextSeq()
    const failed = (message: string, code: ErrorCode = 'Network', retryAfterMs = backoffFirstMs): BundleAnswer => ({
      ok: false,
      code,
      message,
      retryAfterMs,
    })
    const answered = new Promise<BundleAnswer>((resolve) => this.#bundles.set(seq, resolve))
    const timer = setTimeout(() => this.#bundles.get(seq)?.(failed('the peer did not answer in time')), bundleTimeoutMs)
    const asked = detached(() => this.#open()).then(
      (peer) => peer.link.send({ t: 'bundle-request', seq }).catch((error: unknown) => this.#bundles.get(seq)?.(failed(causeOf(error)))),
      async (error: unknown) => {
        await this.#failed(codeOf(error), causeOf(error), retryOf(error))
        this.#bundles.get(seq)?.(failed(causeOf(error), codeOf(error), Math.max(0, Math.ceil(this.#notBefore - performance.now()))))
      },
    )
    try {
      return await Promise.race([answered, asked.then(() => answered)])
    } finally {
      clearTimeout(timer)
      this.#bundles.delete(seq)
    }
  }

  /** Give the receipts of what is in flight `graceMs` to arrive, then end. */
  async stop(graceMs: number): Promise<void> {
    this.#stopped = true
    this.#stopping.abort()
    this.#wake.wake()
    await this.#running
    const deadline = performance.now() + graceMs
    while (this.#inFlight.size > 0 && this.#link?.link.open === true && performance.now() < deadline)
      await new Promise((resolve) => setTimeout(resolve, DRAIN_POLL_MS))
    await this.#settle().catch((err: unknown) => this.#deps.log.warn({ err, peer: this.fleetId }, 'last receipts not stored'))
    this.#link?.link.finish()
    this.#breaker.shutdown()
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      try {
        await this.#cycle()
      } catch (err) {
        this.#deps.log.error({ err, peer: this.fleetId }, 'sending is held up')
        await this.#wake.wait(this.#deps.limits.pollMs)
      }
    }
  }

  async #cycle(): Promise<void> {
    const { limits, outbound, allowList } = this.#deps
    await this.#settle()
    await this.#afterEnd()
    const state = allowList.fleet(this.fleetId)?.state
    if (state === 'removed') await this.#refuseAll()
    if (state !== 'allowed') return this.#wake.wait()
    const dueIn = await outbound.dueInMs(this.fleetId)
    if (this.#inFlight.size === 0 && dueIn !== 0) return this.#wake.wait(dueIn)
    const pause = this.#notBefore - performance.now()
    if (pause > 0 && this.#link === undefined) {
      await this.#reportWaiting()
      return this.#wake.wait(pause)
    }
    if (!(await this.#lease())) return this.#wake.wait(limits.leaseMs / 2)
    let peer: PeerLink
    try {
      peer = await this.#open()
    } catch (error) {
      return this.#failed(codeOf(error), causeOf(error), retryOf(error))
    }
    const held = this.#heldUntil - performance.now()
    if (held <= 0 && (await this.#fill(peer))) return
    const quietFor = performance.now() - this.#heardAt
    if (this.#inFlight.size > 0 && quietFor > limits.receiptTimeoutMs) return peer.link.close('ReadTimeout', 'no receipt in time')
    const wait = this.#inFlight.size > 0 ? Math.min(limits.leaseMs / 3, Math.max(1, limits.receiptTimeoutMs - quietFor)) : limits.pollMs
    await this.#wake.wait(held > 0 ? Math.min(held, wait) : wait)
  }

  /** What another replica accepted while the peer was being removed, or a crash left behind, ends like the rest. */
  async #refuseAll(): Promise<void> {
    const { outbound, clock, onSettled } = this.#deps
    if ((await outbound.refuseAll(this.fleetId, 'UnauthorizedPeer', PEER_REMOVED, clock.now())) > 0) onSettled()
  }

  /** @returns whether anything was sent: then there may be more */
  async #fill(peer: PeerLink): Promise<boolean> {
    const { outbound, tap, clock } = this.#deps
    const held = [...this.#inFlight.values()]
    const alone = held.length === 0
    const bytes = peer.window.bytes - held.reduce((sum, item) => sum + item.size, 0)
    const frames = Math.min(this.#allowance, peer.window.frames) - held.length
    if (frames <= 0 || (bytes <= 0 && !alone)) return false
    // What has been answered but not settled is still queued in the database: not again.
    const skip = [...held, ...this.#answers.map((answer) => answer.item)].map((item) => item.id)
    // An envelope above the whole window is tried alone: only the peer can say what it takes.
    const due = await outbound.due(this.fleetId, skip, { frames, bytes, atLeastOne: alone })
    if (alone) this.#heardAt = performance.now()
    for (const item of due) {
      if (!peer.link.open) return true
      const seq = this.#nextSeq()
      this.#inFlight.set(seq, {
        id: item.id,
        messageId: item.messageId,
        digest: item.digest,
        size: item.envelope.length,
        sentAt: performance.now(),
      })
      tap.record('out', this.fleetId, item.digest, clock.now())
      try {
        await peer.link.send({ t: 'envelope', seq }, item.envelope, this.#stopping.signal)
      } catch (error) {
        peer.link.close('Network', causeOf(error))
        return true
      }
    }
    return due.length > 0
  }

  #frame(frame: Frame): void {
    const { header } = frame
    this.#heardAt = performance.now()
    if (header.t === 'receipt' || header.t === 'refusal') {
      const item = this.#inFlight.get(header.seq)
      if (item !== undefined) {
        this.#inFlight.delete(header.seq)
        this.#answers.push({ item, frame })
        return this.#wake.wake()
      }
      if (header.t === 'refusal') {
        return this.#bundles.get(header.seq)?.({
          ok: false,
          code: header.code,
          message: `the peer gives no bundle: ${header.code}`,
          ...(header.retryAfterMs === null ? {} : { retryAfterMs: Math.min(header.retryAfterMs, ASKED_AT_MOST_MS) }),
        })
      }
      return
    }
    if (header.t === 'bundle') return this.#bundles.get(header.seq)?.({ ok: true, bundle: frame.body })
    this.#link?.link.close('Serialization', `unexpected frame: ${header.t}`)
  }

  async #settle(): Promise<void> {
    const answers = this.#answers
    if (answers.length === 0) return
    this.#answers = []
    const { stored, askedMs } = await settleAnswers(this.#deps, this.fleetId, answers)
    // A peer that asks one envelope to wait would ask all of them: no use in offering it the whole queue.
    if (askedMs !== undefined) {
      this.#heldUntil = performance.now() + askedMs
      this.#allowance = Math.max(1, stored)
    } else if (stored > 0) this.#allowance *= 2
    if (stored > 0) await this.#reached()
    this.#deps.onSettled()
  }

  /** The stream has ended. With envelopes in flight that is a failure; an idle close is not. */
  async #afterEnd(): Promise<void> {
    const end = this.#ended
    if (end === undefined) return
    const lost = this.#lost
    this.#ended = undefined
    this.#lost = []
    if (lost.length === 0) return
    const cause = end.byPeer ? `the connection to the peer broke: ${end.reason}` : `this relay closed the connection: ${end.reason}`
    const blameable = end.byPeer && (end.code === 'QuotaExceeded' || end.code === 'Serialization')
    if (blameable && lost.length === 1) {
      const row = lost[0]!
      await postpone(
        this.#deps,
        row,
        end.code ?? 'Network',
        cause,
        backoffMs(this.#failures + 3, this.#deps.limits.backoffFirstMs, this.#deps.limits.backoffMaxMs, this.#deps.random()),
      )
    }
    this.#allowance = Math.max(1, Math.floor(Math.min(this.#allowance, lost.length) / 2))
    await this.#failed(end.code ?? 'Network', cause, end.retryAfterMs ?? undefined)
  }

  async #open(): Promise<PeerLink> {
    if (this.#link?.link.open === true) return this.#link
    const peer = this.#deps.allowList.fleet(this.fleetId)
    if (peer?.state !== 'allowed') throw new DialFailure('UnauthorizedPeer', 'the peer is not on the allow-list')
    this.#opening ??= openPeerLink(
      { node: this.#deps.node, limits: this.#deps.limits, breaker: this.#breaker, signal: this.#stopping.signal },
      peer,
      (frame) => this.#frame(frame),
    ).finally(() => {
      this.#opening = undefined
    })
    const opened = await this.#opening
    if (this.#link !== opened) {
      this.#link = opened
      void opened.link.closed.then((end) => this.#onEnd(opened, end))
      await this.#reached()
    }
    return opened
  }

  #onEnd(link: PeerLink, end: LinkEnd): void {
    if (this.#link !== link) return
    this.#link = undefined
    this.#ended = end
    this.#lost.push(...this.#inFlight.values())
    this.#inFlight.clear()
    for (const answer of [...this.#bundles.values()])
      answer({
        ok: false,
        code: 'Network',
        message: `the connection to the peer broke: ${end.reason}`,
        retryAfterMs: this.#deps.limits.backoffFirstMs,
      })
    this.#wake.wake()
  }

  async #reached(): Promise<void> {
    this.#failures = 0
    this.#notBefore = 0
    this.#trouble = undefined
    await this.#deps.peers.noteReached(this.fleetId)
  }

  async #failed(code: ErrorCode, cause: string, retryAfterMs?: number): Promise<void> {
    const { limits, random, clock, peers, log } = this.#deps
    this.#failures += 1
    // An open circuit says nothing new: the cause is what opened it.
    if (code !== 'CircuitBreakerOpen' || this.#trouble === undefined) this.#trouble = { code, cause: cause.slice(0, 300) }
    const probeIn = this.#breaker.nextProbeAt === undefined ? 0 : this.#breaker.nextProbeAt - Date.now()
    // A peer may ask for a pause, not for silence: it is looked for again as often as one that is away.
    const asked = Math.min(retryAfterMs ?? 0, limits.backoffMaxMs)
    const delay = Math.max(backoffMs(this.#failures, limits.backoffFirstMs, limits.backoffMaxMs, random()), asked, probeIn)
    this.#notBefore = performance.now() + delay
    log.info(
      { peer: this.fleetId, code: this.#trouble.code, reason: this.#trouble.cause, attempts: this.#failures, retryAfterMs: delay },
      'peer not reached',
    )
    await peers.noteFailure(this.fleetId, { ...this.#trouble, failures: this.#failures, nextAttemptAt: new Date(clock.now() + delay) })
    await this.#reportWaiting()
  }

  async #reportWaiting(): Promise<void> {
    const { clock, outbound, reportWaiting } = this.#deps
    const trouble = this.#trouble
    if (trouble === undefined) return
    const nextAttemptAt = Math.round(clock.now() + Math.max(0, this.#notBefore - performance.now()))
    const waiting = await outbound.waiting(this.fleetId, REPORTED_WAITING)
    // Not awaited: invoice-svc being slow must not delay the next attempt.
    if (waiting.length > 0)
      void reportWaiting(waiting.map((item) => ({ ...item, ...trouble, attempts: Math.max(item.attempts, this.#failures), nextAttemptAt })))
  }

  async #lease(): Promise<boolean> {
    const { limits, peers, owner } = this.#deps
    if (performance.now() - this.#leasedAt < limits.leaseMs / 3) return true
    const at = performance.now()
    if (!(await peers.lease(this.fleetId, owner, limits.leaseMs))) return false
    this.#leasedAt = at
    return true
  }

  #nextSeq(): number {
    this.#seq = (this.#seq + 1) >>> 0
    return this.#seq
  }
}

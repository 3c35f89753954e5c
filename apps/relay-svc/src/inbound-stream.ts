/**
 * The receiving side of a relay stream. An envelope is checked against the peer's quotas, stored, and only then
 * acknowledged; its bytes are never looked at beyond their digest.
 * @see docs/spec/relay.md §4
 */
import type { Stream } from '@libp2p/interface'
import type { ErrorCode } from '@tallystick/contracts/codes'
import { sessionTakeBundle } from '@tallystick/contracts/session'
import type { ServiceClient } from '@tallystick/nats-rpc/client'
import { RpcFault } from '@tallystick/nats-rpc/fault'
import { createHash } from 'node:crypto'
import type { AllowList } from './allow-list.js'
import { encodeHopReceipt, FRAME_VERSION, type Frame } from './frames.js'
import type { InboundEnvelope, InboundStore } from './inbound.store.js'
import type { Limits } from './limits.js'
import { FrameLink, type LinkEnd } from './link.js'
import type { RelayMetrics } from './metrics.js'
import { hex } from './octets.js'
import type { PeerQuotas } from './peer-quota.js'
import type { SecurityEvents } from './security-events.js'
import type { WireTap } from './wire-tap.js'

export interface InboundDeps {
  readonly limits: Limits
  readonly allowList: AllowList
  readonly store: InboundStore
  readonly quotas: PeerQuotas
  readonly metrics: RelayMetrics
  readonly security: Pick<SecurityEvents, 'rateLimited'>
  readonly rpc: Pick<ServiceClient, 'call'>
  readonly tap: WireTap
  readonly clock: { now(): number }
  readonly log: { warn(fields: object, text: string): void; debug(fields: object, text: string): void }
  /** Something new waits for delivery. */
  onStored(): void
}

/** What a peer is told to wait when the database is away, ms. */
const NOT_READY_RETRY_MS = 1_000
/** What a peer is told to wait when its queue here is full, ms. */
const QUEUE_FULL_RETRY_MS = 5_000

interface Waiting {
  readonly seq: number
  readonly envelope: Uint8Array
  readonly digest: Uint8Array
}

export class InboundStream {
  readonly #deps: InboundDeps
  readonly #fleetId: string
  readonly #peerId: string
  readonly #link: FrameLink
  #greeted = false
  readonly #greeting: NodeJS.Timeout
  #waiting: Waiting[] = []
  #heldBytes = 0
  #heldFrames = 0
  #working = false

  constructor(deps: InboundDeps, fleetId: string, peerId: string, stream: Stream) {
    this.#deps = deps
    this.#fleetId = fleetId
    this.#peerId = peerId
    this.#link = new FrameLink(stream, deps.limits, (frame) => this.#frame(frame))
    this.#greeting = setTimeout(() => this.#link.close('HandshakeTimeout', 'no hello'), deps.limits.helloTimeoutMs)
    this.#greeting.unref()
    void this.closed.then((end) => {
      clearTimeout(this.#greeting)
      this.#waiting = []
      if (end.code !== null && !end.byPeer) {
        deps.metrics.streamsCut.inc({ code: end.code })
        // A peer with nothing to say is the normal case, and ends every quiet stream.
        deps.log[end.code === 'IdleTimeout' ? 'debug' : 'warn'](
          { peer: fleetId, code: end.code, reason: end.reason },
          'stream of a peer closed for cause',
        )
      }
    })
  }

  get closed(): Promise<LinkEnd> {
    return this.#link.closed
  }

  finish(): void {
    this.#link.finish()
  }

  #frame(frame: Frame): void {
    const { header } = frame
    if (!this.#greeted) {
      if (header.t !== 'hello') return this.#link.close('Serialization', 'the first frame is not a hello')
      if (header.v !== FRAME_VERSION) return this.#link.close('UnsupportedVersion', `version ${header.v}`)
      this.#greeted = true
      clearTimeout(this.#greeting)
      const { windowBytes, windowFrames } = this.#deps.limits
      return this.#send({ t: 'hello', v: FRAME_VERSION, bytes: windowBytes, frames: windowFrames })
    }
    if (header.t === 'envelope') return this.#envelope(header.seq, frame.body)
    if (header.t === 'bundle-request') return void this.#bundle(header.seq)
    this.#link.close('Serialization', `unexpected frame: ${header.t}`)
  }

  #envelope(seq: number, envelope: Uint8Array): void {
    const { limits } = this.#deps
    if (envelope.length === 0) return this.#send({ t: 'refusal', seq, code: 'Serialization', retryAfterMs: null })
    this.#heldBytes += envelope.length
    this.#heldFrames += 1
    // The sender knows the window from our hello: more than that is not a slow reader's fault.
    if (this.#heldBytes > limits.windowBytes || this.#heldFrames > limits.windowFrames)
      return this.#link.close('QuotaExceeded', 'more unacknowledged envelopes than the window allows')
    this.#waiting.push({ seq, envelope, digest: createHash('sha256').update(envelope).digest() })
    if (!this.#working) void this.#work()
  }

  /** One batch at a time: what arrives while one is being stored forms the next. */
  async #work(): Promise<void> {
    this.#working = true
    while (this.#waiting.length > 0 && this.#link.open) {
      const batch = this.#waiting
      this.#waiting = []
      if (this.#deps.allowList.stateOf(this.#peerId) !== 'allowed') {
        this.#link.close('UnauthorizedPeer', 'the peer is not allowed')
        break
      }
      try {
        await this.#store(batch)
      } catch (err) {
        this.#deps.log.warn({ err, peer: this.#fleetId, count: batch.length }, 'envelopes not stored, the peer is asked to send them again')
        for (const item of batch) this.#send({ t: 'refusal', seq: item.seq, code: 'NotReady', retryAfterMs: NOT_READY_RETRY_MS })
      }
      for (const item of batch) {
        this.#heldBytes -= item.envelope.length
        this.#heldFrames -= 1
      }
    }
    this.#working = false
  }

  async #store(batch: readonly Waiting[]): Promise<void> {
    const { store, quotas, limits, clock, tap } = this.#deps
    const now = performance.now()
    const receivedAt = clock.now()
    const within: Waiting[] = []
    for (const item of batch) {
      tap.record('in', this.#fleetId, item.digest, receivedAt)
      const verdict = quotas.envelope(this.#fleetId, item.envelope.length, now)
      if (verdict.ok) within.push(item)
      else this.#refuse(item.seq, verdict.layer, verdict.limit, 'RateLimited', verdict.retryAfterMs)
    }
    if (within.length === 0) return
    let room = limits.inboundQueueBytesPerPeer - (await store.queuedBytes(this.#fleetId))
    const known =
      room >= within.reduce((sum, item) => sum + item.envelope.length, 0)
        ? new Map<string, Uint8Array>()
        : await store.receipts(
            this.#fleetId,
            within.map((item) => item.digest),
          )
    const fresh = new Map<string, InboundEnvelope>()
    const full: Waiting[] = []
    for (const item of within) {
      const key = hex(item.digest)
      if (known.has(key) || fresh.has(key)) continue
      if (item.envelope.length > room) {
        full.push(item)
        continue
      }
      room -= item.envelope.length
      fresh.set(key, {
        digest: item.digest,
        envelope: item.envelope,
        receipt: encodeHopReceipt({ digest: item.digest, receivedAt }),
        receivedAt,
      })
    }
    const stored =
      fresh.size === 0
        ? new Map<string, { receipt: Uint8Array; duplicate: boolean }>()
        : await store.store(this.#fleetId, [...fresh.values()])
    for (const [key, receipt] of known) stored.set(key, { receipt, duplicate: true })
    const answered = new Set<string>()
    for (const item of within) {
      const key = hex(item.digest)
      const row = stored.get(key)
      if (row === undefined) {
        if (full.includes(item)) this.#refuse(item.seq, 'peer-bytes', 'inboundQueueBytesPerPeer', 'QuotaExceeded', QUEUE_FULL_RETRY_MS)
        else this.#send({ t: 'refusal', seq: item.seq, code: 'NotReady', retryAfterMs: NOT_READY_RETRY_MS }) // pruned between the two statements
        continue
      }
      const duplicate = row.duplicate || answered.has(key)
      answered.add(key)
      this.#deps.metrics.envelopes.inc({ direction: 'in', outcome: duplicate ? 'duplicate' : 'stored' })
      this.#send({ t: 'receipt', seq: item.seq, status: duplicate ? 'duplicate' : 'stored' }, row.receipt)
    }
    if ([...stored.values()].some((row) => !row.duplicate)) this.#deps.onStored()
  }

  #refuse(seq: number, layer: 'peer-messages' | 'peer-bytes' | 'bundle', limit: string, code: ErrorCode, retryAfterMs: number): void {
    this.#deps.metrics.rateLimited.inc({ layer })
    this.#deps.metrics.envelopes.inc({ direction: 'in', outcome: 'refused' })
    this.#deps.security.rateLimited(layer, limit, this.#fleetId)
    this.#send({ t: 'refusal', seq, code, retryAfterMs })
  }

  async #bundle(seq: number): Promise<void> {
    const verdict = this.#deps.quotas.bundle(this.#fleetId, performance.now())
    if (!verdict.ok) return this.#refuse(seq, verdict.layer, verdict.limit, 'RateLimited', verdict.retryAfterMs)
    try {
      const answer = await this.#deps.rpc.call(sessionTakeBundle, { forFleetId: this.#fleetId })
      if (answer.ok) return this.#send({ t: 'bundle', seq }, answer.bundle)
      this.#send({ t: 'refusal', seq, code: answer.code, retryAfterMs: answer.retryAfterMs ?? null })
    } catch (err) {
      this.#deps.log.warn({ err, peer: this.#fleetId }, 'no bundle for a peer')
      const retryAfterMs = err instanceof RpcFault ? (err.retryAfterMs ?? NOT_READY_RETRY_MS) : NOT_READY_RETRY_MS
      this.#send({ t: 'refusal', seq, code: 'NotReady', retryAfterMs })
    }
  }

  /** An answer that cannot be sent is not an error here: the sender asks again and gets the same. */
  #send(...frame: Parameters<FrameLink['send']>): void {
    // The window bounds what we hold of the peer's bytes, not what it makes us say: a refusal costs it no place there.
    if (this.#link.unsentBytes > this.#deps.limits.unreadAnswerBytes)
      return this.#link.close('QuotaExceeded', 'the peer does not read its answers')
    this.#link.send(...frame).catch((err: unknown) => this.#deps.log.debug({ err, peer: this.#fleetId }, 'answer not sent'))
  }
}

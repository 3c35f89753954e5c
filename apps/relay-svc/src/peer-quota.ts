/**
 * Rates of one allowed peer: envelopes, bytes, bundles and certificates a minute, as token buckets. Kept in memory, one set per
 * replica: with N replicas a peer that spreads its connections gets up to N times the rate.
 */
import type { Limits } from './limits.js'

const MINUTE = 60_000

class TokenBucket {
  #tokens: number
  #at: number
  readonly #capacity: number

  constructor(capacity: number, now: number) {
    this.#capacity = capacity
    this.#tokens = capacity
    this.#at = now
  }

  /** @returns 0 when taken, else the milliseconds until there would be enough. A cost above the capacity empties a full bucket. */
  take(cost: number, now: number): number {
    this.#tokens = Math.min(this.#capacity, this.#tokens + ((now - this.#at) / MINUTE) * this.#capacity)
    this.#at = now
    const needed = Math.min(cost, this.#capacity)
    if (this.#tokens < needed) return Math.max(1, Math.ceil(((needed - this.#tokens) / this.#capacity) * MINUTE))
    this.#tokens -= needed
    return 0
  }

  give(cost: number): void {
    this.#tokens = Math.min(this.#capacity, this.#tokens + cost)
  }
}

export type QuotaLayer = 'peer-messages' | 'peer-bytes' | 'bundle'
export type QuotaVerdict = { ok: true } | { ok: false; layer: QuotaLayer; limit: string; retryAfterMs: number }

type QuotaLimits = Pick<Limits, 'peerMessagesPerMinute' | 'peerBytesPerMinute' | 'peerBundlesPerMinute' | 'peerCertificatesPerMinute'>

export class PeerQuotas {
  readonly #limits: QuotaLimits
  readonly #peers = new Map<string, { messages: TokenBucket; bytes: TokenBucket; bundles: TokenBucket; certificates: TokenBucket }>()

  constructor(limits: QuotaLimits) {
    this.#limits = limits
  }

  /** @param now milliseconds of a monotonic clock */
  envelope(fleetId: string, bytes: number, now: number): QuotaVerdict {
    const peer = this.#of(fleetId, now)
    const messages = peer.messages.take(1, now)
    if (messages > 0) return { ok: false, layer: 'peer-messages', limit: 'peerMessagesPerMinute', retryAfterMs: messages }
    const volume = peer.bytes.take(bytes, now)
    if (volume === 0) return { ok: true }
    peer.messages.give(1)
    return { ok: false, layer: 'peer-bytes', limit: 'peerBytesPerMinute', retryAfterMs: volume }
  }

  bundle(fleetId: string, now: number): QuotaVerdict {
    const wait = this.#of(fleetId, now).bundles.take(1, now)
    return wait === 0 ? { ok: true } : { ok: false, layer: 'bundle', limit: 'peerBundlesPerMinute', retryAfterMs: wait }
  }

  certificate(fleetId: string, now: number): QuotaVerdict {
    const wait = this.#of(fleetId, now).certificates.take(1, now)
    return wait === 0 ? { ok: true } : { ok: false, layer: 'peer-messages', limit: 'peerCertificatesPerMinute', retryAfterMs: wait }
  }

  /** A peer that is no longer allowed: bounded by the allow-list, not by whoever has ever connected. */
  forget(fleetId: string): void {
    this.#peers.delete(fleetId)
  }

  #of(fleetId: string, now: number) {
    let peer = this.#peers.get(fleetId)
    if (peer === undefined) {
      peer = {
        messages: new TokenBucket(this.#limits.peerMessagesPerMinute, now),
        bytes: new TokenBucket(this.#limits.peerBytesPerMinute, now),
        bundles: new TokenBucket(this.#limits.peerBundlesPerMinute, now),
        certificates: new TokenBucket(this.#limits.peerCertificatesPerMinute, now),
      }
      this.#peers.set(fleetId, peer)
    }
    return peer
  }
}

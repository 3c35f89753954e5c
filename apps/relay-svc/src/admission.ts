/**
 * Admission of handshakes, before anything is known of a connection but its address.
 *
 * The PeerId is proved by the handshake, so a limit in front of the handshake can only look at addresses. Three rules
 * keep hostile ones from locking out an allowed peer:
 * 1. A handshake that proves an allowed PeerId gives its places back. Only what failed, or is under way, counts.
 * 2. An address that an allowed peer has used or announces (a *known* address) is outside the cap for unknown ones.
 * 3. A known address whose own limit is used up still gets one handshake every `reservedHandshakeIntervalMs`.
 * Connections that stand are never counted, and what we dial ourselves is not admission at all.
 * @see docs/spec/relay.md §6
 */
import type { Limits } from './limits.js'

export type AdmissionVerdict =
  | { admitted: true; ticket: HandshakeTicket }
  | { admitted: false; limit: 'handshakesPerAddress' | 'handshakesUnknown' | 'pendingHandshakes' | 'noAddress'; retryAfterMs: number }

export interface HandshakeTicket {
  readonly key: string
  readonly known: boolean
  readonly at: number
  settled: boolean
}

type AdmissionLimits = Pick<
  Limits,
  | 'handshakesPerAddress'
  | 'handshakesUnknown'
  | 'handshakeWindowMs'
  | 'trackedAddresses'
  | 'reservedHandshakeIntervalMs'
  | 'pendingHandshakes'
>

export class HandshakeAdmission {
  readonly #limits: AdmissionLimits
  /** Times of the handshakes that count, by address; insertion order is age order, so that the oldest goes first. */
  readonly #byAddress = new Map<string, number[]>()
  #unknown: number[] = []
  #pendingUnknown = 0
  readonly #lastReserved = new Map<string, number>()
  readonly #isKnown: (key: string) => boolean

  constructor(limits: AdmissionLimits, isKnown: (key: string) => boolean) {
    this.#limits = limits
    this.#isKnown = isKnown
  }

  get tracked(): number {
    return this.#byAddress.size
  }

  get pending(): number {
    return this.#pendingUnknown
  }

  /**
   * @param key address key, undefined when the connection has none
   * @param now milliseconds of a monotonic clock
   */
  admit(key: string | undefined, now: number): AdmissionVerdict {
    if (key === undefined) return { admitted: false, limit: 'noAddress', retryAfterMs: this.#limits.handshakeWindowMs }
    const since = now - this.#limits.handshakeWindowMs
    const known = this.#isKnown(key)
    const times = this.#recent(key, since)
    if (times.length >= this.#limits.handshakesPerAddress) {
      const reservedAt =
        Math.max(this.#lastReserved.get(key) ?? -Infinity, times.at(-1) ?? -Infinity) + this.#limits.reservedHandshakeIntervalMs
      if (!known || now < reservedAt) {
        const windowEnds = (times[0] ?? now) + this.#limits.handshakeWindowMs
        return {
          admitted: false,
          limit: 'handshakesPerAddress',
          retryAfterMs: Math.ceil((known ? Math.min(reservedAt, windowEnds) : windowEnds) - now),
        }
      }
      this.#lastReserved.set(key, now)
      return { admitted: true, ticket: { key, known, at: now, settled: false } }
    }
    if (!known) {
      if (this.#pendingUnknown >= this.#limits.pendingHandshakes)
        return { admitted: false, limit: 'pendingHandshakes', retryAfterMs: 1_000 }
      const alive = this.#unknown.findIndex((at) => at > since)
      this.#unknown = alive < 0 ? [] : alive === 0 ? this.#unknown : this.#unknown.slice(alive)
      if (this.#unknown.length >= this.#limits.handshakesUnknown)
        return {
          admitted: false,
          limit: 'handshakesUnknown',
          retryAfterMs: Math.ceil(this.#unknown[0]! + this.#limits.handshakeWindowMs - now),
        }
      this.#unknown.push(now)
      this.#pendingUnknown += 1
    }
    times.push(now)
    this.#byAddress.delete(key)
    this.#byAddress.set(key, times)
    this.#bound(since)
    return { admitted: true, ticket: { key, known, at: now, settled: false } }
  }

  /** The handshake of `ticket` is over. `authorized`: it proved an allowed PeerId, and counts no more. */
  settle(ticket: HandshakeTicket, authorized: boolean): void {
    if (ticket.settled) return
    ticket.settled = true
    if (!ticket.known) this.#pendingUnknown -= 1
    if (!authorized) return
    const times = this.#byAddress.get(ticket.key)
    if (times !== undefined) {
      const mine = times.indexOf(ticket.at)
      if (mine >= 0) times.splice(mine, 1)
      if (times.length === 0) this.#byAddress.delete(ticket.key)
    }
    if (this.#lastReserved.get(ticket.key) === ticket.at) this.#lastReserved.delete(ticket.key)
    if (ticket.known) return
    const mine = this.#unknown.indexOf(ticket.at)
    if (mine >= 0) this.#unknown.splice(mine, 1)
  }

  #recent(key: string, since: number): number[] {
    const times = this.#byAddress.get(key)
    if (times === undefined) return []
    const recent = times.filter((at) => at > since)
    if (recent.length === 0) {
      this.#byAddress.delete(key)
      this.#lastReserved.delete(key)
      return []
    }
    this.#byAddress.set(key, recent)
    return recent
  }

  /** Forgets what is out of the window, then the oldest: an entry is moved to the end whenever it counts again. */
  #bound(since: number): void {
    for (const [oldest, times] of this.#byAddress) {
      if (this.#byAddress.size <= this.#limits.trackedAddresses && (times.at(-1) ?? -Infinity) > since) return
      this.#byAddress.delete(oldest)
      this.#lastReserved.delete(oldest)
    }
  }
}

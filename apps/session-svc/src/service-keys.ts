/**
 * Public keys of relay-svc and audit-svc, asked until they answer. The circuit breaker opens after five failures in a
 * minute and stays open for two; at a cold start the others are simply not there yet, so this spends at most four
 * attempts a minute on each and gets ahead when one of them shows itself.
 */
import { auditIdentity } from '@tallystick/contracts/audit'
import { relayIdentity } from '@tallystick/contracts/relay'
import type { ServiceClient } from '@tallystick/nats-rpc/client'

const WINDOW_MS = 60_000
/** Pause before attempt 1, 2, 3, 4 within a window. */
const SPACING_MS = [0, 1_200, 3_500, 15_000]

class Attempts {
  #failures: number[] = []

  allowed(now: number, seen: boolean): boolean {
    this.#failures = this.#failures.filter((at) => now - at < WINDOW_MS)
    const spacing = SPACING_MS[this.#failures.length]
    if (spacing === undefined) return false
    return seen || this.#failures.length === 0 || now - this.#failures.at(-1)! >= spacing
  }

  failed(now: number): void {
    this.#failures.push(now)
  }
}

export class ServiceKeySource {
  readonly #rpc: Pick<ServiceClient, 'call'>
  /** Monotonic milliseconds. */
  readonly #now: () => number
  /** False: asking would only count as a failure. */
  readonly #reachable: () => boolean
  readonly #attempts = { relay: new Attempts(), audit: new Attempts() }
  readonly #seen = { relay: false, audit: false }

  constructor(rpc: Pick<ServiceClient, 'call'>, reachable: () => boolean, now: () => number = () => performance.now()) {
    this.#rpc = rpc
    this.#reachable = reachable
    this.#now = now
  }

  /** A call from that service came in: it is up. */
  seen(service: 'relay' | 'audit'): void {
    this.#seen[service] = true
  }

  /** @returns the PeerId, or undefined when it is not time to ask or there is no answer */
  async peerId(): Promise<string | undefined> {
    return this.#ask('relay', async () => (await this.#rpc.call(relayIdentity, {})).peerId)
  }

  /** @returns Ed25519 key of the audit log, 32 bytes */
  async logKey(): Promise<Uint8Array | undefined> {
    return this.#ask('audit', async () => (await this.#rpc.call(auditIdentity, {})).publicKey)
  }

  async #ask<T>(service: 'relay' | 'audit', call: () => Promise<T>): Promise<T | undefined> {
    const attempts = this.#attempts[service]
    if (!this.#reachable() || !attempts.allowed(this.#now(), this.#seen[service])) return undefined
    this.#seen[service] = false
    try {
      return await call()
    } catch {
      // Not there yet, or away: the caller tries again, and readiness says what is missing.
      attempts.failed(this.#now())
      return undefined
    }
  }
}

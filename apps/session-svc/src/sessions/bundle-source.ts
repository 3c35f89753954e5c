/**
 * Where prekey bundles of peers come from. A port: the service asks its relay; another fleet's `takeBundle` serves as
 * well. Bundles are fetched outside of every transaction and lock, because a peer may take seconds to answer.
 */
import type { ResponseOf } from '@tallystick/contracts/call'
import type { relayFetchBundle } from '@tallystick/contracts/relay'

export interface BundleSource {
  /** @throws RpcFault Network or CircuitBreakerOpen when the relay or the peer cannot be reached */
  fetch(fleetId: string): Promise<ResponseOf<typeof relayFetchBundle>>
}

/** A fetched bundle may start one session: its one-time keys are never used twice. */
export interface FetchedBundle {
  readonly bytes: Uint8Array
  used: boolean
}

/** Callers that wait for a bundle of the same peer at the same time share one fetch: each costs the peer one-time keys. */
export class SharedFetches {
  readonly #source: BundleSource
  readonly #running = new Map<string, Promise<ResponseOf<typeof relayFetchBundle> & { shared?: FetchedBundle }>>()

  constructor(source: BundleSource) {
    this.#source = source
  }

  /** @returns the bundle, or the refusal of the relay or peer */
  async fetch(fleetId: string): Promise<FetchedBundle | Exclude<ResponseOf<typeof relayFetchBundle>, { ok: true }>> {
    let running = this.#running.get(fleetId)
    if (!running) {
      running = this.#source
        .fetch(fleetId)
        .then((answer) => (answer.ok ? { ...answer, shared: { bytes: answer.bundle, used: false } } : answer))
        .finally(() => this.#running.delete(fleetId))
      this.#running.set(fleetId, running)
    }
    const answer = await running
    return answer.ok ? answer.shared! : answer
  }
}

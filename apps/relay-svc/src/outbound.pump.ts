/** One sender for each allowed peer; looks for work that no wake-up announced. */
import type { PeerRecord } from './peers.store.js'
import { PeerSender, type SenderDeps } from './peer-sender.js'
import { detached } from './wake.js'

/** Receipts of what is in flight get this long to arrive when the service stops, ms. */
const DRAIN_MS = 2_000

export class OutboundPump {
  readonly #deps: SenderDeps
  readonly #senders = new Map<string, PeerSender>()
  #timer: NodeJS.Timeout | undefined

  constructor(deps: SenderDeps) {
    this.#deps = deps
  }

  start(): void {
    this.#timer = setInterval(() => void this.#poll(), this.#deps.limits.pollMs)
    this.#timer.unref()
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer)
    await Promise.all([...this.#senders.values()].map((sender) => sender.stop(DRAIN_MS)))
    await this.#deps.peers
      .release([...this.#senders.keys()], this.#deps.owner)
      .catch((err: unknown) => this.#deps.log.warn({ err }, 'leases not released, they run out'))
  }

  sender(fleetId: string): PeerSender {
    let sender = this.#senders.get(fleetId)
    if (sender === undefined) {
      sender = detached(() => new PeerSender(this.#deps, fleetId))
      this.#senders.set(fleetId, sender)
    }
    return sender
  }

  /** A peer is new, or its addresses or its state have changed. */
  peerChanged(peer: PeerRecord): void {
    const sender = this.#senders.get(peer.fleetId)
    if (peer.state === 'allowed') {
      const allowed = sender ?? this.sender(peer.fleetId)
      allowed.reachable()
      void allowed.announce()
    } else sender?.wake()
  }

  wake(fleetIds: Iterable<string>): void {
    for (const fleetId of fleetIds) this.sender(fleetId).wake()
  }

  async #poll(): Promise<void> {
    try {
      const depth = await this.#deps.outbound.depth()
      this.#deps.metrics.queueDepth.set({ queue: 'outbound' }, depth)
      if (depth > 0) this.wake(await this.#deps.outbound.peersWithWork())
    } catch (err) {
      this.#deps.log.warn({ err }, 'outbound queue not looked at')
    }
  }
}

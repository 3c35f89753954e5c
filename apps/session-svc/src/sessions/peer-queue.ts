/**
 * Work for one peer, one at a time within this process. The row lock in PostgreSQL is what makes it right; this only
 * keeps waiters from each holding a connection while they wait for that lock.
 */
export class PeerQueue {
  readonly #tails = new Map<string, Promise<unknown>>()

  async run<T>(fleetId: string, work: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(fleetId) ?? Promise.resolve()
    const mine = before.then(work, work)
    const tail = mine.then(
      () => undefined,
      () => undefined,
    )
    this.#tails.set(fleetId, tail)
    try {
      return await mine
    } finally {
      if (this.#tails.get(fleetId) === tail) this.#tails.delete(fleetId)
    }
  }
}

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

/**
 * The parts of one call, one for each peer, side by side. A part that throws does not undo what the others have
 * committed, nor hide their answers; when every part throws, the fault is not a peer's.
 * @param failed gives the items of that peer their outcome
 * @throws what the first part threw when all did
 */
export async function eachPeer<T>(
  byPeer: ReadonlyMap<string, T>,
  work: (fleetId: string, items: T) => Promise<void>,
  failed: (fleetId: string, items: T, error: unknown) => void,
): Promise<void> {
  const parts = [...byPeer]
  const results = await Promise.allSettled(parts.map(([fleetId, items]) => work(fleetId, items)))
  const errors = results.map((result) => (result.status === 'rejected' ? { error: result.reason as unknown } : undefined))
  if (errors[0] !== undefined && errors.every((error) => error !== undefined)) throw errors[0].error
  parts.forEach(([fleetId, items], i) => {
    if (errors[i] !== undefined) failed(fleetId, items, errors[i].error)
  })
}

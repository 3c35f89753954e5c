/** What must hold before a service takes work. Liveness asks nothing of this: a process that waits is alive. */

/** Longest time of one check, milliseconds. */
const CHECK_MS = 2_000

export type ReadinessCheck = () => Promise<void> | void

export class Readiness {
  readonly #checks = new Map<string, ReadinessCheck>()
  #stopping = false

  add(name: string, check: ReadinessCheck): void {
    if (this.#checks.has(name)) throw new Error(`readiness check ${name} exists already`)
    this.#checks.set(name, check)
  }

  /** From now on not ready: balancers send no new work while the last requests are answered. */
  stop(): void {
    this.#stopping = true
  }

  get names(): string[] {
    return this.#stopping ? ['stopping'] : [...this.#checks.keys()]
  }

  /** @throws whatever the check throws, or an error when it takes too long */
  async run(name: string): Promise<void> {
    if (this.#stopping) throw new Error('stopping')
    const check = this.#checks.get(name)
    if (!check) throw new Error(`no readiness check ${name}`)
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`took longer than ${CHECK_MS} ms`)), CHECK_MS)
    })
    try {
      await Promise.race([check(), late])
    } finally {
      clearTimeout(timer)
    }
  }

  /** @returns the names of the checks that fail now */
  async failing(): Promise<string[]> {
    const names = this.names
    const results = await Promise.allSettled(names.map((name) => this.run(name)))
    return names.filter((_, i) => results[i]?.status === 'rejected')
  }
}

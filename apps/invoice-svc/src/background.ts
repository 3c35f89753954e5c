/** A background step: runs when woken and at least every so often; its failures are logged and it goes on. */
import type { Logger } from 'pino'

export interface StepOptions {
  readonly name: string
  readonly pollMs: number
  readonly log: Logger
  /** @returns how much it did: more than nothing, and it runs again at once */
  readonly run: () => Promise<number>
}

export class BackgroundStep {
  #running: Promise<void> | undefined
  #stopped = false
  #woken = false
  #wakeUp: (() => void) | undefined

  constructor(private readonly options: StepOptions) {}

  start(): void {
    this.#running ??= this.#loop()
  }

  /** There may be something to do. */
  wake(): void {
    this.#woken = true
    this.#wakeUp?.()
  }

  /** Ends after the pass that is under way. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#wakeUp?.()
    await this.#running
  }

  async #loop(): Promise<void> {
    while (!this.#stopped) {
      this.#woken = false
      const did = await this.#once()
      if (did > 0 || this.#woken || this.#stopped) continue
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, this.options.pollMs)
        this.#wakeUp = () => {
          clearTimeout(timer)
          resolve()
        }
      })
      this.#wakeUp = undefined
    }
  }

  async #once(): Promise<number> {
    try {
      return await this.options.run()
    } catch (error) {
      this.options.log.warn({ err: error, what: this.options.name }, 'a background step failed; it is tried again')
      return 0
    }
  }
}

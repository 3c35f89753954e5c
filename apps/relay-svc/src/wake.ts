import { AsyncLocalStorage } from 'node:async_hooks'

/** A wake-up that is not lost when nobody waits yet: the next wait returns at once. */
export class Wake {
  #woken = false
  #resolve: (() => void) | undefined

  wake(): void {
    this.#woken = true
    this.#resolve?.()
  }

  /** @param ms at most; undefined waits for a wake-up only */
  async wait(ms?: number): Promise<void> {
    if (!this.#woken && ms !== 0) {
      let timer: NodeJS.Timeout | undefined
      await new Promise<void>((resolve) => {
        this.#resolve = resolve
        if (ms !== undefined) timer = setTimeout(resolve, ms).unref()
      })
      // A wait of minutes is woken every few seconds: its timers must not pile up.
      clearTimeout(timer)
      this.#resolve = undefined
    }
    this.#woken = false
  }
}

/**
 * Runs a function outside the caller's async context. A loop, a connection or a stream that a bus call happens to
 * start must not inherit that call's deadline and trace for the rest of its life.
 */
export const detached: <T>(fn: () => T) => T = AsyncLocalStorage.snapshot()

/** Keeps one process running: starts it again when it ends unasked, with a growing pause. */
import type { Child, Exit } from './child.ts'

/** First pause after an unexpected end; doubles up to the longest. */
const FIRST_PAUSE_MS = 200
const LONGEST_PAUSE_MS = 10_000
/** A process that ran this long is taken for sound: the pause starts from the beginning. */
const SOUND_AFTER_MS = 30_000

export type KeepEvent =
  { kind: 'started'; pid: number } | { kind: 'ended'; exit: Exit; pauseMs: number } | { kind: 'failed'; error: Error; pauseMs: number }

export class KeepRunning {
  readonly #start: () => Promise<Child>
  readonly #onEvent: (event: KeepEvent) => void
  readonly #restart: boolean
  #child: Child | undefined
  #wanted = false
  #pauseMs = FIRST_PAUSE_MS
  #timer: NodeJS.Timeout | undefined
  #starting: Promise<void> | undefined

  constructor(options: { start: () => Promise<Child>; onEvent: (event: KeepEvent) => void; restart: boolean }) {
    this.#start = options.start
    this.#onEvent = options.onEvent
    this.#restart = options.restart
  }

  get pid(): number | undefined {
    return this.#child?.running === true ? this.#child.pid : undefined
  }

  /** Start now; rejects when the first start fails. */
  async start(): Promise<void> {
    this.#wanted = true
    const first = this.#run()
    // For `stop`, which waits for it; the caller hears of a failure.
    const settled = first
      .catch(() => undefined)
      .finally(() => {
        if (this.#starting === settled) this.#starting = undefined
      })
    this.#starting = settled
    await first
  }

  async #run(): Promise<void> {
    const startedAt = Date.now()
    const child = await this.#start()
    this.#child = child
    this.#onEvent({ kind: 'started', pid: child.pid })
    void child.exited.then((exit) => {
      if (!this.#wanted) return
      if (Date.now() - startedAt >= SOUND_AFTER_MS) this.#pauseMs = FIRST_PAUSE_MS
      this.#onEvent({ kind: 'ended', exit, pauseMs: this.#pauseMs })
      this.#again()
    })
  }

  #again(): void {
    if (!this.#restart) return
    const pauseMs = this.#pauseMs
    this.#pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)
    this.#timer = setTimeout(() => {
      if (!this.#wanted) return
      this.#starting = this.#run()
        .catch((error: Error) => {
          if (!this.#wanted) return
          this.#onEvent({ kind: 'failed', error, pauseMs: this.#pauseMs })
          this.#again()
        })
        .finally(() => (this.#starting = undefined))
    }, pauseMs)
  }

  /** End it and leave it down. */
  async stop(signal: NodeJS.Signals = 'SIGTERM', graceMs = 15_000): Promise<void> {
    this.#wanted = false
    clearTimeout(this.#timer)
    await this.#starting
    this.#pauseMs = FIRST_PAUSE_MS
    if (this.#child?.running === true) await this.#child.end(signal, graceMs)
  }

  /** Send a signal; it is started again if that ends it. Resolves when the process is gone, at once for other signals. */
  async kill(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child
    if (child?.running !== true) return
    child.kill(signal)
    if (['SIGKILL', 'SIGTERM', 'SIGINT', 'SIGABRT', 'SIGSEGV'].includes(signal)) await child.exited
  }
}

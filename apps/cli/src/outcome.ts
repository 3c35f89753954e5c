/** How a command ends: its exit code, and what it prints on the way. */

export const EXIT = { ok: 0, usage: 2, validation: 3, unreachable: 4, integrity: 5 } as const
export type ExitCode = (typeof EXIT)[keyof typeof EXIT]

/** A known way to fail. The message is one sentence for a person; `body` goes into `--json`. */
export class CommandError extends Error {
  constructor(
    readonly exitCode: ExitCode,
    message: string,
    readonly body: Record<string, unknown> = {},
  ) {
    super(message)
    this.name = 'CommandError'
  }
}

export interface Sink {
  write(text: string): unknown
  readonly isTTY?: boolean | undefined
}

export interface Io {
  readonly out: Sink
  readonly err: Sink
  readonly env: Readonly<Record<string, string | undefined>>
}

/** Control characters of a server's or file's text must not reach the terminal. */
export function printable(text: string): string {
  return text.replaceAll(/[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g, '\ufffd')
}

/** What a command prints: lines for people, or one JSON object at the end. */
export class Printer {
  constructor(
    private readonly io: Io,
    readonly json: boolean,
    private readonly quiet: boolean,
  ) {}

  line(text: string): void {
    if (!this.json && !this.quiet) this.io.out.write(`${printable(text)}\n`)
  }

  /** Raw content that was asked for, whatever `--quiet` says. */
  content(text: string): void {
    this.io.out.write(text.endsWith('\n') ? text : `${text}\n`)
  }

  /** The result as one JSON object, with `--json` only. */
  result(value: unknown): void {
    if (this.json) this.io.out.write(`${JSON.stringify(value)}\n`)
  }

  problem(text: string): void {
    this.io.err.write(`${printable(text)}\n`)
  }

  /**
   * Progress of work of a known length: a bar on a terminal, a line every 5 s elsewhere.
   * @returns to be called with what is done so far; the last call, with done = total, ends the bar
   */
  progress(what: string, total: number): (done: number) => void {
    if (this.json || this.quiet) return () => undefined
    const started = performance.now()
    let printed = started
    return (done) => {
      const now = performance.now()
      const every = this.io.err.isTTY ? 100 : 5_000
      if (done < total && now - printed < every) return
      if (done >= total && !this.io.err.isTTY) return
      printed = now
      const rate = done / Math.max(0.001, (now - started) / 1_000)
      const left = rate > 0 ? Math.ceil((total - done) / rate) : 0
      const text = `${what}: ${done} of ${total}, ${Math.round(rate)}/s, ${left} s left`
      const width = Math.round((20 * done) / Math.max(1, total))
      this.io.err.write(
        this.io.err.isTTY ? `\r[${'#'.repeat(width)}${'.'.repeat(20 - width)}] ${text}\u001b[K${done >= total ? '\n' : ''}` : `${text}\n`,
      )
    }
  }
}

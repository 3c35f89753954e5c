/** What the demo shows: a line per finished stage; on a terminal also the stage under way. */
const SPINNER = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏']
const FRAME_MS = 100

export class Screen {
  readonly #out: NodeJS.WriteStream
  readonly #started: number
  readonly #tty: boolean
  #timer: NodeJS.Timeout | undefined
  #frame = 0
  #current = ''

  /** @param out all of it goes here; @param started time zero of the stages, milliseconds */
  constructor(out: NodeJS.WriteStream, started: number) {
    this.#out = out
    this.#started = started
    this.#tty = out.isTTY === true && process.env.TERM !== 'dumb' && process.env.CI === undefined
  }

  #time(): string {
    return `${((Date.now() - this.#started) / 1000).toFixed(1).padStart(5)} s`
  }

  #paint(code: string, text: string): string {
    return this.#tty && process.env.NO_COLOR === undefined ? `\u001b[${code}m${text}\u001b[0m` : text
  }

  title(text: string): void {
    this.#line(this.#paint('1', text))
  }

  /** A stage begins; shown until the next call. */
  begin(text: string): void {
    this.#current = text
    if (!this.#tty) return this.#line(`${this.#time()}  … ${text}`)
    clearInterval(this.#timer)
    this.#timer = setInterval(() => this.#draw(), FRAME_MS)
    this.#timer.unref()
    this.#draw()
  }

  /** Something happened; the stage under way goes on. */
  done(what: string, detail = ''): void {
    this.#line(`${this.#time()}  ${this.#paint('32', '✔')} ${what.padEnd(34)} ${this.#paint('2', detail)}`.trimEnd())
  }

  note(text: string): void {
    this.#line(`${' '.repeat(9)}${this.#paint('2', text)}`)
  }

  text(text: string): void {
    this.#line(text)
  }

  failed(text: string): void {
    this.idle()
    this.#line(`${this.#time()}  ${this.#paint('31', '✘')} ${text}`)
  }

  /** Nothing is under way. */
  idle(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
    this.#current = ''
    this.#clear()
  }

  #line(text: string): void {
    this.#clear()
    this.#out.write(`${text}\n`)
    if (this.#timer !== undefined) this.#draw()
  }

  #clear(): void {
    if (this.#tty) this.#out.write('\r\u001b[2K')
  }

  #draw(): void {
    this.#frame = (this.#frame + 1) % SPINNER.length
    const room = Math.max(20, (this.#out.columns ?? 80) - 14)
    this.#out.write(`\r\u001b[2K${this.#time()}  ${SPINNER[this.#frame]} ${this.#current.slice(0, room)}`)
  }
}

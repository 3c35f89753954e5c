/**
 * One libp2p stream as frames, with its time limits: a frame must be complete in time, a silent stream is closed.
 * @see docs/spec/relay.md §3, §6
 */
import type { Stream } from '@libp2p/interface'
import type { ErrorCode } from '@tallystick/contracts/codes'
import { ProtocolError } from '@tallystick/primitives/errors'
import { encodeFrameHead, FrameReader, type Frame, type FrameHeader } from './frames.js'
import type { Limits } from './limits.js'

export interface LinkEnd {
  /** Why; null when a side closed it with nothing wrong. */
  readonly code: ErrorCode | null
  readonly reason: string
  /** The other side said or did it. */
  readonly byPeer: boolean
  readonly retryAfterMs: number | null
}

const STEP_BYTES = 1024 * 1024
/** A last frame gets this long to leave before the stream is reset, ms. */
const CLOSE_GRACE_MS = 500

type LinkLimits = Pick<Limits, 'readTimeoutMs' | 'idleTimeoutMs' | 'frameHeaderBytes' | 'frameBodyBytes'>

export class FrameLink {
  readonly closed: Promise<LinkEnd>
  readonly #stream: Stream
  readonly #limits: LinkLimits
  readonly #reader: FrameReader
  readonly #onFrame: (frame: Frame) => void
  #end: LinkEnd | undefined
  #resolveClosed!: (end: LinkEnd) => void
  #readTimer: NodeJS.Timeout | undefined
  #readStep = -1
  #frameBegan = 0
  readonly #idleTimer: NodeJS.Timeout

  /** @param onFrame called in order, must not throw; `bye` never reaches it */
  constructor(stream: Stream, limits: LinkLimits, onFrame: (frame: Frame) => void) {
    this.#stream = stream
    this.#limits = limits
    this.#onFrame = onFrame
    this.#reader = new FrameReader(limits)
    this.closed = new Promise((resolve) => {
      this.#resolveClosed = resolve
    })
    this.#idleTimer = setTimeout(() => this.close('IdleTimeout', `no frame for ${limits.idleTimeoutMs} ms`), limits.idleTimeoutMs)
    this.#idleTimer.unref()
    stream.addEventListener('message', (event) => this.#read(event.data.subarray()))
    stream.addEventListener('remoteCloseWrite', () =>
      this.#finish(
        {
          code: this.#reader.pending === undefined ? null : 'Network',
          reason: 'the peer closed the stream',
          byPeer: true,
          retryAfterMs: null,
        },
        true,
      ),
    )
    stream.addEventListener('close', (event) =>
      this.#finish(
        { code: 'Network', reason: event.error?.message ?? 'the connection was closed', byPeer: true, retryAfterMs: null },
        false,
      ),
    )
  }

  get open(): boolean {
    return this.#end === undefined
  }

  /** Bytes written here that the transport has not been able to take: what a peer that does not read makes us hold. */
  get unsentBytes(): number {
    return this.#stream.writeBufferLength
  }

  /**
   * @param signal gives up waiting for a peer that does not read; what was written may still arrive
   * @throws Error when the stream is closed or does not drain in time
   */
  async send(header: FrameHeader, body?: Uint8Array, signal?: AbortSignal): Promise<void> {
    if (this.#end !== undefined) throw new ProtocolError('Network', `stream is closed: ${this.#end.reason}`)
    this.#idleTimer.refresh()
    let more = this.#stream.send(encodeFrameHead(header, body?.length ?? 0))
    if (body !== undefined && body.length > 0) more = this.#stream.send(body)
    if (more) return
    const late = AbortSignal.timeout(this.#readBudget(body?.length ?? 0))
    await this.#stream.onDrain({ signal: signal === undefined ? late : AbortSignal.any([late, signal]) })
  }

  /** Say why, then close. Nothing that arrives afterwards is read. */
  close(code: ErrorCode, reason: string, retryAfterMs: number | null = null): void {
    if (this.#end !== undefined) return
    try {
      this.#stream.send(encodeFrameHead({ t: 'bye', code, retryAfterMs }, 0))
    } catch (error) {
      reason += ` (${error instanceof Error ? error.message : 'not sent'})`
    }
    this.#finish({ code, reason, byPeer: false, retryAfterMs }, true)
  }

  /** Close with nothing wrong: what was written still arrives. */
  finish(): void {
    this.#finish({ code: null, reason: 'closed here', byPeer: false, retryAfterMs: null }, true)
  }

  #read(chunk: Uint8Array): void {
    if (this.#end !== undefined) return
    let frames: Frame[]
    try {
      frames = this.#reader.push(chunk)
    } catch (error) {
      const code = error instanceof ProtocolError && error.code === 'QuotaExceeded' ? 'QuotaExceeded' : 'Serialization'
      return this.close(code, error instanceof Error ? error.message : 'unreadable frame')
    }
    this.#watchFrame(frames.length > 0)
    if (frames.length > 0) this.#idleTimer.refresh()
    for (const frame of frames) {
      if (this.#end !== undefined) return
      if (frame.header.t === 'bye') {
        return this.#finish(
          {
            code: frame.header.code,
            reason: `the peer closed the stream: ${frame.header.code}`,
            byPeer: true,
            retryAfterMs: frame.header.retryAfterMs,
          },
          true,
        )
      }
      this.#onFrame(frame)
    }
  }

  /** The deadline counts from a frame's first byte, so that a trickle of bytes does not extend it. */
  #watchFrame(newFrame: boolean): void {
    const pending = this.#reader.pending
    if (pending === undefined || newFrame) {
      clearTimeout(this.#readTimer)
      this.#readStep = -1
      if (pending === undefined) return
    }
    const budget = this.#readBudget(pending)
    if (this.#readStep === -1) this.#frameBegan = performance.now()
    if (budget === this.#readStep) return
    this.#readStep = budget
    clearTimeout(this.#readTimer)
    this.#readTimer = setTimeout(
      () => this.close('ReadTimeout', `a frame was not complete after ${budget} ms`),
      Math.max(0, this.#frameBegan + budget - performance.now()),
    )
    this.#readTimer.unref()
  }

  #readBudget(bodyLength: number): number {
    return this.#limits.readTimeoutMs * (1 + Math.floor(bodyLength / STEP_BYTES))
  }

  #finish(end: LinkEnd, graceful: boolean): void {
    if (this.#end !== undefined) return
    this.#end = end
    clearTimeout(this.#readTimer)
    clearTimeout(this.#idleTimer)
    this.#resolveClosed(end)
    if (!graceful) return
    const stream = this.#stream
    const reset = setTimeout(() => stream.abort(new Error(end.reason)), CLOSE_GRACE_MS)
    reset.unref()
    stream.addEventListener('close', () => clearTimeout(reset))
    stream
      .close({ signal: AbortSignal.timeout(CLOSE_GRACE_MS) })
      .catch((error: unknown) => stream.abort(error instanceof Error ? error : new Error(end.reason)))
  }
}

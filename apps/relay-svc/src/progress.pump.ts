/** Tells invoice-svc what became of sent messages: final states until acknowledged, waiting ones as they come. */
import { MAX_BATCH } from '@tallystick/contracts/call'
import type { ErrorCode } from '@tallystick/contracts/codes'
import { invoiceRelayProgress } from '@tallystick/contracts/invoice'
import type { ServiceClient } from '@tallystick/nats-rpc/client'
import { RpcFault } from '@tallystick/nats-rpc/fault'
import { backoffMs } from './backoff.js'
import { AWAY } from './delivery.pump.js'
import type { Limits } from './limits.js'
import type { FinalReport, OutboundStore } from './outbound.store.js'
import type { WaitingReport } from './settle-answers.js'
import { Wake } from './wake.js'

/** A report that invoice-svc does not want is tried again this much later, ms. */
const UNWANTED_AGAIN_MS = 60_000
const BACKOFF_MAX_MS = 5_000

export interface ProgressDeps {
  readonly outbound: Pick<OutboundStore, 'unreported' | 'markReported' | 'reportLater'>
  readonly rpc: Pick<ServiceClient, 'call'>
  readonly limits: Pick<Limits, 'backoffFirstMs' | 'pollMs'>
  readonly clock: { now(): number }
  readonly random: () => number
  readonly log: { warn(fields: object, text: string): void; debug(fields: object, text: string): void }
}

export class ProgressPump {
  readonly #deps: ProgressDeps
  readonly #wake = new Wake()
  #stopped = false
  #failures = 0
  #running: Promise<void> | undefined

  constructor(deps: ProgressDeps) {
    this.#deps = deps
  }

  start(): void {
    this.#running = this.#run()
  }

  wake(): void {
    this.#wake.wake()
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#wake.wake()
    await this.#running
  }

  /** Best effort: the next failure of the peer says it again. */
  async waiting(items: readonly WaitingReport[]): Promise<void> {
    const at = this.#deps.clock.now()
    try {
      for (let i = 0; i < items.length; i += MAX_BATCH) {
        await this.#deps.rpc.call(invoiceRelayProgress, {
          // A time that has passed on the way here means now.
          items: items.slice(i, i + MAX_BATCH).map((item) => ({
            ...item,
            state: 'waiting' as const,
            at,
            nextAttemptAt: Math.max(at, item.nextAttemptAt),
          })),
        })
      }
    } catch (err) {
      this.#deps.log.debug({ err, count: items.length }, 'waiting not reported')
    }
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      try {
        const reports = await this.#deps.outbound.unreported(MAX_BATCH)
        if (reports.length === 0) await this.#wake.wait(this.#deps.limits.pollMs)
        else await this.#report(reports)
        this.#failures = 0
      } catch (err) {
        this.#failures += 1
        this.#deps.log.warn({ err, attempts: this.#failures }, 'progress not reported, it is kept')
        await this.#wake.wait(backoffMs(this.#failures, this.#deps.limits.backoffFirstMs, BACKOFF_MAX_MS, this.#deps.random()))
      }
    }
  }

  async #report(reports: readonly FinalReport[]): Promise<void> {
    let code: ErrorCode
    try {
      const answer = await this.#deps.rpc.call(invoiceRelayProgress, { items: [...reports] })
      if (answer.ok) return await this.#deps.outbound.markReported(reports.map((r) => r.messageId))
      code = answer.code
    } catch (err) {
      // A fault that one report provokes is an answer to it; a service that is away is not.
      if (!(err instanceof RpcFault) || AWAY.has(err.code) || (err.origin !== 'callee' && err.code !== 'Serialization')) throw err
      code = err.code
    }
    // One that is refused must not hold up the others.
    if (reports.length > 1) {
      for (const report of reports) await this.#report([report])
      return
    }
    this.#deps.log.warn({ messageId: reports[0]!.messageId, code }, 'a progress report was refused')
    await this.#deps.outbound.reportLater(reports[0]!.messageId, UNWANTED_AGAIN_MS)
  }
}

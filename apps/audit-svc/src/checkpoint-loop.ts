/** What audit-svc does by itself: bind the key, learn the origin, sign when the tree has grown, rescan. */
import { sessionFleet } from '@tallystick/contracts/session'
import { RpcFault } from '@tallystick/nats-rpc/fault'
import type { ServiceClient } from '@tallystick/nats-rpc/client'
import { equalConstantTime } from '@tallystick/primitives/bytes'
import { logOrigin, readCertificate } from '@tallystick/wire/certificate'
import type { Clock } from '@tallystick/service-host/clock'
import { type CheckpointSigner, ForeignLogKey } from './checkpoint-signer.js'
import { LogHalted } from './halt.js'
import { type AuditLimits, ORIGIN_NOT_READY_MS, ORIGIN_RETRY_MS } from './limits.js'

interface LoopLog {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
}

export interface CheckpointLoopOptions {
  readonly signer: CheckpointSigner
  readonly publicKey: Uint8Array
  readonly rpc: Pick<ServiceClient, 'call'>
  readonly clock: Clock
  readonly limits: AuditLimits
  readonly log: LoopLog
  /** Ends the process: the key or the database belongs to another log. */
  readonly fatal: (error: unknown) => void
  /** After a checkpoint, whose transaction may have recorded an event. */
  readonly onSigned: () => void
}

export class CheckpointLoop {
  readonly #options: CheckpointLoopOptions
  #loop: Promise<void> | undefined
  #stopping = false
  #woken = Promise.withResolvers<void>()
  #claimed = false
  #originKnown = false
  #asked = 0
  #askAgainAt = 0

  constructor(options: CheckpointLoopOptions) {
    this.#options = options
  }

  start(): void {
    this.#loop ??= this.#run()
  }

  /** The tree has grown, or session-svc was heard of. */
  wake(): void {
    this.#woken.resolve()
  }

  async stop(): Promise<void> {
    this.#stopping = true
    this.wake()
    await this.#loop
  }

  async #run(): Promise<void> {
    const { limits, log, fatal } = this.#options
    while (!this.#stopping) {
      const started = performance.now()
      try {
        await this.#round()
      } catch (error) {
        if (error instanceof ForeignLogKey) return fatal(error)
        if (!(error instanceof LogHalted)) log.warn({ err: error }, 'no checkpoint could be signed')
      }
      // Wakes that came meanwhile count, after the shortest time between two checkpoints.
      await this.#wait(Promise.resolve(), Math.max(0, limits.checkpointIntervalMs - (performance.now() - started)))
      await this.#wait(this.#woken.promise, limits.checkpointPollMs)
      this.#woken = Promise.withResolvers<void>()
    }
  }

  async #round(): Promise<void> {
    const { signer, clock, onSigned } = this.#options
    if (!this.#claimed) {
      await signer.claimKey()
      this.#claimed = true
      onSigned()
    }
    if (!this.#originKnown) await this.#learnOrigin()
    if (await signer.signNow()) onSigned()
    await signer.rescanIfDue(clock.now())
  }

  /** Ask session-svc for the fleet id, unless the log already knows it. Without one, events are taken and nothing is signed. */
  async #learnOrigin(): Promise<void> {
    const { signer, rpc, clock, publicKey, log } = this.#options
    this.#originKnown = (await signer.origin()) !== null
    if (this.#originKnown || performance.now() < this.#askAgainAt) return
    try {
      const fleet = await rpc.call(sessionFleet, {})
      if (!fleet.ok) {
        this.#askAgainAt = performance.now() + ORIGIN_NOT_READY_MS
        return
      }
      // A checkpoint that the certificate's key cannot verify would be worthless: wait for the reissue.
      const certificate = readCertificate(fleet.certificate, clock.now())
      if (!equalConstantTime(certificate.logKey, publicKey)) {
        log.warn({ fleetId: fleet.fleetId }, 'the fleet certificate names another log key')
        this.#askAgainAt = performance.now() + ORIGIN_RETRY_MS[0]
        return
      }
      await signer.setOrigin(logOrigin(fleet.fleetId))
      this.#originKnown = true
      log.info({ fleetId: fleet.fleetId }, 'the log has its origin')
    } catch (error) {
      if (!(error instanceof RpcFault)) throw error
      this.#askAgainAt = performance.now() + (error.retryAfterMs ?? ORIGIN_RETRY_MS[Math.min(this.#asked, ORIGIN_RETRY_MS.length - 1)]!)
      this.#asked += 1
    }
  }

  /** session-svc has called: it is up, so ask it soon. */
  sessionHeard(): void {
    if (this.#originKnown) return
    this.#askAgainAt = 0
    this.wake()
  }

  /** Until the promise or the time is up; stopping ends it at once. */
  async #wait(signal: Promise<void>, ms: number): Promise<void> {
    if (this.#stopping) return
    let timer: NodeJS.Timeout | undefined
    const due = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, ms)
    })
    await Promise.race([signal, due])
    clearTimeout(timer)
  }
}

/**
 * The one circuit breaker of the product, around opossum: per callee operation on the bus, and per peer on the network.
 *
 * opossum trips on a failure percentage, which is never reached by five failures after many successes; here it only
 * keeps the states and the reset timer, and a count of absolute failures in a sliding window calls `open()`.
 * @see docs/spec/bus.md §5
 */
import { EventEmitter } from 'node:events'
import CircuitBreaker from 'opossum'
import type { Registry } from 'prom-client'
import { RpcFault } from './fault.js'
import { busMetrics, type BusMetrics } from './metrics.js'

export type BreakerState = 'closed' | 'half-open' | 'open'

export interface BreakerTransition {
  readonly service: string
  readonly target: string
  readonly from: BreakerState
  readonly to: BreakerState
  /** Milliseconds, from the breaker's clock. */
  readonly at: number
}

export interface BreakerNumbers {
  /** Absolute failures inside the window that open the circuit. Default 5. */
  readonly failures?: number
  /** Length of the sliding window, milliseconds. Default 60,000. */
  readonly windowMs?: number
  /** First wait before a probe, milliseconds; doubles while the probe fails. Default 120,000. */
  readonly resetMs?: number
  /** Longest wait before a probe, milliseconds. Default 900,000. */
  readonly maxResetMs?: number
}

export interface BreakerOptions extends BreakerNumbers {
  readonly service: string
  readonly target: string
  readonly metrics: Registry
  readonly now?: () => number
  /** Whether a rejection speaks against the target. Default: each does. One that does not is an answer, hence a success. */
  readonly countsAsFailure?: (error: unknown) => boolean
}

export const BREAKER_FAILURES = 5
export const BREAKER_WINDOW_MS = 60_000
export const BREAKER_RESET_MS = 120_000
export const BREAKER_MAX_RESET_MS = 900_000
/** What a caller is told to wait while somebody else's probe is in flight, milliseconds. */
const PROBE_WAIT_MS = 1_000

const LEVEL: Record<BreakerState, number> = { closed: 0, 'half-open': 1, open: 2 }

/** opossum rotates its statistics by a timer per breaker unless it is given an emitter; nothing reads them here. */
const noRotation = new EventEmitter().setMaxListeners(0)

type Action = () => Promise<unknown>
type Circuit = CircuitBreaker<[Action], unknown>

/** The caller gave up: says nothing about the target. */
function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === 'AbortError'
}

/** opossum's percentage is divided by fires of the same window: with a failure whose fire has rotated out it is infinite. */
const NEVER_BY_PERCENTAGE = Number.POSITIVE_INFINITY

export class Breaker {
  readonly service: string
  readonly target: string
  readonly #numbers: Required<BreakerNumbers>
  readonly #now: () => number
  readonly #countsAsFailure: (error: unknown) => boolean
  readonly #metrics: BusMetrics
  readonly #listeners = new Set<(transition: BreakerTransition) => void>()
  #circuit: Circuit
  #state: BreakerState = 'closed'
  #failures: number[] = []
  #resetMs: number
  #nextProbeAt: number | undefined
  /** Grows with every change of state: the outcome of a call counts only in the state that let it through. */
  #generation = 0

  constructor(options: BreakerOptions) {
    this.service = options.service
    this.target = options.target
    this.#now = options.now ?? Date.now
    this.#countsAsFailure = options.countsAsFailure ?? (() => true)
    this.#metrics = busMetrics(options.metrics)
    this.#numbers = {
      failures: options.failures ?? BREAKER_FAILURES,
      windowMs: options.windowMs ?? BREAKER_WINDOW_MS,
      resetMs: options.resetMs ?? BREAKER_RESET_MS,
      maxResetMs: options.maxResetMs ?? BREAKER_MAX_RESET_MS,
    }
    this.#resetMs = this.#numbers.resetMs
    this.#metrics.breakerState.set({ service: this.service, target: this.target }, LEVEL.closed)
    this.#circuit = this.#makeCircuit('closed')
  }

  get state(): BreakerState {
    return this.#state
  }

  /** Failures now inside the window; 0 unless closed. */
  get failures(): number {
    return this.#recentFailures().length
  }

  /** When the next probe is let through, milliseconds; undefined unless open. */
  get nextProbeAt(): number | undefined {
    return this.#nextProbeAt
  }

  /**
   * Run the action, unless the circuit is open. The action must end by itself (a deadline): a probe that never
   * settles would keep the circuit half-open.
   * @throws RpcFault CircuitBreakerOpen without calling the action; else whatever the action throws, unchanged
   */
  fire<T>(action: () => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const generation = this.#generation
      let settle: (() => void) | undefined
      // opossum sees an outcome only if the circuit has not changed since the call began: a slow call from before
      // must neither close a half-open circuit nor fail its probe. The promise it then keeps waiting for is garbage.
      const observed = () =>
        new Promise<void>((succeed, fail) => {
          const attempt = async () => action()
          attempt().then(
            (value) => {
              settle = () => resolve(value)
              if (generation === this.#generation) succeed()
              else settle()
            },
            (error: unknown) => {
              settle = () => reject(error as Error)
              if (generation !== this.#generation) return settle()
              if (isAbort(error)) {
                this.#forgetProbe()
                return settle()
              }
              if (this.#countsAsFailure(error)) fail(new Error('counted'))
              else succeed()
            },
          )
        })
      // The caller hears of the outcome after the circuit has: the call after the fifth failure is already blocked.
      const finish = () => (settle === undefined ? reject(this.#blocked()) : settle())
      this.#circuit.fire(observed).then(finish, finish)
    })
  }

  /** Every change of state. Returns a function that ends the listening. */
  onTransition(listener: (transition: BreakerTransition) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Let a probe through now: the cause of the failures is known to be gone. Nothing happens unless open. */
  probeNow(): void {
    if (this.#state !== 'open') return
    this.#replaceCircuit('half-open')
    this.#enter('half-open')
  }

  /** End the reset timer and drop the state metric; later calls are refused. */
  shutdown(): void {
    this.#generation++
    this.#circuit.shutdown()
    this.#listeners.clear()
    this.#metrics.breakerState.remove({ service: this.service, target: this.target })
  }

  #makeCircuit(state: 'closed' | 'half-open'): Circuit {
    const circuit: Circuit = new CircuitBreaker<[Action], unknown>((action) => action(), {
      name: this.target,
      timeout: false,
      resetTimeout: this.#resetMs,
      errorThresholdPercentage: NEVER_BY_PERCENTAGE,
      rollingCountTimeout: this.#numbers.windowMs,
      rollingCountBuckets: 1,
      rollingPercentilesEnabled: false,
      enableSnapshots: false,
      rotateBucketController: noRotation,
      ...(state === 'half-open' ? { state: { closed: false, halfOpen: true } as unknown as CircuitBreaker.State } : {}),
    })
    circuit.on('failure', () => this.#failed())
    circuit.on('open', () => {
      this.#nextProbeAt = this.#now() + this.#resetMs
      this.#enter('open')
    })
    circuit.on('halfOpen', () => this.#enter('half-open'))
    circuit.on('close', () => {
      this.#resetMs = this.#numbers.resetMs
      this.#enter('closed')
    })
    return circuit
  }

  #replaceCircuit(state: 'half-open'): void {
    this.#circuit.shutdown()
    this.#circuit = this.#makeCircuit(state)
  }

  #recentFailures(): number[] {
    const since = this.#now() - this.#numbers.windowMs
    // The clock may have been set back: a time in the future is not inside the window either.
    this.#failures = this.#failures.filter((at) => at > since && at <= this.#now())
    return this.#failures
  }

  #failed(): void {
    // A failed probe is opossum's own business: it opens again.
    if (this.#state !== 'closed') return
    this.#recentFailures().push(this.#now())
    if (this.#failures.length >= this.#numbers.failures) this.#circuit.open()
  }

  /** An aborted probe says nothing: the next call is the probe. */
  #forgetProbe(): void {
    if (this.#state === 'half-open') this.#replaceCircuit('half-open')
  }

  #enter(to: BreakerState): void {
    const from = this.#state
    this.#generation++
    this.#failures = []
    this.#state = to
    if (to !== 'open') this.#nextProbeAt = undefined
    if (to === 'half-open') {
      // Read by opossum when the probe fails and the circuit opens again.
      this.#resetMs = Math.min(this.#numbers.maxResetMs, this.#resetMs * 2)
      circuitOptions(this.#circuit).resetTimeout = this.#resetMs
    } else if (to === 'closed') {
      circuitOptions(this.#circuit).resetTimeout = this.#resetMs
    }
    this.#metrics.breakerState.set({ service: this.service, target: this.target }, LEVEL[to])
    this.#metrics.breakerTransitions.inc({ service: this.service, target: this.target, from, to })
    const transition: BreakerTransition = { service: this.service, target: this.target, from, to, at: this.#now() }
    for (const listener of this.#listeners) listener(transition)
  }

  #blocked(): RpcFault {
    const retryAfterMs = this.#nextProbeAt === undefined ? PROBE_WAIT_MS : Math.max(0, this.#nextProbeAt - this.#now())
    return new RpcFault('CircuitBreakerOpen', this.target, 'the circuit is open', { origin: 'caller', retryAfterMs })
  }
}

/** opossum reads its options at each use; the typings leave them out. */
function circuitOptions(circuit: Circuit): { resetTimeout: number } {
  return (circuit as unknown as { options: { resetTimeout: number } }).options
}

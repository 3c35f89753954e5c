/**
 * The one place that wraps a call to another service: validates out, runs the circuit breaker, keeps the deadline,
 * validates in. Nothing else publishes a request.
 * @see docs/spec/bus.md §4
 */
import { errorCode } from '@tallystick/contracts/codes'
import { MAX_BUS_BYTES, type Contract, type ResponseOf, type ServiceName } from '@tallystick/contracts/call'
import { ErrorCode, type Msg, type NatsConnection } from 'nats'
import type { Registry } from 'prom-client'
import { z } from 'zod'
import { Breaker, type BreakerNumbers, type BreakerState, type BreakerTransition } from './breaker.js'
import { decodeBus, encodeBus } from './codec.js'
import type { Bus } from './connection.js'
import { childTraceparent, correlationIdOr, currentContext, inheritedDeadline, type CallContext } from './context.js'
import { RpcFault, speaksAgainstCallee } from './fault.js'
import { isFault, requestHeaders } from './headers.js'
import { busMetrics, type BusMetrics } from './metrics.js'
import { arrivalSubject } from './permissions.js'

export interface CallOptions {
  /** Aborting rejects with the signal's AbortError; the callee may still execute the request. */
  readonly signal?: AbortSignal
  readonly correlationId?: string
  /** Shorter than the contract's deadline, milliseconds. */
  readonly timeoutMs?: number
}

export interface ServiceClientOptions {
  readonly bus: Bus
  readonly service: ServiceName
  readonly metrics: Registry
  readonly breaker?: BreakerNumbers
}

/** Why calls failed: the bus was away, the callee was (nobody listens, no answer), or the callee answered badly. */
type Cause = 'bus' | 'absence' | 'answer'
const GRAVITY: Record<Cause, number> = { bus: 0, absence: 1, answer: 2 }

const faultBody = z.strictObject({ fault: errorCode, retryAfterMs: z.int().nonnegative().optional() })
/** Room for headers beside the body. */
const HEADER_BYTES = 1024

export class ServiceClient {
  readonly #options: ServiceClientOptions
  readonly #metrics: BusMetrics
  readonly #breakers = new Map<string, Breaker>()
  readonly #listeners = new Set<(transition: BreakerTransition) => void>()
  /** The worst cause of the failures that a circuit counts. */
  readonly #causes = new Map<Breaker, Cause>()
  readonly #owners = new Map<Breaker, ServiceName>()
  /** Faults of calls that the loss of the bus has ended. */
  readonly #busFaults = new WeakSet<object>()
  /** How often each service has been heard to arrive, by subject. */
  readonly #arrivals = new Map<string, number>()
  readonly #endReconnect: () => void
  readonly #endArrivals: () => void

  constructor(options: ServiceClientOptions) {
    this.#options = options
    this.#metrics = busMetrics(options.metrics)
    // What opened these circuits is known to be gone: waiting out the reset time would only stall.
    this.#endReconnect = options.bus.onReconnect(() => this.#probe((cause) => cause === 'bus'))
    this.#endArrivals = options.bus.onConnection((connection) => {
      connection.subscribe(arrivalSubject('*'), {
        callback: (error, message) => {
          if (error) return // a hint that is lost only costs the reset time
          this.#arrivals.set(message.subject, this.#arrivedTimes(message.subject) + 1)
          this.#probe((cause, owner) => cause !== 'answer' && message.subject === arrivalSubject(owner))
        },
      })
    })
  }

  /**
   * @param request the contract's request; validated here before anything is sent
   * @returns the contract's response; a business refusal is such a value
   * @throws RpcFault CircuitBreakerOpen (retryAfterMs is set), Network (nobody listens, deadline, bus away),
   *   Serialization (request or response outside the schema), or the code that the callee's fault names
   * @throws AbortError when options.signal aborts
   */
  async call<C extends Contract>(contract: C, request: z.input<C['request']>, options: CallOptions = {}): Promise<ResponseOf<C>> {
    const context = this.#contextFor(contract, options)
    const body = this.#encode(contract, request, context)
    const stop = this.#metrics.rpcDuration.startTimer({ target: contract.subject })
    let outcome = 'ok'
    try {
      const breaker = this.#breaker(contract)
      const response = await breaker.fire(() => this.#exchange(contract, body, context, options.signal))
      if (isRefusal(response)) outcome = 'refused'
      return response
    } catch (error) {
      outcome = error instanceof RpcFault ? error.code : 'aborted'
      throw error
    } finally {
      stop({ outcome })
    }
  }

  /** Every change of state of every circuit. Returns a function that ends the listening. */
  onTransition(listener: (transition: BreakerTransition) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** The circuits of this process, for people and dashboards. */
  circuits(): Array<{ target: string; state: BreakerState; failures: number; nextProbeAt?: number }> {
    return [...this.#breakers.values()].map((b) => ({
      target: b.target,
      state: b.state,
      failures: b.failures,
      ...(b.nextProbeAt === undefined ? {} : { nextProbeAt: b.nextProbeAt }),
    }))
  }

  close(): void {
    this.#endReconnect()
    this.#endArrivals()
    for (const breaker of this.#breakers.values()) breaker.shutdown()
    this.#breakers.clear()
  }

  #contextFor(contract: Contract, options: CallOptions): CallContext & { caller: ServiceName } {
    const current = currentContext()
    const timeoutMs = Math.min(contract.timeoutMs, options.timeoutMs ?? contract.timeoutMs)
    return {
      correlationId: correlationIdOr(options.correlationId ?? current?.correlationId),
      traceparent: childTraceparent(current?.traceparent),
      deadline: Math.min(Date.now() + timeoutMs, inheritedDeadline()),
      caller: this.#options.service,
    }
  }

  #encode(contract: Contract, request: unknown, { correlationId }: CallContext): Uint8Array {
    const parsed = contract.request.safeParse(request)
    if (!parsed.success)
      throw new RpcFault('Serialization', contract.subject, `request outside the schema: ${issuePaths(parsed.error)}`, {
        origin: 'caller',
        correlationId,
      })
    const body = encodeBus(parsed.data)
    if (body.length > MAX_BUS_BYTES - HEADER_BYTES)
      throw new RpcFault('Serialization', contract.subject, `request of ${body.length} bytes, at most ${MAX_BUS_BYTES - HEADER_BYTES}`, {
        origin: 'caller',
        correlationId,
      })
    return body
  }

  #breaker(contract: Contract): Breaker {
    const known = this.#breakers.get(contract.subject)
    if (known) return known
    const breaker: Breaker = new Breaker({
      ...this.#options.breaker,
      service: this.#options.service,
      target: contract.subject,
      metrics: this.#options.metrics,
      // Asked only for outcomes that the circuit counts: a late one, or one that speaks of a peer, names no cause.
      countsAsFailure: (error) => {
        const counts = speaksAgainstCallee(error)
        if (counts) this.#remember(breaker, this.#causeOf(error))
        return counts
      },
    })
    breaker.onTransition((transition) => {
      for (const listener of this.#listeners) listener(transition)
    })
    this.#breakers.set(contract.subject, breaker)
    this.#owners.set(breaker, contract.owner)
    return breaker
  }

  async #exchange<C extends Contract>(
    contract: C,
    body: Uint8Array,
    context: CallContext & { caller: ServiceName },
    signal: AbortSignal | undefined,
  ): Promise<ResponseOf<C>> {
    signal?.throwIfAborted()
    const { correlationId } = context
    const timeout = context.deadline - Date.now()
    if (timeout < 1)
      throw new RpcFault('Network', contract.subject, 'the deadline of the surrounding request has passed', {
        origin: 'caller',
        correlationId,
      })
    const connection = this.#options.bus.connection()
    if (!connection || !this.#options.bus.connected) throw this.#busAway(contract, context)

    const arrival = arrivalSubject(contract.owner)
    const arrivedBefore = this.#arrivedTimes(arrival)
    let reply: Msg
    try {
      reply = await this.#send(connection, contract, body, context, timeout, signal)
    } catch (error) {
      if (signal?.aborted) throw abortError(signal)
      if (!this.#options.bus.connected) throw this.#busAway(contract, context)
      // Whoever took the request, or was not there to take it, has been replaced meanwhile: the newcomer is not to blame.
      throw transportFault(error, contract, timeout, correlationId, this.#arrivedTimes(arrival) === arrivedBefore)
    }
    return readReply(contract, reply, correlationId)
  }

  #arrivedTimes(subject: string): number {
    return this.#arrivals.get(subject) ?? 0
  }

  #causeOf(error: unknown): Cause {
    if (!(error instanceof RpcFault)) return 'answer'
    if (this.#busFaults.has(error)) return 'bus'
    return error.origin === 'transport' && error.code === 'Network' ? 'absence' : 'answer'
  }

  /** Once all have left the window, or the circuit has closed again, earlier failures no longer speak. */
  #remember(breaker: Breaker, cause: Cause): void {
    const before = breaker.state === 'closed' && breaker.failures === 0 ? undefined : this.#causes.get(breaker)
    this.#causes.set(breaker, before === undefined || GRAVITY[cause] > GRAVITY[before] ? cause : before)
  }

  #probe(gone: (cause: Cause, owner: ServiceName) => boolean): void {
    for (const [breaker, cause] of this.#causes) {
      const owner = this.#owners.get(breaker)
      if (owner !== undefined && gone(cause, owner)) breaker.probeNow()
    }
  }

  /** NATS's own timer ends the request and its entry in the inbox; whatever happens first wins. */
  #send(
    connection: NatsConnection,
    contract: Contract,
    body: Uint8Array,
    context: CallContext & { caller: ServiceName },
    timeout: number,
    signal: AbortSignal | undefined,
  ): Promise<Msg> {
    const { promise, resolve, reject } = Promise.withResolvers<Msg>()
    const giveUp = AbortSignal.any(signal ? [signal, this.#options.bus.lost] : [this.#options.bus.lost])
    const onAbort = () => reject(giveUp.reason as Error)
    giveUp.addEventListener('abort', onAbort, { once: true })
    connection.request(contract.subject, body, { timeout, headers: requestHeaders(context) }).then(resolve, reject)
    return promise.finally(() => giveUp.removeEventListener('abort', onAbort))
  }

  #busAway(contract: Contract, { correlationId }: CallContext): RpcFault {
    const fault = new RpcFault('Network', contract.subject, 'not connected to NATS', { origin: 'transport', correlationId })
    this.#busFaults.add(fault)
    return fault
  }
}

function isRefusal(response: unknown): boolean {
  return typeof response === 'object' && response !== null && 'ok' in response && response.ok === false
}

/** Names of fields only: values may be anything. */
export function issuePaths(error: z.ZodError): string {
  return error.issues
    .slice(0, 5)
    .map((issue) => `${issue.path.map(String).join('.') || '(root)'} ${issue.code}`)
    .join(', ')
}

function abortError(signal: AbortSignal): Error {
  const reason: unknown = signal.reason
  return reason instanceof Error ? reason : new DOMException('the caller gave up', 'AbortError')
}

/** @param sameCallee false when the callee has arrived anew while the call waited */
function transportFault(error: unknown, contract: Contract, timeout: number, correlationId: string, sameCallee: boolean): RpcFault {
  const code = (error as { code?: unknown }).code
  const at = { origin: 'transport', correlationId, fair: sameCallee } as const
  if (code === ErrorCode.NoResponders) return new RpcFault('Network', contract.subject, 'nobody listens', at)
  // Half of the promised time is taken as fair; a request that had almost used up its own deadline is not.
  const inTime = timeout >= contract.timeoutMs / 2
  if (code === ErrorCode.Timeout)
    return new RpcFault('Network', contract.subject, `no answer within ${timeout} ms`, { ...at, fair: sameCallee && inTime })
  if (code === ErrorCode.PermissionsViolation)
    return new RpcFault('Internal', contract.subject, 'the NATS permissions do not allow this call', { ...at, origin: 'caller' })
  return new RpcFault('Network', contract.subject, 'the request could not be sent', { ...at, cause: error })
}

function readReply<C extends Contract>(contract: C, reply: Msg, correlationId: string): ResponseOf<C> {
  const unreadable = (why: string, cause?: unknown) =>
    new RpcFault('Serialization', contract.subject, why, { origin: 'transport', correlationId, cause })
  let body: unknown
  try {
    body = decodeBus(reply.data)
  } catch (error) {
    throw unreadable('the reply is not CBOR', error)
  }
  if (isFault(reply.headers)) {
    const fault = faultBody.safeParse(body)
    if (!fault.success) throw unreadable('an unreadable fault')
    const { retryAfterMs } = fault.data
    throw new RpcFault(fault.data.fault, contract.subject, `the callee reports ${fault.data.fault}`, {
      origin: 'callee',
      correlationId,
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    })
  }
  const parsed = contract.response.safeParse(body)
  if (!parsed.success) throw unreadable(`the reply is outside the schema: ${issuePaths(parsed.error)}`)
  return parsed.data as ResponseOf<C>
}

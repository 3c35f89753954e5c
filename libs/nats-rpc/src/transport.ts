/**
 * Nest's transport strategy over the `nats` client: subscribes every @Handles method in the service's queue group,
 * validates both directions, and never lets an internal text out. Nest's own NATS transport would print raw errors,
 * mangle bytes and drop calls in flight at shutdown.
 * @see docs/spec/bus.md §4
 */
import { Server, type CustomTransportStrategy, type MessageHandler } from '@nestjs/microservices'
import { MAX_BUS_BYTES, type Contract, type ServiceName } from '@tallystick/contracts/call'
import { ERROR_CODES, type ErrorCode } from '@tallystick/contracts/codes'
import type { Msg, NatsConnection, Subscription } from 'nats'
import type { Registry } from 'prom-client'
import { lastValueFrom } from 'rxjs'
import { issuePaths } from './client.js'
import { decodeBus, encodeBus } from './codec.js'
import type { Bus, BusLog } from './connection.js'
import { runRequest, traceIdOf, type CallContext } from './context.js'
import { HandlerThrew } from './handles.js'
import { faultHeaders, readRequestHeaders } from './headers.js'
import { busMetrics, type BusMetrics } from './metrics.js'
import { arrivalSubject } from './permissions.js'

export interface NatsTransportOptions {
  readonly bus: Bus
  readonly service: ServiceName
  readonly log: BusLog
  readonly metrics: Registry
  /** Most requests handled at once; the next one gets a RateLimited fault. Default 512. */
  readonly maxInFlight?: number
  /** Most bytes of requests handled at once. Default 256 MiB. */
  readonly maxInFlightBytes?: number
  /** Longest wait for handlers at close, milliseconds. Default 30,000: the longest deadline of the catalogue. */
  readonly drainMs?: number
}

export const MAX_IN_FLIGHT = 512
export const MAX_IN_FLIGHT_BYTES = 256 * 1024 * 1024
export const DRAIN_MS = 30_000
/** What a caller is told to wait when this replica is full, milliseconds. */
const BUSY_RETRY_MS = 250
/** Room for headers beside a reply's body. */
const HEADER_BYTES = 256

const KNOWN_CODES: ReadonlySet<string> = new Set(ERROR_CODES)

class Fault extends Error {
  constructor(
    readonly code: ErrorCode,
    readonly retryAfterMs?: number,
  ) {
    super(code)
  }
}

export class NatsTransport extends Server implements CustomTransportStrategy {
  override readonly transportId = Symbol('tallystick-nats')
  readonly #options: NatsTransportOptions
  readonly #metrics: BusMetrics
  readonly #inFlight = new Set<Promise<void>>()
  #inFlightBytes = 0
  #subscriptions: Subscription[] = []
  #endConnections: () => void = () => undefined

  constructor(options: NatsTransportOptions) {
    super()
    this.#options = options
    this.#metrics = busMetrics(options.metrics)
  }

  /** Does not wait for NATS: the handlers are subscribed whenever a connection is there. */
  listen(callback: (error?: unknown) => void): void {
    for (const [subject, handler] of this.getHandlers()) {
      const owner = contractOf(handler, subject).owner
      if (owner !== this.#options.service) return callback(new Error(`${subject} belongs to ${owner}, not to ${this.#options.service}`))
    }
    const { bus } = this.#options
    const ends = [bus.onConnection((connection) => this.#subscribe(connection)), bus.onReconnect(() => this.#sayArrived(bus.connection()))]
    this.#endConnections = () => ends.forEach((end) => end())
    callback()
  }

  /** Takes no new request, lets those in flight answer, then returns. The bus itself stays open. */
  async close(): Promise<void> {
    this.#endConnections()
    const drained = Promise.allSettled(this.#subscriptions.filter((s) => !s.isClosed()).map((s) => s.drain()))
    await this.#within(drained, this.#options.bus.connected ? CLOSE_SUBSCRIPTIONS_MS : 0)
    this.#subscriptions = []
    const drainMs = this.#options.drainMs ?? DRAIN_MS
    const finished = await this.#within(this.#idle(), drainMs)
    if (!finished) this.#options.log.warn({ count: this.#inFlight.size, durationMs: drainMs }, 'requests were still in flight at shutdown')
  }

  on(): never {
    throw new Error('this transport has no events; see Bus')
  }

  unwrap<T>(): T {
    return this.#options.bus as T
  }

  #subscribe(connection: NatsConnection): void {
    this.#subscriptions = [...this.getHandlers()].map(([subject, handler]) => {
      const contract = contractOf(handler, subject)
      return connection.subscribe(subject, {
        queue: this.#options.service,
        callback: (error, message) => {
          // The server refused the subscription: Bus has logged and counted it.
          if (!error) this.#receive(contract, handler, message)
        },
      })
    })
    this.#sayArrived(connection)
  }

  /** Sent behind the subscriptions on the same connection: whoever hears it can call at once. */
  #sayArrived(connection: NatsConnection | undefined): void {
    connection?.publish(arrivalSubject(this.#options.service))
  }

  #receive(contract: Contract, handler: MessageHandler, message: Msg): void {
    const size = message.data.length
    const work = this.#serve(contract, handler, message).finally(() => {
      this.#inFlight.delete(work)
      this.#inFlightBytes -= size
      this.#metrics.inFlight.dec()
    })
    this.#inFlight.add(work)
    this.#inFlightBytes += size
    this.#metrics.inFlight.inc()
  }

  async #serve(contract: Contract, handler: MessageHandler, message: Msg): Promise<void> {
    // After a reconnect the server no longer knows that this reply is allowed.
    const lost = this.#options.bus.lost
    const context = readRequestHeaders(message.headers)
    if (context.deadline <= Date.now()) {
      this.#metrics.expired.inc({ target: contract.subject })
      this.#options.log.debug(this.#fields(contract, context), 'a request came after its deadline and was not executed')
      return
    }
    let reply: { body: Uint8Array; fault: boolean }
    try {
      this.#admit()
      const request = readRequest(contract, message.data)
      const result: unknown = await runRequest(context, async () =>
        lastValueFrom(this.transformToObservable(await handler(request, context))),
      )
      if (result instanceof HandlerThrew) throw result.error
      reply = { body: writeResponse(contract, result), fault: false }
    } catch (error) {
      reply = { body: this.#fault(contract, context, error), fault: true }
    }
    if (lost.aborted) return
    try {
      message.respond(reply.body, reply.fault ? { headers: faultHeaders() } : {})
    } catch (error) {
      this.#options.log.error({ ...this.#fields(contract, context), err: error }, 'a reply could not be sent')
    }
  }

  #admit(): void {
    const { maxInFlight = MAX_IN_FLIGHT, maxInFlightBytes = MAX_IN_FLIGHT_BYTES } = this.#options
    // The request itself is counted from the moment that #receive returns.
    if (this.#inFlight.size >= maxInFlight || this.#inFlightBytes >= maxInFlightBytes) throw new Fault('RateLimited', BUSY_RETRY_MS)
  }

  /** The one place where an unexpected error is logged and given a code. */
  #fault(contract: Contract, context: CallContext, error: unknown): Uint8Array {
    const named = (error as { code?: unknown } | null | undefined)?.code
    const code = typeof named === 'string' && KNOWN_CODES.has(named) ? (named as ErrorCode) : 'Internal'
    const retryAfterMs = (error as { retryAfterMs?: unknown } | null | undefined)?.retryAfterMs
    const level = error instanceof Fault ? 'warn' : 'error'
    this.#options.log[level](
      { ...this.#fields(contract, context), code, ...(error instanceof Fault ? {} : { err: error }) },
      'a request ended in a fault',
    )
    return encodeBus({
      fault: code,
      ...(typeof retryAfterMs === 'number' && Number.isSafeInteger(retryAfterMs) && retryAfterMs >= 0 ? { retryAfterMs } : {}),
    })
  }

  #fields(contract: Contract, context: CallContext): object {
    const { subject } = contract
    const { correlationId, caller, traceparent } = context
    return { subject, correlationId, traceId: traceIdOf(traceparent), ...(caller === undefined ? {} : { from: caller }) }
  }

  async #idle(): Promise<void> {
    while (this.#inFlight.size > 0) await Promise.allSettled(this.#inFlight)
  }

  /** @returns false when the time ran out first */
  async #within(work: Promise<unknown>, ms: number): Promise<boolean> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<false>((resolve) => {
      timer = setTimeout(() => resolve(false), ms)
    })
    try {
      return await Promise.race([work.then(() => true), late])
    } finally {
      clearTimeout(timer)
    }
  }
}

/** Longest wait for the server to confirm that it sends no more, milliseconds. */
const CLOSE_SUBSCRIPTIONS_MS = 2_000

function contractOf(handler: MessageHandler, subject: string): Contract {
  const contract = (handler.extras as { contract?: Contract } | undefined)?.contract
  if (!contract) throw new Error(`${subject} is not declared with @Handles`)
  return contract
}

function readRequest(contract: Contract, bytes: Uint8Array): unknown {
  let request: unknown
  try {
    request = decodeBus(bytes)
  } catch {
    throw new Fault('Serialization')
  }
  const parsed = contract.request.safeParse(request)
  if (!parsed.success) throw new Fault('Serialization')
  return parsed.data
}

/** @throws Error when the handler's result is outside its own contract: our defect, hence Internal */
function writeResponse(contract: Contract, result: unknown): Uint8Array {
  const parsed = contract.response.safeParse(result)
  if (!parsed.success) throw new Error(`response outside the schema: ${issuePaths(parsed.error)}`)
  const body = encodeBus(parsed.data)
  if (body.length > MAX_BUS_BYTES - HEADER_BYTES)
    throw new Error(`response of ${body.length} bytes, at most ${MAX_BUS_BYTES - HEADER_BYTES}`)
  return body
}

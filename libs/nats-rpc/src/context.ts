/**
 * What travels beside a request: correlation id, W3C trace context, deadline, caller. Kept in an AsyncLocalStorage, so
 * that a call made while a request is handled belongs to the same trace and cannot outlive the request's deadline.
 * @see docs/spec/bus.md §3
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { randomBytes, randomUUID } from 'node:crypto'
import type { ServiceName } from '@tallystick/contracts/call'

export interface CallContext {
  readonly correlationId: string
  /** As the caller says; who may call at all is enforced by the NATS permissions. */
  readonly caller?: ServiceName
  /** W3C `00-<trace id>-<span id>-<flags>`; the span is the current one. */
  readonly traceparent: string
  /** Milliseconds since the epoch; MAX_SAFE_INTEGER when there is none. */
  readonly deadline: number
}

export const NO_DEADLINE = Number.MAX_SAFE_INTEGER

interface Entry {
  readonly context: CallContext
  /** False once the request is answered: background work started by it keeps the trace and loses the deadline. */
  live: boolean
}

const storage = new AsyncLocalStorage<Entry>()

const TRACEPARENT = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/
const CORRELATION_ID = /^[0-9A-Za-z][0-9A-Za-z._-]{0,63}$/

/** @returns the trace id, 32 hex digits, or undefined when the header is malformed or all zero */
export function traceIdOf(traceparent: string): string | undefined {
  const match = TRACEPARENT.exec(traceparent)
  return match && !/^0+$/.test(match[1]!) && !/^0+$/.test(match[2]!) ? match[1] : undefined
}

/** A new span in the given trace; a new trace if there is none or it is malformed. Span ids are random, not secret. */
export function childTraceparent(parent: string | undefined): string {
  const match = parent !== undefined && traceIdOf(parent) !== undefined ? TRACEPARENT.exec(parent) : null
  const trace = match?.[1] ?? randomBytes(16).toString('hex')
  return `00-${trace}-${randomBytes(8).toString('hex')}-${match?.[3] ?? '01'}`
}

/** An id from outside is taken over only in a harmless alphabet; it ends in logs and headers. */
export function correlationIdOr(given: string | undefined): string {
  return given !== undefined && CORRELATION_ID.test(given) ? given : randomUUID()
}

/** The context of the request being handled, or undefined outside of one. */
export function currentContext(): CallContext | undefined {
  return storage.getStore()?.context
}

/** The deadline that a nested call inherits. */
export function inheritedDeadline(): number {
  const entry = storage.getStore()
  return entry?.live ? entry.context.deadline : NO_DEADLINE
}

/**
 * Run in a context; what is not given is new. At the HTTP edge: `runInContext({ traceparent: header }, next)`.
 * @param context traceparent is the caller's span; a child of it becomes the current one
 */
export function runInContext<T>(context: Partial<CallContext>, fn: () => T): T {
  return storage.run({ context: freshContext(context), live: true }, fn)
}

/** As `runInContext`, for a request that ends: afterwards its deadline binds nobody. */
export async function runRequest<T>(context: CallContext, fn: () => Promise<T>): Promise<T> {
  const entry: Entry = { context, live: true }
  try {
    return await storage.run(entry, fn)
  } finally {
    entry.live = false
  }
}

export function freshContext(given: Partial<CallContext>): CallContext {
  return {
    correlationId: correlationIdOr(given.correlationId),
    traceparent: childTraceparent(given.traceparent),
    deadline: given.deadline ?? NO_DEADLINE,
    ...(given.caller === undefined ? {} : { caller: given.caller }),
  }
}

/** The NATS headers of a request and of a fault. @see docs/spec/bus.md §3 */
import { SERVICE_NAMES, type ServiceName } from '@tallystick/contracts/call'
import { headers, type MsgHdrs } from 'nats'
import { freshContext, NO_DEADLINE, type CallContext } from './context.js'

const CORRELATION_ID = 'Tallystick-Correlation-Id'
const DEADLINE = 'Tallystick-Deadline'
const CALLER = 'Tallystick-Caller'
const TRACEPARENT = 'traceparent'
/** Present on a reply whose body is `{ fault, retryAfterMs? }` instead of the contract's response. */
const FAULT = 'Tallystick-Fault'

export function requestHeaders(context: CallContext & { caller: ServiceName }): MsgHdrs {
  const h = headers()
  h.set(CORRELATION_ID, context.correlationId)
  h.set(TRACEPARENT, context.traceparent)
  h.set(DEADLINE, String(context.deadline))
  h.set(CALLER, context.caller)
  return h
}

/** What the request says of itself; anything malformed is replaced by something new. */
export function readRequestHeaders(h: MsgHdrs | undefined): CallContext {
  const deadline = h?.get(DEADLINE) ?? ''
  const caller = SERVICE_NAMES.find((name) => name === h?.get(CALLER))
  return freshContext({
    correlationId: h?.get(CORRELATION_ID),
    traceparent: h?.get(TRACEPARENT),
    deadline: /^[0-9]{1,16}$/.test(deadline) ? Number(deadline) : NO_DEADLINE,
    ...(caller === undefined ? {} : { caller }),
  })
}

export function faultHeaders(): MsgHdrs {
  const h = headers()
  h.set(FAULT, '1')
  return h
}

export function isFault(h: MsgHdrs | undefined): boolean {
  return h?.has(FAULT) ?? false
}

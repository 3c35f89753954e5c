/** What an answer of session-svc or relay-svc means for a message: wait and try again, wait for a person, or the end. */
import type { Refusal } from '@tallystick/contracts/codes'
import { RpcFault } from '@tallystick/nats-rpc/fault'
import type { Limits } from '../limits.js'

/** No retry can change these: the message itself cannot be sent. */
const FINAL: readonly string[] = ['Serialization', 'EndpointTooLarge', 'UnsupportedVersion', 'InvalidRequest', 'SuiteBelowPolicy']
/** Only a person can help; the message waits without a hurry. */
const NEEDS_A_PERSON: readonly string[] = ['PeerBlocked', 'IdentityChanged', 'ContinuityBroken']

export interface Wait {
  readonly code: string
  readonly cause: string
  readonly nextAttemptAt: Date
}

export function isFinal(refusal: Pick<Refusal, 'code'>): boolean {
  return FINAL.includes(refusal.code)
}

/** @param attempts tries so far, this one included */
export function waitAfter(
  refusal: Pick<Refusal, 'code' | 'message' | 'retryAfterMs'>,
  attempts: number,
  now: number,
  limits: Pick<Limits, 'retryFirstMs' | 'retryMaxMs' | 'retryBlockedMs'>,
): Wait {
  const backoff = Math.min(limits.retryMaxMs, limits.retryFirstMs * 2 ** Math.min(Math.max(0, attempts - 1), 16))
  // An open circuit answers at once and may let a probe through long before its reset time: looking again costs nothing.
  const delay = NEEDS_A_PERSON.includes(refusal.code)
    ? limits.retryBlockedMs
    : refusal.code === 'CircuitBreakerOpen'
      ? limits.retryFirstMs
      : Math.min(limits.retryMaxMs, Math.max(backoff, refusal.retryAfterMs ?? 0))
  return { code: refusal.code, cause: refusal.message.slice(0, 300), nextAttemptAt: new Date(now + delay) }
}

/** A fault of the bus as a reason to wait. @throws anything else */
export function faultAsRefusal(error: unknown): Pick<Refusal, 'code' | 'message' | 'retryAfterMs'> {
  if (!(error instanceof RpcFault)) throw error
  const service = `${error.subject.split('.')[0]}-svc`
  const message =
    error.code === 'CircuitBreakerOpen'
      ? `${service} failed repeatedly; calls to it are paused.`
      : error.code === 'Network'
        ? `${service} is not reachable.`
        : `${service} failed (${error.code}).`
  return { code: error.code, message, ...(error.retryAfterMs === undefined ? {} : { retryAfterMs: error.retryAfterMs }) }
}

/** The service is not there; that says nothing about the messages. */
export function isAway(error: unknown): boolean {
  return error instanceof RpcFault && (error.code === 'Network' || error.code === 'CircuitBreakerOpen')
}

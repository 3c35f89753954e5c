/**
 * When an epoch ends: application messages 1 to 100 belong to it, message 101 is the first of the next, and so is the
 * first message at an age of 24 h, and the first after a person has asked for it.
 * @see docs/spec/custody.md §6
 */
import type { Limits } from '../limits.js'
import type { SessionRow } from './sessions.store.js'

export type MessageClass = 'application' | 'control'
export type RotationReason = 'messages' | 'age' | 'manual' | 'resync'

type Counted = Pick<SessionRow, 'sentApplication' | 'sentControl' | 'startedAt' | 'lastUsedAt'>
/** What a person has decided about the epochs with this peer. */
export interface RotationPolicy {
  /** Application messages per epoch; null: the limit of the service. */
  readonly rotateEvery: number | null
  readonly rotateRequested: boolean
}

/** @returns why the next message of this class must not be sent in this epoch; undefined when it may */
export function rotationDue(
  session: Counted,
  policy: RotationPolicy,
  messageClass: MessageClass,
  now: number,
  limits: Limits,
): RotationReason | undefined {
  const sent = messageClass === 'application' ? session.sentApplication : session.sentControl
  const most = messageClass === 'application' ? messagesPerEpoch(policy, limits) : limits.controlMessagesPerEpoch
  if (sent >= most) return 'messages'
  // A clock set back makes the age unknowable: early is right, late would not be.
  if (now < session.lastUsedAt.getTime() - limits.clockBackToleranceMs) return 'age'
  if (epochAge(session, now) >= limits.rotateAfterMs) return 'age'
  return policy.rotateRequested ? 'manual' : undefined
}

/** The peer's next bundle should be at hand soon. */
export function prefetchDue(session: Counted, policy: RotationPolicy, now: number, limits: Limits): boolean {
  const most = messagesPerEpoch(policy, limits)
  return session.sentApplication * 100 >= most * limits.prefetchAtPercent || epochAge(session, now) >= limits.prefetchAfterMs
}

/** Application messages that this side sends in an epoch with this peer. */
export function messagesPerEpoch({ rotateEvery }: Pick<RotationPolicy, 'rotateEvery'>, limits: Limits): number {
  return Math.min(rotateEvery ?? limits.rotateAfterMessages, limits.rotateAfterMessages)
}

/** Milliseconds, by the latest clock that any writer has seen. */
export function epochAge(session: Pick<SessionRow, 'startedAt' | 'lastUsedAt'>, now: number): number {
  return Math.max(0, Math.max(now, session.lastUsedAt.getTime()) - session.startedAt.getTime())
}

/**
 * When an epoch ends: application messages 1 to 100 belong to it, message 101 is the first of the next, and so is the
 * first message at an age of 24 h.
 * @see docs/spec/custody.md §6
 */
import type { Limits } from '../limits.js'
import type { SessionRow } from './sessions.store.js'

export type MessageClass = 'application' | 'control'
export type RotationReason = 'messages' | 'age'

/** @returns why the next message of this class must not be sent in this epoch; undefined when it may */
export function rotationDue(
  session: Pick<SessionRow, 'sentApplication' | 'sentControl' | 'startedAt' | 'lastUsedAt'>,
  messageClass: MessageClass,
  now: number,
  limits: Limits,
): RotationReason | undefined {
  const sent = messageClass === 'application' ? session.sentApplication : session.sentControl
  const most = messageClass === 'application' ? limits.rotateAfterMessages : limits.controlMessagesPerEpoch
  if (sent >= most) return 'messages'
  // A clock set back makes the age unknowable: early is right, late would not be.
  if (now < session.lastUsedAt.getTime() - limits.clockBackToleranceMs) return 'age'
  return epochAge(session, now) >= limits.rotateAfterMs ? 'age' : undefined
}

/** Milliseconds, by the latest clock that any writer has seen. */
export function epochAge(session: Pick<SessionRow, 'startedAt' | 'lastUsedAt'>, now: number): number {
  return Math.max(0, Math.max(now, session.lastUsedAt.getTime()) - session.startedAt.getTime())
}

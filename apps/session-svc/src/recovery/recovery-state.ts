/**
 * What is known about the understanding with one peer, and what follows from an event: pure functions, so that the
 * table of the specification can be read off and tested without a database.
 * @see docs/spec/custody.md §7.1, §7.2
 */
import type { ErrorCode } from '@tallystick/contracts/codes'
import type { Limits } from '../limits.js'

export type RecoveryState = 'ok' | 'suspect' | 'resync_required' | 'resync_sent'

export interface Recovery {
  readonly state: RecoveryState
  /** One sentence; empty when `ok`. */
  readonly reason: string
  /** When the state began; null when `ok`. */
  readonly since: Date | null
  /** Messages that did not open since the last one that did. */
  readonly failures: number
  /** New sessions begun in this resync; the second and later ones continue nothing. */
  readonly attempts: number
  /** When the last new session of a resync began, own or accepted. */
  readonly sentAt: Date | null
  /** Start of the day that `today` counts. */
  readonly day: Date | null
  /** Resyncs begun or accepted without a person. */
  readonly today: number
  /** A person has approved a reset until then. */
  readonly allowedUntil: Date | null
}

export type RecoveryLimits = Pick<
  Limits,
  'suspectFailures' | 'suspectMs' | 'resyncAnswerMs' | 'resyncsPerDay' | 'resyncSettleMs' | 'resyncApprovalMs' | 'resyncPolicy'
>

const DAY_MS = 24 * 3_600_000
/** Attempts after which the wait for an answer is not doubled any more. */
const MOST_DOUBLINGS = 10

/** Refusals of `open` that say that the two sides may not understand each other any longer. */
const COUNTED: readonly ErrorCode[] = ['Decryption', 'ResyncRequired', 'EpochExpired', 'ContinuityBroken']

export function counts(code: ErrorCode): boolean {
  return COUNTED.includes(code)
}

/**
 * Messages of epochs below the present one were on their way when a new session began: for a while they say nothing.
 * @param epoch of the message that did not open; `present` is that of the session that is sent on
 */
export function wasOnItsWay(r: Recovery, epoch: number, present: number, now: number, limits: RecoveryLimits): boolean {
  return epoch < present && r.sentAt !== null && Math.abs(now - r.sentAt.getTime()) < limits.resyncSettleMs
}

/** A message of the peer did not open. */
export function failed(r: Recovery, now: number, limits: RecoveryLimits): Recovery {
  const failures = r.failures + 1
  if (r.state === 'ok') return { ...r, state: 'suspect', reason: 'a message of the peer did not open', since: new Date(now), failures }
  if (r.state !== 'suspect') return r
  const long = Math.abs(now - (r.since?.getTime() ?? now)) >= limits.suspectMs
  if (failures < limits.suspectFailures && !long) return { ...r, failures }
  return required(r, 'messages of the peer do not open', now)
}

/**
 * A message of the peer opened.
 * @param inNewest in a session of the newest epoch that was not given up
 */
export function succeeded(r: Recovery, inNewest: boolean): Recovery {
  if (r.state === 'ok') return r
  return r.state === 'suspect' || inNewest ? fine(r) : r
}

function fine(r: Recovery): Recovery {
  return { ...r, state: 'ok', reason: '', since: null, failures: 0, attempts: 0, allowedUntil: null }
}

/** Only a new session helps. */
export function required(r: Recovery, reason: string, now: number): Recovery {
  return { ...r, state: 'resync_required', reason, since: new Date(now), failures: 0, attempts: 0 }
}

/** A person asks: nothing is to be continued, and the peer may start over as well. */
export function askedFor(r: Recovery, now: number, limits: RecoveryLimits): Recovery {
  const allowedUntil = new Date(now + limits.resyncApprovalMs)
  return { ...required(r, 'a person asked for a new session', now), attempts: 1, allowedUntil }
}

/** A new session has to be begun before anything is sent, or the last one has waited long enough for an answer. */
export function isDue(r: Recovery, now: number, limits: RecoveryLimits): boolean {
  if (r.state === 'resync_required') return true
  if (r.state !== 'resync_sent' || r.sentAt === null) return false
  const wait = limits.resyncAnswerMs * 2 ** Math.min(Math.max(0, r.attempts - 1), MOST_DOUBLINGS)
  return Math.abs(now - r.sentAt.getTime()) >= wait
}

/** This side may begin one now. */
export function mayBegin(r: Recovery, now: number, limits: RecoveryLimits): boolean {
  // An approval stays good for the resync that it was given for, however long the peer is away.
  const forThis = r.allowedUntil !== null && r.since !== null && r.allowedUntil > r.since
  return forThis || isApproved(r, now) || byItself(r, now, limits)
}

/** The peer may begin one now. One that crosses our own needs no other permission than that had. */
export function mayAccept(r: Recovery, now: number, limits: RecoveryLimits): boolean {
  return r.state === 'resync_sent' || isApproved(r, now) || byItself(r, now, limits)
}

/** A new session of this side has begun. */
export function began(r: Recovery, now: number): Recovery {
  const since = r.state === 'resync_sent' ? r.since : new Date(now)
  return {
    ...counted(r, now),
    state: 'resync_sent',
    reason: r.reason || 'a new session has begun',
    since,
    failures: 0,
    attempts: r.attempts + 1,
  }
}

/** A reset of the peer was accepted, and its first message opened. */
export function accepted(r: Recovery, now: number): Recovery {
  return fine(r.state === 'resync_sent' ? { ...r, sentAt: new Date(now) } : counted(r, now))
}

function isApproved({ allowedUntil }: Recovery, now: number): boolean {
  return allowedUntil !== null && now <= allowedUntil.getTime()
}

function byItself(r: Recovery, now: number, limits: RecoveryLimits): boolean {
  return limits.resyncPolicy === 'auto' && today(r, now) < limits.resyncsPerDay
}

function today(r: Recovery, now: number): number {
  // A clock set back leaves the count as it is: the limit must not be had anew for the price of a clock.
  return r.day === null || now - r.day.getTime() >= DAY_MS ? 0 : r.today
}

function counted(r: Recovery, now: number): Recovery {
  const before = today(r, now)
  const byPerson = isApproved(r, now)
  return { ...r, day: before === 0 ? new Date(now) : r.day, today: before + (byPerson ? 0 : 1), sentAt: new Date(now) }
}

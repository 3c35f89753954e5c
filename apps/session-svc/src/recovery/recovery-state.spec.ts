import { describe, expect, it } from 'vitest'
import {
  limitsEnv,
  limitsFrom,
  RESYNC_ANSWER_MS,
  RESYNC_APPROVAL_MS,
  RESYNC_SETTLE_MS,
  RESYNCS_PER_DAY,
  SUSPECT_FAILURES,
  SUSPECT_MS,
} from '../limits.js'
import {
  accepted,
  askedFor,
  began,
  counts,
  failed,
  isDue,
  mayAccept,
  mayBegin,
  type Recovery,
  required,
  succeeded,
  wasOnItsWay,
} from './recovery-state.js'

const limits = limitsFrom(limitsEnv.parse({}))
const manual = { ...limits, resyncPolicy: 'manual' as const }
const HOUR = 3_600_000
const NOW = Date.UTC(2026, 0, 15, 12)
const OK: Recovery = {
  state: 'ok',
  reason: '',
  since: null,
  failures: 0,
  attempts: 0,
  sentAt: null,
  day: null,
  today: 0,
  allowedUntil: null,
}
const times = (n: number, step: (r: Recovery) => Recovery, from: Recovery) =>
  Array.from({ length: n }).reduce<Recovery>((r) => step(r), from)

describe('the table of states', () => {
  it('ok, suspect at the first failure, resync_required at the third; a success between starts over', () => {
    const one = failed(OK, NOW, limits)
    expect(one).toMatchObject({ state: 'suspect', failures: 1, since: new Date(NOW) })
    expect(times(SUSPECT_FAILURES - 1, (r) => failed(r, NOW, limits), OK).state).toBe('suspect')
    expect(times(SUSPECT_FAILURES, (r) => failed(r, NOW, limits), OK).state).toBe('resync_required')
    expect(succeeded(one, false)).toEqual(OK)
    expect(times(SUSPECT_FAILURES - 1, (r) => failed(r, NOW, limits), succeeded(failed(one, NOW, limits), false)).state).toBe('suspect')
  })

  it('a failure a minute after the first is enough, a millisecond earlier it is not', () => {
    expect(failed(failed(OK, NOW, limits), NOW + SUSPECT_MS - 1, limits).state).toBe('suspect')
    expect(failed(failed(OK, NOW, limits), NOW + SUSPECT_MS, limits).state).toBe('resync_required')
  })

  it('only refusals that speak of the session count', () => {
    expect((['Decryption', 'ResyncRequired', 'EpochExpired', 'ContinuityBroken'] as const).every(counts)).toBe(true)
    expect((['DuplicateMessage', 'ReplayDetected', 'VerificationFailed', 'NotReady', 'Serialization'] as const).some(counts)).toBe(false)
  })

  it('a message heals a resync only in a session of the newest epoch', () => {
    const sent = began(required(OK, 'x', NOW), NOW)
    expect(succeeded(sent, false)).toBe(sent)
    expect(succeeded(sent, true).state).toBe('ok')
    expect(succeeded(required(OK, 'x', NOW), false).state).toBe('resync_required')
  })

  it('messages that were on their way do not count for ten minutes', () => {
    const healed = succeeded(began(required(OK, 'x', NOW), NOW), true)
    expect(wasOnItsWay(healed, 3, 4, NOW + RESYNC_SETTLE_MS - 1, limits)).toBe(true)
    expect(wasOnItsWay(healed, 4, 4, NOW + 1, limits)).toBe(false)
    expect(wasOnItsWay(healed, 3, 4, NOW + RESYNC_SETTLE_MS, limits)).toBe(false)
    expect(wasOnItsWay(OK, 3, 4, NOW, limits)).toBe(false)
  })
})

describe('attempts', () => {
  it('wait a minute for an answer, then twice as long each time', () => {
    let r = began(required(OK, 'x', NOW), NOW)
    let at = NOW
    for (const minutes of [1, 2, 4, 8]) {
      expect(isDue(r, at + minutes * RESYNC_ANSWER_MS - 1, limits)).toBe(false)
      expect(isDue(r, at + minutes * RESYNC_ANSWER_MS, limits)).toBe(true)
      at += minutes * RESYNC_ANSWER_MS
      r = began(r, at)
    }
    expect(r.attempts).toBe(5)
  })

  it('ten in a day without a person, own and accepted together; a clock set back gives no more', () => {
    let r: Recovery = OK
    for (let i = 0; i < RESYNCS_PER_DAY; i++) {
      expect(mayBegin(r, NOW + i, limits)).toBe(true)
      r = i % 2 === 0 ? succeeded(began(required(r, 'x', NOW + i), NOW + i), true) : accepted(r, NOW + i)
    }
    expect(mayBegin(required(r, 'x', NOW), NOW + HOUR, limits)).toBe(false)
    expect(mayAccept(r, NOW + HOUR, limits)).toBe(false)
    expect(mayAccept(r, NOW - 48 * HOUR, limits)).toBe(false)
    expect(mayAccept(r, NOW + 24 * HOUR - 1, limits)).toBe(false)
    expect(mayAccept(r, NOW + 24 * HOUR, limits)).toBe(true)
  })

  it('with the manual policy only a person; an approval covers own attempts until healed, resets of the peer for an hour', () => {
    const broken = required(OK, 'x', NOW)
    expect(mayBegin(broken, NOW, manual)).toBe(false)
    expect(mayAccept(broken, NOW, manual)).toBe(false)
    const asked = askedFor(broken, NOW, manual)
    expect(asked).toMatchObject({ state: 'resync_required', attempts: 1 })
    expect(mayBegin(asked, NOW + 30 * HOUR, manual)).toBe(true)
    expect(mayAccept(asked, NOW + RESYNC_APPROVAL_MS, manual)).toBe(true)
    expect(mayAccept(asked, NOW + RESYNC_APPROVAL_MS + 1, manual)).toBe(false)
    expect(mayBegin(required(succeeded(began(asked, NOW), true), 'y', NOW), NOW, manual)).toBe(false)
  })
})

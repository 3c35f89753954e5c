import { describe, expect, it } from 'vitest'
import { checkConsent, covers, isConsented, requireConsent, type Consent } from './consent.js'
import { DomainError } from './errors.js'
import { applyEvent, mayEdit, mayIssue, mayShare, statusOf, type DocumentEvent } from './lifecycle.js'
import { isTerminalShare, nextShareState, type ShareState } from './share.js'
import { checkVerdict, fromPeppol, mayFollow, PEPPOL_CODES, peppolOfReceipt, toPeppol, VERDICTS } from './verdict.js'

const happened = (...types: string[]): DocumentEvent[] =>
  types.map(
    (type, at) => ((VERDICTS as readonly string[]).includes(type) ? { type: 'verdict', at, verdict: type } : { type, at }) as DocumentEvent,
  )

describe('the life of a document', () => {
  it.each([
    [['created'], 'draft'],
    [['created', 'edited', 'issued'], 'issued'],
    [['created', 'issued', 'shared', 'shared'], 'shared'],
    [['created', 'issued', 'shared', 'accepted', 'shared', 'paid'], 'paid'],
    [['created', 'issued', 'shared', 'disputed', 'rejected'], 'rejected'],
    [['created', 'issued', 'shared', 'accepted', 'shredded'], 'shredded'],
  ])('%j leads to %s', (types, status) => {
    expect(statusOf(happened(...types))).toBe(status)
  })

  it.each([
    [[]],
    [['issued']],
    [['created', 'created']],
    [['created', 'shared']],
    [['created', 'issued', 'edited']],
    [['created', 'issued', 'accepted']],
    [['created', 'issued', 'shared', 'paid', 'rejected']],
    [['created', 'issued', 'shared', 'rejected', 'accepted']],
    [['created', 'shredded', 'edited']],
  ])('%j is impossible', (types) => {
    expect(() => statusOf(happened(...types))).toThrow(DomainError)
  })

  it('is frozen at issue', () => {
    expect([
      mayEdit('draft'),
      mayEdit('issued'),
      mayIssue('draft'),
      mayIssue('shared'),
      mayShare('draft'),
      mayShare('issued'),
      mayShare('paid'),
      mayShare('shredded'),
    ]).toEqual([true, false, true, false, false, true, true, false])
    expect(() => applyEvent('issued', { type: 'edited', at: 1 })).toThrow('issued cannot be edited')
  })
})

describe('the progress of a share', () => {
  const STATES: ShareState[] = [
    'queued',
    'sealed',
    'relayed',
    'stored',
    'delivered',
    'accepted',
    'rejected',
    'disputed',
    'paid',
    'refused',
    'cancelled',
  ]

  it('never goes back, whatever is reported in whatever order', () => {
    const rank = (state: ShareState): number => Math.min(STATES.indexOf(state), 5)
    for (const current of STATES) {
      for (const reported of STATES) {
        const next = nextShareState(current, reported)
        expect(rank(next)).toBeGreaterThanOrEqual(rank(current))
        expect(nextShareState(next, reported)).toBe(next)
        if (isTerminalShare(current)) expect(next).toBe(current)
      }
    }
  })

  it('takes a verdict that overtakes the receipts', () => {
    expect(nextShareState('relayed', 'accepted')).toBe('accepted')
    expect(nextShareState('accepted', 'delivered')).toBe('accepted')
    expect(nextShareState('accepted', 'paid')).toBe('paid')
    expect(nextShareState('delivered', 'refused')).toBe('delivered')
    expect(nextShareState('sealed', 'cancelled')).toBe('sealed')
    expect(nextShareState('queued', 'cancelled')).toBe('cancelled')
  })
})

describe('verdicts', () => {
  it('map to Peppol and back', () => {
    expect(VERDICTS.map((verdict) => toPeppol(verdict))).toEqual(['AP', 'RE', 'UQ', 'PD'])
    expect(toPeppol('accepted', 'PAY')).toBe('CA')
    expect([peppolOfReceipt(false), peppolOfReceipt(true)]).toEqual(['AB', 'IP'])
    expect(PEPPOL_CODES.map(fromPeppol)).toEqual([null, null, 'disputed', 'accepted', 'rejected', 'accepted', 'paid'])
    for (const verdict of VERDICTS) expect(fromPeppol(toPeppol(verdict))).toBe(verdict)
  })

  it('are checked', () => {
    expect(checkVerdict({ verdict: 'accepted' })).toEqual({ verdict: 'accepted' })
    expect(checkVerdict({ verdict: 'rejected', code: 'PRI', note: 'x' })).toEqual({ verdict: 'rejected', code: 'PRI', note: 'x' })
    for (const bad of [
      {},
      { verdict: 'ok' },
      { verdict: 'rejected' },
      { verdict: 'rejected', code: 'toString' },
      { verdict: 'disputed', code: 'OTH' },
      { verdict: 'paid', note: 'x'.repeat(2001) },
      { verdict: 'paid', note: 1 },
    ]) {
      expect(() => checkVerdict(bad)).toThrow(DomainError)
    }
    expect(mayFollow(null, 'paid') && mayFollow('accepted', 'paid') && mayFollow('disputed', 'accepted')).toBe(true)
    expect(mayFollow('paid', 'accepted') || mayFollow('rejected', 'accepted') || mayFollow('accepted', 'accepted')).toBe(false)
  })
})

describe('consent', () => {
  const grant: Consent = { purpose: 'share', kinds: ['invoice'], grantedAt: 100, expiresAt: 200 }

  it('covers its purpose and kinds from grant to expiry or withdrawal', () => {
    expect([99, 100, 199, 200].map((now) => covers(grant, 'share', 'invoice', now))).toEqual([false, true, true, false])
    expect(covers({ ...grant, withdrawnAt: 150 }, 'share', 'invoice', 150)).toBe(false)
    expect(covers(grant, 'log', 'invoice', 150)).toBe(false)
    expect(covers(grant, 'share', 'quote', 150)).toBe(false)
    expect(isConsented([], 'share', 'invoice', 150)).toBe(false)
    expect(covers({ ...grant, expiresAt: null, withdrawnAt: null }, 'share', 'invoice', 9e15)).toBe(true)
  })

  it('is required before sharing', () => {
    expect(() => requireConsent([grant], 'share', 'invoice', 150)).not.toThrow()
    try {
      requireConsent([grant], 'share', 'credit-note', 150)
      expect.unreachable()
    } catch (error) {
      expect((error as DomainError).code).toBe('ConsentRequired')
    }
  })

  it('is asked for in a strict form', () => {
    const now = Date.UTC(2026, 0, 1)
    expect(checkConsent({ purpose: 'log', kinds: ['verdict', 'invoice', 'invoice'], expiresAt: '2026-06-01T00:00:00Z' }, now)).toEqual({
      purpose: 'log',
      kinds: ['invoice', 'verdict'],
      expiresAt: Date.UTC(2026, 5, 1),
    })
    for (const bad of [
      {},
      { purpose: 'read', kinds: ['invoice'] },
      { purpose: 'share', kinds: [] },
      { purpose: 'share', kinds: ['order'] },
      { purpose: 'share', kinds: ['invoice'], expiresAt: '2025-01-01T00:00:00Z' },
      { purpose: 'share', kinds: ['invoice'], expiresAt: 'soon' },
      { purpose: 'share', kinds: ['invoice'], expiresAt: '2026-13-01T00:00:00Z' },
    ]) {
      expect(() => checkConsent(bad, now)).toThrow(DomainError)
    }
  })
})

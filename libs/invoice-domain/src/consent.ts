/** Consent: nothing is shared with a peer, and no sharing is logged, without a grant that covers it at that moment. */
import { refuse } from './errors.js'

export type ConsentPurpose = 'share' | 'log'
export const CONSENT_PURPOSES: readonly ConsentPurpose[] = ['share', 'log']

export type ConsentKind = 'invoice' | 'credit-note' | 'quote' | 'payment-request' | 'receipt' | 'verdict'
export const CONSENT_KINDS: readonly ConsentKind[] = ['invoice', 'credit-note', 'quote', 'payment-request', 'receipt', 'verdict']

export interface Consent {
  readonly purpose: ConsentPurpose
  readonly kinds: readonly ConsentKind[]
  /** Milliseconds since 1970; all three */
  readonly grantedAt: number
  readonly expiresAt?: number | null
  readonly withdrawnAt?: number | null
}

/**
 * Whether one grant covers a kind now. From `grantedAt` on; not any more at `expiresAt` and at `withdrawnAt`.
 * @param now milliseconds since 1970
 */
export function covers(consent: Consent, purpose: ConsentPurpose, kind: ConsentKind, now: number): boolean {
  return (
    consent.purpose === purpose &&
    consent.kinds.includes(kind) &&
    consent.grantedAt <= now &&
    (consent.expiresAt == null || now < consent.expiresAt) &&
    (consent.withdrawnAt == null || now < consent.withdrawnAt)
  )
}

export function isConsented(consents: readonly Consent[], purpose: ConsentPurpose, kind: ConsentKind, now: number): boolean {
  return consents.some((consent) => covers(consent, purpose, kind, now))
}

/** @throws DomainError ConsentRequired, before anything is encrypted */
export function requireConsent(consents: readonly Consent[], purpose: ConsentPurpose, kind: ConsentKind, now: number): void {
  if (isConsented(consents, purpose, kind, now)) return
  throw refuse('ConsentRequired', 'ConsentRequired', '', `no consent to ${purpose} documents of kind ${kind} with this peer`)
}

export interface ConsentRequest {
  purpose: ConsentPurpose
  kinds: ConsentKind[]
  /** Milliseconds since 1970 */
  expiresAt?: number
}

const RFC3339 = /^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:Z|[+-][0-9]{2}:[0-9]{2})$/

/**
 * Reads `{ purpose, kinds, expiresAt? }`; the caller has taken the peer out already.
 * @param now milliseconds since 1970
 * @throws DomainError InvalidRequest
 */
export function checkConsent(input: { purpose?: unknown; kinds?: unknown; expiresAt?: unknown }, now: number): ConsentRequest {
  const { purpose, kinds, expiresAt } = input
  if (!CONSENT_PURPOSES.some((known) => known === purpose)) {
    throw refuse('InvalidRequest', 'InvalidRequest', '/purpose', `a purpose is one of ${CONSENT_PURPOSES.join(', ')}`)
  }
  if (!Array.isArray(kinds) || kinds.length === 0 || !kinds.every((kind) => CONSENT_KINDS.some((known) => known === kind))) {
    throw refuse('InvalidRequest', 'InvalidRequest', '/kinds', `kinds is a list of ${CONSENT_KINDS.join(', ')}`)
  }
  const request: ConsentRequest = { purpose: purpose as ConsentPurpose, kinds: [...new Set(kinds as ConsentKind[])].sort() }
  if (expiresAt === undefined) return request
  const at = typeof expiresAt === 'string' && RFC3339.test(expiresAt) ? Date.parse(expiresAt) : Number.NaN
  if (!(at > now)) throw refuse('InvalidRequest', 'InvalidRequest', '/expiresAt', 'a future time as RFC 3339 is expected')
  return { ...request, expiresAt: at }
}

/** The status of a document is never stored as such: it is the fold of what happened to it. */
import { refuse } from './errors.js'
import { mayFollow, type Verdict } from './verdict.js'

export type DocumentStatus = 'draft' | 'issued' | 'shared' | 'accepted' | 'rejected' | 'disputed' | 'paid' | 'shredded'

export type DocumentEvent =
  /** `at` is in milliseconds since 1970 */
  | { readonly type: 'created' | 'edited' | 'issued' | 'shared' | 'shredded'; readonly at: number }
  | { readonly type: 'verdict'; readonly at: number; readonly verdict: Verdict }

const VERDICT_STATUSES: readonly DocumentStatus[] = ['accepted', 'rejected', 'disputed', 'paid']

/**
 * @param status null before anything happened
 * @throws DomainError Conflict for a step that the status does not allow
 */
export function applyEvent(status: DocumentStatus | null, event: DocumentEvent): DocumentStatus {
  const next = step(status, event)
  if (next === null) throw refuse('Conflict', 'Conflict', '', `a document that is ${status ?? 'not there'} cannot be ${said(event)}`)
  return next
}

function said(event: DocumentEvent): string {
  return event.type === 'verdict' ? event.verdict : event.type
}

function step(status: DocumentStatus | null, event: DocumentEvent): DocumentStatus | null {
  switch (event.type) {
    case 'created':
      return status === null ? 'draft' : null
    case 'edited':
      return status === 'draft' ? 'draft' : null
    case 'issued':
      return status === 'draft' ? 'issued' : null
    case 'shared':
      if (status === 'issued' || status === 'shared') return 'shared'
      // Sharing with a further peer does not undo the first one's verdict.
      return status !== null && VERDICT_STATUSES.includes(status) ? status : null
    case 'verdict':
      if (status === 'shared') return event.verdict
      return status !== null && isVerdictStatus(status) && mayFollow(status, event.verdict) ? event.verdict : null
    case 'shredded':
      return status === null || status === 'shredded' ? null : 'shredded'
  }
}

function isVerdictStatus(status: DocumentStatus): status is Verdict {
  return VERDICT_STATUSES.includes(status)
}

/** @throws DomainError Conflict if the events are not a possible history, or if there are none */
export function statusOf(events: readonly DocumentEvent[]): DocumentStatus {
  let status: DocumentStatus | null = null
  for (const event of events) status = applyEvent(status, event)
  if (status === null) throw refuse('Conflict', 'Conflict', '', 'a document without events does not exist')
  return status
}

/** Only a draft may change; everything later is corrected by a credit note. */
export function mayEdit(status: DocumentStatus): boolean {
  return status === 'draft'
}

export function mayIssue(status: DocumentStatus): boolean {
  return status === 'draft'
}

export function mayShare(status: DocumentStatus): boolean {
  return status !== 'draft' && status !== 'shredded'
}

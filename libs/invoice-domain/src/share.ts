/** How far one share of a document has come. Reports arrive late, twice and out of order; a share never moves back. */
import { mayFollow, type Verdict } from './verdict.js'

export type ShareState =
  'queued' | 'sealed' | 'relayed' | 'stored' | 'delivered' | 'accepted' | 'rejected' | 'disputed' | 'paid' | 'refused' | 'cancelled'

/** The way there, in order. Then one of the verdicts. */
const PROGRESS: readonly ShareState[] = ['queued', 'sealed', 'relayed', 'stored', 'delivered']
const VERDICTS: readonly ShareState[] = ['accepted', 'rejected', 'disputed', 'paid']

/**
 * The state after a report. A repeated, late or impossible report changes nothing.
 * `refused` (the peer will not take it) is possible until delivery, `cancelled` until it is sealed.
 */
export function nextShareState(current: ShareState, reported: ShareState): ShareState {
  if (current === 'cancelled' || current === 'refused') return current
  if (isVerdictState(current)) return isVerdictState(reported) && mayFollow(current, reported) ? reported : current
  if (isVerdictState(reported)) return reported
  if (reported === 'cancelled') return current === 'queued' ? 'cancelled' : current
  if (reported === 'refused') return current === 'delivered' ? current : 'refused'
  return PROGRESS.indexOf(reported) > PROGRESS.indexOf(current) ? reported : current
}

function isVerdictState(state: ShareState): state is Verdict {
  return VERDICTS.includes(state)
}

/** Nothing more will happen: rejected, paid, refused, cancelled. An acceptance may still be followed by a payment. */
export function isTerminalShare(state: ShareState): boolean {
  return state === 'rejected' || state === 'paid' || state === 'refused' || state === 'cancelled'
}

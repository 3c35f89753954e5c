/**
 * The receiver's signed answer to a document. Four verdicts; Peppol's Invoice Response codes on export.
 * @see docs/spec/ubl.md §6
 */
import { refuse } from './errors.js'

export type Verdict = 'accepted' | 'rejected' | 'disputed' | 'paid'
export const VERDICTS: readonly Verdict[] = ['accepted', 'rejected', 'disputed', 'paid']

/** UNCL 4343 as Peppol BIS Invoice Response 3 restricts it. */
export type PeppolCode = 'AB' | 'IP' | 'UQ' | 'CA' | 'RE' | 'AP' | 'PD'
export const PEPPOL_CODES: readonly PeppolCode[] = ['AB', 'IP', 'UQ', 'CA', 'RE', 'AP', 'PD']

/**
 * Why a document is rejected or disputed: Peppol's clarification reasons (OPStatusReason), plus `CA` as the
 * reason of an acceptance under a condition.
 */
export const REASON_CODES = {
  NON: 'no issue',
  REF: 'references are wrong or missing',
  LEG: 'legal information is wrong or missing',
  REC: 'the receiver is unknown or wrong',
  QUA: 'item quality is insufficient',
  DEL: 'delivery is not acceptable',
  PRI: 'prices are wrong',
  QTY: 'quantities are wrong',
  ITM: 'items are wrong',
  PAY: 'payment terms are wrong',
  UNR: 'the transaction is not recognised',
  FIN: 'finance terms are wrong',
  PPD: 'partially paid',
  OTH: 'another reason, in the note',
} as const
export type ReasonCode = keyof typeof REASON_CODES

/** Longest note of a verdict, in UTF-16 code units: what a message may carry. @see docs/spec/payload.md §5 */
export const MAX_NOTE_LENGTH = 2000

export interface VerdictStatement {
  verdict: Verdict
  code?: ReasonCode
  note?: string
}

/**
 * @param input JSON of the API or the body of a received message: `{ verdict, code?, note? }`
 * @throws DomainError InvalidRequest. A rejection or a dispute needs a code; `OTH` needs a note.
 */
export function checkVerdict(input: { verdict?: unknown; code?: unknown; note?: unknown }): VerdictStatement {
  const { verdict, code, note } = input
  if (!isVerdict(verdict)) throw refuse('InvalidRequest', 'InvalidRequest', '/verdict', `a verdict is one of ${VERDICTS.join(', ')}`)
  if (code !== undefined && !isReasonCode(code))
    throw refuse('InvalidRequest', 'InvalidRequest', '/code', `a code is one of ${Object.keys(REASON_CODES).join(', ')}`)
  if (code === undefined && (verdict === 'rejected' || verdict === 'disputed')) {
    throw refuse('InvalidRequest', 'InvalidRequest', '/code', `a ${verdict} document needs a reason code`)
  }
  if (note !== undefined && (typeof note !== 'string' || note.length > MAX_NOTE_LENGTH || !note.isWellFormed())) {
    throw refuse('InvalidRequest', 'InvalidRequest', '/note', `a note is text of at most ${MAX_NOTE_LENGTH} characters`)
  }
  if (code === 'OTH' && (note === undefined || note.trim() === '')) {
    throw refuse('InvalidRequest', 'InvalidRequest', '/note', 'the reason OTH needs a note')
  }
  return { verdict, ...(code === undefined ? {} : { code }), ...(note === undefined ? {} : { note }) }
}

export function isVerdict(value: unknown): value is Verdict {
  return typeof value === 'string' && (VERDICTS as readonly string[]).includes(value)
}

function isReasonCode(value: unknown): value is ReasonCode {
  return typeof value === 'string' && Object.hasOwn(REASON_CODES, value)
}

/**
 * Peppol's code for a verdict. Disputed is "under query"; an acceptance with a reason is conditional. AB (message
 * acknowledged) and IP (in process) are no verdicts: they come from the delivery receipt, see `peppolOfReceipt`.
 */
export function toPeppol(verdict: Verdict, code?: string): PeppolCode {
  switch (verdict) {
    case 'accepted':
      return code === undefined || code === 'NON' ? 'AP' : 'CA'
    case 'rejected':
      return 'RE'
    case 'disputed':
      return 'UQ'
    case 'paid':
      return 'PD'
  }
}

/** AB once the document is stored at the receiver, IP once somebody there has opened it. */
export function peppolOfReceipt(opened: boolean): PeppolCode {
  return opened ? 'IP' : 'AB'
}

/** The verdict behind a Peppol code, or null for the two that state progress only (AB, IP). */
export function fromPeppol(code: PeppolCode): Verdict | null {
  switch (code) {
    case 'AP':
    case 'CA':
      return 'accepted'
    case 'RE':
      return 'rejected'
    case 'UQ':
      return 'disputed'
    case 'PD':
      return 'paid'
    case 'AB':
    case 'IP':
      return null
  }
}

const FOLLOWS: Readonly<Record<Verdict, readonly Verdict[]>> = {
  accepted: ['paid', 'disputed'],
  disputed: ['accepted', 'rejected', 'paid'],
  rejected: [],
  paid: [],
}

/** Whether the receiver may still say `next`. Rejected and paid are final. */
export function mayFollow(previous: Verdict | null, next: Verdict): boolean {
  return previous === null || FOLLOWS[previous].includes(next)
}

/**
 * Every limit, quota and timeout of invoice-svc, each with its reason. All can be overridden where the app is built;
 * the rate also by TALLYSTICK_API_RATE_PER_MINUTE.
 * @see docs/limits.md
 */
import { MAX_BATCH, MAX_BUS_BYTES, MAX_PAYLOAD_BYTES } from '@tallystick/contracts/call'

/** Requests per minute, endpoint and client. RESOLUTIONS C22: one client must not be able to starve the others. */
export const API_RATE_PER_MINUTE = 100
/** The window of that rate, ms. */
export const API_RATE_WINDOW_MS = 60_000
/** Refused requests without a valid token, per minute and address: slows guessing, and the audit trail stays short. */
export const AUTH_FAILURES_PER_MINUTE = 60
/** Largest JSON body, bytes: a document of thousands of lines fits, attachments come as UBL. */
export const JSON_BODY_BYTES = 1024 * 1024
/** Largest XML body, bytes: a UBL document with attachments. */
export const XML_BODY_BYTES = 4 * 1024 * 1024
/** Deepest nesting of a JSON body: the deepest term of the model is at 7. */
export const JSON_DEPTH = 32
/** Most values in a JSON body: more than any document of 1 MiB has, few enough to parse in milliseconds. */
export const JSON_VALUES = 200_000
/** Largest frozen document, bytes: a payload minus room for its statement and framing. */
export const DOCUMENT_BYTES = MAX_PAYLOAD_BYTES - 16 * 1024
/** How long an idempotent answer is kept, ms. A client that retries a day later has lost more than a key. */
export const IDEMPOTENCY_TTL_MS = 24 * 60 * 60_000
/**
 * A running request renews its hold on its key; one whose process died may be taken over by its retry after this, ms.
 * Should it be alive after all, its late effect is refused.
 */
export const IDEMPOTENCY_LEASE_MS = 10_000
/** Longest Idempotency-Key, characters: a UUID or a hash fits. */
export const IDEMPOTENCY_KEY_LENGTH = 128
/** Items of one page. */
export const PAGE_MAX = 200
export const PAGE_DEFAULT = 50

/** Messages that one pass of the outbound pump takes. */
export const PUMP_BATCH = MAX_BATCH
/** Bytes of one seal or send call: below the bus limit with room for the envelopes' padding. */
export const PUMP_BATCH_BYTES = Math.min(6 * 1024 * 1024, MAX_BUS_BYTES)
/** A running pass renews its hold on the messages it took; those of a process that died are free after this, ms. */
export const PUMP_LEASE_MS = 10_000
/** The pump looks without being woken this often, ms: a lost wake-up costs at most this. */
export const PUMP_POLL_MS = 1_000
/** First and longest delay between two tries of one message, ms. */
export const RETRY_FIRST_MS = 1_000
export const RETRY_MAX_MS = 60_000
/** Delay where only a person can help (peer blocked, identity changed), ms. */
export const RETRY_BLOCKED_MS = 5 * 60_000

/** How long a signed statement is valid, ms: a peer that is away for a month still gets a valid document. */
export const STATEMENT_LIFETIME_MS = 30 * 24 * 60 * 60_000
/** The same receipt is sent again for a replayed message at most this often, ms. */
export const RECEIPT_AGAIN_MS = 30_000

/** Background steps (peers, proofs) look this often, ms. */
export const STEP_POLL_MS = 1_000
/** Rows that one background step takes. */
export const STEP_BATCH = 32
/** A proof is asked for again after this, ms, until the event is under a checkpoint. */
export const PROOF_WAIT_MS = 1_000

/** Changes are read from the database this often while someone listens, ms. */
export const CHANGES_POLL_MS = 300
/** How long changes can be resumed from, ms. */
export const CHANGES_TTL_MS = 24 * 60 * 60_000
/** Listeners of GET /v1/events per replica: each costs a socket. */
export const CHANGES_LISTENERS = 100
/** A comment line keeps proxies from closing a quiet stream, ms. */
export const CHANGES_PING_MS = 15_000

/** How long the answer of session-svc about this fleet's certificate is used without asking again, ms. */
export const FLEET_CACHE_MS = 5_000
/** Repeated refusals of one kind become one audit event per this time, ms. */
export const AUDIT_AGGREGATE_MS = 10_000
/** Distinct refusals that are counted apart; the rest is counted together. */
export const AUDIT_AGGREGATE_KEYS = 1_000

export interface Limits {
  apiRatePerMinute: number
  authFailuresPerMinute: number
  jsonBodyBytes: number
  xmlBodyBytes: number
  documentBytes: number
  idempotencyTtlMs: number
  idempotencyLeaseMs: number
  pumpBatch: number
  pumpBatchBytes: number
  pumpLeaseMs: number
  pumpPollMs: number
  retryFirstMs: number
  retryMaxMs: number
  statementLifetimeMs: number
  changesListeners: number
}

/** The numbers above, with those of the caller in their place. */
export function limitsWith(overrides: Partial<Limits> = {}): Limits {
  return {
    apiRatePerMinute: API_RATE_PER_MINUTE,
    authFailuresPerMinute: AUTH_FAILURES_PER_MINUTE,
    jsonBodyBytes: JSON_BODY_BYTES,
    xmlBodyBytes: XML_BODY_BYTES,
    documentBytes: DOCUMENT_BYTES,
    idempotencyTtlMs: IDEMPOTENCY_TTL_MS,
    idempotencyLeaseMs: IDEMPOTENCY_LEASE_MS,
    pumpBatch: PUMP_BATCH,
    pumpBatchBytes: PUMP_BATCH_BYTES,
    pumpLeaseMs: PUMP_LEASE_MS,
    pumpPollMs: PUMP_POLL_MS,
    retryFirstMs: RETRY_FIRST_MS,
    retryMaxMs: RETRY_MAX_MS,
    statementLifetimeMs: STATEMENT_LIFETIME_MS,
    changesListeners: CHANGES_LISTENERS,
    ...overrides,
  }
}

/** What GET /v1/limits says. */
export function describeLimits(limits: Limits): Array<{ name: string; value: number; unit: string; reason: string }> {
  return [
    {
      name: 'api-rate',
      value: limits.apiRatePerMinute,
      unit: 'requests per minute, endpoint and client',
      reason: 'one client must not starve the others',
    },
    {
      name: 'auth-failures',
      value: limits.authFailuresPerMinute,
      unit: 'refused requests per minute and address',
      reason: 'slows the guessing of tokens',
    },
    {
      name: 'json-body',
      value: limits.jsonBodyBytes,
      unit: 'bytes',
      reason: 'a document of thousands of lines fits; attachments come as UBL',
    },
    { name: 'json-depth', value: JSON_DEPTH, unit: 'levels', reason: 'no document is nested deeper; a nesting bomb ends here' },
    { name: 'xml-body', value: limits.xmlBodyBytes, unit: 'bytes', reason: 'a UBL document with attachments' },
    { name: 'document', value: limits.documentBytes, unit: 'bytes', reason: 'one payload of the envelope, with room for its statement' },
    { name: 'idempotency-ttl', value: limits.idempotencyTtlMs, unit: 'ms', reason: 'retries come within hours' },
    { name: 'page', value: PAGE_MAX, unit: 'items', reason: 'one answer stays small' },
    { name: 'pump-batch', value: limits.pumpBatch, unit: 'messages', reason: 'one call of the bus' },
    { name: 'retry-max', value: limits.retryMaxMs, unit: 'ms', reason: 'a peer that is back is noticed within this' },
    {
      name: 'statement-lifetime',
      value: limits.statementLifetimeMs,
      unit: 'ms',
      reason: 'a peer that is away for a month still gets a valid document',
    },
    { name: 'event-listeners', value: limits.changesListeners, unit: 'connections per replica', reason: 'each costs a socket' },
  ]
}

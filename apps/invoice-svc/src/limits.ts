/**
 * Every limit, quota and timeout of invoice-svc, each with its reason. `TALLYSTICK_INVOICE_<NAME>`
 * overrides one; what the API's description promises (pages, keys, the minute of a rate) stays as it is.
 * @see docs/limits.md
 */
import { MAX_BATCH, MAX_BUS_BYTES, MAX_PAYLOAD_BYTES } from '@tallystick/contracts/call'
import { STATEMENT_MAX_LIFETIME_MS } from '@tallystick/wire/document'
import { z } from 'zod'

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
/** A receipt goes out again, when its message comes again, at most this often, ms. */
export const RECEIPT_AGAIN_MS = 30_000
/** What the peer's relay has stored and no receipt has confirmed is sent again after this, ms; the pause doubles. */
export const RESEND_AFTER_MS = 60_000
/** What is missing below something that has come is sent again after this, ms: it may only have been overtaken. */
export const RESEND_GAP_MS = 2_000
/** Longest pause before a message is sent again, ms; also how long a relay may take to store one before it is given it again. */
export const RESEND_MAX_MS = 60 * 60_000
/** Times that one message is sent again: seven hours of a peer that stores and never confirms. */
export const RESEND_TRIES = 12
/** A peer is asked for what is missing after this, ms; the pause doubles. */
export const ASK_AFTER_MS = 30_000
/** session-svc is asked this often whether a peer needs a message, ms. */
export const ATTENTION_POLL_MS = 3_000

/** Background steps (peers, proofs) look this often, ms. */
export const STEP_POLL_MS = 1_000
/** Rows that one background step takes. */
export const STEP_BATCH = 32
/** How long what session-svc says about the keys with a peer is taken for true, ms: an event may be this late. */
export const KEY_WATCH_MS = 10_000
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

const DEFAULTS = {
  apiRatePerMinute: API_RATE_PER_MINUTE,
  authFailuresPerMinute: AUTH_FAILURES_PER_MINUTE,
  jsonBodyBytes: JSON_BODY_BYTES,
  xmlBodyBytes: XML_BODY_BYTES,
  jsonDepth: JSON_DEPTH,
  jsonValues: JSON_VALUES,
  documentBytes: DOCUMENT_BYTES,
  idempotencyTtlMs: IDEMPOTENCY_TTL_MS,
  idempotencyLeaseMs: IDEMPOTENCY_LEASE_MS,
  pumpBatch: PUMP_BATCH,
  pumpBatchBytes: PUMP_BATCH_BYTES,
  pumpLeaseMs: PUMP_LEASE_MS,
  pumpPollMs: PUMP_POLL_MS,
  retryFirstMs: RETRY_FIRST_MS,
  retryMaxMs: RETRY_MAX_MS,
  retryBlockedMs: RETRY_BLOCKED_MS,
  statementLifetimeMs: STATEMENT_LIFETIME_MS,
  receiptAgainMs: RECEIPT_AGAIN_MS,
  resendAfterMs: RESEND_AFTER_MS,
  resendGapMs: RESEND_GAP_MS,
  resendMaxMs: RESEND_MAX_MS,
  resendTries: RESEND_TRIES,
  askAfterMs: ASK_AFTER_MS,
  attentionPollMs: ATTENTION_POLL_MS,
  stepPollMs: STEP_POLL_MS,
  stepBatch: STEP_BATCH,
  keyWatchMs: KEY_WATCH_MS,
  proofWaitMs: PROOF_WAIT_MS,
  changesPollMs: CHANGES_POLL_MS,
  changesTtlMs: CHANGES_TTL_MS,
  changesListeners: CHANGES_LISTENERS,
  changesPingMs: CHANGES_PING_MS,
  fleetCacheMs: FLEET_CACHE_MS,
  auditAggregateMs: AUDIT_AGGREGATE_MS,
  auditAggregateKeys: AUDIT_AGGREGATE_KEYS,
}
export type LimitName = keyof typeof DEFAULTS
export type Limits = Readonly<Record<LimitName, number>>

/** What each is called in the environment. The ones above that are missing here are part of the API's description. */
export const LIMIT_VARIABLES: Readonly<Record<LimitName, string>> = {
  apiRatePerMinute: 'TALLYSTICK_INVOICE_API_RATE_PER_MINUTE',
  authFailuresPerMinute: 'TALLYSTICK_INVOICE_AUTH_FAILURES_PER_MINUTE',
  jsonBodyBytes: 'TALLYSTICK_INVOICE_JSON_BODY_BYTES',
  xmlBodyBytes: 'TALLYSTICK_INVOICE_XML_BODY_BYTES',
  jsonDepth: 'TALLYSTICK_INVOICE_JSON_DEPTH',
  jsonValues: 'TALLYSTICK_INVOICE_JSON_VALUES',
  documentBytes: 'TALLYSTICK_INVOICE_DOCUMENT_BYTES',
  idempotencyTtlMs: 'TALLYSTICK_INVOICE_IDEMPOTENCY_TTL_MS',
  idempotencyLeaseMs: 'TALLYSTICK_INVOICE_IDEMPOTENCY_LEASE_MS',
  pumpBatch: 'TALLYSTICK_INVOICE_PUMP_BATCH',
  pumpBatchBytes: 'TALLYSTICK_INVOICE_PUMP_BATCH_BYTES',
  pumpLeaseMs: 'TALLYSTICK_INVOICE_PUMP_LEASE_MS',
  pumpPollMs: 'TALLYSTICK_INVOICE_PUMP_POLL_MS',
  retryFirstMs: 'TALLYSTICK_INVOICE_RETRY_FIRST_MS',
  retryMaxMs: 'TALLYSTICK_INVOICE_RETRY_MAX_MS',
  retryBlockedMs: 'TALLYSTICK_INVOICE_RETRY_BLOCKED_MS',
  statementLifetimeMs: 'TALLYSTICK_INVOICE_STATEMENT_LIFETIME_MS',
  receiptAgainMs: 'TALLYSTICK_INVOICE_RECEIPT_AGAIN_MS',
  resendAfterMs: 'TALLYSTICK_INVOICE_RESEND_AFTER_MS',
  resendGapMs: 'TALLYSTICK_INVOICE_RESEND_GAP_MS',
  resendMaxMs: 'TALLYSTICK_INVOICE_RESEND_MAX_MS',
  resendTries: 'TALLYSTICK_INVOICE_RESEND_TRIES',
  askAfterMs: 'TALLYSTICK_INVOICE_ASK_AFTER_MS',
  attentionPollMs: 'TALLYSTICK_INVOICE_ATTENTION_POLL_MS',
  stepPollMs: 'TALLYSTICK_INVOICE_STEP_POLL_MS',
  stepBatch: 'TALLYSTICK_INVOICE_STEP_BATCH',
  keyWatchMs: 'TALLYSTICK_INVOICE_KEY_WATCH_MS',
  proofWaitMs: 'TALLYSTICK_INVOICE_PROOF_WAIT_MS',
  changesPollMs: 'TALLYSTICK_INVOICE_CHANGES_POLL_MS',
  changesTtlMs: 'TALLYSTICK_INVOICE_CHANGES_TTL_MS',
  changesListeners: 'TALLYSTICK_INVOICE_CHANGES_LISTENERS',
  changesPingMs: 'TALLYSTICK_INVOICE_CHANGES_PING_MS',
  fleetCacheMs: 'TALLYSTICK_INVOICE_FLEET_CACHE_MS',
  auditAggregateMs: 'TALLYSTICK_INVOICE_AUDIT_AGGREGATE_MS',
  auditAggregateKeys: 'TALLYSTICK_INVOICE_AUDIT_AGGREGATE_KEYS',
}
/** The rate under the name that it had first; the one of the list wins. */
const RATE_VARIABLE = 'TALLYSTICK_API_RATE_PER_MINUTE'

/** What the bus or the peer would refuse keeps the service from starting. */
const AT_MOST: Partial<Record<LimitName, number>> = {
  documentBytes: DOCUMENT_BYTES,
  pumpBatch: MAX_BATCH,
  pumpBatchBytes: PUMP_BATCH_BYTES,
  statementLifetimeMs: STATEMENT_MAX_LIFETIME_MS,
}
/** The longest that a timer of the runtime can wait, and more than any count needs. */
const ANY_AT_MOST = 2 ** 31 - 1

const count = (atMost = ANY_AT_MOST) => z.coerce.number().int().positive().max(atMost).optional()
const NAMES = Object.keys(DEFAULTS) as LimitName[]

/** The variables of all limits, for the service's schema. */
export const LIMITS_ENV: Record<string, ReturnType<typeof count>> = {
  [RATE_VARIABLE]: count(),
  ...Object.fromEntries(NAMES.map((name) => [LIMIT_VARIABLES[name], count(AT_MOST[name])])),
}

/** @param overrides by name (tests), @param env by variable (operators) */
export function limitsWith(overrides: Partial<Limits> = {}, env: Record<string, unknown> = {}): Limits {
  const limits: Record<LimitName, number> = { ...DEFAULTS, ...overrides }
  const take = (name: LimitName, value: unknown) => {
    if (typeof value === 'number') limits[name] = value
  }
  take('apiRatePerMinute', env[RATE_VARIABLE])
  for (const name of NAMES) take(name, env[LIMIT_VARIABLES[name]])
  return limits
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
    { name: 'json-depth', value: limits.jsonDepth, unit: 'levels', reason: 'no document is nested deeper; a nesting bomb ends here' },
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

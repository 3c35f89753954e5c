/**
 * Structured logs: one JSON object per line, fields from an allow-list, nothing that looks like a key.
 * Two defences, because one of them will be forgotten some day: values that are not plain text or numbers are never
 * printed, and the finished line is scrubbed of every form in which 32 or 64 secret bytes appear.
 * @see docs/spec/bus.md §8
 */
import { pino, type Bindings, type ChildLoggerOptions, type DestinationStream, type Logger } from 'pino'

/** Anything else is dropped. Public ids, codes, counts and times only. */
export const LOG_FIELDS: readonly string[] = [
  'service',
  'fleet',
  'code',
  'subject',
  'target',
  'correlationId',
  'traceId',
  'fleetId',
  'peer',
  'messageId',
  'documentId',
  'shareId',
  'envelopeDigest',
  'eventId',
  'epoch',
  'count',
  'bytes',
  'size',
  'index',
  'port',
  'durationMs',
  'attempts',
  'retryAfterMs',
  'nextAttemptAt',
  'state',
  'from',
  'to',
  'outcome',
  'reason',
  'kind',
  'stage',
  'method',
  'path',
  'status',
  'transport',
  'what',
  'layer',
  'errorName',
  'errorMessage',
  'stack',
  'exitCode',
  'signal',
  'url',
]
const allowed: ReadonlySet<string> = new Set(LOG_FIELDS)

/** Longest field, characters: a stack is useful up to here, a document must not fit. */
const MAX_TEXT = 2_000
/** Digests are public, but 64 hex digits look like a key: enough of them to recognise one. */
const DIGEST_PREFIX = 16
/** How far the causes of an error are followed. */
const MAX_CAUSES = 3

// Every repetition below is bounded or cannot start inside itself: log text may be hostile, and scrubbing is linear.

/** Public ids that have the length of encoded keys. */
const PUBLIC_ID = /(tsf1[a-z2-7]{52}|12D3KooW[1-9A-HJ-NP-Za-km-z]{44})(?![0-9A-Za-z])/
const HEX = /(?<![0-9A-Fa-f])[0-9A-Fa-f]{64,}(?![0-9A-Fa-f])/g
/** 32, 33 or 64 bytes in base64 or base64url; a path in a stack (`…/name.spec.ts:1:2`) may have the same length. */
const BASE64 =
  /(?<![A-Za-z0-9+/_-])(?:[A-Za-z0-9+/_-]{85,88}|[A-Za-z0-9+/_-]{43,44})={0,2}(?![A-Za-z0-9+/_=-])(?!(?:\.[a-z]{2,5}){1,2}:\d)/g
const BYTE_ARRAY = /\d{1,3}(?:\s{0,8},\s{0,8}\d{1,3}){15,}/g
/** `{"0":1,"1":2,…}`, as JSON renders a Uint8Array, with or without escaped quotes. */
const INDEXED_BYTES = /(?:\\{0,4}["']?\d{1,4}\\{0,4}["']?\s{0,8}:\s{0,8}\d{1,3}\s{0,8},?\s{0,8}){16,}/g
const NODE_BUFFER = /<(?:Buffer|SlowBuffer)\b[^<>]*>?/gi
const SPACED_HEX = /(?<![0-9A-Fa-f])[0-9A-Fa-f]{2}(?:[ :][0-9A-Fa-f]{2}){15,}(?![0-9A-Fa-f])/g
const NATS_SEED = /\bS[UAOCN][A-Z2-7]{56}\b/g

const REDACTED = '[redacted]'

/** Replace everything that has the form of secret bytes. Works on plain text and on finished JSON lines. */
export function scrub(text: string): string {
  return text
    .split(PUBLIC_ID)
    .map((part, i) => (i % 2 === 1 ? part : scrubPart(part)))
    .join('')
}

function scrubPart(text: string): string {
  if (text.length < 32) return text
  return text
    .replace(NODE_BUFFER, REDACTED)
    .replace(NATS_SEED, REDACTED)
    .replace(HEX, REDACTED)
    .replace(SPACED_HEX, REDACTED)
    .replace(INDEXED_BYTES, REDACTED)
    .replace(BYTE_ARRAY, REDACTED)
    .replace(BASE64, REDACTED)
}

export interface LoggerOptions {
  readonly service: string
  readonly fleet?: string
  readonly level?: string
  /** Default: standard output, written at once so that a fatal line is not lost. */
  readonly destination?: DestinationStream
}

export function createLogger(options: LoggerOptions): Logger {
  const base = { service: options.service, ...(options.fleet === undefined ? {} : { fleet: options.fleet }) }
  const root = pino(
    {
      level: options.level ?? 'info',
      base,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }), log: (fields) => allowFields(fields) },
      // `err` is taken apart in allowFields.
      serializers: { err: (value: unknown) => value },
      hooks: {
        logMethod(args, method) {
          const [first, ...rest] = args as unknown[]
          if (typeof first === 'string') return method.call(this, cleanText([first, ...rest].map(textOf).join(' ')))
          const message = rest.length === 0 ? undefined : cleanText(rest.map(textOf).join(' '))
          return method.call(this, toFields(first), message as string)
        },
        streamWrite: scrub,
      },
    },
    options.destination ?? pino.destination({ dest: 1, sync: true }),
  )
  return guardBindings(root)
}

/** pino applies its field formatter to calls but not to the bindings of child loggers. */
function guardBindings(root: Logger): Logger {
  const child = root.child
  const setBindings = root.setBindings
  Object.assign(root, {
    child(this: Logger, bindings: Bindings, childOptions?: ChildLoggerOptions) {
      return child.call(this, allowFields(bindings), childOptions?.level === undefined ? {} : { level: childOptions.level })
    },
    setBindings(this: Logger, bindings: Bindings) {
      setBindings.call(this, allowFields(bindings))
    },
  })
  return root
}

function toFields(first: unknown): object {
  if (first instanceof Error) return { err: first }
  return typeof first === 'object' && first !== null ? first : {}
}

function allowFields(fields: object): Record<string, unknown> {
  const out: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(fields)) {
    if (name === 'err' || name === 'error') Object.assign(out, errorFields(value))
    else if (allowed.has(name) && value !== undefined) out[name] = name.endsWith('Digest') ? digestText(value) : plain(value)
  }
  return out
}

/** Plain text and numbers pass; whatever has a structure is named, not shown. */
function plain(value: unknown): unknown {
  switch (typeof value) {
    case 'string':
      return cleanText(value)
    case 'number':
    case 'boolean':
      return value
    case 'bigint':
      // Money and key material are the bigints there are.
      return '[bigint]'
    default:
      return value === null ? null : textOf(value)
  }
}

function digestText(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value.subarray(0, DIGEST_PREFIX / 2)).toString('hex')
  return typeof value === 'string' ? cleanText(value.slice(0, DIGEST_PREFIX)) : plain(value)
}

function textOf(value: unknown): string {
  if (typeof value === 'string') return value
  if (typeof value === 'number' || typeof value === 'boolean') return String(value)
  if (value instanceof Error) return `${value.name}: ${value.message}`
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return `[${value.byteLength} bytes]`
  return `[${value === null ? 'null' : typeof value}]`
}

function cleanText(text: string): string {
  const scrubbed = scrub(text)
  return scrubbed.length > MAX_TEXT ? `${scrubbed.slice(0, MAX_TEXT)}…` : scrubbed
}

function errorFields(error: unknown): Record<string, unknown> {
  if (!(error instanceof Error)) return { errorName: typeof error, errorMessage: cleanText(textOf(error)) }
  const messages: string[] = []
  let current: unknown = error
  for (let i = 0; i < MAX_CAUSES && current instanceof Error; i++) {
    messages.push(current.message)
    current = current.cause
  }
  const code = (error as { code?: unknown }).code
  return {
    errorName: cleanText(error.name),
    errorMessage: cleanText(messages.join(' ← ')),
    ...(typeof code === 'string' ? { code: cleanText(code) } : {}),
    ...(error.stack === undefined ? {} : { stack: cleanText(error.stack) }),
  }
}

/** Errors as RFC 9457 problems: the one place where a code becomes an HTTP status. */
import { HttpException } from '@nestjs/common'
import { ERROR_CODES, type ErrorCode } from '@tallystick/contracts/codes'
import { DomainError } from '@tallystick/invoice-domain/errors'
import { RpcFault } from '@tallystick/nats-rpc/fault'
import { ProtocolError } from '@tallystick/primitives/errors'
import { z } from 'zod'
import { Refused, type Fault } from '../refused.js'
import { isDatabaseAway } from './database-away.js'
import { pointerOf } from './pointer.js'

export const problemSchema = z
  .strictObject({
    type: z.string().describe('urn:tallystick:problem:<code>'),
    title: z.string(),
    status: z.int(),
    code: z.string().describe('An error code of the protocol, or the id of the first rule that was broken'),
    detail: z.string(),
    errors: z.array(z.strictObject({ pointer: z.string(), rule: z.string(), message: z.string() })).optional(),
    traceId: z.string(),
    retryAfterMs: z.int().optional(),
  })
  .meta({ id: 'Problem' })
export type Problem = z.output<typeof problemSchema>

/** Codes of the API alone: they never cross the bus. */
type EdgeCode =
  | 'Unauthenticated'
  | 'Forbidden'
  | 'NotAcceptable'
  | 'UnsupportedMediaType'
  | 'MethodNotAllowed'
  | 'IdempotencyKeyReused'
  | 'IdempotencyKeyInUse'

/** A refusal by the HTTP edge itself. */
export class EdgeRefusal extends Error {
  constructor(
    readonly code: EdgeCode,
    message: string,
  ) {
    super(message)
    this.name = 'EdgeRefusal'
  }
}

const EDGE_STATUS: Record<EdgeCode, number> = {
  Unauthenticated: 401,
  Forbidden: 403,
  NotAcceptable: 406,
  UnsupportedMediaType: 415,
  MethodNotAllowed: 405,
  IdempotencyKeyReused: 422,
  IdempotencyKeyInUse: 409,
}

const STATUS: Partial<Record<ErrorCode, number>> = {
  InvalidRequest: 400,
  NotFound: 404,
  Conflict: 409,
  ConsentRequired: 409,
  PeerBlocked: 409,
  IdentityChanged: 409,
  DuplicateMessage: 409,
  RateLimited: 429,
  QuotaExceeded: 429,
  EndpointTooLarge: 413,
  UnauthorizedPeer: 403,
  NotReady: 503,
  Network: 503,
  CircuitBreakerOpen: 503,
  KeyStorage: 503,
  HandshakeTimeout: 503,
  ReadTimeout: 503,
  IdleTimeout: 503,
  Internal: 500,
  Encryption: 500,
}

const TITLES: Record<string, string> = {
  InvalidRequest: 'The request is not valid',
  NotFound: 'Not found',
  Conflict: 'The request does not fit the present state',
  ConsentRequired: 'No consent covers this',
  RateLimited: 'Too many requests',
  QuotaExceeded: 'Quota exceeded',
  EndpointTooLarge: 'Too large',
  NotReady: 'Not ready yet',
  Network: 'A service is not reachable',
  CircuitBreakerOpen: 'A service is not reachable',
  Internal: 'Internal error',
  Unauthenticated: 'A valid bearer token is needed',
  Forbidden: 'The token lacks the scope',
  NotAcceptable: 'No such representation',
  UnsupportedMediaType: 'Unsupported media type',
  MethodNotAllowed: 'Method not allowed',
  IdempotencyKeyReused: 'The Idempotency-Key was used for another request',
  IdempotencyKeyInUse: 'The request with this Idempotency-Key is still running',
}

/** What an unexpected error must be logged as, beside the bare problem that the client gets. */
export interface MappedError {
  readonly problem: Problem
  readonly unexpected: boolean
}

export function problemOf(error: unknown, traceId: string): MappedError {
  if (error instanceof Refused) return known(error.code, STATUS[error.code] ?? 422, error.message, traceId, error.details)
  if (error instanceof EdgeRefusal) return known(error.code, EDGE_STATUS[error.code], error.message, traceId)
  if (error instanceof DomainError) return ofDomain(error, traceId)
  if (error instanceof z.ZodError) {
    const errors = faultsOf(error)
    return known(
      'InvalidRequest',
      400,
      errors[0] ? `${errors[0].pointer || 'The request'}: ${errors[0].message}` : 'The request is not valid.',
      traceId,
      { errors },
    )
  }
  if (error instanceof RpcFault) return ofFault(error, traceId)
  if (error instanceof ProtocolError && (ERROR_CODES as readonly string[]).includes(error.code)) {
    return known(error.code, STATUS[error.code as ErrorCode] ?? 422, error.message, traceId)
  }
  if (isDatabaseAway(error)) return ofDatabase(traceId)
  return ofFramework(error, traceId)
}

/** The client may simply come again; the log has the reason all the same. */
function ofDatabase(traceId: string): MappedError {
  const { problem } = known('NotReady', 503, 'The database does not answer: try again.', traceId, { retryAfterMs: 2_000 })
  return { problem, unexpected: true }
}

function known(
  code: string,
  status: number,
  detail: string,
  traceId: string,
  more: { errors?: readonly Fault[]; retryAfterMs?: number } = {},
): MappedError {
  const problem: Problem = {
    type: `urn:tallystick:problem:${code}`,
    title: TITLES[code] ?? 'The request was refused',
    status,
    code,
    detail,
    ...(more.errors === undefined
      ? {}
      : { errors: more.errors.slice(0, 100).map(({ pointer, rule, message }) => ({ pointer, rule, message })) }),
    traceId,
    ...(more.retryAfterMs === undefined ? {} : { retryAfterMs: more.retryAfterMs }),
  }
  return { problem, unexpected: status === 500 }
}

function ofDomain(error: DomainError, traceId: string): MappedError {
  const status = error.code === 'Conflict' || error.code === 'ConsentRequired' ? 409 : 422
  const rule = error.violations[0]?.rule
  return known(status === 409 || rule === undefined ? error.code : rule, status, error.message, traceId, { errors: error.violations })
}

function ofFault(error: RpcFault, traceId: string): MappedError {
  const away = error.code === 'Network' || error.code === 'CircuitBreakerOpen'
  const service = `${error.subject.split('.')[0] ?? 'a'}-svc`
  const detail = away ? `${service} does not answer; nothing was lost, try again.` : `${service} failed.`
  return known(error.code, away ? 503 : 500, detail, traceId, { retryAfterMs: error.retryAfterMs ?? 2_000 })
}

/** Nest's and Fastify's own errors carry a status; their text may quote the request, so it is not passed on. */
function ofFramework(error: unknown, traceId: string): MappedError {
  const status = error instanceof HttpException ? error.getStatus() : statusIn(error)
  switch (status) {
    case 404:
      return known('NotFound', 404, 'There is nothing at this path.', traceId)
    case 405:
      return known('MethodNotAllowed', 405, 'This path does not take this method.', traceId)
    case 413:
      return known('EndpointTooLarge', 413, 'The body is larger than this endpoint takes.', traceId)
    case 414:
    case 431:
      return known('InvalidRequest', status, 'The request line or its headers are too long.', traceId)
    case 415:
      return known(
        'UnsupportedMediaType',
        415,
        'This endpoint takes application/json, and application/xml where documents are imported.',
        traceId,
      )
    default:
      if (status !== undefined && status >= 400 && status < 500)
        return known('InvalidRequest', status, 'The request is malformed.', traceId)
      return { ...known('Internal', 500, 'Something failed here; the log has it under this trace id.', traceId), unexpected: true }
  }
}

function statusIn(error: unknown): number | undefined {
  const status = typeof error === 'object' && error !== null && 'statusCode' in error ? error.statusCode : undefined
  return typeof status === 'number' ? status : undefined
}

/** One entry per issue; an unknown field is named itself, not its parent. */
export function faultsOf(error: z.ZodError): Fault[] {
  return error.issues.flatMap((issue): Fault[] => {
    const path = issue.path.map((token) => (typeof token === 'symbol' ? String(token) : token))
    if (issue.code === 'unrecognized_keys')
      return issue.keys.map((key) => ({ pointer: pointerOf([...path, key.slice(0, 80)]), rule: 'UnknownField', message: 'unknown field' }))
    return [{ pointer: pointerOf(path), rule: 'InvalidRequest', message: issue.message }]
  })
}

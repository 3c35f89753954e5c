/**
 * The HTTP edge: what happens to every request, in this order. Security headers, token, scope, rate limit: before one
 * byte of the body is read. Then the strict body, then the Idempotency-Key, then the handler.
 */
import { randomUUID } from 'node:crypto'
import type { ArgumentsHost, ExceptionFilter } from '@nestjs/common'
import type { FastifyAdapter, NestFastifyApplication } from '@nestjs/platform-fastify'
import { runInContext } from '@tallystick/nats-rpc/context'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { App } from '../app.js'
import { IDEMPOTENCY_KEY_LENGTH } from '../limits.js'
import { Refused } from '../refused.js'
import { claimOperation, isStorable, NO_OPERATION, type KeyedOperation } from './operation.js'
import { EdgeRefusal, problemOf } from './problem.js'
import { RateLimiter } from './rate-limit.js'
import type { ApiRequest, RouteSpec } from './route.js'
import { parseStrictJson } from './strict-json.js'
import type { ApiClient } from './tokens.js'

export interface EdgeOptions {
  readonly routes: readonly RouteSpec[]
  /** TLS ends in front of this process: browsers are told to stay on it. */
  readonly behindTls: boolean
}

const IDEMPOTENCY_KEY = new RegExp(`^[\\x21-\\x7e]{1,${IDEMPOTENCY_KEY_LENGTH}}$`)
const BEARER = /^Bearer ([\x21-\x7e]{16,512})$/i

type EdgeRequest = ApiRequest & { rawBody?: Buffer; keyed?: KeyedOperation }

export function configureEdge(app: NestFastifyApplication, deps: App, options: EdgeOptions): void {
  const fastify = app.getHttpAdapter().getInstance() as unknown as FastifyInstance
  const routes = new Map(options.routes.map((spec) => [`${spec.method} ${spec.path}`, spec]))
  const limiter = new RateLimiter(deps.db, deps.clock)
  const specOf = (request: FastifyRequest): RouteSpec | undefined =>
    routes.get(`${request.method === 'HEAD' ? 'GET' : request.method} ${request.routeOptions.url ?? ''}`)

  app.useGlobalFilters(new ProblemFilter(deps))
  addBodyParsers(app, deps)
  const headers = securityHeaders(options.behindTls)
  adapterOf(app).registerSecurityHook((_request, response) => {
    for (const [name, value] of headers) response.setHeader(name, value)
    return undefined
  })

  fastify.addHook('onRequest', async (request) => {
    const edge = request as EdgeRequest
    edge.tallystick = { correlationId: randomUUID(), startedAt: performance.now(), operation: NO_OPERATION }
    const spec = specOf(request)
    if (spec === undefined || spec.scope === null) return
    const client = await authenticate(deps, limiter, request)
    edge.tallystick.client = client
    if (!client.scopes.has(spec.scope)) {
      deps.refusals.authFailed('scope', client.name)
      throw new EdgeRefusal('Forbidden', `This token lacks the scope ${spec.scope}.`)
    }
    await limit(deps, limiter, client.name, `${spec.method} ${spec.path}`, deps.limits.apiRatePerMinute)
    checkMediaType(spec, request)
  })

  fastify.addHook('preHandler', async (request, reply) => {
    const edge = request as EdgeRequest
    const spec = specOf(request)
    if (spec === undefined) return undefined
    const key = request.headers['idempotency-key']
    if (spec.method !== 'POST' || key === undefined) return undefined
    if (typeof key !== 'string' || !IDEMPOTENCY_KEY.test(key)) {
      throw new Refused('InvalidRequest', `An Idempotency-Key has 1 to ${IDEMPOTENCY_KEY_LENGTH} printable ASCII characters.`)
    }
    const claim = await claimOperation(deps, edge.tallystick.client?.name ?? 'public', key, {
      operation: `${request.method} ${request.url}`,
      body: edge.rawBody ?? new Uint8Array(),
      mediaType: mediaTypeOf(request),
    })
    if ('replay' in claim) {
      const { status, text } = claim.replay
      return reply
        .code(status)
        .header('idempotency-replayed', 'true')
        .type(status >= 400 ? 'application/problem+json' : 'application/json; charset=utf-8')
        .send(text)
    }
    edge.keyed = claim.run
    edge.tallystick.operation = claim.run
    return undefined
  })

  // Last of the hooks before the handler: what it calls on the bus belongs to this request's trace.
  fastify.addHook('preHandler', (request, _reply, done) => {
    const traceparent = request.headers.traceparent
    const { correlationId } = (request as EdgeRequest).tallystick
    runInContext({ correlationId, ...(typeof traceparent === 'string' ? { traceparent } : {}) }, done)
  })

  fastify.addHook('onSend', async (request, reply, payload) => {
    const { keyed } = request as EdgeRequest
    keyed?.end()
    if (keyed !== undefined && (!keyed.finished || reply.statusCode >= 500)) await settle(deps, keyed, reply.statusCode, payload)
    return payload
  })

  fastify.addHook('onResponse', (request, reply, done) => {
    const { correlationId, startedAt } = (request as EdgeRequest).tallystick
    const seconds = (performance.now() - startedAt) / 1000
    const route = specOf(request)?.path ?? 'other'
    deps.metrics.httpDuration.observe({ method: request.method, route, status: String(reply.statusCode) }, seconds)
    deps.log.debug(
      { method: request.method, path: route, status: reply.statusCode, durationMs: Math.round(seconds * 1000), correlationId },
      'request',
    )
    done()
  })
  fastify.addHook('preClose', (done) => {
    deps.feed.close()
    done()
  })
}

/** Handlers that have no transaction of their own leave their answer to be stored here. */
async function settle(deps: App, keyed: KeyedOperation, status: number, payload: unknown): Promise<void> {
  try {
    if (isStorable(status) && (typeof payload === 'string' || payload === undefined || payload === null))
      await keyed.finishText(status, payload ?? '')
    else await keyed.release()
  } catch (error) {
    // The answer stands; the key is free again when its lease ends.
    deps.log.warn({ err: error }, 'the answer to a request with an Idempotency-Key could not be stored')
  }
}

function securityHeaders(behindTls: boolean): Array<[string, string]> {
  return [
    ['content-security-policy', "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"],
    ['x-frame-options', 'DENY'],
    ['x-content-type-options', 'nosniff'],
    ['referrer-policy', 'no-referrer'],
    ['cross-origin-resource-policy', 'same-origin'],
    ['cache-control', 'no-store'],
    ...(behindTls ? ([['strict-transport-security', 'max-age=31536000; includeSubDomains']] as Array<[string, string]>) : []),
  ]
}

function adapterOf(app: NestFastifyApplication): FastifyAdapter {
  return app.getHttpAdapter() as unknown as FastifyAdapter
}

async function authenticate(deps: App, limiter: RateLimiter, request: FastifyRequest): Promise<ApiClient> {
  const header = request.headers.authorization
  const token = header === undefined ? undefined : BEARER.exec(header)?.[1]
  const client = token === undefined ? undefined : deps.tokens.clientOf(token)
  if (client !== undefined) return client
  deps.refusals.authFailed(header === undefined ? 'missing-token' : 'unknown-token')
  await limit(deps, limiter, `address:${request.ip}`, 'unauthenticated', deps.limits.authFailuresPerMinute)
  throw new EdgeRefusal('Unauthenticated', header === undefined ? 'Send Authorization: Bearer <token>.' : 'This token is not known here.')
}

async function limit(deps: App, limiter: RateLimiter, client: string, endpoint: string, perMinute: number): Promise<void> {
  const decision = await limiter.take(client, endpoint, perMinute)
  if (decision.allowed) return
  deps.metrics.rateLimited.inc({ layer: 'api' })
  deps.refusals.rateLimited(endpoint)
  throw new Refused('RateLimited', `At most ${perMinute} requests a minute to this endpoint.`, { retryAfterMs: decision.retryAfterMs })
}

function mediaTypeOf(request: FastifyRequest): string {
  return (request.headers['content-type'] ?? '').split(';')[0]!.trim().toLowerCase()
}

function addBodyParsers(app: NestFastifyApplication, deps: App): void {
  // Nest keeps its own parsers away from types that are registered through the adapter.
  const adapter = adapterOf(app)
  const caps = { depth: deps.limits.jsonDepth, values: deps.limits.jsonValues }
  const jsonBody = (_request: unknown, body: Buffer, done: (error: Error | null, parsed?: unknown) => void): void =>
    done(null, body.length === 0 ? undefined : parseStrictJson(body, caps))
  adapter.useBodyParser('application/json', true, { bodyLimit: deps.limits.jsonBodyBytes }, jsonBody)
  adapter.useBodyParser('application/merge-patch+json', true, { bodyLimit: deps.limits.jsonBodyBytes }, jsonBody)
  adapter.useBodyParser('application/xml', true, { bodyLimit: deps.limits.xmlBodyBytes }, keepBytes)
  adapter.useBodyParser('text/xml', true, { bodyLimit: deps.limits.xmlBodyBytes }, keepBytes)
}

function keepBytes(_request: unknown, body: Buffer, done: (error: Error | null, parsed?: unknown) => void): void {
  done(null, body)
}

/** Media types are settled before the body is read. */
function checkMediaType(spec: RouteSpec, request: FastifyRequest): void {
  const length = request.headers['content-length']
  const hasBody = request.headers['transfer-encoding'] !== undefined || (length !== undefined && length !== '0')
  if (!hasBody || spec.method === 'GET' || spec.method === 'DELETE') return
  const mediaType = mediaTypeOf(request)
  if (mediaType === 'application/json' || spec.accepts?.includes(mediaType) === true) return
  throw new EdgeRefusal('UnsupportedMediaType', `This endpoint takes ${['application/json', ...(spec.accepts ?? [])].join(' or ')}.`)
}

class ProblemFilter implements ExceptionFilter {
  constructor(private readonly deps: Pick<App, 'log'>) {}

  catch(error: unknown, host: ArgumentsHost): void {
    sendProblem(this.deps, error, host.switchToHttp().getRequest<EdgeRequest>(), host.switchToHttp().getResponse<FastifyReply>())
  }
}

/** For the adapter: what the router refuses before any hook runs (a malformed URL) looks like every other refusal. */
export function frameworkErrors(
  deps: Pick<App, 'log'>,
  options: Pick<EdgeOptions, 'behindTls'>,
): (error: Error, request: FastifyRequest, reply: FastifyReply) => void {
  const headers = securityHeaders(options.behindTls)
  return (error, request, reply) => {
    for (const [name, value] of headers) reply.header(name, value)
    sendProblem(deps, error, request as Partial<EdgeRequest> & FastifyRequest, reply)
  }
}

/** Every error becomes a problem here, and nowhere else. */
function sendProblem(deps: Pick<App, 'log'>, error: unknown, request: Partial<EdgeRequest> & FastifyRequest, reply: FastifyReply): void {
  const traceId = request.tallystick?.correlationId ?? randomUUID()
  const { problem, unexpected } = problemOf(error, traceId)
  if (unexpected) deps.log.error({ err: error, correlationId: traceId, method: request.method }, 'a request failed unexpectedly')
  if (reply.sent) return
  reply.code(problem.status).type('application/problem+json')
  if (problem.status === 401) reply.header('www-authenticate', 'Bearer')
  if (problem.retryAfterMs !== undefined) reply.header('retry-after', String(Math.max(1, Math.ceil(problem.retryAfterMs / 1000))))
  // A body that was not read to its end would be taken for the next request.
  if (problem.status === 413) reply.header('connection', 'close')
  void reply.send(JSON.stringify(problem))
}

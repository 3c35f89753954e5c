/**
 * One description per HTTP endpoint: method, path, scope, schemas. The router, the checks before the body is read,
 * the validation and the OpenAPI document all come from it, so that they cannot disagree.
 */
import {
  applyDecorators,
  createParamDecorator,
  HttpCode,
  RequestMapping,
  RequestMethod,
  SetMetadata,
  type ExecutionContext,
  type Type,
} from '@nestjs/common'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import type { Operation } from './operation.js'
import type { ApiClient, Scope } from './tokens.js'

export interface RouteSpec<Params extends z.ZodType = z.ZodType, Query extends z.ZodType = z.ZodType, Body extends z.ZodType = z.ZodType> {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE'
  /** Nest's spelling: `/v1/peers/:id`. */
  readonly path: string
  /** null: open to all. */
  readonly scope: Scope | null
  readonly tag: string
  readonly summary: string
  readonly params?: Params
  readonly query?: Query
  /** The JSON body. */
  readonly body?: Body
  /** The body may be left out. */
  readonly bodyOptional?: boolean
  /** Media types besides application/json. */
  readonly accepts?: readonly string[]
  readonly status: number
  readonly response?: z.ZodType
  /** Media types besides application/json, or instead of it. */
  readonly produces?: readonly string[]
  /** Statuses of problems that this endpoint adds to the general ones. */
  readonly problems?: readonly number[]
}

export const ROUTE = 'tallystick:route'

export function route<
  Params extends z.ZodType = z.ZodUnknown,
  Query extends z.ZodType = z.ZodUnknown,
  Body extends z.ZodType = z.ZodUnknown,
>(spec: RouteSpec<Params, Query, Body>): RouteSpec<Params, Query, Body> {
  return Object.freeze(spec)
}

/** What a request carries once it has been let in; set by the hooks. */
export interface Admitted {
  correlationId: string
  startedAt: number
  client?: ApiClient
  operation?: Operation
}

export type ApiRequest = FastifyRequest & { tallystick: Admitted }

export interface Call<R extends RouteSpec = RouteSpec> {
  /** Name of the token used; `public` on open routes. */
  readonly client: string
  readonly params: z.output<NonNullable<R['params']>>
  readonly query: z.output<NonNullable<R['query']>>
  readonly body: z.output<NonNullable<R['body']>>
  /** The XML text, when the body is not JSON. */
  readonly xml: Uint8Array | undefined
  readonly operation: Operation
  readonly request: ApiRequest
  readonly reply: FastifyReply
}

/** Binds a controller method to its route; the method takes one `@Called()` argument. */
export function Serves<R extends RouteSpec>(
  spec: R,
): <M extends (call: Call<R>) => unknown>(target: object, key: string, descriptor: TypedPropertyDescriptor<M>) => void {
  const method = RequestMethod[spec.method]
  return applyDecorators(RequestMapping({ path: spec.path, method }), HttpCode(spec.status), SetMetadata(ROUTE, spec))
}

/** The validated call. @throws ZodError, mapped to a 400 problem that names each field */
export const Called = createParamDecorator((_: unknown, context: ExecutionContext): Call => {
  const spec = Reflect.getMetadata(ROUTE, context.getHandler()) as RouteSpec
  const request = context.switchToHttp().getRequest<ApiRequest>()
  const raw = request.body
  const xml = raw instanceof Uint8Array ? raw : undefined
  const json = xml === undefined ? raw : undefined
  return {
    client: request.tallystick.client?.name ?? 'public',
    params: spec.params === undefined ? undefined : spec.params.parse(request.params),
    query: spec.query === undefined ? noQuery.parse(request.query) : spec.query.parse(request.query),
    body:
      spec.body === undefined || xml !== undefined
        ? undefined
        : spec.bodyOptional === true && (json === undefined || json === null)
          ? spec.body.optional().parse(undefined)
          : spec.body.parse(json ?? undefined),
    xml,
    operation: request.tallystick.operation!,
    request,
    reply: context.switchToHttp().getResponse<FastifyReply>(),
  }
})

const noQuery = z.strictObject({})

/** Every route of the given controllers. @throws Error for a handler that answers HTTP without a description */
export function routesOf(controllers: ReadonlyArray<Type<unknown>>): RouteSpec[] {
  return controllers.flatMap((controller) => {
    const prototype = controller.prototype as Record<string, unknown>
    return Object.getOwnPropertyNames(prototype).flatMap((name): RouteSpec[] => {
      const handler = Object.getOwnPropertyDescriptor(prototype, name)?.value as unknown
      if (name === 'constructor' || typeof handler !== 'function') return []
      const spec = Reflect.getMetadata(ROUTE, handler) as RouteSpec | undefined
      if (spec === undefined && Reflect.hasMetadata('path', handler))
        throw new Error(`${controller.name}.${name} serves HTTP without a route description`)
      return spec === undefined ? [] : [spec]
    })
  })
}

/** The OpenAPI 3.1 description, generated from the routes: the same schemas that validate. */
import { z } from 'zod'
import { problemSchema } from './problem.js'
import type { RouteSpec } from './route.js'

type Json = { [key: string]: unknown }

const GENERAL_PROBLEMS: Record<number, string> = {
  400: 'The request is not valid',
  401: 'No valid token',
  403: 'The token lacks the scope',
  429: 'Too many requests',
  503: 'A service is away',
}
const SPECIAL_PROBLEMS: Record<number, string> = {
  404: 'Not found',
  406: 'No such representation',
  409: 'Does not fit the present state (Conflict, ConsentRequired, …)',
  413: 'Too large',
  422: 'A rule is broken; errors[] names each',
}

/** @param schemas referred to by name from bodies that are read elsewhere */
export function openApi(routes: readonly RouteSpec[], schemas: readonly z.ZodType[], version: string): Json {
  const components = new Components()
  components.use(problemSchema)
  for (const schema of schemas) components.use(schema)
  const paths: Record<string, Json> = {}
  for (const spec of [...routes].sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0))) {
    const path = spec.path.replaceAll(/:([A-Za-z]+)/g, '{$1}').replace('/*', '/{path}')
    paths[path] = { ...paths[path], [spec.method.toLowerCase()]: operation(spec, components) }
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Tallystick',
      version,
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      description:
        'Invoices between organisations, end-to-end encrypted. Money is decimal text, times are RFC 3339 in UTC, ids are UUIDv7. Every POST takes an Idempotency-Key. Errors are RFC 9457 problems.',
    },
    paths,
    components: {
      schemas: components.schemas(),
      securitySchemes: { token: { type: 'http', scheme: 'bearer', description: 'A token of this fleet, with scopes' } },
    },
  }
}

/** Schemas with an id stand once, under components. */
class Components {
  readonly #schemas: Record<string, Json> = {}

  use(schema: z.ZodType, io: 'input' | 'output' = 'output'): Json {
    const {
      $defs,
      $schema: _dialect,
      ...json
    } = z.toJSONSchema(schema, { io, target: 'draft-2020-12', unrepresentable: 'any', reused: 'inline' }) as Json & {
      $defs?: Record<string, Json>
    }
    for (const [id, definition] of Object.entries($defs ?? {})) this.#schemas[id] ??= relink(definition) as Json
    const id = schema.meta()?.id
    if (typeof id === 'string') {
      this.#schemas[id] ??= relink(json) as Json
      return { $ref: `#/components/schemas/${id}` }
    }
    return relink(json) as Json
  }

  schemas(): Record<string, Json> {
    return Object.fromEntries(Object.entries(this.#schemas).sort(([a], [b]) => (a < b ? -1 : 1)))
  }
}

function relink(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(relink)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .filter(([name]) => name !== 'id' || typeof (value as Json).id !== 'string')
      .map(([name, inner]) => [
        name,
        name === '$ref' && typeof inner === 'string' ? inner.replace('#/$defs/', '#/components/schemas/') : relink(inner),
      ]),
  )
}

function operation(spec: RouteSpec, components: Components): Json {
  const problems = spec.scope === null ? [...(spec.problems ?? [])] : [400, 401, 403, 429, 503, ...(spec.problems ?? [])]
  const parameters = [...fields(spec.params, 'path', components), ...fields(spec.query, 'query', components)]
  if (spec.path.endsWith('/*')) parameters.push({ name: 'path', in: 'path', required: true, schema: { type: 'string' } })
  if (spec.method === 'POST')
    parameters.push({ name: 'Idempotency-Key', in: 'header', required: false, schema: { type: 'string', minLength: 1, maxLength: 128 } })
  return {
    operationId: operationId(spec),
    summary: spec.summary,
    tags: [spec.tag],
    ...(spec.scope === null ? { security: [] } : { security: [{ token: [] }], 'x-scope': spec.scope }),
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(spec.body === undefined ? {} : { requestBody: requestBody(spec, components) }),
    responses: {
      [String(spec.status)]: success(spec, components),
      ...Object.fromEntries([...new Set(problems)].sort().map((status) => [String(status), problem(status)])),
    },
  }
}

function operationId(spec: RouteSpec): string {
  const words = spec.path
    .replace(/^\/v1/, '')
    .split('/')
    .filter(Boolean)
    .map((part) => (part === '*' ? 'path' : part.replace(/^:/, 'by-').replace('.', '-')))
  return [spec.method.toLowerCase(), ...words].join('-').replaceAll(/-([a-zA-Z])/g, (_, letter: string) => letter.toUpperCase())
}

function fields(schema: z.ZodType | undefined, where: 'path' | 'query', components: Components): Json[] {
  if (schema === undefined) return []
  const { properties, required } = components.use(schema, 'input') as { properties?: Record<string, Json>; required?: string[] }
  return Object.entries(properties ?? {}).map(([name, inner]) => ({
    name,
    in: where,
    required: where === 'path' || (required ?? []).includes(name),
    schema: inner,
  }))
}

function requestBody(spec: RouteSpec, components: Components): Json {
  const schema = components.use(spec.body!, 'input')
  const others = (spec.accepts ?? []).map((type) => [
    type,
    type.endsWith('+json') ? { schema } : { schema: { type: 'string', description: 'UBL 2.1 Invoice or CreditNote' } },
  ])
  return { required: spec.bodyOptional !== true, content: { 'application/json': { schema }, ...Object.fromEntries(others) } }
}

function success(spec: RouteSpec, components: Components): Json {
  if (spec.status === 204) return { description: 'Done' }
  const json = spec.response === undefined ? {} : { 'application/json': { schema: components.use(spec.response) } }
  const others = Object.fromEntries((spec.produces ?? []).map((type) => [type, { schema: { type: 'string' } }]))
  return { description: spec.summary, content: { ...json, ...others } }
}

function problem(status: number): Json {
  return {
    description: GENERAL_PROBLEMS[status] ?? SPECIAL_PROBLEMS[status] ?? 'Refused',
    content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
  }
}

/** /v1/breakers, /v1/limits, health on the API port, and the description of the API itself. */
import { Controller, Inject } from '@nestjs/common'
import { z } from 'zod'
import { APP, type App } from '../app.js'
import { time } from '../http/page.js'
import { Called, route, Serves, type Call } from '../http/route.js'
import { describeLimits } from '../limits.js'
import { Refused } from '../refused.js'

export const OPENAPI_TEXT = Symbol('OpenApiText')
export const READINESS = Symbol('Readiness')

/** Names of what is missing; empty: ready. */
export type ReadinessProbe = () => Promise<string[]>

const tag = 'state'
const health = z.strictObject({ status: z.enum(['ok']) })

const breakers = route({
  method: 'GET',
  path: '/v1/breakers',
  scope: 'ops:read',
  tag,
  summary: "Circuits of this process's calls",
  status: 200,
  response: z.strictObject({
    items: z.array(
      z.strictObject({
        target: z.string(),
        state: z.enum(['closed', 'half-open', 'open']),
        failures: z.int(),
        nextProbeAt: time.nullable(),
      }),
    ),
  }),
})
const limits = route({
  method: 'GET',
  path: '/v1/limits',
  scope: 'ops:read',
  tag,
  summary: 'Limits in force, each with its reason',
  status: 200,
  response: z.strictObject({
    items: z.array(z.strictObject({ name: z.string(), value: z.number(), unit: z.string(), reason: z.string() })),
  }),
})
const openapi = route({
  method: 'GET',
  path: '/openapi.json',
  scope: null,
  tag,
  summary: 'This description',
  status: 200,
  response: z.looseObject({ openapi: z.string() }),
})
const live = route({ method: 'GET', path: '/health/live', scope: null, tag, summary: 'The process runs', status: 200, response: health })
const ready = route({
  method: 'GET',
  path: '/health/ready',
  scope: null,
  tag,
  summary: 'Database and bus are there',
  status: 200,
  response: health,
  problems: [503],
})

@Controller()
export class OpsController {
  constructor(
    @Inject(APP) private readonly app: App,
    @Inject(OPENAPI_TEXT) private readonly description: string,
    @Inject(READINESS) private readonly missing: ReadinessProbe,
  ) {}

  @Serves(breakers)
  breakers(@Called() _call: Call<typeof breakers>) {
    return {
      items: this.app.rpc.circuits().map(({ target, state, failures, nextProbeAt }) => ({
        target,
        state,
        failures,
        nextProbeAt: nextProbeAt === undefined ? null : new Date(nextProbeAt).toISOString(),
      })),
    }
  }

  @Serves(limits)
  limits(@Called() _call: Call<typeof limits>) {
    return { items: describeLimits(this.app.limits) }
  }

  @Serves(openapi)
  openapi(@Called() { reply }: Call<typeof openapi>): string {
    reply.type('application/json; charset=utf-8')
    return this.description
  }

  @Serves(live)
  live(@Called() _call: Call<typeof live>) {
    return { status: 'ok' as const }
  }

  @Serves(ready)
  async ready(@Called() _call: Call<typeof ready>) {
    const missing = await this.missing()
    if (missing.length > 0) throw new Refused('NotReady', `Not there yet: ${missing.join(', ')}.`, { retryAfterMs: 1_000 })
    return { status: 'ok' as const }
  }
}

/** What every use case of this service is given: built once, in the module; in tests built by hand. */
import type { ServiceClient } from '@tallystick/nats-rpc/client'
import type { Clock } from '@tallystick/service-host/clock'
import type { Logger } from 'pino'
import type { Prisma, PrismaClient } from './gen/client.js'
import type { AuditAggregator } from './audit/aggregator.js'
import type { ChangeFeed } from './events/change-feed.js'
import type { OwnFleet } from './fleet/own-fleet.js'
import type { TokenBook } from './http/tokens.js'
import type { Limits } from './limits.js'
import type { AppMetrics } from './metrics.js'

export type Rpc = Pick<ServiceClient, 'call' | 'circuits'>
export type Db = PrismaClient
export type Tx = Prisma.TransactionClient

/** Background work that can be nudged after a commit; a lost nudge is made up for by polling. */
export interface Wakes {
  messages(): void
  /** Something that was sent has to go again. */
  again(): void
  /** session-svc may want a control message sent, although there is no document. */
  attention(): void
  peers(): void
  proofs(): void
  audit(): void
}

export interface App {
  readonly db: Db
  readonly rpc: Rpc
  readonly clock: Clock
  readonly log: Logger
  readonly metrics: AppMetrics
  readonly limits: Limits
  readonly tokens: TokenBook
  readonly fleet: OwnFleet
  readonly feed: ChangeFeed
  readonly refusals: AuditAggregator
  readonly wake: Wakes
}

export const APP = Symbol('App')

/** Who acts, as audit events name it. */
export const SERVICE_ACTOR = 'invoice-svc'
export function clientActor(client: string): string {
  return `client:${client}`
}

export function now(app: Pick<App, 'clock'>): Date {
  return new Date(app.clock.now())
}

/** Waiting for a connection and running, milliseconds: a burst queues for its turn instead of failing. */
export const TRANSACTION = { maxWait: 10_000, timeout: 15_000 }

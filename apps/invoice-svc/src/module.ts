/** The object graph, written out: what is shared, which controllers there are, which steps run in the background. */
import type { DynamicModule, Type } from '@nestjs/common'
import { AuditPump } from '@tallystick/audit-outbox/pump'
import type { BreakerTransition } from '@tallystick/nats-rpc/breaker'
import { newAuditEvent, recordAuditEvents } from '@tallystick/audit-outbox/outbox'
import type { Clock } from '@tallystick/service-host/clock'
import type { Logger } from 'pino'
import type { Registry } from 'prom-client'
import { APP, now, SERVICE_ACTOR, type App, type Db, type Rpc } from './app.js'
import { AuditAggregator } from './audit/aggregator.js'
import { AuditController } from './audit/audit.controller.js'
import { proveOnce } from './audit/proofs.js'
import { BackgroundStep } from './background.js'
import { ConsentsController } from './consents/consents.controller.js'
import { CustodyController } from './custody/custody.controller.js'
import { AnyDocumentController, documentsController, REFERRED_SCHEMAS } from './documents/documents.controller.js'
import { ChangeFeed } from './events/change-feed.js'
import { recordChange } from './events/change.store.js'
import { EventsController } from './events/events.controller.js'
import { EvidenceController } from './evidence/evidence.controller.js'
import { FleetController } from './fleet/fleet.controller.js'
import { OwnFleet } from './fleet/own-fleet.js'
import { openApi } from './http/openapi.js'
import { routesOf, type RouteSpec } from './http/route.js'
import type { TokenBook } from './http/tokens.js'
import { newId } from './ids.js'
import { BusController } from './inbound/bus.controller.js'
import { InboxController } from './inbox/inbox.controller.js'
import type { Limits } from './limits.js'
import { pumpOnce } from './messages/pump.js'
import { askOnce, attendOnce } from './messages/receipts.js'
import { sendAgainOnce } from './messages/send-again.js'
import { createMetrics } from './metrics.js'
import { OPENAPI_TEXT, OpsController, READINESS, type ReadinessProbe } from './ops/ops.controller.js'
import { watchPeerKeys } from './peers/peer-keys.js'
import { PeersController } from './peers/peers.controller.js'
import { syncPeers } from './peers/sync-peer.js'
import { SharesController } from './shares/shares.controller.js'
import { sweep, SWEEP_EVERY_MS } from './sweep.js'

export const HTTP_CONTROLLERS: Array<Type<unknown>> = [
  FleetController,
  PeersController,
  ConsentsController,
  documentsController('invoices', 'invoice'),
  documentsController('credit-notes', 'credit-note'),
  AnyDocumentController,
  SharesController,
  InboxController,
  EvidenceController,
  AuditController,
  EventsController,
  CustodyController,
  OpsController,
]

export const API_VERSION = '1.0.0'

export function apiRoutes(): RouteSpec[] {
  return routesOf(HTTP_CONTROLLERS)
}

/** Pretty, with a line feed at the end: the same text that is checked in. */
export function openApiText(): string {
  return `${JSON.stringify(openApi(apiRoutes(), REFERRED_SCHEMAS, API_VERSION), null, 2)}\n`
}

export interface Parts {
  readonly db: Db
  readonly rpc: Rpc
  readonly clock: Clock
  readonly log: Logger
  readonly metrics: Registry
  readonly tokens: TokenBook
  readonly limits: Limits
  readonly missing: ReadinessProbe
}

export interface Assembled {
  readonly app: App
  readonly module: DynamicModule
  start(): void
  stop(): Promise<void>
  /** A circuit of this process has changed: told to listeners and to the audit log. */
  breakerChanged(transition: BreakerTransition): Promise<void>
}

export function assemble(parts: Parts): Assembled {
  const { db, rpc, clock, log, metrics, tokens, limits } = parts
  const step = (name: string, pollMs: number, run: () => Promise<number>) => new BackgroundStep({ name, pollMs, log, run })
  const audit = new AuditPump({ db, rpc, log, metrics, clock })
  const messages = step('messages', limits.pumpPollMs, () => pumpOnce(app))
  const again = step('messages again', limits.stepPollMs, async () => (await sendAgainOnce(app)) + (await askOnce(app)))
  const attention = step('attention', limits.attentionPollMs, () => attendOnce(app))
  const peers = step('peers', limits.stepPollMs, () => syncPeers(app))
  const keys = step('peer keys', limits.stepPollMs, () => watchPeerKeys(app))
  const proofs = step('proofs', limits.stepPollMs, () => proveOnce(app))
  const sweeper = step('sweep', SWEEP_EVERY_MS, () => sweep(app))
  const app: App = {
    db,
    rpc,
    clock,
    log,
    limits,
    tokens,
    metrics: createMetrics(metrics),
    fleet: new OwnFleet({ rpc, clock, limits }),
    feed: new ChangeFeed({ db, log, limits }),
    refusals: new AuditAggregator({ db, clock, log, limits, wake: () => audit.wake() }),
    wake: {
      messages: () => messages.wake(),
      again: () => again.wake(),
      attention: () => attention.wake(),
      peers: () => peers.wake(),
      proofs: () => proofs.wake(),
      audit: () => audit.wake(),
    },
  }
  class InvoiceModule {}
  const module: DynamicModule = {
    module: InvoiceModule,
    controllers: [BusController, ...HTTP_CONTROLLERS],
    providers: [
      { provide: APP, useValue: app },
      { provide: OPENAPI_TEXT, useValue: openApiText() },
      { provide: READINESS, useValue: parts.missing },
    ],
  }
  return {
    app,
    module,
    start() {
      audit.start()
      for (const each of [messages, again, attention, peers, keys, proofs, sweeper]) each.start()
    },
    async stop() {
      app.feed.close()
      await Promise.all([messages, again, attention, peers, keys, proofs, sweeper].map((each) => each.stop()))
      await app.refusals.flush()
      await audit.stop()
    },
    async breakerChanged({ service, target, from, to }) {
      await db.$transaction(async (tx) => {
        await recordAuditEvents(tx, [
          newAuditEvent({
            type: 'BreakerStateChanged',
            actor: SERVICE_ACTOR,
            at: clock.now(),
            id: newId(),
            body: { service, target, from, to },
          }),
        ])
        await recordChange(tx, now(app), { topic: 'breaker', subject: target, data: { target, from, to } })
      })
      audit.wake()
    },
  }
}

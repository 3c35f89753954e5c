/**
 * The inbound queue to invoice-svc. Two lanes: batches, and one by one for envelopes whose last batch failed as a
 * whole, so that a poisoned one is found and holds up nothing but its own lane.
 * @see docs/spec/relay.md §4
 */
import { newAuditEvent, recordAuditEvents } from '@tallystick/audit-outbox/outbox'
import { MAX_BATCH, type ResponseOf } from '@tallystick/contracts/call'
import type { ErrorCode } from '@tallystick/contracts/codes'
import { invoiceDeliver } from '@tallystick/contracts/invoice'
import type { ServiceClient } from '@tallystick/nats-rpc/client'
import { RpcFault } from '@tallystick/nats-rpc/fault'
import { backoffMs } from './backoff.js'
import type { PrismaClient } from './gen/client.js'
import { uuidv7 } from './ids.js'
import type { DeliveryResult, DueEnvelope, InboundStore } from './inbound.store.js'
import type { Limits } from './limits.js'
import type { RelayMetrics } from './metrics.js'
import { hex } from './octets.js'
import { Wake } from './wake.js'

export interface DeliveryDeps {
  readonly db: PrismaClient
  readonly store: InboundStore
  readonly rpc: Pick<ServiceClient, 'call'>
  readonly limits: Limits
  readonly metrics: RelayMetrics
  readonly clock: { now(): number }
  readonly random: () => number
  readonly owner: string
  readonly log: { warn(fields: object, text: string): void; error(fields: object, text: string): void }
  onAudit(): void
}

/** A service behind invoice-svc, or invoice-svc, is away: that says nothing about an envelope. */
export const AWAY: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['Network', 'CircuitBreakerOpen', 'NotReady', 'KeyStorage', 'RateLimited'])
/** A claim outlives the call's deadline of 30 s. */
const CLAIM_MS = 45_000

type Outcome = ResponseOf<typeof invoiceDeliver>['items'][number]

export class DeliveryPump {
  readonly #deps: DeliveryDeps
  readonly #lanes = [
    { alone: false, wake: new Wake() },
    { alone: true, wake: new Wake() },
  ]
  #stopped = false
  #running: Promise<unknown> | undefined

  constructor(deps: DeliveryDeps) {
    this.#deps = deps
  }

  start(): void {
    this.#running = Promise.all(this.#lanes.map((lane) => this.#run(lane.alone, lane.wake)))
  }

  wake(): void {
    for (const lane of this.#lanes) lane.wake.wake()
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.wake()
    await this.#running
  }

  async #run(alone: boolean, wake: Wake): Promise<void> {
    const { store, limits, owner, log, metrics } = this.#deps
    let reclaimed = alone
    while (!this.#stopped) {
      try {
        if (!reclaimed) await store.reclaim(owner)
        reclaimed = true
        const items = await store.claim(owner, {
          alone,
          count: alone ? 1 : MAX_BATCH,
          maxBytes: limits.deliverBatchBytes,
          claimMs: CLAIM_MS,
        })
        if (!alone) metrics.queueDepth.set({ queue: 'inbound' }, await store.depth())
        if (items.length > 0) await this.#deliver(items, alone)
        else await wake.wait(Math.min(limits.pollMs, Math.max(10, (await store.dueInMs(alone)) ?? limits.pollMs)))
      } catch (err) {
        log.error({ err }, 'delivery is held up')
        await wake.wait(limits.pollMs)
      }
    }
  }

  async #deliver(items: readonly DueEnvelope[], alone: boolean): Promise<void> {
    // The answer names digests only: the same bytes from two peers go in two calls.
    const batch = new Map<string, DueEnvelope>()
    const again: DueEnvelope[] = []
    for (const item of items) {
      if (batch.has(hex(item.digest))) again.push(item)
      else batch.set(hex(item.digest), item)
    }
    await this.#deps.store.postpone(again.map((item) => ({ id: item.id, code: 'NotReady', delayMs: 0, blamed: false, alone: item.alone })))
    let outcomes: Outcome[]
    const began = performance.now()
    try {
      const answer = await this.#deps.rpc.call(invoiceDeliver, {
        items: [...batch.values()].map(({ fleetId, digest, envelope, receivedAt }) => ({
          fleetId,
          envelopeDigest: digest,
          envelope,
          receivedAt,
        })),
      })
      outcomes = answer.items
    } catch (err) {
      return this.#callFailed(err, [...batch.values()], alone, performance.now() - began)
    }
    const results: DeliveryResult[] = []
    const failed: { item: DueEnvelope; code: ErrorCode; blamed: boolean }[] = []
    const answers = new Map(outcomes.map((outcome) => [hex(outcome.envelopeDigest), outcome]))
    for (const [key, item] of batch) {
      const outcome = answers.get(key)
      if (outcome === undefined) failed.push({ item, code: 'Internal', blamed: true })
      else if (outcome.outcome === 'retry') failed.push({ item, code: outcome.code, blamed: !AWAY.has(outcome.code) })
      else results.push({ id: item.id, state: outcome.outcome, code: outcome.outcome === 'refused' ? outcome.code : null })
    }
    await this.#record(results, failed, alone)
  }

  /** The call failed as a whole. Alone, and answered by a fault, the envelope is to blame; in a batch, nobody yet. */
  async #callFailed(err: unknown, batch: readonly DueEnvelope[], alone: boolean, tookMs: number): Promise<void> {
    const code = err instanceof RpcFault ? err.code : 'Internal'
    const answered = err instanceof RpcFault && (err.origin === 'callee' || code === 'Serialization')
    this.#deps.log.warn({ err, count: batch.length, code }, 'delivery failed, it is tried again')
    const blamed = answered && !AWAY.has(code) && batch.length === 1
    // A deadline that passed may be one envelope's doing as well: look at them one by one. No listener is nobody's doing.
    const suspect = alone || (code !== 'CircuitBreakerOpen' && (answered || tookMs > invoiceDeliver.timeoutMs / 2))
    await this.#record(
      [],
      batch.map((item) => ({ item, code, blamed })),
      suspect,
    )
  }

  async #record(
    results: readonly DeliveryResult[],
    failed: readonly { item: DueEnvelope; code: ErrorCode; blamed: boolean }[],
    alone: boolean,
  ): Promise<void> {
    const { db, store, clock, limits, random, log } = this.#deps
    const quarantined = failed.filter(({ item, blamed }) => blamed && item.failures + 1 >= limits.deliveryFailures)
    const at = clock.now()
    await db.$transaction(async (tx) => {
      await store.settle(
        tx,
        [...results, ...quarantined.map(({ item, code }) => ({ id: item.id, state: 'quarantined' as const, code }))],
        at,
      )
      if (quarantined.length === 0) return
      await recordAuditEvents(
        tx,
        quarantined.map(({ item, code }) =>
          newAuditEvent({
            type: 'VerificationFailed',
            actor: 'relay-svc',
            at,
            id: uuidv7(at),
            body: { peer: item.fleetId, envelopeDigest: hex(item.digest), what: 'envelope', code },
          }),
        ),
      )
    })
    await store.postpone(
      failed
        .filter((f) => !quarantined.includes(f))
        .map(({ item, code, blamed }) => ({
          id: item.id,
          code,
          blamed,
          alone,
          delayMs: backoffMs(item.attempts, limits.backoffFirstMs, limits.deliveryBackoffMaxMs, random()),
        })),
    )
    for (const { item, code } of quarantined)
      log.error({ peer: item.fleetId, envelopeDigest: hex(item.digest), code, attempts: item.attempts }, 'envelope quarantined')
    if (quarantined.length > 0) this.#deps.onAudit()
  }
}

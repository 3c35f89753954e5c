/** relay-svc put together, and what each of its calls does. */
import type { AuditPump } from '@tallystick/audit-outbox/pump'
import { newAuditEvent, recordAuditEvents } from '@tallystick/audit-outbox/outbox'
import type { RequestOf, ResponseOf } from '@tallystick/contracts/call'
import type { Refusal } from '@tallystick/contracts/codes'
import type { relayFetchBundle, relayIdentity, relayPeer, relaySend, relaySetPeer } from '@tallystick/contracts/relay'
import { Breaker, type BreakerTransition } from '@tallystick/nats-rpc/breaker'
import type { ServiceClient } from '@tallystick/nats-rpc/client'
import { createHash } from 'node:crypto'
import type { Logger } from 'pino'
import type { Registry } from 'prom-client'
import { HandshakeAdmission } from './admission.js'
import { endpointsOf } from './address.js'
import { AllowList } from './allow-list.js'
import { serveCertificate } from './certificate-stream.js'
import { CertificateTeller } from './certificate-teller.js'
import { DeliveryPump } from './delivery.pump.js'
import type { PrismaClient } from './gen/client.js'
import { uuidv7 } from './ids.js'
import { InboundStore } from './inbound.store.js'
import { InboundStream } from './inbound-stream.js'
import type { Limits } from './limits.js'
import { RelayMetrics } from './metrics.js'
import { hex } from './octets.js'
import { RelayNode, type NodeOptions } from './node.js'
import { OutboundPump } from './outbound.pump.js'
import { OutboundStore, type OutboundItem } from './outbound.store.js'
import { PeerQuotas } from './peer-quota.js'
import { PEER_REMOVED } from './peer-sender.js'
import { PeersStore, type PeerRecord } from './peers.store.js'
import { ProgressPump } from './progress.pump.js'
import { SecurityEvents } from './security-events.js'
import { detached } from './wake.js'
import type { WireTap } from './wire-tap.js'

export interface RelayDeps {
  readonly db: PrismaClient
  readonly rpc: Pick<ServiceClient, 'call'> & Partial<Pick<ServiceClient, 'onTransition'>>
  readonly metrics: Registry
  readonly log: Pick<Logger, 'debug' | 'info' | 'warn' | 'error'>
  readonly clock: { now(): number }
  readonly limits: Limits
  readonly tap: WireTap
  readonly auditPump: Pick<AuditPump, 'start' | 'stop' | 'wake'>
  readonly node: NodeOptions
  /** Names this replica; stays the same over a restart. */
  readonly owner: string
  readonly random?: () => number
}

const PRUNE_EVERY_MS = 600_000

export class Relay {
  readonly #deps: RelayDeps
  readonly #peers: PeersStore
  readonly #outbound: OutboundStore
  readonly #inbound: InboundStore
  readonly #metrics: RelayMetrics
  readonly #quotas: PeerQuotas
  readonly #security: SecurityEvents
  readonly #progress: ProgressPump
  readonly #delivery: DeliveryPump
  readonly #streams = new Set<InboundStream>()
  readonly #timers: NodeJS.Timeout[] = []
  readonly allowList: AllowList
  #pump!: OutboundPump
  #teller!: CertificateTeller
  #node!: RelayNode

  private constructor(deps: RelayDeps) {
    const { db, rpc, limits, clock, log, owner } = deps
    const random = deps.random ?? Math.random
    this.#deps = deps
    this.#peers = new PeersStore(db)
    this.#outbound = new OutboundStore(db)
    this.#inbound = new InboundStore(db)
    this.#metrics = new RelayMetrics(deps.metrics)
    this.#quotas = new PeerQuotas(limits)
    this.#security = new SecurityEvents({ db, clock, limits, log, written: () => deps.auditPump.wake() })
    this.#progress = new ProgressPump({ outbound: this.#outbound, rpc, limits, clock, random, log })
    this.#delivery = new DeliveryPump({
      db,
      store: this.#inbound,
      rpc,
      limits,
      metrics: this.#metrics,
      clock,
      random,
      owner,
      log,
      onAudit: () => deps.auditPump.wake(),
    })
    this.allowList = new AllowList(this.#peers)
  }

  /**
   * Starts listening at once; nobody is let in until the allow-list has been read.
   * @throws Error when the port cannot be had
   */
  static async start(deps: RelayDeps): Promise<Relay> {
    const relay = new Relay(deps)
    await relay.#start()
    return relay
  }

  async #start(): Promise<void> {
    const { limits, log, clock, rpc, tap, owner, auditPump } = this.#deps
    const inbound = {
      limits,
      allowList: this.allowList,
      store: this.#inbound,
      quotas: this.#quotas,
      metrics: this.#metrics,
      security: this.#security,
      rpc,
      tap,
      clock,
      log,
      onStored: () => this.#delivery.wake(),
    }
    this.#node = await RelayNode.start(
      {
        limits,
        allowList: this.allowList,
        metrics: this.#metrics,
        security: this.#security,
        log,
        admission: new HandshakeAdmission(limits, (key) => this.allowList.isKnownAddress(key)),
        onConnected: (fleetId, key) => this.#connected(fleetId, key),
        onStream: (fleetId, peerId, stream) =>
          detached(() => {
            const served = new InboundStream(inbound, fleetId, peerId, stream)
            this.#streams.add(served)
            void served.closed.then(() => this.#streams.delete(served))
          }),
        onOpened: (fleetId) => detached(() => this.#teller.opened(fleetId)),
        onCertificateStream: (fleetId, stream) =>
          detached(
            () =>
              void serveCertificate(
                { limits, quotas: this.#quotas, security: this.#security, metrics: this.#metrics, rpc, log },
                fleetId,
                stream,
              ),
          ),
      },
      this.#deps.node,
    )
    this.#pump = new OutboundPump({
      node: this.#node,
      limits,
      allowList: this.allowList,
      peers: this.#peers,
      outbound: this.#outbound,
      metrics: this.#metrics,
      tap,
      clock,
      log,
      owner,
      random: this.#deps.random ?? Math.random,
      breakerFor: (fleetId) => this.#breakerFor(fleetId),
      onSettled: () => this.#progress.wake(),
      reportWaiting: (items) => this.#progress.waiting(items),
    })
    this.#teller = new CertificateTeller({
      node: this.#node,
      allowList: this.allowList,
      limits,
      rpc,
      log,
      connect: (fleetId) => this.#pump.sender(fleetId).announce(),
    })
    this.allowList.onChange((peer, before) => this.#peerChanged(peer, before))
    rpc.onTransition?.((transition) => void this.#auditTransition(transition))
    auditPump.start()
    this.#security.start()
    this.#progress.start()
    this.#delivery.start()
    this.#pump.start()
    await this.#refresh()
    this.#teller.start()
    this.#every(limits.pollMs, () => this.#refresh())
    this.#every(PRUNE_EVERY_MS, () => this.#prune())
  }

  async stop(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer)
    this.#teller.stop()
    await this.#pump.stop()
    for (const stream of this.#streams) stream.finish()
    await Promise.all([this.#delivery.stop(), this.#progress.stop()])
    await this.#security.stop()
    await this.#deps.auditPump.stop()
    await this.#node.stop()
    await this.#deps.tap.close()
  }

  get node(): RelayNode {
    return this.#node
  }

  // ------------------------------------------------------------------------------------------------------- calls

  identity(): ResponseOf<typeof relayIdentity> {
    return { ok: true, peerId: this.#node.peerId, multiaddrs: this.#node.multiaddrs() }
  }

  async setPeer(peer: RequestOf<typeof relaySetPeer>): Promise<ResponseOf<typeof relaySetPeer>> {
    if (peer.peerIds.includes(this.#node.peerId)) return refuse('InvalidPeerId', "a peer cannot have this relay's own PeerId")
    for (const address of peer.multiaddrs) {
      const endpoints = endpointsOf(address, peer.peerIds)
      if ('reason' in endpoints) return refuse('InvalidRequest', `the address ${address.slice(0, 120)} cannot be used: ${endpoints.reason}`)
    }
    const { conflict } = await this.#peers.replace(peer)
    if (conflict !== undefined) return refuse('Conflict', `one of the PeerIds belongs to the fleet ${conflict}`)
    await this.allowList.refresh(true)
    if (peer.state === 'removed') {
      await this.#outbound.refuseAll(peer.fleetId, 'UnauthorizedPeer', PEER_REMOVED, this.#deps.clock.now())
      this.#progress.wake()
    }
    return { ok: true }
  }

  async peer(fleetId: string): Promise<ResponseOf<typeof relayPeer>> {
    const record = this.allowList.fleet(fleetId)
    const status = record === undefined ? undefined : await this.#peers.status(fleetId)
    if (record === undefined || status === undefined) return refuse('NotFound', 'the relay does not know this peer')
    const connections = this.#node.connections(record.peerIds)
    const transport = connections[0] === undefined ? null : connections[0].remoteAddr.toString().includes('/quic-v1') ? 'quic' : 'tcp'
    return { ok: true, connected: connections.length > 0, transport, ...status }
  }

  async fetchBundle(fleetId: string): Promise<ResponseOf<typeof relayFetchBundle>> {
    const record = this.allowList.fleet(fleetId)
    if (record === undefined || record.state === 'removed') return refuse('UnauthorizedPeer', "the peer is not on the relay's allow-list")
    if (record.state === 'blocked') return refuse('PeerBlocked', 'the peer is blocked here')
    const answer = await this.#pump.sender(fleetId).requestBundle()
    return answer.ok
      ? answer
      : {
          ...refuse(answer.code, answer.message),
          ...(answer.retryAfterMs === undefined ? {} : { retryAfterMs: Math.ceil(answer.retryAfterMs) }),
        }
  }

  async send(request: RequestOf<typeof relaySend>): Promise<ResponseOf<typeof relaySend>> {
    type Item = ResponseOf<typeof relaySend>['items'][number]
    const room = new Map<string, number>()
    const accepted = new Map<string, OutboundItem>()
    const judged: { messageId: string; digest: Uint8Array; fleetId: string; refusal?: Refusal }[] = []
    for (const { messageId, fleetId, envelope } of request.items) {
      const digest = createHash('sha256').update(envelope).digest()
      const judgement = { messageId, fleetId, digest }
      const refusal = await this.#refusalToSend(fleetId, envelope.length, room)
      judged.push(refusal === undefined ? judgement : { ...judgement, refusal })
      if (refusal === undefined && !accepted.has(messageId)) accepted.set(messageId, { messageId, fleetId, envelope, digest })
    }
    const stored = await this.#outbound.enqueue([...accepted.values()])
    this.#pump.wake(new Set([...accepted.values()].map((item) => item.fleetId)))
    return {
      items: judged.map(({ messageId, fleetId, digest, refusal }): Item => {
        if (refusal !== undefined) return { ...refusal, messageId }
        const row = stored.get(messageId)
        if (row === undefined || row.fleetId !== fleetId || hex(row.digest) !== hex(digest))
          return { ...refuse('Conflict', 'another envelope is stored under this message id'), messageId }
        return { ok: true, messageId, envelopeDigest: row.digest }
      }),
    }
  }

  /** @param room bytes left in the queue of each peer, counted down */
  async #refusalToSend(fleetId: string, size: number, room: Map<string, number>): Promise<Refusal | undefined> {
    const state = this.allowList.fleet(fleetId)?.state
    if (state === 'blocked') return refuse('PeerBlocked', 'the peer is blocked here')
    if (state !== 'allowed') return refuse('UnauthorizedPeer', "the peer is not on the relay's allow-list")
    const left = room.get(fleetId) ?? this.#deps.limits.outboundQueueBytesPerPeer - (await this.#outbound.queuedBytes(fleetId))
    room.set(fleetId, left - (size > left ? 0 : size))
    return size > left
      ? { ...refuse('QuotaExceeded', 'the queue to this peer is full'), retryAfterMs: this.#deps.limits.backoffMaxMs }
      : undefined
  }

  // ------------------------------------------------------------------------------------------------------ inside

  #connected(fleetId: string, addressKey: string | undefined): void {
    this.#pump.sender(fleetId).reachable()
    if (addressKey === undefined || !this.allowList.learnAddress(fleetId, addressKey)) return
    this.#peers
      .rememberAddress(fleetId, addressKey)
      .catch((err: unknown) => this.#deps.log.warn({ err, peer: fleetId }, 'address of a peer not remembered'))
  }

  #peerChanged(peer: PeerRecord, before: PeerRecord | undefined): void {
    if (peer.state !== 'allowed') {
      this.#node.cut([...new Set([...peer.peerIds, ...(before?.peerIds ?? [])])], `the peer is ${peer.state}`)
      this.#quotas.forget(peer.fleetId)
    } else if (before !== undefined) {
      this.#node.cut(
        before.peerIds.filter((peerId) => !peer.peerIds.includes(peerId)),
        "the PeerId is no longer the peer's",
      )
    }
    this.#pump.peerChanged(peer)
  }

  #breakerFor(fleetId: string): Breaker {
    const { limits, metrics } = this.#deps
    const breaker = new Breaker({
      service: 'relay-svc',
      target: `peer:${fleetId}`,
      metrics,
      failures: limits.peerBreakerFailures,
      resetMs: limits.peerBreakerResetMs,
      maxResetMs: limits.peerBreakerMaxResetMs,
    })
    breaker.onTransition((transition) => void this.#auditTransition(transition))
    return breaker
  }

  async #auditTransition({ service, target, from, to }: BreakerTransition): Promise<void> {
    const at = this.#deps.clock.now()
    try {
      await recordAuditEvents(this.#deps.db, [
        newAuditEvent({ type: 'BreakerStateChanged', actor: 'relay-svc', at, id: uuidv7(at), body: { service, target, from, to } }),
      ])
      this.#deps.auditPump.wake()
    } catch (err) {
      this.#deps.log.warn({ err, from, to }, 'change of a circuit not recorded')
    }
  }

  async #refresh(): Promise<void> {
    try {
      await this.allowList.refresh()
    } catch (err) {
      this.#deps.log.warn({ err }, 'allow-list not read, the last one stays in force')
    }
  }

  async #prune(): Promise<void> {
    const { limits, log } = this.#deps
    try {
      await this.#outbound.prune(limits.retentionMs)
      await this.#inbound.prune(limits.retentionMs, limits.quarantineBytesPerPeer)
    } catch (err) {
      log.warn({ err }, 'old rows not pruned')
    }
  }

  #every(ms: number, action: () => Promise<void>): void {
    const timer = setInterval(() => void action(), ms)
    timer.unref()
    this.#timers.push(timer)
  }
}

function refuse(code: Refusal['code'], message: string): Refusal {
  return { ok: false, code, message: message.slice(0, 500) }
}

/** Real libp2p nodes and a real PostgreSQL; invoice-svc and session-svc are objects that answer the contracts. */
import type { Contract } from '@tallystick/contracts/call'
import { RpcFault } from '@tallystick/nats-rpc/fault'
import { noise } from '@chainsafe/libp2p-noise'
import { quic } from '@chainsafe/libp2p-quic'
import { yamux } from '@chainsafe/libp2p-yamux'
import { tcp } from '@libp2p/tcp'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { createLibp2p, type Libp2p } from 'libp2p'
import { createHash, randomBytes } from 'node:crypto'
import { Registry } from 'prom-client'
import { multiaddr } from '@multiformats/multiaddr'
import type { Connection, Stream } from '@libp2p/interface'
import { openDatabase } from '../src/db.js'
import { RELAY_PROTOCOL, type Frame, type FrameHeader } from '../src/frames.js'
import { FrameLink, type LinkEnd } from '../src/link.js'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import type { PrismaClient } from '../src/gen/client.js'
import { uuidv7 } from '../src/ids.js'
import { limitsFrom, type Limits } from '../src/limits.js'
import { Relay } from '../src/relay.js'
import { WireTap } from '../src/wire-tap.js'
import { startPostgres, type TestPostgres } from '../../../tools/testing/postgres.ts'

let postgres: Promise<TestPostgres> | undefined
let fleets = 0

export function sharedPostgres(): Promise<TestPostgres> {
  postgres ??= startPostgres()
  return postgres
}

export async function stopPostgres(): Promise<void> {
  await (await postgres)?.stop()
}

/** Resolves when the condition holds; looks again after every event the caller can think of, and at short intervals. */
export async function until(condition: () => unknown, what: string, ms = 15_000): Promise<void> {
  const deadline = performance.now() + ms
  for (;;) {
    if (await condition()) return
    if (performance.now() > deadline) throw new Error(`not within ${ms} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

export interface DeliverItem {
  fleetId: string
  envelope: Uint8Array
  envelopeDigest: Uint8Array
}
/** Fields of all three states; which are there follows from the state. */
export interface ProgressItem {
  state: string
  messageId: string
  at: number
  code: string
  cause: string
  attempts: number
  nextAttemptAt: number
  hopReceipt: Uint8Array
}
type Request = Record<string, unknown> & { items: unknown[]; events: { eventId: string }[]; forFleetId: string }
export interface Call {
  subject: string
  request: Request
}

/** What the rest of the fleet answers; replace the handlers to make it behave badly. */
export class FakeFleet {
  readonly calls: Call[] = []
  deliver: (items: DeliverItem[]) => unknown = (items) => ({
    items: items.map((item) => ({ outcome: 'taken', envelopeDigest: item.envelopeDigest })),
  })
  progress: (items: ProgressItem[]) => unknown = () => ({ ok: true })
  /** This fleet's own; undefined: session-svc is not there. */
  certificate: Uint8Array | undefined
  offer: (request: { fleetId: string; certificate: Uint8Array }) => unknown = () => ({ ok: true, outcome: 'known' })
  bundle: (fleetId: string) => unknown = () => ({ ok: true, bundle: new Uint8Array(1000).fill(7) })

  readonly call = async (contract: Contract, given: unknown): Promise<unknown> => {
    const request = contract.request.parse(given) as Request
    this.calls.push({ subject: contract.subject, request })
    const answer = await this.#answer(contract.subject, request)
    return contract.response.parse(answer)
  }

  async #answer(subject: string, request: Request): Promise<unknown> {
    if (subject === 'invoice.v1.deliver') return this.deliver(request.items as DeliverItem[])
    if (subject === 'invoice.v1.relayProgress') return this.progress(request.items as ProgressItem[])
    if (subject === 'session.v1.takeBundle') return this.bundle(request.forFleetId)
    if (subject === 'session.v1.offerCertificate') return this.offer(request as unknown as { fleetId: string; certificate: Uint8Array })
    if (subject === 'session.v1.fleet' && this.certificate !== undefined)
      return { ok: true, fleetId: fleetIdOf('own'), displayName: 'own', certificate: this.certificate, peerIds: [], fingerprint: '1' }
    if (subject === 'audit.v1.append') return { ok: true, items: request.events.map((e, index) => ({ eventId: e.eventId, index })) }
    throw new RpcFault('Network', subject, 'no responders', { origin: 'transport' })
  }

  /** Items of all calls of a subject, in order. */
  of(subject: string): unknown[] {
    return this.calls.filter((c) => c.subject === subject).flatMap((c) => c.request.items ?? c.request.events ?? [c.request])
  }

  get delivered(): DeliverItem[] {
    return this.of('invoice.v1.deliver') as DeliverItem[]
  }

  progressOf(messageId: string): ProgressItem[] {
    return (this.of('invoice.v1.relayProgress') as ProgressItem[]).filter((item) => item.messageId === messageId)
  }
}

export interface TestRelay {
  readonly fleetId: string
  readonly relay: Relay
  readonly fleet: FakeFleet
  readonly db: PrismaClient
  readonly registry: Registry
  readonly seed: Uint8Array
  readonly port: number
  readonly logs: { level: string; fields: object; text: string }[]
  metric(name: string, labels?: Record<string, string>): Promise<number>
  /** Stop this replica, keep the database. */
  stop(): Promise<void>
  /** The same key, port and database again. */
  restart(limits?: Partial<Limits>): Promise<TestRelay>
}

export const FAST: Partial<Limits> = { backoffFirstMs: 30, backoffMaxMs: 200, pollMs: 100, peerBreakerFailures: 1000, auditWindowMs: 200 }

export function fleetIdOf(name: string): string {
  const digest = createHash('sha256').update(name).digest()
  return `tsf1${[...digest, ...digest]
    .slice(0, 52)
    .map((byte) => 'abcdefghijklmnopqrstuvwxyz234567'[byte & 31])
    .join('')}`
}

export async function startRelay(
  name: string,
  options: {
    limits?: Partial<Limits>
    quic?: boolean
    port?: number
    seed?: Uint8Array
    db?: PrismaClient
    fleet?: FakeFleet
    owner?: string
    tap?: string
    fleetId?: string
  } = {},
): Promise<TestRelay> {
  const db = options.db ?? openDatabase((await (await sharedPostgres()).createFleet(`${name}-${process.pid}-${fleets++}`)).urls.relay)
  const fleet = options.fleet ?? new FakeFleet()
  const seed = options.seed ?? randomBytes(32)
  const registry = new Registry()
  const logs: TestRelay['logs'] = []
  const log = (level: string) => (fields: object, text: string) => {
    logs.push({ level, fields, text })
  }
  const relay = await Relay.start({
    db,
    rpc: { call: fleet.call as never },
    metrics: registry,
    clock: { now: () => Date.now() },
    log: { debug: log('debug'), info: log('info'), warn: log('warn'), error: log('error') } as never,
    limits: limitsFrom({ ...FAST, ...options.limits }),
    tap: new WireTap(options.tap, (error) => {
      throw error
    }),
    auditPump: { start() {}, wake() {}, async stop() {} },
    owner: options.owner ?? `test:${name}`,
    node: { seed: Uint8Array.from(seed), host: '127.0.0.1', port: options.port ?? 0, quic: options.quic ?? false },
  })
  const port = Number(/\/tcp\/(\d+)/.exec(relay.identity().multiaddrs[0]!)![1])
  const self: TestRelay = {
    fleetId: options.fleetId ?? fleetIdOf(`${name} ${process.pid} ${fleets}`),
    relay,
    fleet,
    db,
    registry,
    seed,
    port,
    logs,
    async metric(metricName, labels = {}) {
      const metric = (await registry.getMetricsAsJSON()).find((m) => m.name === `tallystick_${metricName}`)
      return (metric?.values ?? [])
        .filter((v) => Object.entries(labels).every(([k, value]) => (v.labels as Record<string, unknown>)[k] === value))
        .reduce((sum, v) => sum + v.value, 0)
    },
    stop: () => relay.stop(),
    restart: (limits) =>
      startRelay(name, { ...options, limits: { ...options.limits, ...limits }, seed, port, db, fleet, fleetId: self.fleetId }),
  }
  return self
}

export async function pin(
  self: TestRelay,
  peer: TestRelay,
  options: { multiaddrs?: string[]; state?: 'allowed' | 'blocked' | 'removed' } = {},
): Promise<void> {
  const { peerId, multiaddrs } = peer.relay.identity()
  const answer = await self.relay.setPeer({
    fleetId: peer.fleetId,
    peerIds: [peerId],
    multiaddrs: options.multiaddrs ?? multiaddrs,
    state: options.state ?? 'allowed',
  })
  if (!answer.ok) throw new Error(answer.message)
}

export function message(to: TestRelay, size = 2_000): { messageId: string; fleetId: string; envelope: Uint8Array<ArrayBuffer> } {
  return { messageId: uuidv7(Date.now()), fleetId: to.fleetId, envelope: Uint8Array.from(randomBytes(size)) }
}

export const sha256hex = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

/** A libp2p node that is not ours: another implementation of the wire, for hostile and unknown peers. */
export async function rawNode(
  transport: 'tcp' | 'quic' = 'tcp',
  seed: Uint8Array = randomBytes(32),
  localAddress?: string,
): Promise<Libp2p> {
  return createLibp2p({
    privateKey: await generateKeyPairFromSeed('Ed25519', seed),
    addresses: { listen: [] },
    transports: transport === 'quic' ? [quic()] : [tcp(localAddress === undefined ? {} : { dialOpts: { localAddress } as never })],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    connectionGater: { denyDialMultiaddr: () => false },
    connectionMonitor: { enabled: false },
  })
}

export function addressOf(relay: TestRelay, transport: 'tcp' | 'quic' = 'tcp'): string {
  return relay.relay.identity().multiaddrs.find((address) => address.includes(transport === 'quic' ? '/quic-v1' : '/tcp/'))!
}

export async function peerIdOf(seed: Uint8Array): Promise<string> {
  return peerIdFromPrivateKey(await generateKeyPairFromSeed('Ed25519', seed)).toString()
}

/** A peer that speaks the frames but is driven by hand, frame by frame and byte by byte. */
export class RawPeer {
  readonly frames: Frame[] = []
  end: LinkEnd | undefined
  readonly #link: FrameLink

  private constructor(
    readonly node: Libp2p,
    readonly connection: Connection,
    readonly stream: Stream,
  ) {
    this.#link = new FrameLink(stream, limitsFrom(), (frame) => {
      this.frames.push(frame)
    })
    void this.#link.closed.then((end) => {
      this.end = end
    })
  }

  static async connect(
    relay: TestRelay,
    options: { seed?: Uint8Array; transport?: 'tcp' | 'quic'; hello?: boolean; localAddress?: string } = {},
  ): Promise<RawPeer> {
    const node = await rawNode(options.transport, options.seed, options.localAddress)
    try {
      const connection = await node.dial(multiaddr(addressOf(relay, options.transport)))
      const peer = new RawPeer(node, connection, await connection.newStream(RELAY_PROTOCOL))
      if (options.hello !== false) {
        await peer.send({ t: 'hello', v: 1, bytes: 10_000_000, frames: 64 })
        await peer.next('hello')
      }
      return peer
    } catch (error) {
      await node.stop()
      throw error
    }
  }

  send(header: FrameHeader, body?: Uint8Array): Promise<void> {
    return this.#link.send(header, body)
  }

  async next(kind: FrameHeader['t']): Promise<Frame> {
    await until(() => this.frames.length > 0 || this.end, `a ${kind} frame`)
    const frame = this.frames.shift()
    if (frame?.header.t !== kind) throw new Error(`expected ${kind}, got ${JSON.stringify(frame?.header ?? this.end)}`)
    return frame
  }

  async closed(): Promise<LinkEnd> {
    await until(() => this.end, 'the stream to end')
    return this.end!
  }

  async stop(): Promise<void> {
    await this.node.stop()
  }
}

/** Pin a hand-driven peer. */
export async function pinRaw(self: TestRelay, seed: Uint8Array, name: string, multiaddrs: string[] = []): Promise<string> {
  const fleetId = fleetIdOf(name)
  const answer = await self.relay.setPeer({ fleetId, peerIds: [await peerIdOf(seed)], multiaddrs, state: 'allowed' })
  if (!answer.ok) throw new Error(answer.message)
  return fleetId
}

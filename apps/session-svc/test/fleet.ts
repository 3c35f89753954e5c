/** Two fleets in one process: the service's own classes on two real databases, each asking the other for bundles. */
import { randomBytes } from 'node:crypto'
import { generateSigningKey } from '@tallystick/primitives/ed25519'
import { systemRandom } from '@tallystick/primitives/random'
import { SecretArena } from '@tallystick/secret-bytes/arena'
import { peerIdFromKey } from '@tallystick/wire/certificate'
import { envelopeDigest } from '@tallystick/wire/envelope'
import { Registry } from 'prom-client'
import { auditTrail } from '../src/audit.js'
import type { Context } from '../src/context.js'
import { FileCustody } from '../src/custody/file-custody.js'
import { openDatabase } from '../src/db.js'
import { uuidv7 } from '../src/ids.js'
import { currentCertificate, ensureCertificate } from '../src/identity/certificates.js'
import { limitsEnv, limitsFrom, type Limits } from '../src/limits.js'
import { sessionMetrics } from '../src/metrics.js'
import { pinPeer } from '../src/peers/pin-peer.js'
import { takeBundle } from '../src/prekeys/take-bundle.js'
import { openSessionCore, type SessionCore } from '../src/session-core.js'
import type { BundleSource } from '../src/sessions/bundle-source.js'
import { SessionStore } from '../src/sessions/sessions.store.js'
import { noTap, type WireTap } from '../src/wire-tap.js'

/** A clock that a test moves by hand. */
export class TestClock {
  #now = Date.UTC(2026, 0, 15, 12)
  now(): number {
    return this.#now
  }
  advance(ms: number): void {
    this.#now += ms
  }
}

/** Another fleet, as far as fetching a bundle from it goes. */
export interface BundleGiver {
  take(forFleetId: string): ReturnType<BundleSource['fetch']>
}

export interface FleetOptions {
  readonly url: string
  readonly clock: TestClock
  readonly kek?: Uint8Array
  readonly limits?: Partial<Limits>
  readonly tap?: WireTap
  readonly store?: SessionStore
}

/** One replica of a fleet's session-svc. */
export class TestFleet {
  readonly kek: Uint8Array
  readonly context: Context
  readonly registry = new Registry()
  /** Set by `introduce`; a fleet may be cut off by setting it to undefined. */
  peers: ((fleetId: string) => BundleGiver | undefined) | undefined
  fetched = 0
  #core: SessionCore | undefined
  readonly #options: FleetOptions

  private constructor(options: FleetOptions) {
    this.#options = options
    this.kek = options.kek ?? randomBytes(32)
    const limits = { ...limitsFrom(limitsEnv.parse({})), ...options.limits }
    const arena = SecretArena.open(1024 * 1024, { allowUnlocked: true })
    this.context = {
      db: openDatabase(options.url, limits),
      arena,
      custody: FileCustody.open(arena, Uint8Array.from(this.kek)),
      clock: options.clock,
      random: systemRandom,
      limits,
      audit: auditTrail(options.clock, systemRandom, () => undefined),
      metrics: sessionMetrics(this.registry, () => 0),
      tap: options.tap ?? noTap,
      log: { warn: () => undefined, info: () => undefined },
    }
  }

  static async start(options: FleetOptions): Promise<TestFleet> {
    const fleet = new TestFleet(options)
    fleet.#core = await openSessionCore(fleet.context, fleet.bundles, options.store ?? new SessionStore())
    await fleet.core.stock.ensure()
    if (!(await currentCertificate(fleet.context.db))) await fleet.certify()
    return fleet
  }

  /** Another replica, or the same one after a restart: same database, same key file. */
  async again(options: Partial<FleetOptions> = {}): Promise<TestFleet> {
    const fleet = await TestFleet.start({ ...this.#options, kek: this.kek, ...options })
    fleet.peers = this.peers
    return fleet
  }

  get core(): SessionCore {
    return this.#core!
  }

  get id(): string {
    return this.core.identity.fleetId
  }

  readonly bundles: BundleSource = {
    fetch: async (fleetId) => {
      this.fetched += 1
      const peer = this.peers?.(fleetId)
      if (!peer) return { ok: false, code: 'Network', message: 'the peer is away' }
      return peer.take(this.id)
    },
  }

  /** What the relay of another fleet asks for. */
  async take(forFleetId: string) {
    return takeBundle(this.context, this.core.stock, forFleetId)
  }

  /** Issues a certificate with fresh keys of relay and log. */
  async certify(): Promise<void> {
    const { arena } = this.context
    const relay = generateSigningKey(arena)
    const log = generateSigningKey(arena)
    await ensureCertificate(this.context, this.core.identity, 'test fleet', {
      peerId: peerIdFromKey(relay.publicKey),
      logKey: log.publicKey,
    })
    relay.secret.destroy()
    log.secret.destroy()
  }

  async certificate(): Promise<Uint8Array> {
    return (await currentCertificate(this.context.db))!.certificate
  }

  newId(): string {
    return uuidv7(this.context.clock.now(), systemRandom)
  }

  /** Seals one text; throws on a refusal. */
  async seal(peer: TestFleet, text: string, options: { messageId?: string; class?: 'application' | 'control' } = {}): Promise<Uint8Array> {
    const outcome = await this.trySeal(peer, text, options)
    if (!outcome.ok) throw new Error(`${outcome.code}: ${outcome.message}`)
    return outcome.envelope
  }

  async trySeal(peer: TestFleet, text: string, options: { messageId?: string; class?: 'application' | 'control' } = {}) {
    const item = {
      messageId: options.messageId ?? this.newId(),
      fleetId: peer.id,
      class: options.class ?? ('application' as const),
      payload: bytes(text),
    }
    return (await this.core.sealing.seal([item]))[0]!
  }

  /** Opens one envelope; throws on a refusal. */
  async open(peer: TestFleet, envelope: Uint8Array): Promise<string> {
    const outcome = await this.tryOpen(peer, envelope)
    if (!outcome.ok) throw new Error(`${outcome.code}: ${outcome.message}`)
    return Buffer.from(outcome.payload).toString()
  }

  async tryOpen(peer: { id: string }, envelope: Uint8Array) {
    return (await this.core.opening.open([{ fleetId: peer.id, envelopeDigest: digestOf(envelope), envelope: plain(envelope) }]))[0]!
  }

  async acknowledge(...envelopes: Uint8Array[]): Promise<void> {
    await this.core.opening.acknowledge(envelopes.map(digestOf))
  }

  /** Types of the audit events in the outbox, oldest first. */
  async audited(): Promise<string[]> {
    const rows = await this.context.db.auditOutbox.findMany({ orderBy: { id: 'asc' } })
    return rows.map(({ event }) => (event as { type: string }).type)
  }

  async sessions() {
    return this.context.db.session.findMany({ orderBy: [{ epoch: 'asc' }, { startedAt: 'asc' }] })
  }

  async stop(): Promise<void> {
    await this.core.stock.ensure()
    await this.context.db.$disconnect()
    this.context.custody.close()
    this.context.arena.close()
  }
}

/** Pins two fleets to each other and lets each reach the other for bundles. */
export async function introduce(a: TestFleet, b: TestFleet): Promise<void> {
  for (const [one, other] of [
    [a, b],
    [b, a],
  ] as const) {
    const pinned = await pinPeer(one.context, one.id, await other.certificate())
    if (!pinned.ok) throw new Error(pinned.message)
    const before = one.peers
    one.peers = (fleetId) => (fleetId === other.id ? other : before?.(fleetId))
  }
}

export function bytes(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.from(text))
}

export function plain(value: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(value)
}

export function digestOf(envelope: Uint8Array): Uint8Array<ArrayBuffer> {
  return plain(envelopeDigest(envelope))
}

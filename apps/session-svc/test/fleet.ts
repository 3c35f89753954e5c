/** Two fleets in one process: the service's own classes on two real databases, each asking the other for bundles. */
import { randomBytes } from 'node:crypto'
import { mkdtempSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { generateSigningKey } from '@tallystick/primitives/ed25519'
import { systemRandom } from '@tallystick/primitives/random'
import { SecretArena } from '@tallystick/secret-bytes/arena'
import { peerIdFromKey } from '@tallystick/wire/certificate'
import { envelopeDigest } from '@tallystick/wire/envelope'
import { Registry } from 'prom-client'
import { guardDirectory } from '../../../tools/process/guard.ts'
import { auditTrail } from '../src/audit.js'
import type { Context } from '../src/context.js'
import { fileCustody } from '../src/custody/file-custody.js'
import type { KeyCustody } from '../src/custody/key-custody.js'
import { openDatabase } from '../src/db.js'
import { uuidv7 } from '../src/ids.js'
import { currentCertificate, ensureCertificate } from '../src/identity/certificates.js'
import { GenerationFile } from '../src/recovery/generation-file.js'
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
  /** Instead of a key file. */
  readonly custody?: (arena: SecretArena) => KeyCustody
  /** Runs before the identity is looked for, as at the start of the service. */
  readonly before?: (context: Context) => Promise<void>
  /** Where the number outside the database is; replicas of one fleet share it unless given. */
  readonly stateDir?: string
  readonly limits?: Partial<Limits>
  readonly tap?: WireTap
  readonly store?: SessionStore
}

export interface SealOptions {
  readonly messageId?: string
  readonly class?: 'application' | 'control'
  readonly again?: boolean
}

/** One replica of a fleet's session-svc. */
export class TestFleet {
  readonly kek: Uint8Array
  readonly stateDir: string
  readonly context: Context
  readonly registry = new Registry()
  /** Set by `introduce`; a fleet may be cut off by setting it to undefined. */
  peers: ((fleetId: string) => BundleGiver | undefined) | undefined
  fetched = 0
  #core: SessionCore | undefined
  readonly #options: FleetOptions

  private constructor(options: FleetOptions) {
    this.#options = options
    this.stateDir = options.stateDir ?? mkdtempSync(path.join(os.tmpdir(), 'tallystick-state-'))
    if (options.stateDir === undefined) guardDirectory(this.stateDir)
    this.kek = options.kek ?? randomBytes(32)
    const limits = { ...limitsFrom(limitsEnv.parse({})), ...options.limits }
    const arena = SecretArena.open(1024 * 1024, { allowUnlocked: true })
    this.context = {
      db: openDatabase(options.url, limits),
      arena,
      custody: options.custody?.(arena) ?? fileCustody(arena, { kek: Uint8Array.from(this.kek) }),
      clock: options.clock,
      generation: GenerationFile.open(this.stateDir),
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
    await options.before?.(fleet.context)
    fleet.#core = await openSessionCore(fleet.context, fleet.bundles, options.store ?? new SessionStore())
    await fleet.core.stock.ensure()
    if (!(await currentCertificate(fleet.context.db))) await fleet.certify()
    return fleet
  }

  /** Another replica, or the same one after a restart: same database, same key file. */
  async again(options: Partial<FleetOptions> = {}): Promise<TestFleet> {
    const fleet = await TestFleet.start({ ...this.#options, kek: this.kek, stateDir: this.stateDir, ...options })
    fleet.peers = this.peers
    return fleet
  }

  /** Goes on in the same process, with another store. */
  async use(store: SessionStore): Promise<void> {
    this.#core = await openSessionCore(this.context, this.bundles, store)
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
  async seal(peer: TestFleet, text: string, options: SealOptions = {}): Promise<Uint8Array> {
    const outcome = await this.trySeal(peer, text, options)
    if (!outcome.ok) throw new Error(`${outcome.code}: ${outcome.message}`)
    return outcome.envelope
  }

  async trySeal(peer: TestFleet, text: string, options: SealOptions = {}) {
    const item = {
      messageId: options.messageId ?? this.newId(),
      fleetId: peer.id,
      class: options.class ?? ('application' as const),
      payload: bytes(text),
      ...(options.again === undefined ? {} : { again: options.again }),
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

  /** The row of a peer. */
  async peer(other: { id: string }) {
    return this.context.db.peer.findUniqueOrThrow({ where: { fleetId: other.id } })
  }

  /** The session that this fleet sends on; throws without one. */
  async active() {
    return this.context.db.session.findFirstOrThrow({ where: { active: true } })
  }

  async stop(): Promise<void> {
    await this.core.stock.ensure()
    await this.core.prefetcher.settled()
    await this.context.db.$disconnect()
    this.context.custody.close()
    this.context.arena.close()
    this.context.generation.close()
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

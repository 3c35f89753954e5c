/** session-svc as it ships, as a process, with a peer that lives in the test. */
import { randomBytes } from 'node:crypto'
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { auditAppend, auditIdentity } from '@tallystick/contracts/audit'
import { relayFetchBundle, relayIdentity } from '@tallystick/contracts/relay'
import {
  sessionAcknowledge,
  sessionFleet,
  sessionOpen,
  sessionPinPeer,
  sessionSeal,
  sessionTakeBundle,
} from '@tallystick/contracts/session'
import { generateSigningKey } from '@tallystick/primitives/ed25519'
import { SecretArena } from '@tallystick/secret-bytes/arena'
import { peerIdFromKey } from '@tallystick/wire/certificate'
import { answer, startTestService, type TestService } from '../../../libs/nats-rpc/test/bus-fixture.ts'
import { type Child, startChild } from '../../../tools/process/child.ts'
import { freePort, returnPort } from '../../../tools/process/ports.ts'
import { startNats, type TestNats } from '../../../tools/testing/nats.ts'
import { startPostgres, type TestFleetDatabase, type TestPostgres } from '../../../tools/testing/postgres.ts'
import { pinPeer } from '../src/peers/pin-peer.js'
import { bytes, digestOf, plain, TestClock, TestFleet } from './fleet.js'

const MAIN = path.resolve(import.meta.dirname, '../dist/main.js')
const READY_MS = 30_000

/** A running service, paired with a peer: messages go both ways over the bus. */
export class ServiceProcess {
  readonly kek: Buffer
  readonly database: TestFleetDatabase
  readonly peer: TestFleet
  readonly child: Child
  readonly invoice: TestService
  readonly #relay: TestService
  readonly #audit: TestService
  readonly #parts: { postgres: TestPostgres; nats: TestNats; home: string; port: number }
  #fleetId = ''

  private constructor(parts: {
    kek: Buffer
    database: TestFleetDatabase
    peer: TestFleet
    child: Child
    services: [TestService, TestService, TestService]
    parts: { postgres: TestPostgres; nats: TestNats; home: string; port: number }
  }) {
    this.kek = parts.kek
    this.database = parts.database
    this.peer = parts.peer
    this.child = parts.child
    ;[this.invoice, this.#relay, this.#audit] = parts.services
    this.#parts = parts.parts
  }

  static async start(environment: Record<string, string> = {}, nodeArguments: readonly string[] = []): Promise<ServiceProcess> {
    if (!existsSync(MAIN)) throw new Error('build first: tsc -b apps/session-svc')
    const [postgres, nats] = await Promise.all([startPostgres(), startNats()])
    const home = mkdtempSync(path.join(tmpdir(), 'tallystick-session-'))
    const secrets = path.join(home, 'secrets')
    const kek = randomBytes(32)
    const database = await postgres.createFleet('acme')
    mkdirSync(secrets, { mode: 0o700 })
    writeFileSync(path.join(secrets, 'database-url'), database.urls.session, { mode: 0o400 })
    writeFileSync(path.join(secrets, 'kek'), kek, { mode: 0o400 })
    copyFileSync(nats.seedFile('session-svc'), path.join(secrets, 'nats.nk'))
    chmodSync(path.join(secrets, 'nats.nk'), 0o400)
    const port = await freePort()
    const clock = new TestClock()
    clock.advance(Date.now() - clock.now())
    const url = (await postgres.createFleet('globex')).urls.session
    const peer = await TestFleet.start({ url, clock, limits: { bundlesPerPeer: 100_000 } })
    const child = await startChild({
      command: process.execPath,
      args: [...nodeArguments, MAIN],
      logFile: path.join(home, 'session.log'),
      env: {
        PATH: process.env.PATH,
        TALLYSTICK_FLEET: 'acme',
        TALLYSTICK_NATS_URL: nats.url,
        TALLYSTICK_SECRETS_DIR: secrets,
        TALLYSTICK_STATE_DIR: path.join(home, 'state'),
        TALLYSTICK_OPS_PORT: String(port),
        TALLYSTICK_ALLOW_UNLOCKED: '1',
        TALLYSTICK_SESSION_BUNDLES_PER_PEER: '100000',
        ...environment,
      },
    })
    const services = [
      startTestService(nats, 'invoice-svc'),
      startTestService(nats, 'relay-svc'),
      startTestService(nats, 'audit-svc'),
    ] satisfies [TestService, TestService, TestService]
    const service = new ServiceProcess({ kek, database, peer, child, services, parts: { postgres, nats, home, port } })
    await service.#pair()
    return service
  }

  get log(): string {
    return readFileSync(path.join(this.#parts.home, 'session.log'), 'utf8')
  }

  async metrics(): Promise<string> {
    return (await fetch(`http://127.0.0.1:${this.#parts.port}/metrics`)).text()
  }

  /** The service to the peer, and an answer. */
  async roundTrip(text: string): Promise<void> {
    const { items } = await this.invoice.rpc.call(sessionSeal, {
      items: [{ messageId: this.peer.newId(), fleetId: this.peer.id, class: 'application', payload: bytes(text) }],
    })
    const sealed = items[0]!
    if (!sealed.ok) throw new Error(`${sealed.code}: ${sealed.message}`)
    const here = { id: this.#fleetId } as TestFleet
    if ((await this.peer.open(here, sealed.envelope)) !== text) throw new Error('the peer read something else')
    const reply = await this.peer.seal(here, `re: ${text}`)
    const item = { fleetId: this.peer.id, envelopeDigest: digestOf(reply), envelope: plain(reply) }
    const opened = (await this.invoice.rpc.call(sessionOpen, { items: [item] })).items[0]!
    if (!opened.ok) throw new Error(`${opened.code}: ${opened.message}`)
    await this.invoice.rpc.call(sessionAcknowledge, { envelopeDigests: [item.envelopeDigest] })
  }

  async stop(): Promise<void> {
    const { postgres, nats, home, port } = this.#parts
    await this.child.end('SIGKILL')
    await this.peer.stop()
    await Promise.all([this.invoice.close(), this.#relay.close(), this.#audit.close()])
    await nats.stop()
    await postgres.stop()
    returnPort(port)
    rmSync(home, { recursive: true, force: true })
  }

  async #pair(): Promise<void> {
    const arena = SecretArena.open(4096, { allowUnlocked: true })
    const peerId = peerIdFromKey(generateSigningKey(arena).publicKey)
    const logKey = plain(generateSigningKey(arena).publicKey)
    await this.#relay.serve([
      answer(relayIdentity)(() => Promise.resolve({ ok: true, peerId, multiaddrs: [] })),
      answer(relayFetchBundle)(() => this.peer.take(this.#fleetId)),
    ])
    await this.#audit.serve([
      answer(auditIdentity)(() => Promise.resolve({ ok: true, publicKey: logKey })),
      answer(auditAppend)((request) =>
        Promise.resolve({ ok: true, items: request.events.map(({ eventId }, index) => ({ eventId, index })) }),
      ),
    ])
    const certificate = await this.#certificate()
    if (!(await pinPeer(this.peer.context, this.peer.id, certificate)).ok) throw new Error('the peer refuses the certificate')
    this.peer.peers = () => ({ take: (forFleetId) => this.#relay.rpc.call(sessionTakeBundle, { forFleetId }) })
    const pinned = await this.invoice.rpc.call(sessionPinPeer, { certificate: plain(await this.peer.certificate()) })
    if (!pinned.ok) throw new Error(pinned.message)
    arena.close()
  }

  async #certificate(): Promise<Uint8Array> {
    const deadline = Date.now() + READY_MS
    for (;;) {
      try {
        // Asked by relay and audit, so that the service knows that they are up.
        for (const asker of [this.#relay, this.#audit]) await asker.rpc.call(sessionFleet, {})
        const fleet = await this.invoice.rpc.call(sessionFleet, {})
        if (fleet.ok) {
          this.#fleetId = fleet.fleetId
          return fleet.certificate
        }
      } catch (error) {
        if (Date.now() > deadline || !this.child.running) throw error
      }
      if (Date.now() > deadline) throw new Error(`session-svc is not ready:\n${this.log.slice(-2_000)}`)
      await new Promise((resolve) => {
        setTimeout(resolve, 100)
      })
    }
  }
}

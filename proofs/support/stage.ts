/**
 * The stage of the proofs: fleet `acme`, whose session-svc runs in processes that are killed, stopped and put back, and
 * its peers, which run in the test's own process and see only what acme releases.
 */
import { randomBytes } from 'node:crypto'
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync, existsSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import pg from 'pg'
import type { TestFleetDatabase, TestPostgres } from '../../tools/testing/postgres.ts'
import { guardDirectory } from '../../tools/process/guard.ts'
import { pinPeer } from '../../apps/session-svc/src/peers/pin-peer.js'
import { plain, TestClock, TestFleet } from '../../apps/session-svc/test/fleet.js'
import type { Command, Opened, ReplicaSettings, Sealed, Taken } from './commands.ts'
import type { Mutant } from './mutants.ts'
import { ReplicaProcess } from './replica-process.ts'

export interface StageOptions {
  readonly postgres: TestPostgres
  /** Names the databases: unique within the server. */
  readonly name: string
  readonly limits?: Readonly<Record<string, number>>
  readonly peers?: number
  readonly peerLimits?: Readonly<Record<string, number>>
  readonly mutant?: Mutant | undefined
}

export interface StartOptions {
  readonly under?: readonly string[]
  /** Armed from its first write on. */
  readonly aim?: ReplicaSettings['aim']
  /** Without the mutant of the stage. */
  readonly asItShips?: boolean
  readonly limits?: Readonly<Record<string, number>>
  /** Counted from 1: replicas that run at the same time keep their state apart. */
  readonly replica?: number
}

/** One line of a wire tap. @see docs/spec/bus.md */
export interface TapLine {
  readonly direction: 'out' | 'in'
  readonly peer: string
  readonly epoch: number
  /** Digest of (ratchet key, n). */
  readonly chain: string
  /** Digest of the ciphertext. */
  readonly ct: string
}

export class Stage {
  readonly clock = new TestClock()
  readonly home: string
  readonly database: TestFleetDatabase
  readonly peers: TestFleet[] = []
  /** Fleet id of acme. */
  id = ''
  /** Ids of one-time prekeys that acme has given out so far. */
  readonly handedOut = new Set<number>()
  readonly #options: StageOptions
  readonly #running = new Set<ReplicaProcess>()
  /** The replica that answers for acme when a peer wants a bundle. */
  #giver: ReplicaProcess | undefined

  private constructor(options: StageOptions, home: string, database: TestFleetDatabase) {
    this.#options = options
    this.home = home
    this.database = database
  }

  static async open(options: StageOptions): Promise<Stage> {
    const home = mkdtempSync(path.join(os.tmpdir(), 'tallystick-proof-'))
    guardDirectory(home)
    const stage = new Stage(options, home, await options.postgres.createFleet(options.name))
    writeFileSync(stage.kekFile, randomBytes(32), { mode: 0o400 })
    const limits = { oneTimePrekeys: 20, refillBelow: 5, bundlesPerPeer: 10_000, ...options.peerLimits }
    for (let i = 0; i < (options.peers ?? 1); i++) {
      const { urls } = await options.postgres.createFleet(`${options.name}-peer${i}`)
      stage.peers.push(await TestFleet.start({ url: urls.session, clock: stage.clock, limits }))
    }
    // Made by the real service: what the mutants get wrong is for the proof to meet.
    const first = await stage.start({ asItShips: true })
    const { id, certificate } = await first.call<{ id: string; certificate: string }>({ do: 'id' })
    stage.id = id
    for (const peer of stage.peers) {
      await first.call({ do: 'pin', certificate: base64(await peer.certificate()) })
      const pinned = await pinPeer(peer.context, peer.id, fromBase64(certificate))
      if (!pinned.ok) throw new Error(pinned.message)
      peer.peers = () => ({ take: () => stage.#take(peer) })
    }
    await first.stop()
    return stage
  }

  get kekFile(): string {
    return path.join(this.home, 'kek')
  }

  get tapFile(): string {
    return path.join(this.home, 'tap.jsonl')
  }

  get peer(): TestFleet {
    return this.peers[0]!
  }

  /** Outside of the database, as the service's state folder is. A further replica begins with a copy of the first one's. */
  #stateDir(replica: number): string {
    const first = path.join(this.home, 'state')
    if (replica === 1) return first
    const mine = `${first}-${replica}`
    if (!existsSync(mine) && existsSync(first)) cpSync(first, mine, { recursive: true })
    return mine
  }

  /** As the peers name it. */
  get acme(): TestFleet {
    return { id: this.id } as TestFleet
  }

  /** A fresh process on acme's database. */
  async start(options: StartOptions = {}): Promise<ReplicaProcess> {
    const replica = await ReplicaProcess.start({
      home: this.home,
      settings: {
        url: this.database.urls.session,
        kekFile: this.kekFile,
        tapFile: this.tapFile,
        aheadMs: this.clock.now() - new TestClock().now(),
        stateDir: this.#stateDir(options.replica ?? 1),
        limits: { oneTimePrekeys: 100, refillBelow: 20, bundlesPerPeer: 10_000, ...this.#options.limits, ...options.limits },
        aim: options.aim,
        mutant: options.asItShips === true ? undefined : this.#options.mutant,
      },
      bundles: async (fleetId) => {
        const answer = await this.peers.find(({ id }) => id === fleetId)?.take(this.id)
        return answer?.ok ? answer.bundle : undefined
      },
      ...(options.under === undefined ? {} : { under: options.under }),
    })
    this.#running.add(replica)
    void replica.ended.then(() => this.#running.delete(replica))
    this.#giver = replica
    return replica
  }

  /** Until nothing goes on in the background on either side: what is counted then is the operation alone. */
  async quiet(replica: ReplicaProcess): Promise<void> {
    for (const peer of this.peers) await peer.core.prefetcher.settled()
    await replica.call({ do: 'quiet' })
  }

  /** What acme's processes have released and opened, in the order in which it was written. */
  tapped(): TapLine[] {
    if (!existsSync(this.tapFile)) return []
    return readFileSync(this.tapFile, 'utf8')
      .trimEnd()
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as TapLine)
  }

  /** Audit events of acme as the database has them now, oldest first; an AdminAction with its action. */
  async audited(): Promise<string[]> {
    const rows = await this.query<{ event: { type: string; body?: { action?: string } } }>(
      'SELECT event FROM session.audit_outbox ORDER BY id',
    )
    return rows.map(({ event }) => (event.body?.action === undefined ? event.type : `${event.type} ${event.body.action}`))
  }

  /** Past the service, as the owner of the schema. */
  async query<T extends pg.QueryResultRow>(text: string, values: unknown[] = []): Promise<T[]> {
    const client = new pg.Client({ connectionString: this.database.ownerUrl })
    await client.connect()
    try {
      return (await client.query<T>(text, values)).rows
    } finally {
      await client.end()
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#running].map((replica) => replica.kill('SIGKILL')))
    for (const peer of this.peers) await peer.stop()
    rmSync(this.home, { recursive: true, force: true })
  }

  async #take(peer: TestFleet): ReturnType<TestFleet['take']> {
    const answer = await this.#giver!.call<Taken>({ do: 'take', peer: peer.id })
    return answer.ok ? { ok: true, bundle: fromBase64(answer.bundle) } : { ok: false, code: 'NotReady', message: answer.code }
  }
}

export function base64(value: Uint8Array): string {
  return Buffer.from(value).toString('base64')
}

export function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  return plain(Buffer.from(text, 'base64'))
}

export function sealCommand(peer: TestFleet, text: string, messageId = peer.newId()): Command & { do: 'seal' } {
  return { do: 'seal', messageId, peer: peer.id, text, class: 'application' }
}

/** @throws Error on a refusal */
export async function sealAt(replica: ReplicaProcess, command: Command & { do: 'seal' }): Promise<Uint8Array<ArrayBuffer>> {
  const sealed = await replica.call<Sealed>(command)
  if (!sealed.ok) throw new Error(`not sealed: ${sealed.code}`)
  return fromBase64(sealed.envelope)
}

/** @throws Error on a refusal */
export async function openAt(replica: ReplicaProcess, peer: TestFleet, envelope: Uint8Array): Promise<string> {
  const opened = await replica.call<Opened>({ do: 'open', peer: peer.id, envelope: base64(envelope) })
  if (!opened.ok) throw new Error(`not opened: ${opened.code}`)
  return opened.text
}

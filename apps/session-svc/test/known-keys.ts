/**
 * The keys of a running service, as somebody knows them who has its database and its key file: the test opens the rows
 * while they are there, remembers what it saw, and can tell afterwards which of it must be gone.
 */
import { systemRandom } from '@tallystick/primitives/random'
import { SecretArena, withSecret } from '@tallystick/secret-bytes/arena'
import { StateView } from '../../../libs/ratchet/src/state.js'
import { auditTrail } from '../src/audit.js'
import type { Custody } from '../src/custody/custody.js'
import { fileCustody } from '../src/custody/file-custody.js'
import { type Db, openDatabase } from '../src/db.js'
import { limitsEnv, limitsFrom } from '../src/limits.js'

const clock = { now: () => Date.now() }

export class KnownKeys {
  /** Hex to what the key is, of everything ever seen in a state or a prekey row. */
  readonly seen = new Map<string, string>()
  readonly #db: Db
  readonly #custody: Custody
  readonly #arena: SecretArena

  private constructor(db: Db, custody: Custody, arena: SecretArena) {
    this.#db = db
    this.#custody = custody
    this.#arena = arena
  }

  static async open(url: string, kek: Uint8Array): Promise<KnownKeys> {
    const arena = SecretArena.open(256 * 1024, { allowUnlocked: true })
    const limits = limitsFrom(limitsEnv.parse({}))
    const db = openDatabase(url, limits)
    const custody = fileCustody(arena, { kek: Uint8Array.from(kek) })
    await custody.open({ db, clock, audit: auditTrail(clock, systemRandom, () => undefined), limits })
    return new KnownKeys(db, custody, arena)
  }

  /** Remembers every secret that is in the database now. @returns them, as hex */
  async look(): Promise<Set<string>> {
    const present = new Map<string, string>()
    for (const row of await this.#db.session.findMany({ where: { state: { not: null } } })) {
      const value = { sealed: row.state!, kekId: row.kekId }
      const state = this.#custody.openSecret(value, { table: 'session', row: Buffer.from(row.sid).toString('hex'), version: row.version })
      withSecret(state, (bytes) => {
        for (const [name, key] of secretsOf(new StateView(bytes))) {
          const hex = Buffer.from(key).toString('hex')
          if (!/^0+$/.test(hex)) present.set(hex, `${name} of epoch ${row.epoch}`)
        }
      })
      state.destroy()
    }
    for (const row of await this.#db.prekey.findMany()) {
      const secret = this.#custody.openSecret(row, { table: 'prekey', row: String(row.id), version: row.version })
      withSecret(secret, (bytes) => {
        // An ML-KEM seed is d ‖ z: two keys of 32 bytes.
        for (let at = 0; at < bytes.length; at += 32)
          present.set(Buffer.from(bytes.subarray(at, at + 32)).toString('hex'), `${row.kind} prekey`)
      })
      secret.destroy()
    }
    for (const [hex, name] of present) this.seen.set(hex, name)
    return new Set(present.keys())
  }

  /** Sessions whose state is still there. */
  async states(): Promise<number> {
    return this.#db.session.count({ where: { state: { not: null } } })
  }

  /** The private half of IK_dh, 32 bytes: in the service's arena as long as it runs. */
  async agreementKey(): Promise<Uint8Array> {
    const row = (await this.#db.identityKey.findFirst({ where: { kind: 'agreement' }, orderBy: { version: 'desc' } }))!
    const secret = this.#custody.openSecret(
      { sealed: row.sealed!, kekId: row.kekId },
      { table: 'identity_key', row: 'agreement', version: row.version },
    )
    const key = withSecret(secret, (bytes) => bytes.slice())
    secret.destroy()
    return key
  }

  async close(): Promise<void> {
    this.#custody.close()
    this.#arena.close()
    await this.#db.$disconnect()
  }
}

function* secretsOf(state: StateView): Generator<[string, Uint8Array]> {
  yield ['root key', state.root]
  yield ['own ratchet key', state.ownSecret]
  yield ['sending chain key', state.sendingChain]
  yield ['receiving chain key', state.receivingChain]
  for (const { exporter } of state.exporters()) yield ['exporter', exporter]
  for (let i = 0; i < state.skippedCount; i++) yield ['message key', state.skipped(i).messageKey]
}

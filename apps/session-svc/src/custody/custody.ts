/**
 * The custody of a process: data keys in the arena, wrapped in the database by the key-encryption key of a provider.
 * @see docs/spec/custody.md §1, §2
 */
import { ProtocolError } from '@tallystick/primitives/errors'
import type { SecretArena, SecretBytes } from '@tallystick/secret-bytes/arena'
import type { Tx } from '../db.js'
import { DataKey } from './data-key.js'
import { type DataKeyRow, insertDataKey, lockDataKeys, readDataKeys, sealedBefore } from './data-key.store.js'
import type { ConnectedKeks, KekProvider, KeyEncryptionKey } from './key-encryption-key.js'
import type {
  CustodyHost,
  DataKeyInfo,
  KekRotation,
  KeyCustody,
  NewSigningKey,
  SealBinding,
  SealedValue,
  SigningKey,
} from './key-custody.js'
import { rewrapAll } from './rotate-kek.js'
import { SigningKeys } from './signing-keys.js'

interface OpenDataKey extends DataKeyInfo {
  readonly key: DataKey
}

interface Opened {
  readonly host: CustodyHost
  readonly keks: ConnectedKeks
}

export class Custody implements KeyCustody {
  readonly provider: KekProvider['provider']
  readonly #arena: SecretArena
  readonly #source: KekProvider
  readonly #byId = new Map<string, OpenDataKey>()
  readonly #signing: SigningKeys
  #newestFirst: OpenDataKey[] = []
  #opened: Opened | undefined

  constructor(arena: SecretArena, source: KekProvider) {
    this.#arena = arena
    this.#source = source
    this.provider = source.provider
    this.#signing = new SigningKeys(arena, this, () => this.#opened?.keks.signing)
  }

  get wrappingKekId(): string {
    return this.#newest().kekId
  }

  get kekId(): string {
    return this.#sealing().id
  }

  get dataKeys(): readonly DataKeyInfo[] {
    return this.#newestFirst.map(({ id, version, kekId, createdAt }) => ({ id, version, kekId, createdAt }))
  }

  async open(host: CustodyHost): Promise<void> {
    if (this.#opened) return
    const rows = await readDataKeys(host.db)
    const keks = this.#source.connect()
    if (rows.length > 0) this.#take(rows, keks)
    else {
      this.#take(await host.db.$transaction((tx) => this.#first(tx, host, keks)), keks)
    }
    this.#opened = { host, keks }
  }

  async refresh(): Promise<void> {
    const { host, keks } = this.#mustBeOpen()
    this.#take(await readDataKeys(host.db), keks)
    const old = (row: { createdAt: number }) => host.clock.now() - row.createdAt > host.limits.dataKeyLifetimeMs
    if (!old(this.#newest())) return
    const rows = await host.db.$transaction(async (tx) => {
      await lockDataKeys(tx)
      const present = await readDataKeys(tx)
      const newest = present[0]!
      // Another replica may have been first.
      if (!old({ createdAt: newest.createdAt.getTime() })) return present
      const made = this.#make(host, newest.version + 1, wrapperOf(keks, newest.kekId))
      await insertDataKey(tx, made)
      await host.audit.record(tx, 'KeyRotated', { keyKind: 'data-key', count: 1 })
      return [made, ...present]
    })
    host.audit.committed()
    this.#take(rows, keks)
  }

  async rotateKek(): Promise<KekRotation | undefined> {
    const { host, keks } = this.#mustBeOpen()
    const outcome = await host.db.$transaction((tx) => rewrapAll(tx, host, keks))
    if (!outcome) return undefined
    host.audit.committed()
    this.#take(await readDataKeys(host.db), keks)
    return outcome
  }

  sealSecret(secret: SecretBytes, binding: SealBinding): SealedValue {
    return this.#sealing().key.sealSecret(secret, binding)
  }

  openSecret(value: SealedValue, binding: SealBinding): SecretBytes {
    return this.#keyOf(value.kekId).openSecret(value, binding)
  }

  sealBytes(plain: Uint8Array, binding: SealBinding): SealedValue {
    return this.#sealing().key.sealBytes(plain, binding)
  }

  openBytes(value: SealedValue, binding: SealBinding): Uint8Array {
    return this.#keyOf(value.kekId).openBytes(value, binding)
  }

  fingerprint(content: Uint8Array, kekId = this.kekId): Uint8Array {
    return this.#keyOf(kekId).fingerprint(content)
  }

  createSigningKey(binding: SealBinding): NewSigningKey {
    this.#mustBeOpen()
    return this.#signing.create(binding)
  }

  openSigningKey(stored: SealedValue, publicKey: Uint8Array, binding: SealBinding): SigningKey {
    return this.#signing.open(stored, publicKey, binding)
  }

  locationOf(stored: SealedValue, binding: SealBinding): SigningKey['location'] {
    return this.#signing.locationOf(stored, binding)
  }

  eraseSigningKey(stored: SealedValue, binding: SealBinding): void {
    this.#signing.erase(stored, binding)
  }

  close(): void {
    for (const { key } of this.#newestFirst) key.destroy()
    this.#newestFirst = []
    this.#byId.clear()
    this.#opened = undefined
    this.#source.close()
  }

  /** The first data key of a database: random, or what an installation before data keys derived from its key file. */
  async #first(tx: Tx, host: CustodyHost, keks: ConnectedKeks): Promise<DataKeyRow[]> {
    await lockDataKeys(tx)
    const other = await readDataKeys(tx)
    if (other.length > 0) return other
    const former = await sealedBefore(tx)
    if (former === undefined) {
      const row = this.#make(host, 1, keks.primary())
      await insertDataKey(tx, row)
      return [row]
    }
    const kek = keks.all.find((candidate) => candidate.id === former && candidate.formerDataKey !== undefined)
    if (!kek) throw notTheirs(former, keks)
    const key = kek.formerDataKey!()
    try {
      const rows = [this.#row(host, 1, kek, key), this.#make(host, 2, kek)]
      for (const row of rows) await insertDataKey(tx, row)
      return rows.reverse()
    } finally {
      key.destroy()
    }
  }

  #make(host: CustodyHost, version: number, kek: KeyEncryptionKey): DataKeyRow {
    const key = DataKey.generate(this.#arena)
    try {
      return this.#row(host, version, kek, key)
    } finally {
      key.destroy()
    }
  }

  #row(host: CustodyHost, version: number, kek: KeyEncryptionKey, key: DataKey): DataKeyRow {
    const { id, cipher } = key
    const wrapped = key.withBytes((bytes) => kek.wrap(bytes, { id, version, cipher }))
    return { id, version, cipher, kekId: kek.id, wrapped, createdAt: new Date(host.clock.now()) }
  }

  /** Opens what is new among `rows`; all or nothing. */
  #take(rows: readonly DataKeyRow[], keks: ConnectedKeks): void {
    const fresh: DataKey[] = []
    try {
      const all = rows.map((row) => {
        const known = this.#byId.get(row.id)
        const key = known?.key ?? unwrap(this.#arena, row, keks)
        if (!known) fresh.push(key)
        return { id: row.id, version: row.version, kekId: row.kekId, createdAt: row.createdAt.getTime(), key }
      })
      this.#newestFirst = all
      for (const entry of all) this.#byId.set(entry.id, entry)
    } catch (error) {
      for (const key of fresh) key.destroy()
      throw error
    }
  }

  #newest(): OpenDataKey {
    const newest = this.#newestFirst[0]
    if (!newest) throw notOpen()
    return newest
  }

  /** The newest key that every replica must have seen by now, or the oldest there is. Those from before data keys only open. */
  #sealing(): OpenDataKey {
    if (!this.#opened) throw notOpen()
    const { clock, limits } = this.#opened.host
    const seen = clock.now() - limits.dataKeySpreadMs
    let oldest: OpenDataKey | undefined
    for (const entry of this.#newestFirst) {
      if (entry.key.cipher !== 'xchacha20-poly1305') continue
      if (entry.createdAt <= seen) return entry
      oldest = entry
    }
    if (!oldest) throw notOpen()
    return oldest
  }

  #keyOf(id: string): DataKey {
    const entry = this.#byId.get(id)
    if (entry) return entry.key
    if (!this.#opened) throw notOpen()
    throw new ProtocolError('KeyStorage', `sealed under data key ${id}, which this database does not have`, {
      reason: 'accessControlFailed',
    })
  }

  #mustBeOpen(): Opened {
    if (!this.#opened) throw notOpen()
    return this.#opened
  }
}

function unwrap(arena: SecretArena, row: DataKeyRow, keks: ConnectedKeks): DataKey {
  return new DataKey(arena, row.id, wrapperOf(keks, row.kekId).unwrap(row.wrapped, row), row.cipher)
}

function wrapperOf(keks: ConnectedKeks, kekId: string): KeyEncryptionKey {
  const kek = keks.all.find(({ id }) => id === kekId)
  if (!kek) throw notTheirs(kekId, keks)
  return kek
}

function notTheirs(kekId: string, keks: ConnectedKeks): ProtocolError {
  return new ProtocolError('KeyStorage', `sealed under key ${kekId}, but ${keks.found}`, { reason: 'accessControlFailed' })
}

function notOpen(): ProtocolError {
  return new ProtocolError('KeyStorage', 'the data keys have not been opened yet', { reason: 'locked' })
}

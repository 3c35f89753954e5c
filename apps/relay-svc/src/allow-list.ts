/**
 * The allow-list in memory: who may open a stream, and which addresses are known. Answers at once, because the
 * connection gater asks in the middle of a handshake; until it has been loaded, nobody is allowed (fail closed).
 */
import { configuredKeys } from './address.js'
import { ADDRESSES_KEPT_PER_PEER, type PeerRecord, type PeersStore, type PeerState } from './peers.store.js'

export class AllowList {
  readonly #store: Pick<PeersStore, 'all' | 'version'>
  #version: string | undefined
  #refreshing: Promise<void> = Promise.resolve()
  #byFleet = new Map<string, PeerRecord>()
  #byPeerId = new Map<string, PeerRecord>()
  #known = new Set<string>()
  readonly #listeners: ((changed: PeerRecord, before: PeerRecord | undefined) => void)[] = []

  constructor(store: Pick<PeersStore, 'all' | 'version'>) {
    this.#store = store
  }

  /** Called for each peer whose record is new or other than before. */
  onChange(listener: (changed: PeerRecord, before: PeerRecord | undefined) => void): void {
    this.#listeners.push(listener)
  }

  get loaded(): boolean {
    return this.#version !== undefined
  }

  fleet(fleetId: string): PeerRecord | undefined {
    return this.#byFleet.get(fleetId)
  }

  fleets(): PeerRecord[] {
    return [...this.#byFleet.values()]
  }

  /** @returns the record of the peer, whatever its state; undefined for an unknown PeerId */
  peer(peerId: string): PeerRecord | undefined {
    return this.#byPeerId.get(peerId)
  }

  stateOf(peerId: string): PeerState | undefined {
    return this.#byPeerId.get(peerId)?.state
  }

  isKnownAddress(key: string): boolean {
    return this.#known.has(key)
  }

  /** The peer has proved its key from this address. @returns true when that is news */
  learnAddress(fleetId: string, key: string): boolean {
    const record = this.#byFleet.get(fleetId)
    if (record === undefined || record.addresses.includes(key)) return false
    this.#put({ ...record, addresses: [...record.addresses, key].slice(-ADDRESSES_KEPT_PER_PEER) })
    this.#knowAddresses()
    return true
  }

  /** @param force also when the version is the same (a change of this very replica) */
  async refresh(force = false): Promise<void> {
    const before = this.#refreshing
    // One at a time: a slow read from before a change must not overwrite what the change has put here.
    const mine = (async () => {
      await before.catch(() => undefined) // its own caller is told
      await this.#read(force)
    })()
    this.#refreshing = mine
    return mine
  }

  async #read(force: boolean): Promise<void> {
    const version = await this.#store.version()
    if (!force && version === this.#version) return
    const before = this.#byFleet
    const records = await this.#store.all()
    this.#byFleet = new Map()
    this.#byPeerId = new Map()
    for (const record of records) this.#put(record)
    this.#knowAddresses()
    this.#version = version
    for (const record of records) {
      const old = before.get(record.fleetId)
      if (
        old === undefined ||
        old.state !== record.state ||
        !same(old.multiaddrs, record.multiaddrs) ||
        !same(old.peerIds, record.peerIds)
      ) {
        for (const listener of this.#listeners) listener(record, old)
      }
    }
  }

  /** Anew from all records: an address that one peer has given up may still be another's. */
  #knowAddresses(): void {
    this.#known = new Set(
      this.fleets()
        .filter((record) => record.state === 'allowed')
        .flatMap((record) => [...record.addresses, ...configuredKeys(record.multiaddrs)]),
    )
  }

  #put(record: PeerRecord): void {
    this.#byFleet.set(record.fleetId, record)
    for (const peerId of record.peerIds) this.#byPeerId.set(peerId, record)
  }
}

function same(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((value) => b.includes(value))
}

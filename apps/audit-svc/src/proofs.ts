/** Proofs, tiles and events out of the stored log. Each proof is verified before it is given away. */
import {
  encodeEntries,
  encodeTile,
  hashesFromTiles,
  parseTilePath,
  TILE_WIDTH,
  tileKey,
  tilesOf,
  tileWidth,
} from '@tallystick/merkle-log/tiles'
import {
  consistencyRanges,
  emptyRoot,
  inclusionRanges,
  type LeafRange,
  verifyConsistency,
  verifyInclusion,
} from '@tallystick/merkle-log/tree'
import type { AuditEvent, AuditStream } from '@tallystick/contracts/audit-events'
import type { Db } from './db.js'
import { InconsistentLog } from './halt.js'
import { leafOfEvent, leavesAfter, leavesBetween, newestCheckpoint, readHead, type StoredCheckpoint, tileHashes } from './log.store.js'
import { checkedHash, readEvent } from './scan.js'

export interface InclusionProof {
  readonly leaf: Uint8Array
  readonly index: number
  readonly proof: Uint8Array[]
  readonly checkpoint: StoredCheckpoint
}

export interface ConsistencyProof {
  readonly proof: Uint8Array[]
  readonly fromRoot: Uint8Array
  readonly toRoot: Uint8Array
}

export class Proofs {
  readonly #db: Db

  constructor(db: Db) {
    this.#db = db
  }

  newestCheckpoint(): Promise<StoredCheckpoint | undefined> {
    return newestCheckpoint(this.#db)
  }

  /** @returns undefined while the event is unknown or under no checkpoint; @throws InconsistentLog */
  async inclusion(eventId: string): Promise<InclusionProof | undefined> {
    const [stored, checkpoint] = await Promise.all([leafOfEvent(this.#db, eventId), newestCheckpoint(this.#db)])
    if (stored === undefined || checkpoint === undefined || stored.index >= checkpoint.size) return undefined
    const proof = await this.#hashes(inclusionRanges(stored.index, checkpoint.size), checkpoint.size)
    if (!verifyInclusion(checkedHash(stored), stored.index, checkpoint.size, proof, checkpoint.root))
      throw new InconsistentLog(`leaf ${stored.index} is not in the tree of the checkpoint of size ${checkpoint.size}`)
    return { leaf: stored.leaf, index: stored.index, proof, checkpoint }
  }

  /** @returns undefined unless from ≤ to ≤ size of the log; @throws InconsistentLog */
  async consistency(from: number, to: number): Promise<ConsistencyProof | undefined> {
    const { size } = await readHead(this.#db)
    if (from > to || to > size) return undefined
    const [proof, fromRoot, toRoot] = await Promise.all([this.#hashes(consistencyRanges(from, to), to), this.#root(from), this.#root(to)])
    if (!verifyConsistency(from, to, fromRoot, toRoot, proof))
      throw new InconsistentLog(`the trees of size ${from} and ${to} are not consistent`)
    return { proof, fromRoot, toRoot }
  }

  async events(
    after: number,
    limit: number,
    stream: AuditStream | undefined,
  ): Promise<{ index: number; leafHash: Uint8Array; event: AuditEvent }[]> {
    const leaves = await leavesAfter(this.#db, after, limit, stream)
    return leaves.map((stored) => ({ index: stored.index, leafHash: checkedHash(stored), event: readEvent(stored) }))
  }

  /**
   * @returns undefined for a tile that the newest checkpoint does not cover
   * @throws ProtocolError Serialization for a malformed path
   */
  async tile(path: string): Promise<Uint8Array | undefined> {
    const { level, index, width } = parseTilePath(path)
    const checkpoint = await newestCheckpoint(this.#db)
    if (checkpoint === undefined || width > tileWidth(level === 'entries' ? 0 : level, index, checkpoint.size)) return undefined
    if (level === 'entries')
      return encodeEntries((await leavesBetween(this.#db, index * TILE_WIDTH, index * TILE_WIDTH + width)).map((stored) => stored.leaf))
    return encodeTile(await tileHashes(this.#db, level, index, width))
  }

  async #root(size: number): Promise<Uint8Array> {
    if (size === 0) return emptyRoot()
    const [root] = await this.#hashes([{ begin: 0, end: size }], size)
    return root!
  }

  async #hashes(ranges: readonly LeafRange[], size: number): Promise<Uint8Array[]> {
    const tiles = new Map<string, Uint8Array[]>()
    for (const tile of tilesOf(ranges)) {
      const width = tileWidth(tile.level, tile.index, size)
      const hashes = await tileHashes(this.#db, tile.level, tile.index, width)
      if (hashes.length !== width) throw new InconsistentLog(`tile ${tileKey(tile)} is not complete`)
      tiles.set(tileKey(tile), hashes)
    }
    return hashesFromTiles(ranges, tiles)
  }
}

/**
 * C2SP tlog-tiles: a tree cut into tiles of 256 hashes, eight levels each, so that what is stored, cached and served
 * grows by whole pieces. Tile (L, N) holds the nodes of level 8·L with the indexes 256·N … 256·N + W − 1.
 * @see https://c2sp.org/tlog-tiles and docs/spec/audit-log.md §6
 */
import { concat } from '@tallystick/primitives/bytes'
import { ProtocolError } from '@tallystick/primitives/errors'
import { HASH_BYTES, type LeafRange, type NodeId, nodeHash, rangeHash, rangeNodes } from './tree.js'

export const TILE_WIDTH = 256
export const TILE_HEIGHT = 8
/** Highest tile level of a tree whose size is a safe integer. */
const MAX_TILE_LEVEL = 6

export interface TileId {
  /** 0 for the leaf hashes, 1 for the roots of full level-0 tiles, … */
  readonly level: number
  readonly index: number
}

export interface TilePath {
  /** `entries` are data tiles: the leaves themselves. */
  readonly level: number | 'entries'
  readonly index: number
  /** 1 to 256; below 256 for the partial tile at the right edge. */
  readonly width: number
}

/**
 * `tile/<L>/<N>[.p/<W>]` or `tile/entries/<N>[.p/<W>]`, N in groups of three digits, all but the last with an `x`.
 * @throws ProtocolError Serialization
 */
export function parseTilePath(path: string): TilePath {
  const match = /^tile\/(entries|[0-9]|[1-5][0-9]|6[0-3])\/((?:x[0-9]{3}\/){0,5}[0-9]{3})(?:\.p\/([1-9][0-9]{0,2}))?$/.exec(path)
  const index = match === null ? Number.NaN : Number(match[2]!.replaceAll(/[x/]/g, ''))
  const width = match?.[3] === undefined ? TILE_WIDTH : Number(match[3])
  if (match === null || !Number.isSafeInteger(index) || (match[3] !== undefined && width >= TILE_WIDTH))
    throw new ProtocolError('Serialization', 'not a tile path')
  const tile: TilePath = { level: match[1] === 'entries' ? 'entries' : Number(match[1]), index, width }
  // One path per tile: refuses leading groups of zeros.
  if (formatTilePath(tile) !== path) throw new ProtocolError('Serialization', 'not a tile path')
  return tile
}

export function formatTilePath({ level, index, width }: TilePath): string {
  const digits = String(index).padStart(3, '0')
  const groups = digits.padStart(Math.ceil(digits.length / 3) * 3, '0').match(/.{3}/g)!
  const number = groups.map((group, i) => (i < groups.length - 1 ? `x${group}` : group)).join('/')
  return `tile/${level}/${number}${width < TILE_WIDTH ? `.p/${width}` : ''}`
}

/** How many hashes tile (level, index) has in a tree of `size` leaves: 0 to 256. */
export function tileWidth(level: number, index: number, size: number): number {
  const nodes = Math.floor(size / TILE_WIDTH ** level)
  return Math.max(0, Math.min(TILE_WIDTH, nodes - index * TILE_WIDTH))
}

/** Bytes of a hash tile: its hashes, one after the other. */
export function encodeTile(hashes: readonly Uint8Array[]): Uint8Array {
  return concat(...hashes)
}

/** Bytes of a data tile: each leaf behind its length in two bytes, big endian. @throws ProtocolError Serialization */
export function encodeEntries(leaves: readonly Uint8Array[]): Uint8Array {
  return concat(
    ...leaves.flatMap((leaf) => {
      if (leaf.length > 0xffff) throw new ProtocolError('Serialization', 'a leaf has at most 65,535 bytes')
      return [Uint8Array.of(leaf.length >> 8, leaf.length & 0xff), leaf]
    }),
  )
}

/** @throws ProtocolError Serialization */
export function decodeEntries(tile: Uint8Array): Uint8Array[] {
  const leaves: Uint8Array[] = []
  for (let at = 0; at < tile.length;) {
    const length = at + 2 <= tile.length ? tile[at]! * 256 + tile[at + 1]! : Number.NaN
    if (!(at + 2 + length <= tile.length)) throw new ProtocolError('Serialization', 'data tile ends in the middle of a leaf')
    leaves.push(tile.slice(at + 2, at + 2 + length))
    at += 2 + length
  }
  return leaves
}

/** The tile in whose hashes a node is, or out of whose hashes it is computed. */
export function tileOf({ level, index }: NodeId): TileId {
  const tileLevel = Math.floor(level / TILE_HEIGHT)
  const perTile = TILE_WIDTH / 2 ** (level % TILE_HEIGHT)
  return { level: tileLevel, index: Math.floor(index / perTile) }
}

/**
 * The tiles that a plan needs, without repeats.
 * @see inclusionRanges, consistencyRanges
 */
export function tilesOf(ranges: readonly LeafRange[]): TileId[] {
  const tiles = new Map<string, TileId>()
  for (const range of ranges) {
    for (const node of rangeNodes(range)) {
      const tile = tileOf(node)
      if (tile.level > MAX_TILE_LEVEL) throw new ProtocolError('Serialization', 'tree too large')
      tiles.set(tileKey(tile), tile)
    }
  }
  return [...tiles.values()]
}

export function tileKey({ level, index }: TileId): string {
  return `${level}/${index}`
}

/**
 * The hash of each range of a plan, out of tiles.
 * @param tiles by `tileKey`; each as wide as the tree allows
 * @throws ProtocolError Serialization if a tile is missing or too narrow
 */
export function hashesFromTiles(ranges: readonly LeafRange[], tiles: ReadonlyMap<string, readonly Uint8Array[]>): Uint8Array[] {
  return ranges.map((range) => rangeHash(range, (node) => nodeFromTile(node, tiles.get(tileKey(tileOf(node))))))
}

function nodeFromTile({ level, index }: NodeId, tile: readonly Uint8Array[] | undefined): Uint8Array {
  const span = 2 ** (level % TILE_HEIGHT)
  const begin = (index * span) % TILE_WIDTH
  let hashes = tile?.slice(begin, begin + span) ?? []
  if (hashes.length !== span || hashes.some((hash) => hash.length !== HASH_BYTES))
    throw new ProtocolError('Serialization', 'tile is missing or too narrow')
  while (hashes.length > 1) hashes = hashes.flatMap((hash, i) => (i % 2 === 0 ? [nodeHash(hash, hashes[i + 1]!)] : []))
  return hashes[0]!
}

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { concat, fromHex, toHex, u32be } from '@tallystick/primitives/bytes'
import { sha256 } from '@tallystick/primitives/hash'
import {
  append,
  consistencyRanges,
  EMPTY_FRONTIER,
  emptyRoot,
  type Frontier,
  frontierRoot,
  inclusionRanges,
  leafHash,
  type LeafRange,
  nodeHash,
  rangeHash,
  verifyConsistency,
  verifyInclusion,
} from './tree.js'
import { hashesFromTiles, tileKey, tilesOf, tileWidth } from './tiles.js'

// ------------------------------------------------------------------ the definitions of RFC 9162 §2.1, word for word
const largestPowerBelow = (n: number): number => 2 ** (Math.ceil(Math.log2(n)) - 1)
function mth(leaves: Uint8Array[]): Uint8Array {
  if (leaves.length === 0) return sha256()
  if (leaves.length === 1) return sha256(Uint8Array.of(0), leaves[0]!)
  const k = largestPowerBelow(leaves.length)
  return sha256(Uint8Array.of(1), mth(leaves.slice(0, k)), mth(leaves.slice(k)))
}
function path(m: number, leaves: Uint8Array[]): Uint8Array[] {
  if (leaves.length === 1) return []
  const k = largestPowerBelow(leaves.length)
  return m < k ? [...path(m, leaves.slice(0, k)), mth(leaves.slice(k))] : [...path(m - k, leaves.slice(k)), mth(leaves.slice(0, k))]
}
function subproof(m: number, leaves: Uint8Array[], whole: boolean): Uint8Array[] {
  if (m === leaves.length) return whole ? [] : [mth(leaves)]
  const k = largestPowerBelow(leaves.length)
  return m <= k
    ? [...subproof(m, leaves.slice(0, k), whole), mth(leaves.slice(k))]
    : [...subproof(m - k, leaves.slice(k), false), mth(leaves.slice(0, k))]
}

const leavesOf = (size: number): Uint8Array[] => Array.from({ length: size }, (_, i) => u32be(i))
const hexes = (hashes: readonly Uint8Array[]): string[] => hashes.map(toHex)

/** The tree as tiles, built through `append` in batches. */
function grow(leaves: Uint8Array[], batch: number): { frontier: Frontier; tiles: Map<string, Uint8Array[]> } {
  const tiles = new Map<string, Uint8Array[]>()
  const put = (level: number, index: number, hash: Uint8Array) => {
    const key = tileKey({ level: level / 8, index: Math.floor(index / 256) })
    const tile = tiles.get(key) ?? []
    expect(tile).toHaveLength(index % 256)
    tiles.set(key, [...tile, hash])
  }
  let frontier = EMPTY_FRONTIER
  for (let at = 0; at < leaves.length; at += batch) {
    const hashes = leaves.slice(at, at + batch).map((leaf) => leafHash(leaf))
    hashes.forEach((hash, i) => put(0, at + i, hash))
    const next = append(frontier, hashes)
    for (const node of next.nodes) if (node.level % 8 === 0) put(node.level, node.index, node.hash)
    frontier = next.frontier
  }
  return { frontier, tiles }
}

/** Only the tiles of a tree of `size`, as narrow as they were then. */
function asOf(tiles: Map<string, Uint8Array[]>, ranges: LeafRange[], size: number): Map<string, Uint8Array[]> {
  return new Map(
    tilesOf(ranges).map((tile) => [tileKey(tile), tiles.get(tileKey(tile))!.slice(0, tileWidth(tile.level, tile.index, size))]),
  )
}

const sizes = fc.oneof(fc.integer({ min: 1, max: 70 }), fc.integer({ min: 250, max: 520 }))

describe('Merkle tree', () => {
  it('known answers of RFC 6962 test trees', () => {
    const leaves = ['', '00', '10', '2021', '3031', '40414243', '5051525354555657', '606162636465666768696a6b6c6d6e6f'].map(fromHex)
    const roots = [
      'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
      '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
      'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125',
      'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77',
      'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
      '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4',
      '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef',
      'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c',
      '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328',
    ]
    roots.forEach((root, size) =>
      expect(toHex(frontierRoot(append(EMPTY_FRONTIER, leaves.slice(0, size).map(leafHash)).frontier))).toBe(root),
    )
  })

  it('root and proofs equal the recursive definition, whatever the batches', () => {
    fc.assert(
      fc.property(sizes, fc.integer({ min: 1, max: 300 }), fc.nat(), fc.nat(), (size, batch, a, b) => {
        const leaves = leavesOf(size)
        const { frontier, tiles } = grow(leaves, batch)
        expect(toHex(frontierRoot(frontier))).toBe(toHex(mth(leaves)))
        expect(frontier.hashes.length).toBeLessThanOrEqual(10)

        const index = a % size
        const inclusion = inclusionRanges(index, size)
        const proof = hashesFromTiles(inclusion, asOf(tiles, inclusion, size))
        expect(hexes(proof)).toEqual(hexes(path(index, leaves)))
        expect(verifyInclusion(leafHash(leaves[index]!), index, size, proof, mth(leaves))).toBe(true)

        const from = 1 + (b % size)
        const consistency = consistencyRanges(from, size)
        const steps = hashesFromTiles(consistency, asOf(tiles, consistency, size))
        expect(hexes(steps)).toEqual(hexes(subproof(from, leaves, true)))
        expect(verifyConsistency(from, size, mth(leaves.slice(0, from)), mth(leaves), steps)).toBe(true)
      }),
      { numRuns: 300 },
    )
  }, 60_000)

  it('every proof of every tree up to 40 leaves', () => {
    const leaves = leavesOf(40)
    const { tiles } = grow(leaves, 7)
    for (let size = 1; size <= 40; size++) {
      const root = mth(leaves.slice(0, size))
      for (let index = 0; index < size; index++) {
        const ranges = inclusionRanges(index, size)
        expect(verifyInclusion(leafHash(leaves[index]!), index, size, hashesFromTiles(ranges, asOf(tiles, ranges, size)), root)).toBe(true)
      }
      for (let from = 0; from <= size; from++) {
        const ranges = consistencyRanges(from, size)
        expect(verifyConsistency(from, size, mth(leaves.slice(0, from)), root, hashesFromTiles(ranges, asOf(tiles, ranges, size)))).toBe(
          true,
        )
      }
    }
  })

  it('works beyond 32 bits', () => {
    const fake = (range: LeafRange) =>
      rangeHash(range, ({ level, index }) => sha256(concat(u32be(level), new TextEncoder().encode(String(index)))))
    const size = 2 ** 40 + 12_345
    const leaf = sha256(concat(u32be(0), new TextEncoder().encode(String(2 ** 40 + 5))))
    const proof = inclusionRanges(2 ** 40 + 5, size).map(fake)
    const root = nodeHash(fake({ begin: 0, end: 2 ** 40 }), fake({ begin: 2 ** 40, end: size }))
    expect(proof.length).toBeLessThan(45)
    // The fake nodes are unrelated, so only the last step is real: verify the walk by its length and shape.
    expect(verifyInclusion(leaf, 2 ** 40 + 5, size, proof, root)).toBe(false)
    expect(inclusionRanges(2 ** 40 + 5, size).at(-1)).toEqual({ begin: 0, end: 2 ** 40 })
    expect(consistencyRanges(2 ** 40, size)).toEqual([{ begin: 2 ** 40, end: size }])
  })
})

describe('must fail', () => {
  const flip = (hash: Uint8Array, at: number): Uint8Array => hash.map((byte, i) => (i === at % hash.length ? byte ^ 1 : byte))

  it('a changed, missing, extra, reversed or misplaced inclusion proof', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 70 }), fc.nat(), fc.nat(), (size, a, b) => {
        const leaves = leavesOf(size)
        const root = mth(leaves)
        const index = a % size
        const leaf = leafHash(leaves[index]!)
        const proof = path(index, leaves)
        const at = b % proof.length
        const changed = proof.map((hash, i) => (i === at ? flip(hash, b) : hash))
        for (const bad of [changed, proof.slice(1), proof.slice(0, -1), [...proof, root], [root, ...proof], []])
          expect(verifyInclusion(leaf, index, size, bad, root)).toBe(false)
        const other = (index + 1 + (b % (size - 1))) % size
        expect(verifyInclusion(leaf, other, size, proof, root)).toBe(false)
        expect(verifyInclusion(flip(leaf, b), index, size, proof, root)).toBe(false)
        expect(verifyInclusion(leaf, index, size, proof, flip(root, b))).toBe(false)
        expect(verifyInclusion(leaf, size, size, proof, root)).toBe(false)
      }),
      { numRuns: 300 },
    )
  })

  it('a changed consistency proof, or another history', () => {
    fc.assert(
      fc.property(fc.integer({ min: 3, max: 70 }), fc.nat(), fc.nat(), (size, a, b) => {
        const leaves = leavesOf(size)
        const from = 1 + (a % (size - 1))
        const [oldRoot, root] = [mth(leaves.slice(0, from)), mth(leaves)]
        const proof = subproof(from, leaves, true)
        const at = b % proof.length
        const changed = proof.map((hash, i) => (i === at ? flip(hash, b) : hash))
        for (const bad of [changed, proof.slice(1), proof.slice(0, -1), [...proof, root], []])
          expect(verifyConsistency(from, size, oldRoot, root, bad)).toBe(false)
        expect(verifyConsistency(from, size, flip(oldRoot, b), root, proof)).toBe(false)
        expect(verifyConsistency(from, size, oldRoot, flip(root, b), proof)).toBe(false)
        const rewritten = leaves.map((leaf, i) => (i === b % from ? u32be(1_000_000) : leaf))
        expect(verifyConsistency(from, size, oldRoot, mth(rewritten), subproof(from, rewritten, true))).toBe(false)
      }),
      { numRuns: 300 },
    )
  })

  it('numbers out of range, wrong lengths', () => {
    const hash = leafHash(new Uint8Array(1))
    for (const [index, size] of [
      [-1, 1],
      [1, 1],
      [0, 0],
      [0.5, 1],
      [Number.NaN, 1],
      [0, 2 ** 60],
    ] as const)
      expect(verifyInclusion(hash, index, size, [], hash)).toBe(false)
    expect(verifyInclusion(hash, 0, 1, [], hash)).toBe(true)
    expect(verifyInclusion(new Uint8Array(31), 0, 1, [], new Uint8Array(31))).toBe(false)
    expect(verifyConsistency(2, 1, hash, hash, [])).toBe(false)
    expect(verifyConsistency(1, 1, hash, hash, [hash])).toBe(false)
    expect(verifyConsistency(0, 5, hash, hash, [])).toBe(false)
    expect(verifyConsistency(0, 5, emptyRoot(), hash, [])).toBe(true)
    for (const [index, size] of [
      [1, 1],
      [-1, 5],
      [0, 0],
      [0, Number.NaN],
    ] as const)
      expect(() => inclusionRanges(index, size)).toThrow()
    expect(() => consistencyRanges(3, 2)).toThrow()
    expect(() => append({ size: 3, hashes: [hash] }, [])).toThrow()
    expect(() => append(EMPTY_FRONTIER, [new Uint8Array(31)])).toThrow()
    expect(() => frontierRoot({ size: 1, hashes: [] })).toThrow()
  })
})

/**
 * The Merkle tree of RFC 6962 §2.1 (the same as RFC 9162 §2.1 with SHA-256), without any storage.
 *
 * A tree is addressed by *nodes*: node (level, index) is the hash over the 2^level leaves that begin at
 * index · 2^level, and exists once all of them do. Proofs are planned as ranges of leaves, ranges as nodes; the caller
 * fetches the nodes from wherever it keeps them. Appending needs the frontier only: at most 53 hashes.
 * Sizes and indexes are safe integers; 32-bit operators are avoided on purpose.
 * @see docs/spec/audit-log.md §4
 */
import { equalConstantTime } from '@tallystick/primitives/bytes'
import { ProtocolError } from '@tallystick/primitives/errors'
import { sha256 } from '@tallystick/primitives/hash'

export const HASH_BYTES = 32
const LEAF_PREFIX = Uint8Array.of(0x00)
const NODE_PREFIX = Uint8Array.of(0x01)

export interface NodeId {
  readonly level: number
  readonly index: number
}

/** Leaves `begin` … `end` − 1. */
export interface LeafRange {
  readonly begin: number
  readonly end: number
}

/** The complete subtrees of a tree, largest first: everything that appending needs. */
export interface Frontier {
  readonly size: number
  /** One hash per binary one of `size`. */
  readonly hashes: readonly Uint8Array[]
}

export interface TreeNode extends NodeId {
  readonly hash: Uint8Array
}

export const EMPTY_FRONTIER: Frontier = { size: 0, hashes: [] }

/** Root of the empty tree: SHA-256 of nothing. */
export function emptyRoot(): Uint8Array {
  return sha256()
}

export function leafHash(leaf: Uint8Array): Uint8Array {
  return sha256(LEAF_PREFIX, leaf)
}

export function nodeHash(left: Uint8Array, right: Uint8Array): Uint8Array {
  return sha256(NODE_PREFIX, left, right)
}

const isOdd = (n: number): boolean => n % 2 === 1
const half = (n: number): number => Math.floor(n / 2)

function isCount(n: number): boolean {
  return Number.isSafeInteger(n) && n >= 0
}

/** Largest power of two below `n`, for n > 1. */
function split(n: number): number {
  let k = 1
  while (k * 2 < n) k *= 2
  return k
}

function outOfRange(what: string): never {
  throw new ProtocolError('Serialization', `Merkle tree: ${what}`)
}

// ---------------------------------------------------------------------------------------------------------- append

/**
 * Append leaf hashes.
 * @returns the new frontier, and every node of level 1 and above that became complete, in order of completion
 * @throws ProtocolError Serialization if the frontier is not one of its size
 */
export function append(frontier: Frontier, leafHashes: readonly Uint8Array[]): { frontier: Frontier; nodes: TreeNode[] } {
  checkFrontier(frontier)
  const hashes = [...frontier.hashes]
  const nodes: TreeNode[] = []
  let size = frontier.size
  for (const leaf of leafHashes) {
    if (leaf.length !== HASH_BYTES) outOfRange('a leaf hash has 32 bytes')
    let hash = leaf
    let index = size
    for (let level = 1; isOdd(index); level++) {
      hash = nodeHash(hashes.pop()!, hash)
      index = half(index)
      nodes.push({ level, index, hash })
    }
    hashes.push(hash)
    size += 1
  }
  return { frontier: { size, hashes }, nodes }
}

function checkFrontier({ size, hashes }: Frontier): void {
  let ones = 0
  for (let n = isCount(size) ? size : outOfRange('size'); n > 0; n = half(n)) if (isOdd(n)) ones += 1
  if (hashes.length !== ones || hashes.some((hash) => hash.length !== HASH_BYTES)) outOfRange('frontier does not belong to its size')
}

/** Root hash of the tree behind a frontier. */
export function frontierRoot(frontier: Frontier): Uint8Array {
  checkFrontier(frontier)
  return frontier.hashes.length === 0 ? emptyRoot() : fold(frontier.hashes)
}

/** Complete subtrees of falling size combine from the right. */
function fold(hashes: readonly Uint8Array[]): Uint8Array {
  return hashes.slice(0, -1).reduceRight((right, left) => nodeHash(left, right), hashes.at(-1)!)
}

// ---------------------------------------------------------------------------------------------------------- prove

/**
 * The inclusion proof of leaf `index` in the tree of `size` leaves, as ranges: one per hash, in the proof's order.
 * @throws ProtocolError Serialization unless 0 ≤ index < size
 * @see RFC 9162 §2.1.3.1
 */
export function inclusionRanges(index: number, size: number): LeafRange[] {
  if (!isCount(index) || !isCount(size) || index >= size) outOfRange('no such leaf')
  const ranges: LeafRange[] = []
  let begin = 0
  let end = size
  while (end - begin > 1) {
    const middle = begin + split(end - begin)
    if (index < middle) {
      ranges.push({ begin: middle, end })
      end = middle
    } else {
      ranges.push({ begin, end: middle })
      begin = middle
    }
  }
  return ranges.reverse()
}

/**
 * The consistency proof from the tree of `from` leaves to the tree of `to` leaves, as ranges. Empty if from is 0 or to.
 * @throws ProtocolError Serialization unless 0 ≤ from ≤ to
 * @see RFC 9162 §2.1.4.1
 */
export function consistencyRanges(from: number, to: number): LeafRange[] {
  if (!isCount(from) || !isCount(to) || from > to) outOfRange('sizes')
  if (from === 0 || from === to) return []
  const ranges: LeafRange[] = []
  let begin = 0
  let end = to
  // Whether the old tree is exactly the current subtree's left edge: then its hash is known and left out.
  let known = true
  while (from !== end) {
    const middle = begin + split(end - begin)
    if (from <= middle) {
      ranges.push({ begin: middle, end })
      end = middle
    } else {
      ranges.push({ begin, end: middle })
      begin = middle
      known = false
    }
  }
  if (!known) ranges.push({ begin, end })
  return ranges.reverse()
}

/** The complete subtrees that make up a range of a plan, from left to right. */
export function rangeNodes({ begin, end }: LeafRange): NodeId[] {
  const nodes: NodeId[] = []
  while (begin < end) {
    let level = 0
    let width = 1
    while (begin % (width * 2) === 0 && begin + width * 2 <= end) {
      width *= 2
      level += 1
    }
    nodes.push({ level, index: begin / width })
    begin += width
  }
  return nodes
}

/** Hash of a range of a plan, from its nodes. */
export function rangeHash(range: LeafRange, hashOf: (node: NodeId) => Uint8Array): Uint8Array {
  return fold(rangeNodes(range).map(hashOf))
}

// ---------------------------------------------------------------------------------------------------------- verify

/**
 * @param leaf hash of the leaf, 32 bytes
 * @param proof hashes from the leaf upwards
 * @returns false for every fault, out-of-range numbers included
 * @see RFC 9162 §2.1.3.2
 */
export function verifyInclusion(leaf: Uint8Array, index: number, size: number, proof: readonly Uint8Array[], root: Uint8Array): boolean {
  if (!isCount(index) || !isCount(size) || index >= size || !allHashes(leaf, root, ...proof)) return false
  let fn = index
  let sn = size - 1
  let hash = leaf
  for (const sibling of proof) {
    if (sn === 0) return false
    if (isOdd(fn) || fn === sn) {
      hash = nodeHash(sibling, hash)
      while (!isOdd(fn) && fn !== 0) {
        fn = half(fn)
        sn = half(sn)
      }
    } else {
      hash = nodeHash(hash, sibling)
    }
    fn = half(fn)
    sn = half(sn)
  }
  return sn === 0 && equalConstantTime(hash, root)
}

/**
 * @param from size of the older tree; 0 is consistent with everything, by an empty proof
 * @returns false for every fault, out-of-range numbers included
 * @see RFC 9162 §2.1.4.2
 */
export function verifyConsistency(
  from: number,
  to: number,
  fromRoot: Uint8Array,
  toRoot: Uint8Array,
  proof: readonly Uint8Array[],
): boolean {
  if (!isCount(from) || !isCount(to) || from > to || !allHashes(fromRoot, toRoot, ...proof)) return false
  if (from === to)
    return proof.length === 0 && equalConstantTime(fromRoot, toRoot) && (from > 0 || equalConstantTime(fromRoot, emptyRoot()))
  if (from === 0) return proof.length === 0 && equalConstantTime(fromRoot, emptyRoot())
  let fn = from - 1
  let sn = to - 1
  while (isOdd(fn)) {
    fn = half(fn)
    sn = half(sn)
  }
  // If the old tree is complete, its root is where the proof begins, and is not repeated in it.
  const path = fn === 0 ? [fromRoot, ...proof] : proof
  const [first, ...rest] = path
  if (first === undefined) return false
  let oldHash = first
  let newHash = first
  for (const hash of rest) {
    if (sn === 0) return false
    if (isOdd(fn) || fn === sn) {
      oldHash = nodeHash(hash, oldHash)
      newHash = nodeHash(hash, newHash)
      while (!isOdd(fn) && fn !== 0) {
        fn = half(fn)
        sn = half(sn)
      }
    } else {
      newHash = nodeHash(newHash, hash)
    }
    fn = half(fn)
    sn = half(sn)
  }
  return sn === 0 && equalConstantTime(oldHash, fromRoot) && equalConstantTime(newHash, toRoot)
}

function allHashes(...hashes: readonly Uint8Array[]): boolean {
  return hashes.every((hash) => hash.length === HASH_BYTES)
}

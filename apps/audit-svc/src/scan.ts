/**
 * Reads the log as it is stored and recomputes the tree: every leaf hashed again, every column compared with its
 * leaf, every stored node and every checkpoint's root compared with what the leaves give. A checkpoint is signed over
 * this recomputed root, never over the head's word.
 * @see docs/spec/audit-log.md §8
 */
import { append, EMPTY_FRONTIER, type Frontier, frontierRoot, leafHash, type TreeNode } from '@tallystick/merkle-log/tree'
import { equalConstantTime } from '@tallystick/primitives/bytes'
import type { Db } from './db.js'
import { InconsistentLog } from './halt.js'
import { decodeLeaf } from './leaf.js'
import { checkpointsBetween, leavesBetween, storedNodes, type StoredLeaf } from './log.store.js'

export class Scan {
  readonly #db: Db
  readonly #step: number
  #frontier: Frontier = EMPTY_FRONTIER

  /** @param step leaves per query */
  constructor(db: Db, step: number) {
    this.#db = db
    this.#step = step
  }

  /** Leaves that have been read and found good. */
  get size(): number {
    return this.#frontier.size
  }

  /**
   * Go on to `size` leaves.
   * @returns the root of the tree of `size` leaves
   * @throws InconsistentLog at the first contradiction; RangeError if that size lies behind
   */
  async advance(size: number): Promise<Uint8Array> {
    if (size < this.size) throw new RangeError('the scan is further already')
    while (this.size < size) {
      const from = this.size
      const to = Math.min(size, from + this.#step)
      const [leaves, checkpoints] = await Promise.all([leavesBetween(this.#db, from, to), checkpointsBetween(this.#db, from, to)])
      if (leaves.length !== to - from) throw new InconsistentLog(`leaves ${from} to ${to - 1} are not all there`)
      let frontier = this.#frontier
      const nodes: TreeNode[] = []
      const grow = (until: number) => {
        const next = append(frontier, leaves.slice(frontier.size - from, until - from).map(checkedHash))
        nodes.push(...next.nodes)
        frontier = next.frontier
      }
      for (const checkpoint of checkpoints) {
        grow(checkpoint.size)
        if (!equalConstantTime(frontierRoot(frontier), checkpoint.root))
          throw new InconsistentLog(`the checkpoint of size ${checkpoint.size} has another root than its leaves`)
      }
      grow(to)
      await this.#compareNodes(nodes.filter((node) => node.level % 8 === 0))
      this.#frontier = frontier
    }
    return frontierRoot(this.#frontier)
  }

  async #compareNodes(nodes: readonly TreeNode[]): Promise<void> {
    const stored = await storedNodes(this.#db, nodes)
    nodes.forEach(({ level, index, hash }, i) => {
      const found = stored[i]
      if (!found || !equalConstantTime(found, hash)) throw new InconsistentLog(`node ${index} of level ${level} is not that of its leaves`)
    })
  }
}

/** The hash of a stored leaf, after comparing all that is stored beside it. @throws InconsistentLog */
export function checkedHash(stored: StoredLeaf): Uint8Array {
  const hash = leafHash(stored.leaf)
  if (!equalConstantTime(hash, stored.leafHash)) throw new InconsistentLog(`leaf ${stored.index} was changed after it had been appended`)
  const event = readEvent(stored)
  if (event.eventId !== stored.eventId || event.stream !== stored.stream)
    throw new InconsistentLog(`the columns of leaf ${stored.index} are not those of its event`)
  return hash
}

/** @throws InconsistentLog if the leaf is not an event */
export function readEvent(stored: StoredLeaf): ReturnType<typeof decodeLeaf> {
  try {
    return decodeLeaf(stored.leaf)
  } catch (error) {
    throw new InconsistentLog(`leaf ${stored.index} is not an event`, { cause: error })
  }
}

/** The queries of the log, named by meaning. Leaves, tile nodes and checkpoints are only ever added. */
import { append, type Frontier, frontierRoot, HASH_BYTES, type TreeNode } from '@tallystick/merkle-log/tree'
import { equalConstantTime } from '@tallystick/primitives/bytes'
import type { Db, Tx } from './db.js'
import { InconsistentLog } from './halt.js'

export interface Head {
  readonly size: number
  readonly root: Uint8Array
  readonly frontier: Frontier
  readonly checkpointSize: number
  readonly logKey: Uint8Array | null
  readonly origin: string | null
  readonly haltedReason: string | null
}

export interface NewLeaf {
  readonly index: number
  readonly eventId: string
  readonly stream: string
  readonly leaf: Uint8Array
  readonly leafHash: Uint8Array
}

export interface StoredLeaf extends NewLeaf {}

interface HeadRow {
  size: bigint
  root: Uint8Array
  frontier: Uint8Array
  checkpoint_size: bigint
  log_key: Uint8Array | null
  origin: string | null
  halted_reason: string | null
}

function toHead(row: HeadRow | undefined): Head {
  if (row === undefined) throw new InconsistentLog('the head row is missing')
  const hashes: Uint8Array[] = []
  for (let at = 0; at < row.frontier.length; at += HASH_BYTES) hashes.push(row.frontier.subarray(at, at + HASH_BYTES))
  return {
    size: Number(row.size),
    root: row.root,
    frontier: { size: Number(row.size), hashes },
    checkpointSize: Number(row.checkpoint_size),
    logKey: row.log_key,
    origin: row.origin,
    haltedReason: row.halted_reason,
  }
}

export async function readHead(db: Db | Tx): Promise<Head> {
  const [row] = await db.$queryRaw<
    HeadRow[]
  >`SELECT size, root, frontier, checkpoint_size, log_key, origin, halted_reason FROM audit_head WHERE id = 1`
  return toHead(row)
}

/**
 * The head, locked until the transaction ends: one writer per log.
 * @throws InconsistentLog if the head contradicts itself or the leaves
 */
export async function lockHead(tx: Tx): Promise<Head> {
  const [row] = await tx.$queryRaw<
    HeadRow[]
  >`SELECT size, root, frontier, checkpoint_size, log_key, origin, halted_reason FROM audit_head WHERE id = 1 FOR UPDATE`
  // A statement of its own: one that waited for the lock still sees the leaves as they were before the wait.
  const [leaves] = await tx.$queryRaw<{ last: bigint | null }[]>`SELECT max(idx) AS last FROM audit_leaf`
  const head = toHead(row)
  if (Number(leaves?.last ?? -1) !== head.size - 1)
    throw new InconsistentLog(`the head says ${head.size} leaves, the last one is ${leaves?.last ?? 'none'}`)
  let root: Uint8Array
  try {
    root = frontierRoot(head.frontier)
  } catch (error) {
    throw new InconsistentLog('the frontier of the head does not belong to its size', { cause: error })
  }
  if (!equalConstantTime(root, head.root)) throw new InconsistentLog('the root of the head is not that of its frontier')
  return head
}

export async function knownIndexes(tx: Tx, eventIds: readonly string[]): Promise<Map<string, number>> {
  const rows = await tx.$queryRaw<
    { event_id: string; idx: bigint }[]
  >`SELECT event_id::text AS event_id, idx FROM audit_leaf WHERE event_id = ANY(${eventIds}::uuid[])`
  return new Map(rows.map((row) => [row.event_id, Number(row.idx)]))
}

/** Add leaves behind a locked head. */
export async function addLeaves(tx: Tx, head: Head, leaves: readonly NewLeaf[]): Promise<number> {
  const { frontier, nodes } = append(
    head.frontier,
    leaves.map((leaf) => leaf.leafHash),
  )
  await tx.$executeRaw`
    INSERT INTO audit_leaf (idx, event_id, stream, leaf, leaf_hash)
    SELECT * FROM unnest(${leaves.map((l) => l.index)}::bigint[], ${leaves.map((l) => l.eventId)}::uuid[], ${leaves.map((l) => l.stream)}::text[],
      ${leaves.map((l) => l.leaf)}::bytea[], ${leaves.map((l) => l.leafHash)}::bytea[])`
  const kept = nodes.filter((node) => node.level % 8 === 0)
  if (kept.length > 0) {
    await tx.$executeRaw`
      INSERT INTO audit_tile_node (level, idx, hash)
      SELECT * FROM unnest(${kept.map((n) => n.level)}::smallint[], ${kept.map((n) => n.index)}::bigint[], ${kept.map((n) => n.hash)}::bytea[])`
  }
  await tx.$executeRaw`UPDATE audit_head SET size = ${frontier.size}, root = ${frontierRoot(frontier)}, frontier = ${Buffer.concat(frontier.hashes)} WHERE id = 1`
  return frontier.size
}

interface LeafRow {
  idx: bigint
  event_id: string
  stream: string
  leaf: Uint8Array
  leaf_hash: Uint8Array
}

const toLeaf = (row: LeafRow): StoredLeaf => ({
  index: Number(row.idx),
  eventId: row.event_id,
  stream: row.stream,
  leaf: row.leaf,
  leafHash: row.leaf_hash,
})

/** Leaves `begin` … `end` − 1 in order. */
export async function leavesBetween(db: Db, begin: number, end: number): Promise<StoredLeaf[]> {
  const rows = await db.$queryRaw<
    LeafRow[]
  >`SELECT idx, event_id::text AS event_id, stream, leaf, leaf_hash FROM audit_leaf WHERE idx >= ${begin} AND idx < ${end} ORDER BY idx`
  return rows.map(toLeaf)
}

export async function leafOfEvent(db: Db, eventId: string): Promise<StoredLeaf | undefined> {
  const [row] = await db.$queryRaw<
    LeafRow[]
  >`SELECT idx, event_id::text AS event_id, stream, leaf, leaf_hash FROM audit_leaf WHERE event_id = ${eventId}::uuid`
  return row === undefined ? undefined : toLeaf(row)
}

/** @param after index; @param stream undefined: both */
export async function leavesAfter(db: Db, after: number, limit: number, stream: string | undefined): Promise<StoredLeaf[]> {
  const rows =
    stream === undefined
      ? await db.$queryRaw<
          LeafRow[]
        >`SELECT idx, event_id::text AS event_id, stream, leaf, leaf_hash FROM audit_leaf WHERE idx > ${after} ORDER BY idx LIMIT ${limit}`
      : await db.$queryRaw<
          LeafRow[]
        >`SELECT idx, event_id::text AS event_id, stream, leaf, leaf_hash FROM audit_leaf WHERE idx > ${after} AND stream = ${stream} ORDER BY idx LIMIT ${limit}`
  return rows.map(toLeaf)
}

/** The hashes of a tile: leaf hashes at level 0, stored nodes above. */
export async function tileHashes(db: Db, level: number, index: number, width: number): Promise<Uint8Array[]> {
  const begin = index * 256
  const rows =
    level === 0
      ? await db.$queryRaw<
          { hash: Uint8Array }[]
        >`SELECT leaf_hash AS hash FROM audit_leaf WHERE idx >= ${begin} AND idx < ${begin + width} ORDER BY idx`
      : await db.$queryRaw<
          { hash: Uint8Array }[]
        >`SELECT hash FROM audit_tile_node WHERE level = ${level * 8} AND idx >= ${begin} AND idx < ${begin + width} ORDER BY idx`
  return rows.map((row) => row.hash)
}

/** What is stored for each of the given nodes, in their order. */
export async function storedNodes(db: Db, nodes: readonly TreeNode[]): Promise<(Uint8Array | null)[]> {
  if (nodes.length === 0) return []
  const rows = await db.$queryRaw<{ hash: Uint8Array | null }[]>`
    SELECT t.hash FROM unnest(${nodes.map((n) => n.level)}::smallint[], ${nodes.map((n) => n.index)}::bigint[]) WITH ORDINALITY AS wanted (level, idx, n)
    LEFT JOIN audit_tile_node t USING (level, idx) ORDER BY wanted.n`
  return rows.map((row) => row.hash)
}

export interface StoredCheckpoint {
  readonly size: number
  readonly root: Uint8Array
  readonly note: string
}

export async function newestCheckpoint(db: Db): Promise<StoredCheckpoint | undefined> {
  const row = await db.auditCheckpoint.findFirst({ orderBy: { size: 'desc' } })
  return row === null ? undefined : { size: Number(row.size), root: row.root, note: row.note }
}

/** Checkpoints of sizes above `from`, up to `to`. */
export async function checkpointsBetween(db: Db, from: number, to: number): Promise<{ size: number; root: Uint8Array }[]> {
  const rows = await db.auditCheckpoint.findMany({
    where: { size: { gt: from, lte: to } },
    orderBy: { size: 'asc' },
    select: { size: true, root: true },
  })
  return rows.map((row) => ({ size: Number(row.size), root: row.root }))
}

/**
 * Store a checkpoint, if the newest is still the one of size `previous`.
 * @returns false if another replica was first
 */
export async function swapCheckpoint(tx: Tx, previous: number, next: StoredCheckpoint, signedAt: Date): Promise<boolean> {
  const swapped =
    await tx.$executeRaw`UPDATE audit_head SET checkpoint_size = ${next.size} WHERE id = 1 AND checkpoint_size = ${previous} AND size >= ${next.size} AND halted_at IS NULL`
  if (swapped !== 1) return false
  await tx.$executeRaw`INSERT INTO audit_checkpoint (size, root, note, signed_at) VALUES (${next.size}, ${next.root}, ${next.note}, ${signedAt})`
  return true
}

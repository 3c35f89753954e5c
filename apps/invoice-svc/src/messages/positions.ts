/**
 * Positions of one direction, as pure functions: how far a received sequence reaches, how that is said in a receipt,
 * and what such a statement means to the side that sent the messages.
 * @see docs/spec/payload.md §6
 */
import { equalConstantTime } from '@tallystick/primitives/bytes'
import { RECEIPT_MAX_RANGES, type PositionRange, type ReceivedPart, type ReceivedRun } from '@tallystick/wire/messages'
import { PAYLOAD_GENESIS } from '@tallystick/wire/payload'

/** The end of an unbroken chain of settled positions `from`..`seq`; `hash` is null at −1. */
export interface Head {
  readonly from: number
  readonly seq: number
  readonly hash: Uint8Array | null
}
export const NO_HEAD: Head = { from: 0, seq: -1, hash: null }

/** One settled position, or a run of void ones up to `to`. With several payloads, two messages claim it; the last came last. */
export interface Settled {
  readonly seq: number
  readonly to?: number
  readonly payloads: ReadonlyArray<{ readonly prevHash: Uint8Array; readonly hash: Uint8Array }>
}

/** @param rows by position, in the order in which they came; @param voids ascending and apart: a payload counts for more */
export function settledOf(
  rows: ReadonlyArray<{ seq: number; prevHash: Uint8Array; hash: Uint8Array }>,
  voids: readonly PositionRange[],
): Settled[] {
  const settled: Settled[] = []
  const places = [...new Set(rows.map((row) => row.seq))]
  let n = 0
  for (const seq of places) {
    const payloads = []
    for (; n < rows.length && rows[n]!.seq === seq; n++) payloads.push(rows[n]!)
    settled.push({ seq, payloads })
  }
  for (const [from, to] of voids) {
    let next = from
    for (const seq of places) {
      if (seq < next || seq > to) continue
      if (seq > next) settled.push({ seq: next, to: seq - 1, payloads: [] })
      next = seq + 1
    }
    if (next <= to) settled.push({ seq: next, to, payloads: [] })
  }
  return settled.sort((a, b) => a.seq - b.seq)
}

export interface Reach {
  readonly head: Head
  /** A `prevHash` contradicts what is before it: the chain begins anew there. */
  readonly broke: boolean
}

/**
 * How far the chain reaches. Of several payloads at a position only those count that follow one that counts: what is
 * reached is a chain of which every payload is here.
 * @param head where to begin: no position of its chain holds two payloads
 * @param settled ascending and without repetitions; what is not above the head is passed over
 */
export function reachOf(head: Head, settled: readonly Settled[]): Reach {
  let reached = head
  let { from, seq: last } = head
  let broke = false
  /** Hashes of what counts at `last`; none: a void position, which says nothing about its hash. */
  let known: readonly Uint8Array[] = [head.hash ?? PAYLOAD_GENESIS]
  for (const { seq, to = seq, payloads } of settled) {
    if (to <= last) continue
    if (seq > last + 1) break
    let following = payloads.filter((payload) => follows(payload.prevHash, known))
    if (payloads.length > 0 && following.length === 0) {
      following = [...payloads]
      from = seq
      broke = true
    }
    last = to
    known = following.map((payload) => payload.hash)
    const newest = following.at(-1)
    if (newest !== undefined) reached = { from, seq, hash: newest.hash }
  }
  return { head: reached, broke }
}

/** After a void position anything follows: its sender no longer knew what was there. */
function follows(prevHash: Uint8Array, known: readonly Uint8Array[]): boolean {
  return known.length === 0 || known.some((hash) => equalConstantTime(hash, prevHash))
}

/**
 * What is settled above the head, as chains: a run ends where something is missing or where a `prevHash` contradicts.
 * @param settled as in {@link reachOf}
 */
export function runsAbove(head: Head, settled: readonly Settled[]): ReceivedRun[] {
  const runs: ReceivedRun[] = []
  let last = head.seq
  let known: readonly Uint8Array[] | undefined
  for (const { seq, to = seq, payloads } of settled) {
    if (to <= head.seq) continue
    const from = Math.max(seq, head.seq + 1)
    const goesOn = known !== undefined && from === last + 1
    const following = goesOn ? payloads.filter((payload) => follows(payload.prevHash, known!)) : payloads
    const run = runs.at(-1)
    const joins = goesOn && (payloads.length === 0 ? run!.hash === undefined : following.length > 0)
    const newest = (joins || payloads.length === 0 ? following : payloads).at(-1)
    if (joins) runs[runs.length - 1] = { from: run!.from, to, ...(newest === undefined ? {} : { hash: newest.hash }) }
    else runs.push({ from, to, ...(newest === undefined ? {} : { hash: newest.hash }) })
    known = (joins ? following : payloads).map((payload) => payload.hash)
    last = to
  }
  return runs
}

/**
 * @param runs above the head, the lowest first: more than fit are left out
 * @param refused settled positions of which nothing is stored
 * @returns the part of a receipt; undefined while nothing at all has come
 */
export function describeReceived(head: Head, runs: readonly ReceivedRun[], refused: readonly PositionRange[]): ReceivedPart | undefined {
  if (head.hash === null && runs.length === 0) return undefined
  return {
    ...(head.hash === null ? {} : { ...(head.from === 0 ? {} : { from: head.from }), seq: head.seq, hash: head.hash }),
    ...(runs.length === 0 ? {} : { ranges: runs.slice(0, RECEIPT_MAX_RANGES) }),
    ...(refused.length === 0 ? {} : { refused: [...refused] }),
  }
}

/** Farthest that a peer may be ahead of what this side remembers to have sent. */
export const AHEAD_AT_MOST = 1024 * 1024

export interface Meaning {
  /** What the peer has, as far as its hash is that of the own payload there. Both ends included. */
  readonly confirmed: PositionRange[]
  /** Of what the peer has, what it did not take. */
  readonly refused: PositionRange[]
  /** Missing below something that has come. */
  readonly gaps: PositionRange[]
  /** The highest that has come; −1: nothing. */
  readonly top: number
  /** The two mean different messages by the same position. */
  readonly contradicted: boolean
  /** This side's database was put back: it goes on at `next`. */
  readonly ahead?: { readonly next: number; readonly hash: Uint8Array }
}

/** Positions whose hash {@link meaningOf} asks for. */
export function placesIn(received: ReceivedPart): number[] {
  return [...(received.seq === undefined ? [] : [received.seq]), ...(received.ranges ?? []).map((run) => run.to)]
}

/**
 * @param own.next the position that this side gives out next
 * @param own.hashAt SHA-256 of the own payload at a position; undefined: it is not known any more
 */
export function meaningOf(received: ReceivedPart, own: { next: number; hashAt(seq: number): Uint8Array | undefined }): Meaning {
  const { from: first = 0, seq, hash, ranges = [], refused = [] } = received
  const claims: ReceivedRun[] = [...(seq === undefined ? [] : [{ from: first, to: seq, hash: hash! }]), ...ranges]
  const top = claims.at(-1)?.to ?? -1
  // Further than any database can have been put back.
  if (top - own.next >= AHEAD_AT_MOST) return { confirmed: [], refused: [], gaps: [], top: own.next, contradicted: true }
  const confirmed: PositionRange[] = []
  const gaps: PositionRange[] = []
  let contradicted = false
  let below = first - 1
  for (const { from, to, hash: said } of claims) {
    if (from > below + 1) gaps.push([below + 1, from - 1])
    below = to
    const known = said === undefined ? undefined : own.hashAt(to)
    if (known === undefined) continue
    if (equalConstantTime(known, said!)) confirmed.push([from, to])
    else contradicted = true
  }
  const meaning = { confirmed, refused, gaps, top, contradicted }
  return top < own.next ? meaning : { ...meaning, ahead: { next: top + 1, hash: claims.at(-1)?.hash ?? PAYLOAD_GENESIS } }
}

/** Several lists of runs as one, ascending and apart. */
export function mergeRuns(...lists: ReadonlyArray<readonly PositionRange[]>): PositionRange[] {
  const merged: PositionRange[] = []
  for (const [from, to] of lists.flat().sort((a, b) => a[0] - b[0])) {
    const last = merged.at(-1)
    if (last !== undefined && from <= last[1] + 1) last[1] = Math.max(last[1], to)
    else merged.push([from, to])
  }
  return merged
}

/** When a message that the peer has not confirmed is sent again. @param done times so far */
export function againAfter(done: number, firstMs: number, maxMs: number): number {
  return Math.min(maxMs, firstMs * 2 ** Math.min(done, 20))
}

/**
 * `tallystick audit verify`: reads every event through the API, computes every leaf and the root anew, and compares
 * with the signed checkpoint; with `--state FILE` also with the checkpoint seen last time, so that a rewritten or
 * forked history shows.
 */
import { existsSync, renameSync, writeFileSync } from 'node:fs'
import { fromHex, toHex } from '@tallystick/primitives/bytes'
import { ProtocolError } from '@tallystick/primitives/errors'
import { type Checkpoint, verifyCheckpoint } from '@tallystick/merkle-log/checkpoint'
import { decodeVkey, type VerifierKey } from '@tallystick/merkle-log/note'
import { append, EMPTY_FRONTIER, type Frontier, frontierRoot, leafHash, verifyConsistency } from '@tallystick/merkle-log/tree'
import { encode } from '@tallystick/wire/cbor'
import { type Api, readText } from '../api.js'
import { CommandError, EXIT, type ExitCode, type Printer } from '../outcome.js'

const PAGE = 200

interface EventPage {
  items: { index: number; leafHash: string; event: Record<string, unknown> }[]
}

interface Consistency {
  proof: string[]
  fromRoot: string
  toRoot: string
}

export interface AuditVerifyOptions {
  /** The verifier key to trust; default: the one in the fleet's own certificate. */
  readonly vkey?: string | undefined
  /** Where the newest checkpoint seen is kept. */
  readonly state?: string | undefined
}

export async function auditVerify(api: Api, options: AuditVerifyOptions, print: Printer): Promise<ExitCode> {
  const vkey = options.vkey ?? (await api.get<{ logVkey: string }>('/v1/fleet')).logVkey
  const key = integrity('the verifier key', () => decodeVkey(vkey))
  const { note } = await api.get<{ note: string }>('/v1/audit/checkpoint')
  const newest = checkpointOf(note, key)
  print.line(`checkpoint of ${newest.origin}: ${newest.size} events, root ${toHex(newest.root)}`)

  const earlier =
    options.state !== undefined && existsSync(options.state) ? checkpointOf(readText(options.state, 'state file'), key) : undefined
  if (earlier !== undefined && earlier.size > newest.size)
    throw new CommandError(EXIT.integrity, `The log shrank: ${earlier.size} events last time, ${newest.size} now.`)

  // Sizes at which the roots that we compute ourselves are kept for the consistency proofs.
  const wanted = new Set(
    [earlier?.size ?? 0, 1, Math.floor(newest.size / 2), newest.size - 1].filter((size) => size > 0 && size <= newest.size),
  )
  const roots = await recompute(api, newest.size, wanted, print)
  if (toHex(roots.get(newest.size)!) !== toHex(newest.root))
    throw new CommandError(EXIT.integrity, 'The events do not give the root of the checkpoint.')
  print.line(`root recomputed from ${newest.size} events: equal`)
  if (earlier !== undefined && toHex(roots.get(earlier.size)!) !== toHex(earlier.root))
    throw new CommandError(
      EXIT.integrity,
      `The history was rewritten: the first ${earlier.size} events are not those of the checkpoint seen last time.`,
    )

  for (const from of [...wanted].sort((a, b) => a - b)) {
    const answer = await api.get<Consistency>(`/v1/audit/consistency?from=${from}&to=${newest.size}`)
    const proof = integrity('a consistency proof', () => answer.proof.map(fromHex))
    if (!verifyConsistency(from, newest.size, roots.get(from)!, newest.root, proof))
      throw new CommandError(EXIT.integrity, `The consistency proof from ${from} to ${newest.size} does not verify.`)
    print.line(`consistent from ${from} to ${newest.size}${from === earlier?.size ? ' (seen last time)' : ''}`)
  }
  if (options.state !== undefined) {
    writeFileSync(`${options.state}.new`, note)
    renameSync(`${options.state}.new`, options.state)
  }
  print.result({
    ok: true,
    origin: newest.origin,
    size: newest.size,
    root: toHex(newest.root),
    consistentFrom: [...wanted],
    ...(earlier === undefined ? {} : { seenBefore: earlier.size }),
  })
  return EXIT.ok
}

function integrity<T>(what: string, work: () => T): T {
  try {
    return work()
  } catch (error) {
    if (error instanceof ProtocolError) throw new CommandError(EXIT.integrity, `${what}: ${error.message}`, { code: error.code })
    throw error
  }
}

function checkpointOf(note: string, key: VerifierKey): Checkpoint {
  return integrity('The checkpoint', () => verifyCheckpoint(note, [key], key.name))
}

/** Reads the events 0 … size − 1. @returns the root at each wanted size and at `size` */
async function recompute(api: Api, size: number, wanted: ReadonlySet<number>, print: Printer): Promise<Map<number, Uint8Array>> {
  const roots = new Map<number, Uint8Array>()
  const progress = print.progress('events', size)
  let frontier: Frontier = EMPTY_FRONTIER
  while (frontier.size < size) {
    const { items } = await api.get<EventPage>(`/v1/audit/events?after=${frontier.size - 1}&limit=${PAGE}`)
    if (items.length === 0) throw new CommandError(EXIT.integrity, `Events ${frontier.size} to ${size - 1} are missing.`)
    for (const { index, leafHash: claimed, event } of items) {
      if (index >= size) break
      if (index !== frontier.size) throw new CommandError(EXIT.integrity, `Event ${frontier.size} is missing.`)
      const hash = integrity(`Event ${index}`, () => leafHash(encode(event)))
      if (toHex(hash) !== claimed) throw new CommandError(EXIT.integrity, `Event ${index} is not what its leaf hash says.`)
      frontier = append(frontier, [hash]).frontier
      if (wanted.has(frontier.size) || frontier.size === size) roots.set(frontier.size, frontierRoot(frontier))
    }
    progress(frontier.size)
  }
  if (size === 0) roots.set(0, frontierRoot(frontier))
  return roots
}

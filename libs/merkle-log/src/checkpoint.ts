/**
 * C2SP tlog-checkpoint: origin, tree size and root hash as a signed note. Whoever holds a checkpoint can check every
 * later one against it.
 * @see https://c2sp.org/tlog-checkpoint and docs/spec/audit-log.md §5
 */
import { ProtocolError } from '@tallystick/primitives/errors'
import { fromBase64, toBase64 } from '@tallystick/wire/keys'
import { parseNote, signNote, type VerifierKey, verifyNote } from './note.js'
import { HASH_BYTES } from './tree.js'

export interface Checkpoint {
  /** Name of the log; for a fleet's log `tallystick/<fleet id>`, which is also the key name. */
  readonly origin: string
  readonly size: number
  /** 32 bytes. */
  readonly root: Uint8Array
  /** Further lines, opaque and usually none. */
  readonly extensions: readonly string[]
}

function refuse(reason: string): never {
  throw new ProtocolError('Serialization', `checkpoint: ${reason}`)
}

/** The text that is signed. @throws ProtocolError Serialization */
export function encodeCheckpoint({ origin, size, root, extensions }: Checkpoint): string {
  if (origin.length === 0 || root.length !== HASH_BYTES || !Number.isSafeInteger(size) || size < 0) refuse('origin, size or root')
  const lines = [origin, String(size), toBase64(root), ...extensions]
  if (lines.some((line) => line.length === 0 || line.includes('\n'))) refuse('empty line, or a line feed inside one')
  return `${lines.join('\n')}\n`
}

/** @throws ProtocolError Serialization */
export function parseCheckpoint(text: string): Checkpoint {
  const lines = text.split('\n')
  if (lines.pop() !== '' || lines.length < 3 || lines.some((line) => line.length === 0)) refuse('fewer than three lines, or an empty one')
  const [origin, sizeText, rootText, ...extensions] = lines as [string, string, string, ...string[]]
  const size = /^(0|[1-9][0-9]{0,15})$/.test(sizeText) ? Number(sizeText) : Number.NaN
  if (!Number.isSafeInteger(size)) refuse('tree size')
  const root = fromBase64(rootText)
  if (root === undefined || root.length !== HASH_BYTES) return refuse('root hash')
  return { origin, size, root, extensions }
}

/** @param sign Ed25519 with the key of `key`, 64 bytes out */
export function signCheckpoint(checkpoint: Checkpoint, key: VerifierKey, sign: (message: Uint8Array) => Uint8Array): string {
  return signNote(encodeCheckpoint(checkpoint), key, sign)
}

/**
 * @param keys trusted keys
 * @param origin when given, the checkpoint must be of this log and signed by the trusted key of this name; without it
 *   any trusted signature will do, which is for logs whose key is not named after their origin
 * @throws ProtocolError Serialization; InvalidSignature
 */
export function verifyCheckpoint(
  note: string,
  keys: readonly VerifierKey[],
  origin?: string,
): Checkpoint & { readonly signedBy: readonly VerifierKey[] } {
  const { text, signedBy } = verifyNote(note, keys)
  const checkpoint = parseCheckpoint(text)
  if (origin !== undefined && checkpoint.origin !== origin) throw new ProtocolError('InvalidSignature', 'checkpoint: of another log')
  if (origin !== undefined && !signedBy.some((key) => key.name === origin))
    throw new ProtocolError('InvalidSignature', 'checkpoint: not signed by the log itself')
  return { ...checkpoint, signedBy }
}

/** Decode without verifying, to learn the origin and size. @throws ProtocolError Serialization */
export function readCheckpoint(note: string): Checkpoint {
  return parseCheckpoint(parseNote(note).text)
}

/**
 * C2SP signed notes with Ed25519 signatures (type 0x01).
 *
 * A note is a text that ends in a line feed, an empty line, and signature lines `— <key name> <base64>`, where the
 * base64 holds 4 bytes of key id and 64 of signature over the text.
 * @see https://c2sp.org/signed-note
 */
import { concat, equalConstantTime, utf8 } from '@tallystick/primitives/bytes'
import { verify } from '@tallystick/primitives/ed25519'
import { ProtocolError } from '@tallystick/primitives/errors'
import { decodeVkey, encodeVkey, fromBase64, isNoteKeyName, toBase64, type VerifierKey, verifierKey } from '@tallystick/wire/keys'

export { decodeVkey, encodeVkey, type VerifierKey, verifierKey }

export const NOTE_MAX_CHARS = 65_536
export const NOTE_MAX_SIGNATURES = 64

export interface NoteSignature {
  readonly name: string
  /** 4 bytes. */
  readonly keyId: Uint8Array
  /** 64 bytes for Ed25519; unknown types may be longer. */
  readonly signature: Uint8Array
}

export interface Note {
  /** With its final line feed. */
  readonly text: string
  readonly signatures: readonly NoteSignature[]
}

function refuse(reason: string): never {
  throw new ProtocolError('Serialization', `note: ${reason}`)
}

function checkText(text: string): void {
  if (!text.endsWith('\n')) refuse('text does not end in a line feed')
  if (/[\x00-\x09\x0b-\x1f\x7f]/.test(text) || !text.isWellFormed()) refuse('control character in the text')
}

/** @throws ProtocolError Serialization */
export function encodeNote({ text, signatures }: Note): string {
  checkText(text)
  if (signatures.length === 0) refuse('no signature')
  const lines = signatures.map(({ name, keyId, signature }) => {
    if (!isNoteKeyName(name) || keyId.length !== 4) refuse('key name or key id')
    return `— ${name} ${toBase64(concat(keyId, signature))}\n`
  })
  return `${text}\n${lines.join('')}`
}

/** @throws ProtocolError Serialization */
export function parseNote(note: string): Note {
  if (note.length > NOTE_MAX_CHARS) refuse(`longer than ${NOTE_MAX_CHARS} characters`)
  const end = note.lastIndexOf('\n\n')
  if (end < 0 || !note.endsWith('\n')) return refuse('no signatures')
  const text = note.slice(0, end + 1)
  checkText(text)
  const lines = note.slice(end + 2, -1).split('\n')
  if (lines.length > NOTE_MAX_SIGNATURES) refuse(`more than ${NOTE_MAX_SIGNATURES} signatures`)
  const signatures = lines.map((line) => {
    const match = /^— ([^ ]+) ([A-Za-z0-9+/]+={0,2})$/.exec(line)
    const blob = match === null ? undefined : fromBase64(match[2]!)
    if (match === null || blob === undefined || blob.length < 5 || !isNoteKeyName(match[1]!)) return refuse('malformed signature line')
    return { name: match[1]!, keyId: blob.slice(0, 4), signature: blob.slice(4) }
  })
  return { text, signatures }
}

/** Sign a text with one key. @param sign Ed25519 with the key of `key`, 64 bytes out */
export function signNote(text: string, key: VerifierKey, sign: (message: Uint8Array) => Uint8Array): string {
  checkText(text)
  return encodeNote({ text, signatures: [{ name: key.name, keyId: key.keyId, signature: sign(utf8(text)) }] })
}

/**
 * @param keys trusted keys; signatures of others are ignored
 * @returns the text and the trusted keys that signed it, at least one
 * @throws ProtocolError Serialization; InvalidSignature if no trusted key signed, or a trusted key's signature is wrong
 */
export function verifyNote(note: string, keys: readonly VerifierKey[]): { text: string; signedBy: VerifierKey[] } {
  const { text, signatures } = parseNote(note)
  const message = utf8(text)
  const signedBy: VerifierKey[] = []
  for (const { name, keyId, signature } of signatures) {
    const key = keys.find((candidate) => candidate.name === name && equalConstantTime(candidate.keyId, keyId))
    if (key === undefined || signedBy.includes(key)) continue
    if (!verify(key.publicKey, message, signature))
      throw new ProtocolError('InvalidSignature', 'note: signature of a trusted key does not verify')
    signedBy.push(key)
  }
  if (signedBy.length === 0) throw new ProtocolError('InvalidSignature', 'note: not signed by a trusted key')
  return { text, signedBy }
}

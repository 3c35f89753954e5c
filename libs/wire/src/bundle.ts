/**
 * The prekey bundle that a fleet hands to one pinned peer, at most once per one-time key.
 * Signatures are checked by the handshake, which knows the pinned signing key.
 * @see docs/spec/envelope.md §5
 */
import { ProtocolError } from '@tallystick/primitives/errors'
import { decode, encode } from './cbor.js'
import type { PrekeyKind } from './envelope.js'
import { fields, fixedBytes, optionalUint32, type RawFields, uint32, variableBytes } from './envelope-fields.js'

export const BUNDLE_VERSION = 1
/** A certificate (at most 4 KiB), one KEM key (1568 bytes), two curve keys, two signatures. */
export const MAX_BUNDLE_BYTES = 16 * 1024
const MAX_CERTIFICATE_BYTES = 4096
const BUNDLE_ITEMS = 40

/** Signed X25519 prekey. */
export interface SignedPrekey {
  readonly id: number
  /** 32 bytes. */
  readonly key: Uint8Array
  /** 64 bytes, by IK_sign. @see docs/spec/session.md §3.1 */
  readonly signature: Uint8Array
}

/** Signed ML-KEM-1024 prekey. */
export interface KemPrekey {
  readonly id: number
  /** 1568 bytes. */
  readonly key: Uint8Array
  readonly signature: Uint8Array
  readonly kind: PrekeyKind
}

/** One-time X25519 prekey; unsigned, as in X3DH. */
export interface OneTimePrekey {
  readonly id: number
  /** 32 bytes. */
  readonly key: Uint8Array
}

export interface Bundle {
  /** The fleet certificate as issued. */
  readonly certificate: Uint8Array
  readonly spk: SignedPrekey
  readonly pq: KemPrekey
  readonly opk?: OneTimePrekey
  /** The highest epoch that the giver has had with the fetching peer; absent when it has had none. */
  readonly epoch?: number
}

/** @throws ProtocolError Serialization when a field has the wrong size or type */
export function encodeBundle(bundle: Bundle): Uint8Array {
  const { certificate, spk, pq, opk, epoch } = bundle
  const bytes = encode({
    v: BUNDLE_VERSION,
    certificate,
    spk: { ...spk },
    pq: { ...pq },
    ...(opk === undefined ? {} : { opk: { ...opk } }),
    ...(epoch === undefined ? {} : { epoch }),
  })
  decodeBundle(bytes)
  return bytes
}

/** @throws ProtocolError Serialization; UnsupportedVersion for a version this code does not know */
export function decodeBundle(bytes: Uint8Array): Bundle {
  const raw = fields(decode(bytes, { maxBytes: MAX_BUNDLE_BYTES, maxDepth: 2, maxItems: BUNDLE_ITEMS }), 'bundle')
  if (uint32(raw, 'v') !== BUNDLE_VERSION) throw new ProtocolError('UnsupportedVersion', 'bundle: this version is unknown here')
  exactly(raw, ['v', 'certificate', 'spk', 'pq'], ['opk', 'epoch'])
  const spk = exactly(fields(raw['spk'], 'spk'), ['id', 'key', 'signature'])
  const pq = exactly(fields(raw['pq'], 'pq'), ['id', 'key', 'signature', 'kind'])
  const kind = pq['kind']
  if (kind !== 'one-time' && kind !== 'last-resort') throw new ProtocolError('Serialization', 'pq: kind')
  const epoch = optionalUint32(raw, 'epoch')
  const bundle: Bundle = {
    certificate: variableBytes(raw, 'certificate', 1, MAX_CERTIFICATE_BYTES),
    spk: { id: uint32(spk, 'id'), key: fixedBytes(spk, 'key', 32), signature: fixedBytes(spk, 'signature', 64) },
    pq: { id: uint32(pq, 'id'), key: fixedBytes(pq, 'key', 1568), signature: fixedBytes(pq, 'signature', 64), kind },
    ...(epoch === undefined ? {} : { epoch }),
  }
  if (!('opk' in raw)) return bundle
  const opk = exactly(fields(raw['opk'], 'opk'), ['id', 'key'])
  return { ...bundle, opk: { id: uint32(opk, 'id'), key: fixedBytes(opk, 'key', 32) } }
}

function exactly(raw: RawFields, required: readonly string[], optional: readonly string[] = []): RawFields {
  for (const key of required) if (!(key in raw)) throw new ProtocolError('Serialization', `${key}: missing`)
  for (const key of Object.keys(raw))
    if (!required.includes(key) && !optional.includes(key)) throw new ProtocolError('Serialization', 'bundle: unknown field')
  return raw
}

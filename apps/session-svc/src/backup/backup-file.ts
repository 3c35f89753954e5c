/**
 * What a backup holds, and no more: identity keys, their history, certificates. The shape is closed in both directions,
 * so that neither a session nor a prekey can get into it by an oversight.
 * @see docs/spec/custody.md §2
 */
import { CERTIFICATE_MAX_BYTES, MAX_SUCCESSION } from '@tallystick/wire/certificate'
import { decode, encode } from '@tallystick/wire/cbor'
import { bytes, epochMs, fixedBytes, fleetIdText, integer, list, nullable, oneOf, record, type ValueOf } from '@tallystick/wire/shape'

/** Each kind once, and once more for every renewal. */
const MOST_KEYS = 2 * (MAX_SUCCESSION + 1)
/** One a year, some after changes of the relay's key: the newest are kept. */
export const MOST_CERTIFICATES = 32

const shape = record({
  v: oneOf(1),
  domain: oneOf('tallystick/backup/v1'),
  fleetId: fleetIdText,
  createdAt: epochMs,
  keys: list(
    record({
      kind: oneOf('sign', 'agreement'),
      version: integer(1),
      publicKey: fixedBytes(32),
      /** Seed of IK_sign, or IK_dh; null for a key that was replaced. */
      secret: nullable(fixedBytes(32)),
      succession: nullable(fixedBytes(64)),
      createdAt: epochMs,
      retiredAt: nullable(epochMs),
    }),
    2,
    MOST_KEYS,
  ),
  /** Newest first. */
  certificates: list(record({ sequence: integer(1), certificate: bytes(CERTIFICATE_MAX_BYTES), issuedAt: epochMs }), 1, MOST_CERTIFICATES),
})

export type BackupContent = ValueOf<typeof shape>
export type BackupKey = BackupContent['keys'][number]

/** @returns deterministic CBOR, for the caller to wipe */
export function encodeBackup(content: BackupContent): Uint8Array {
  return encode(shape(content, 'backup'))
}

/** @throws ProtocolError Serialization for anything but the exact form */
export function decodeBackup(plain: Uint8Array): BackupContent {
  return shape(decode(plain), 'backup')
}

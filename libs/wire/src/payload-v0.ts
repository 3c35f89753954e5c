/**
 * Payload version 0: the unversioned record of the predecessor, one flat CBOR map with at least `id` (UUID as text or
 * 16 bytes) and `amount` as a double. It was never deterministic, so it has a decoder of its own, small and bounded;
 * what comes out is deterministic and holds the amount as a decimal string.
 * @see docs/spec/payload.md §4
 */
import { ProtocolError } from '@tallystick/primitives/errors'
import { toHex } from '@tallystick/primitives/bytes'
import { decode as cborgDecode } from 'cborg'
import { encode } from './cbor.js'
import { refuse, uuid } from './shape.js'

export const LEGACY_MAX_BYTES = 65_536
const MAX_FIELDS = 32

export interface LegacyDocument {
  readonly id: string
  /** Deterministic CBOR of `{ format: "tallystick/legacy/v0", record }`. */
  readonly body: Uint8Array
}

function legacyFields(encoded: Uint8Array): Record<string, unknown> | undefined {
  // A map with up to 32 entries: one or two bytes say so, before anything is parsed.
  const initial = encoded[0] ?? 0
  const entries = initial >> 5 !== 5 ? 0 : (initial & 31) < 24 ? initial & 31 : initial === 0xb8 ? (encoded[1] ?? 0) : 0
  if (encoded.length > LEGACY_MAX_BYTES || entries === 0 || entries > MAX_FIELDS) return undefined
  // In every versioned payload the key "v" sorts first: do not parse those twice.
  const firstKey = initial === 0xb8 ? 2 : 1
  if (encoded[firstKey] === 0x61 && encoded[firstKey + 1] === 0x76) return undefined
  let value: unknown
  try {
    value = cborgDecode(encoded, {
      allowIndefinite: false,
      allowUndefined: false,
      allowNaN: false,
      allowInfinity: false,
      rejectDuplicateMapKeys: true,
    })
  } catch {
    return undefined // not CBOR at all: the strict decoder says what is wrong with it
  }
  return value as Record<string, unknown>
}

/** A flat map without `v` that carries an id and an amount. Everything else is for the current decoder. */
export function isLegacyRecord(encoded: Uint8Array): boolean {
  const fields = legacyFields(encoded)
  return fields !== undefined && !Object.hasOwn(fields, 'v') && Object.hasOwn(fields, 'id') && Object.hasOwn(fields, 'amount')
}

/**
 * The double's shortest decimal form. A double cannot say more than about 15 digits, so larger ones are refused
 * instead of being written with digits that nobody meant.
 */
function decimalOf(amount: unknown): string {
  if (typeof amount !== 'number' || !Number.isFinite(amount) || amount < 0)
    throw new ProtocolError('InvalidAmount', 'legacy record: amount is not a non-negative number')
  const text = String(amount)
  if (!/^\d{1,15}(\.\d{1,9})?$/.test(text)) throw new ProtocolError('InvalidAmount', 'legacy record: amount has no short decimal form')
  return text
}

/** @throws ProtocolError Serialization, InvalidAmount */
export function migrateLegacyRecord(encoded: Uint8Array): LegacyDocument {
  const fields = legacyFields(encoded) ?? refuse('legacy record', 'not a flat map')
  const raw = fields.id
  const hex = raw instanceof Uint8Array && raw.length === 16 ? toHex(raw) : undefined
  const id = uuid(hex === undefined ? raw : hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5'), 'legacy record.id')
  const record: Record<string, unknown> = { ...fields, id, amount: decimalOf(fields.amount) }
  for (const [name, value] of Object.entries(record)) {
    if (typeof value === 'number' && !Number.isSafeInteger(value)) record[name] = decimalOf(value)
    else if (value !== null && typeof value === 'object' && !(value instanceof Uint8Array))
      refuse('legacy record', 'a field is neither text, number nor bytes')
  }
  return { id, body: encode({ format: 'tallystick/legacy/v0', record }) }
}

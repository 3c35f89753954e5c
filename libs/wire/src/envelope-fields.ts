/** Typed access to the fields of a decoded CBOR map, for the envelope and bundle codecs. */
import { ProtocolError } from '@tallystick/primitives/errors'

export type RawFields = Record<string, unknown>

/** @throws ProtocolError Serialization unless the value is a map */
export function fields(value: unknown, what: string): RawFields {
  if (value === null || typeof value !== 'object' || Array.isArray(value) || value instanceof Uint8Array) {
    throw new ProtocolError('Serialization', `${what}: not a map`)
  }
  return value as RawFields
}

/** @throws ProtocolError Serialization unless the field holds exactly `length` bytes */
export function fixedBytes(raw: RawFields, key: string, length: number): Uint8Array {
  return variableBytes(raw, key, length, length)
}

/** @throws ProtocolError Serialization unless the field holds `least` to `most` bytes */
export function variableBytes(raw: RawFields, key: string, least: number, most: number): Uint8Array {
  const value = raw[key]
  if (!(value instanceof Uint8Array) || value.length < least || value.length > most)
    throw new ProtocolError('Serialization', `${key}: wrong type or length`)
  return value
}

/** @throws ProtocolError Serialization unless the field holds an integer from 0 to 2³²−1 */
export function uint32(raw: RawFields, key: string): number {
  const value = raw[key]
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > 0xffff_ffff)
    throw new ProtocolError('Serialization', `${key}: not a 32-bit integer`)
  return value
}

/** @throws ProtocolError Serialization when the field is there and no 32-bit integer */
export function optionalUint32(raw: RawFields, key: string): number | undefined {
  return key in raw ? uint32(raw, key) : undefined
}

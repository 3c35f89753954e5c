/** UUIDv7 (RFC 9562 §5.7): time first, so that rows arrive in index order. */
import { toHex } from '@tallystick/primitives/bytes'
import type { RandomSource } from '@tallystick/primitives/random'

/** @param now milliseconds; @returns lower case, with hyphens */
export function uuidv7(now: number, random: RandomSource): string {
  const bytes = random(16)
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(0, Math.floor(now / 0x1_0000))
  bytes[4] = (now >>> 8) & 0xff
  bytes[5] = now & 0xff
  bytes[6] = (bytes[6]! & 0x0f) | 0x70
  bytes[8] = (bytes[8]! & 0x3f) | 0x80
  const hex = toHex(bytes)
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}

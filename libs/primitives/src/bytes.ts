/** Byte strings and their text forms. Nothing here is for secrets except {@link equalConstantTime}. */
import { ProtocolError } from './errors.js'
import { native } from './sodium.js'

const encoder = new TextEncoder()

export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  let length = 0
  for (const part of parts) length += part.length
  const out = new Uint8Array(length)
  let offset = 0
  for (const part of parts) {
    out.set(part, offset)
    offset += part.length
  }
  return out
}

/** Equality without an early exit; different lengths are simply different. */
export function equalConstantTime(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false
  return a.length === 0 || native.sodium_memcmp(a, b)
}

export function utf8(text: string): Uint8Array {
  return encoder.encode(text)
}

/** Four bytes, big endian. @throws RangeError outside 0 … 2³²−1 */
export function u32be(value: number): Uint8Array {
  if (!Number.isInteger(value) || value < 0 || value > 0xffff_ffff) throw new RangeError('value must fit 32 bits')
  const out = new Uint8Array(4)
  new DataView(out.buffer).setUint32(0, value)
  return out
}

/** Eight bytes, big endian. @throws RangeError outside 0 … 2⁶⁴−1, or for a number that is not a safe integer */
export function u64be(value: number | bigint): Uint8Array {
  if (typeof value === 'number' && !Number.isSafeInteger(value)) throw new RangeError('value must be a safe integer or a bigint')
  const big = BigInt(value)
  if (big < 0n || big > 0xffff_ffff_ffff_ffffn) throw new RangeError('value must fit 64 bits')
  const out = new Uint8Array(8)
  new DataView(out.buffer).setBigUint64(0, big)
  return out
}

const HEX = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, '0'))

export function toHex(bytes: Uint8Array): string {
  let out = ''
  for (const byte of bytes) out += HEX[byte]
  return out
}

/** @throws ProtocolError Serialization unless the text is pairs of hex digits, either case */
export function fromHex(text: string): Uint8Array {
  if (text.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(text)) throw new ProtocolError('Serialization', 'not hex')
  const out = new Uint8Array(text.length / 2)
  for (let i = 0; i < out.length; i++) out[i] = Number.parseInt(text.slice(2 * i, 2 * i + 2), 16)
  return out
}

const BASE64URL = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
const BASE32 = 'abcdefghijklmnopqrstuvwxyz234567'

/** RFC 4648 §5, without padding. */
export function toBase64Url(bytes: Uint8Array): string {
  return encodeBits(bytes, BASE64URL, 6)
}

/** RFC 4648 §5 without padding. @throws ProtocolError Serialization for any other character or stray bits at the end */
export function fromBase64Url(text: string): Uint8Array {
  return decodeBits(text, BASE64URL, 6, 'base64url')
}

/** RFC 4648 §6 in lower case, without padding. */
export function toBase32Lower(bytes: Uint8Array): string {
  return encodeBits(bytes, BASE32, 5)
}

/** RFC 4648 §6 in lower case, without padding. @throws ProtocolError Serialization */
export function fromBase32Lower(text: string): Uint8Array {
  return decodeBits(text, BASE32, 5, 'base32')
}

function encodeBits(bytes: Uint8Array, alphabet: string, width: number): string {
  let out = ''
  let pending = 0
  let bits = 0
  for (const byte of bytes) {
    pending = (pending << 8) | byte
    bits += 8
    while (bits >= width) {
      bits -= width
      out += alphabet[(pending >>> bits) & ((1 << width) - 1)]
    }
    pending &= (1 << bits) - 1
  }
  return bits === 0 ? out : out + alphabet[(pending << (width - bits)) & ((1 << width) - 1)]
}

function decodeBits(text: string, alphabet: string, width: number, name: string): Uint8Array {
  const out = new Uint8Array(Math.floor((text.length * width) / 8))
  let pending = 0
  let bits = 0
  let offset = 0
  for (const character of text) {
    const value = alphabet.indexOf(character)
    if (value < 0) throw new ProtocolError('Serialization', `not ${name}`)
    pending = (pending << width) | value
    bits += width
    if (bits >= 8) {
      bits -= 8
      out[offset++] = (pending >>> bits) & 0xff
    }
    pending &= (1 << bits) - 1
  }
  // One text for each byte string: a whole character left over, or bits that are not zero, would be a second one.
  if (bits >= width || pending !== 0) throw new ProtocolError('Serialization', `not ${name}`)
  return out
}

/**
 * Deterministic CBOR (RFC 8949 §4.2.1), the only encoding of what is hashed or signed.
 *
 * The subset: integers of 64 bits, byte strings, text strings, arrays, maps with text keys, booleans, null.
 * There is exactly one encoding of a value, and the decoder refuses every other: tags, floats, undefined and other
 * simple values, indefinite lengths, integers and lengths that are not in their shortest form, unsorted or repeated
 * keys, text that is not UTF-8, trailing bytes.
 *
 * Why not a general library: size, depth and item limits must hold before anything is allocated (a declared length
 * of 2^32 items, a megabyte of opening brackets, a tagged bignum), and the walk that checks them is the parser.
 * cborg is the oracle of the differential test beside this file.
 * @see docs/spec/payload.md §1
 */
import { ProtocolError } from '@tallystick/primitives/errors'

export interface CborLimits {
  /** Longest input, bytes. Default 4 MiB + 64 KiB: the largest envelope. */
  readonly maxBytes?: number
  /** Deepest nesting of arrays and maps. Default 16. */
  readonly maxDepth?: number
  /** Most data items in all (each map entry counts as two). Default 10,000. */
  readonly maxItems?: number
}

export const CBOR_MAX_BYTES = 4 * 1024 * 1024 + 64 * 1024
export const CBOR_MAX_DEPTH = 16
export const CBOR_MAX_ITEMS = 10_000

/** What `decode` gives; maps are objects without a prototype. Integers beyond ±(2^53 − 1) are bigint. */
export type CborValue = number | bigint | string | boolean | null | Uint8Array | CborValue[] | { [key: string]: CborValue }

const UINT = 0,
  NEGINT = 1,
  BYTES = 2,
  TEXT = 3,
  ARRAY = 4,
  MAP = 5,
  TAG = 6
const FALSE = 0xf4,
  TRUE = 0xf5,
  NULL = 0xf6
const MAX_UINT64 = 0xffff_ffff_ffff_ffffn
const TWO_32 = 0x1_0000_0000

const utf8Encoder = new TextEncoder()
const utf8Decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

function refuse(reason: string): never {
  throw new ProtocolError('Serialization', `CBOR: ${reason}`)
}

// ---------------------------------------------------------------------------------------------------------- encode

/** A buffer that grows by doubling; one copy at the end gives the exact length. */
class Writer {
  #bytes = new Uint8Array(256)
  #length = 0

  #room(more: number): number {
    const at = this.#length
    const need = at + more
    if (need > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(this.#bytes.length * 2, need))
      grown.set(this.#bytes.subarray(0, at))
      this.#bytes = grown
    }
    this.#length = need
    return at
  }

  byte(value: number): void {
    const at = this.#room(1)
    this.#bytes[at] = value
  }

  raw(bytes: Uint8Array): void {
    const at = this.#room(bytes.length)
    this.#bytes.set(bytes, at)
  }

  /** Initial byte and argument in the shortest form. */
  head(major: number, argument: number | bigint): void {
    const type = major << 5
    if (argument < 24) return this.byte(type | Number(argument))
    const width = argument <= 0xff ? 1 : argument <= 0xffff ? 2 : argument <= 0xffff_ffff ? 4 : 8
    const at = this.#room(1 + width)
    const view = new DataView(this.#bytes.buffer)
    this.#bytes[at] = type | (width === 1 ? 24 : width === 2 ? 25 : width === 4 ? 26 : 27)
    if (width === 1) view.setUint8(at + 1, Number(argument))
    else if (width === 2) view.setUint16(at + 1, Number(argument))
    else if (width === 4) view.setUint32(at + 1, Number(argument))
    else view.setBigUint64(at + 1, BigInt(argument))
  }

  finish(): Uint8Array {
    return this.#bytes.slice(0, this.#length)
  }
}

function encodeUtf8(text: string): Uint8Array {
  if (!text.isWellFormed()) refuse('text with a lone surrogate has no UTF-8 form')
  return utf8Encoder.encode(text)
}

/** Order of RFC 8949 §4.2.1 for text keys: bytewise over the encoded key, which puts the shorter one first. */
function compareKeys(a: Uint8Array, b: Uint8Array): number {
  if (a.length !== b.length) return a.length - b.length
  for (let i = 0; i < a.length; i++) {
    const difference = a[i]! - b[i]!
    if (difference !== 0) return difference
  }
  return 0
}

function writeInteger(out: Writer, value: number | bigint): void {
  if (typeof value === 'number' && !Number.isSafeInteger(value)) refuse(`${value} is not a safe integer; use bigint or a decimal string`)
  if (value >= 0) {
    if (value > MAX_UINT64) refuse('integer beyond 64 bits')
    return out.head(UINT, value)
  }
  const argument = typeof value === 'bigint' ? -1n - value : -1 - value
  if (argument > MAX_UINT64) refuse('integer beyond 64 bits')
  out.head(NEGINT, argument)
}

function writeMap(out: Writer, entries: [string, unknown][], depth: number): void {
  const encoded = entries.map(([key, value]) => ({ key, bytes: encodeUtf8(key), value }))
  encoded.sort((a, b) => compareKeys(a.bytes, b.bytes))
  out.head(MAP, encoded.length)
  for (const { key, bytes, value } of encoded) {
    if (value === undefined) refuse(`"${key}" is undefined; leave the key out or use null`)
    out.head(TEXT, bytes.length)
    out.raw(bytes)
    write(out, value, depth)
  }
}

function write(out: Writer, value: unknown, depth: number): void {
  if (value === null) return out.byte(NULL)
  switch (typeof value) {
    case 'boolean':
      return out.byte(value ? TRUE : FALSE)
    case 'number':
    case 'bigint':
      return writeInteger(out, value)
    case 'string': {
      const bytes = encodeUtf8(value)
      out.head(TEXT, bytes.length)
      return out.raw(bytes)
    }
    case 'object':
      break
    default:
      refuse(`a ${typeof value} has no encoding`)
  }
  if (value instanceof Uint8Array) {
    out.head(BYTES, value.length)
    return out.raw(value)
  }
  // The cap also ends a value that contains itself.
  if (depth >= CBOR_MAX_DEPTH) refuse(`nesting deeper than ${CBOR_MAX_DEPTH}`)
  if (Array.isArray(value)) {
    out.head(ARRAY, value.length)
    for (let i = 0; i < value.length; i++) write(out, value[i], depth + 1)
    return
  }
  if (value instanceof Map) {
    for (const key of value.keys()) if (typeof key !== 'string') refuse('map keys are text')
    return writeMap(out, [...(value as Map<string, unknown>)], depth + 1)
  }
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype !== Object.prototype && prototype !== null)
    refuse(`a ${(prototype as { constructor?: { name?: string } }).constructor?.name ?? 'class instance'} has no encoding`)
  writeMap(out, Object.entries(value as object), depth + 1)
}

/**
 * Encode deterministically.
 * @param value Uint8Array, text, integer (safe number, or bigint of 64 bits), boolean, null, array, plain object or Map with text keys
 * @returns fresh bytes, owned by the caller
 * @throws ProtocolError Serialization: floats, undefined, other classes, lone surrogates, nesting deeper than 16
 * @see docs/spec/payload.md §1
 */
export function encode(value: unknown): Uint8Array {
  const out = new Writer()
  write(out, value, 0)
  return out.finish()
}

// ---------------------------------------------------------------------------------------------------------- decode

class Reader {
  #at = 0
  #items = 0
  readonly #bytes: Uint8Array
  readonly #view: DataView
  readonly #maxDepth: number
  readonly #maxItems: number

  constructor(bytes: Uint8Array, maxDepth: number, maxItems: number) {
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#maxDepth = maxDepth
    this.#maxItems = maxItems
  }

  get done(): boolean {
    return this.#at === this.#bytes.length
  }

  #take(length: number): number {
    const at = this.#at
    if (length > this.#bytes.length - at) refuse('ends in the middle of an item')
    this.#at = at + length
    return at
  }

  /** The argument after an initial byte, refused unless in its shortest form. */
  #argument(info: number): number | bigint {
    if (info < 24) return info
    switch (info) {
      case 24: {
        const value = this.#bytes[this.#take(1)]!
        return value < 24 ? refuse('integer or length not in its shortest form') : value
      }
      case 25: {
        const value = this.#view.getUint16(this.#take(2))
        return value <= 0xff ? refuse('integer or length not in its shortest form') : value
      }
      case 26: {
        const value = this.#view.getUint32(this.#take(4))
        return value <= 0xffff ? refuse('integer or length not in its shortest form') : value
      }
      case 27: {
        const at = this.#take(8)
        const high = this.#view.getUint32(at)
        if (high === 0) refuse('integer or length not in its shortest form')
        return high <= 0x1f_ffff ? high * TWO_32 + this.#view.getUint32(at + 4) : this.#view.getBigUint64(at)
      }
      case 31:
        return refuse('indefinite length')
      default:
        return refuse('reserved length')
    }
  }

  /** A length that the rest of the input can hold: `unit` is the least size of one counted thing. */
  #length(info: number, unit: number): number {
    const length = this.#argument(info)
    if (typeof length === 'bigint' || length * unit > this.#bytes.length - this.#at) refuse('declared length exceeds the input')
    return length
  }

  #count(items: number): void {
    this.#items += items
    if (this.#items > this.#maxItems) refuse(`more than ${this.#maxItems} items`)
  }

  #text(length: number): string {
    const at = this.#take(length)
    try {
      return utf8Decoder.decode(this.#bytes.subarray(at, at + length))
    } catch {
      return refuse('text is not UTF-8')
    }
  }

  #map(info: number, depth: number): { [key: string]: CborValue } {
    const length = this.#length(info, 2)
    this.#count(2 * length)
    const map = Object.create(null) as { [key: string]: CborValue }
    let previous: Uint8Array | undefined
    for (let i = 0; i < length; i++) {
      const initial = this.#bytes[this.#take(1)]!
      if (initial >> 5 !== TEXT) refuse('map key is not text')
      const keyLength = this.#length(initial & 31, 1)
      const key = this.#bytes.subarray(this.#at, this.#at + keyLength)
      if (previous !== undefined) {
        const order = compareKeys(previous, key)
        if (order === 0) refuse('map key twice')
        if (order > 0) refuse('map keys not sorted')
      }
      previous = key
      // Without a prototype `__proto__` is a key like any other.
      map[this.#text(keyLength)] = this.value(depth)
    }
    return map
  }

  value(depth: number): CborValue {
    const initial = this.#bytes[this.#take(1)]!
    const info = initial & 31
    switch (initial >> 5) {
      case UINT:
        return this.#argument(info)
      case NEGINT: {
        const argument = this.#argument(info)
        // −1 − (2^53 − 1) = −2^53 is one below the safe integers.
        return typeof argument === 'bigint' || argument === Number.MAX_SAFE_INTEGER ? -1n - BigInt(argument) : -1 - argument
      }
      case BYTES: {
        const length = this.#length(info, 1)
        const at = this.#take(length)
        return this.#bytes.slice(at, at + length)
      }
      case TEXT:
        return this.#text(this.#length(info, 1))
      case ARRAY: {
        if (depth >= this.#maxDepth) refuse(`nesting deeper than ${this.#maxDepth}`)
        const length = this.#length(info, 1)
        this.#count(length)
        const array: CborValue[] = []
        for (let i = 0; i < length; i++) array.push(this.value(depth + 1))
        return array
      }
      case MAP:
        if (depth >= this.#maxDepth) refuse(`nesting deeper than ${this.#maxDepth}`)
        return this.#map(info, depth + 1)
      case TAG:
        return refuse('tag')
      default:
        if (initial === FALSE) return false
        if (initial === TRUE) return true
        if (initial === NULL) return null
        return refuse(info === 31 ? 'break without an indefinite length' : info >= 25 ? 'float' : 'simple value')
    }
  }
}

/**
 * Decode one item that fills the whole input, under limits that hold before anything is allocated.
 * @param bytes not modified; byte strings in the result are copies
 * @returns the value; maps are objects with a null prototype
 * @throws ProtocolError Serialization for anything but the one deterministic encoding
 * @see docs/spec/payload.md §1
 */
export function decode(bytes: Uint8Array, limits: CborLimits = {}): unknown {
  const maxBytes = limits.maxBytes ?? CBOR_MAX_BYTES
  if (bytes.length > maxBytes) refuse(`${bytes.length} bytes, at most ${maxBytes}`)
  const reader = new Reader(bytes, limits.maxDepth ?? CBOR_MAX_DEPTH, limits.maxItems ?? CBOR_MAX_ITEMS)
  const value = reader.value(0)
  if (!reader.done) refuse('trailing bytes')
  return value
}

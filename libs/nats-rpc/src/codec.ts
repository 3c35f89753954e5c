/**
 * Bus payloads: deterministic CBOR of zod-validated objects. Both ends are our own processes, yet a payload may hold
 * what a peer sent, so the decoder is strict and bounded: no tags, no floats, no indefinite lengths, no repeated keys.
 * @see docs/spec/bus.md §2
 */
import { decode, encode, rfc8949EncodeOptions, Token, Tokenizer, Type, type DecodeOptions } from 'cborg'
import { MAX_BUS_BYTES } from '@tallystick/contracts/call'

/** Deepest nesting: the deepest contract (a list of audit events with a list in the body) has 6. */
export const MAX_BUS_DEPTH = 16
/** Most data items in one message: 256 audit events of about 40 items are 10,000; four times that. */
export const MAX_BUS_ITEMS = 40_000

export class CodecError extends Error {
  override readonly name = 'CodecError'
}

const ENCODE_OPTIONS = {
  ...rfc8949EncodeOptions,
  ignoreUndefinedProperties: true,
  typeEncoders: {
    number: (value: number): null => {
      if (!Number.isSafeInteger(value)) throw new CodecError('only safe integers cross the bus; money and other decimals are strings')
      return null
    },
  },
}

/**
 * @param value what a contract's schema has accepted: text, safe integers, booleans, null, Uint8Array, arrays, plain objects
 * @throws CodecError for a float
 */
export function encodeBus(value: unknown): Uint8Array {
  const bytes = encode(value, ENCODE_OPTIONS)
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

/** Counts items and nesting as tokens come, before anything is built of them. */
class BoundedTokenizer extends Tokenizer {
  #items = 0
  /** Items still expected at each open level. */
  readonly #open: number[] = []

  override next(): Token {
    const token = super.next()
    if (Type.equals(token.type, Type.float)) throw new CodecError('float')
    if (Type.equals(token.type, Type.tag)) throw new CodecError('tag')
    if (++this.#items > MAX_BUS_ITEMS) throw new CodecError(`more than ${MAX_BUS_ITEMS} items`)
    while (this.#open.length > 0 && this.#open.at(-1) === 0) this.#open.pop()
    if (this.#open.length > 0) this.#open[this.#open.length - 1]!--
    const width = Type.equals(token.type, Type.array) ? 1 : Type.equals(token.type, Type.map) ? 2 : 0
    if (width > 0) {
      this.#open.push(Number(token.value) * width)
      if (this.#open.length > MAX_BUS_DEPTH) throw new CodecError(`nested deeper than ${MAX_BUS_DEPTH}`)
    }
    return token
  }
}

const DECODE_OPTIONS: DecodeOptions = {
  strict: true,
  allowIndefinite: false,
  allowUndefined: false,
  allowInfinity: false,
  allowNaN: false,
  allowBigInt: false,
  rejectDuplicateMapKeys: true,
}

/**
 * @returns a plain value; byte strings are fresh Uint8Arrays
 * @throws CodecError for anything but one well-formed item inside the limits; the message quotes nothing of the input
 */
export function decodeBus(bytes: Uint8Array): unknown {
  if (bytes.length > MAX_BUS_BYTES) throw new CodecError(`${bytes.length} bytes, at most ${MAX_BUS_BYTES}`)
  // A Buffer's slice is a view that would keep the whole message alive; a Uint8Array's is a copy.
  const input = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  try {
    return decode(input, { ...DECODE_OPTIONS, tokenizer: new BoundedTokenizer(input, DECODE_OPTIONS) })
  } catch (error) {
    if (error instanceof CodecError) throw error
    // cborg quotes keys and numbers of the input in its messages.
    throw new CodecError('not deterministic CBOR')
  }
}

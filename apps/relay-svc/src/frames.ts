/**
 * Frames of `/tallystick/relay/1.0.0`: `headerLength u16be ‖ bodyLength u32be ‖ header ‖ body`. The header is a small
 * deterministic-CBOR map; the body is opaque bytes that are never parsed here.
 * @see docs/spec/relay.md §3
 */
import { ERROR_CODES, type ErrorCode } from '@tallystick/contracts/codes'
import { ProtocolError } from '@tallystick/primitives/errors'
import { decode, encode } from '@tallystick/wire/cbor'

export const RELAY_PROTOCOL = '/tallystick/relay/1.0.0'
export const FRAME_VERSION = 1
export const PREFIX_BYTES = 6
export const MAX_RECEIPT_BYTES = 512
export const MAX_BUNDLE_BYTES = 16_384
const MAX_SEQ = 0xffff_ffff
const MAX_RETRY_MS = 86_400_000

export type FrameHeader =
  | { t: 'hello'; v: number; bytes: number; frames: number }
  | { t: 'envelope'; seq: number }
  | { t: 'receipt'; seq: number; status: 'stored' | 'duplicate' }
  | { t: 'refusal'; seq: number; code: ErrorCode; retryAfterMs: number | null }
  | { t: 'bundle-request'; seq: number }
  | { t: 'bundle'; seq: number }
  | { t: 'bye'; code: ErrorCode; retryAfterMs: number | null }

export interface Frame {
  readonly header: FrameHeader
  readonly body: Uint8Array<ArrayBuffer>
}

const EMPTY = new Uint8Array(0)

/** Most body bytes a frame of each kind may have; all but an envelope and a bundle fit one packet. */
const BODY_LIMIT = {
  hello: 0,
  envelope: Infinity,
  receipt: MAX_RECEIPT_BYTES,
  refusal: 0,
  'bundle-request': 0,
  bundle: MAX_BUNDLE_BYTES,
  bye: 0,
} as const
const FIELDS: Record<FrameHeader['t'], readonly string[]> = {
  hello: ['t', 'v', 'bytes', 'frames'],
  envelope: ['t', 'seq'],
  receipt: ['t', 'seq', 'status'],
  refusal: ['t', 'seq', 'code', 'retryAfterMs'],
  'bundle-request': ['t', 'seq'],
  bundle: ['t', 'seq'],
  bye: ['t', 'code', 'retryAfterMs'],
}

function refuse(reason: string): never {
  throw new ProtocolError('Serialization', `frame: ${reason}`)
}

/** Prefix and header in one buffer, to be followed by the body as it is (which saves a copy of up to 4 MiB). */
export function encodeFrameHead(header: FrameHeader, bodyLength: number): Uint8Array {
  const encoded = encode(header)
  const head = new Uint8Array(PREFIX_BYTES + encoded.length)
  const view = new DataView(head.buffer)
  view.setUint16(0, encoded.length)
  view.setUint32(2, bodyLength)
  head.set(encoded, PREFIX_BYTES)
  return head
}

const isCount = (value: unknown, max: number): value is number =>
  typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= max
const isCode = (value: unknown): value is ErrorCode => typeof value === 'string' && (ERROR_CODES as readonly string[]).includes(value)
const isRetry = (value: unknown): value is number | null => value === null || isCount(value, MAX_RETRY_MS)

/**
 * @param bytes the header alone
 * @throws ProtocolError Serialization on anything but one of the known headers in its only encoding
 */
export function decodeFrameHeader(bytes: Uint8Array): FrameHeader {
  const value = decode(bytes, { maxBytes: bytes.length, maxDepth: 2, maxItems: 16 })
  if (value === null || typeof value !== 'object' || Array.isArray(value) || value instanceof Uint8Array) refuse('header is not a map')
  const header = value as Record<string, unknown>
  const fields =
    typeof header.t === 'string' && Object.hasOwn(FIELDS, header.t) ? FIELDS[header.t as FrameHeader['t']] : refuse('unknown kind')
  if (Object.keys(header).length !== fields.length || !fields.every((field) => Object.hasOwn(header, field))) refuse('header fields')
  const known = header as unknown as FrameHeader
  if ('seq' in known && !isCount(known.seq, MAX_SEQ)) refuse('seq')
  if ('code' in known && (!isCode(known.code) || !isRetry(known.retryAfterMs))) refuse('code')
  if (known.t === 'hello' && !(isCount(known.v, 255) && isCount(known.bytes, MAX_SEQ) && isCount(known.frames, MAX_SEQ))) refuse('hello')
  if (known.t === 'receipt' && known.status !== 'stored' && known.status !== 'duplicate') refuse('status')
  return known
}

/**
 * Cuts a byte stream into frames. Holds one header (512 bytes) and the one body being filled, nothing else; sizes are
 * checked from the prefix, and the body's room is made only after its header is known to allow it.
 */
export class FrameReader {
  readonly #limits: { frameHeaderBytes: number; frameBodyBytes: number }
  #prefix = new Uint8Array(PREFIX_BYTES)
  #header: Uint8Array | undefined
  #parsed: FrameHeader | undefined
  #body = EMPTY
  #bodyLength = 0
  #filled = 0

  constructor(limits: { frameHeaderBytes: number; frameBodyBytes: number }) {
    this.#limits = limits
  }

  /** Body bytes of the frame that has begun; undefined between frames. */
  get pending(): number | undefined {
    return this.#header === undefined && this.#filled === 0 ? undefined : this.#bodyLength
  }

  /**
   * @param chunk any piece of the stream
   * @returns the frames that it completes
   * @throws ProtocolError Serialization (the stream is then useless), QuotaExceeded for a frame above the limit
   */
  push(chunk: Uint8Array): Frame[] {
    const frames: Frame[] = []
    let at = 0
    const fill = (target: Uint8Array): boolean => {
      const count = Math.min(target.length - this.#filled, chunk.length - at)
      target.set(chunk.subarray(at, at + count), this.#filled)
      at += count
      this.#filled += count
      return this.#filled === target.length
    }
    for (;;) {
      if (this.#header === undefined) {
        if (at === chunk.length || !fill(this.#prefix)) return frames
        this.#begin()
      } else if (this.#parsed === undefined) {
        if (!fill(this.#header)) return frames
        this.#parsed = decodeFrameHeader(this.#header)
        const most = Math.min(BODY_LIMIT[this.#parsed.t], this.#limits.frameBodyBytes)
        if (this.#bodyLength > most) throw new ProtocolError('QuotaExceeded', `frame: body of ${this.#bodyLength} bytes, at most ${most}`)
        this.#body = this.#bodyLength === 0 ? EMPTY : new Uint8Array(this.#bodyLength)
        this.#filled = 0
      } else if (fill(this.#body)) {
        frames.push({ header: this.#parsed, body: this.#body })
        this.#header = this.#parsed = undefined
        this.#body = EMPTY
        this.#bodyLength = this.#filled = 0
      } else return frames
    }
  }

  #begin(): void {
    const view = new DataView(this.#prefix.buffer)
    const headerLength = view.getUint16(0)
    const bodyLength = view.getUint32(2)
    if (headerLength === 0 || headerLength > this.#limits.frameHeaderBytes) refuse(`header of ${headerLength} bytes`)
    if (bodyLength > this.#limits.frameBodyBytes)
      throw new ProtocolError('QuotaExceeded', `frame: body of ${bodyLength} bytes, at most ${this.#limits.frameBodyBytes}`)
    this.#header = new Uint8Array(headerLength)
    this.#bodyLength = bodyLength
    this.#filled = 0
  }
}

/**
 * The hop receipt: the peer's relay has stored these bytes. No end-to-end meaning, and no signature: the connection
 * authenticates it. Stored with the row, so that a duplicate gets the same bytes.
 * @see docs/spec/relay.md §4
 */
export interface HopReceipt {
  readonly digest: Uint8Array
  /** Milliseconds since the epoch, the receiver's clock. */
  readonly receivedAt: number
}

export function encodeHopReceipt(receipt: HopReceipt): Uint8Array {
  return encode({ v: FRAME_VERSION, kind: 'hop', digest: receipt.digest, receivedAt: receipt.receivedAt })
}

/** @throws ProtocolError Serialization */
export function decodeHopReceipt(bytes: Uint8Array): HopReceipt {
  const value = decode(bytes, { maxBytes: MAX_RECEIPT_BYTES, maxDepth: 2, maxItems: 16 }) as Record<string, unknown> | null
  if (value === null || typeof value !== 'object' || Object.keys(value).length !== 4 || value.v !== FRAME_VERSION || value.kind !== 'hop')
    refuse('hop receipt')
  if (!(value.digest instanceof Uint8Array) || value.digest.length !== 32 || !isCount(value.receivedAt, Number.MAX_SAFE_INTEGER))
    refuse('hop receipt')
  return { digest: value.digest, receivedAt: value.receivedAt }
}

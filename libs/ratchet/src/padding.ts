/**
 * Padding to size buckets, inside the ciphertext: an observer of envelopes learns the bucket, not the length.
 * @see docs/spec/envelope.md §4
 */
import { ProtocolError } from '@tallystick/primitives/errors'
import { MAX_PLAINTEXT_BYTES } from '@tallystick/wire/envelope'

const SMALLEST = 1024
/** From here on buckets are multiples of this size: doubling would exceed the envelope's limit near 4 MiB. */
const STEP = 32 * 1024
const LENGTH_BYTES = 4

/** Padded size, bytes, of a plaintext of `length` bytes. */
export function bucketFor(length: number): number {
  const need = length + LENGTH_BYTES
  if (need > STEP) return Math.ceil(need / STEP) * STEP
  let bucket = SMALLEST
  while (bucket < need) bucket *= 2
  return bucket
}

/** @returns bytes of the padded plaintext. @throws ProtocolError Encryption beyond 4 MiB */
export function paddedLength(plaintext: Uint8Array): number {
  if (plaintext.length > MAX_PLAINTEXT_BYTES) throw new ProtocolError('Encryption', `a message is at most ${MAX_PLAINTEXT_BYTES} bytes`)
  return bucketFor(plaintext.length)
}

/** Length in four bytes ‖ plaintext, into zeros. */
export function padInto(zeros: Uint8Array, plaintext: Uint8Array): void {
  new DataView(zeros.buffer, zeros.byteOffset).setUint32(0, plaintext.length)
  zeros.set(plaintext, LENGTH_BYTES)
}

/** Length in four bytes ‖ plaintext ‖ zeros. @throws ProtocolError Encryption beyond 4 MiB */
export function pad(plaintext: Uint8Array): Uint8Array {
  const out = new Uint8Array(paddedLength(plaintext))
  padInto(out, plaintext)
  return out
}

/**
 * The one padding that `pad` makes, or nothing.
 * @returns a view into `padded`
 * @throws ProtocolError Decryption
 */
export function unpad(padded: Uint8Array): Uint8Array {
  const refuse = (): never => {
    throw new ProtocolError('Decryption', 'cannot be decrypted')
  }
  if (padded.length < LENGTH_BYTES) return refuse()
  const length = new DataView(padded.buffer, padded.byteOffset, padded.byteLength).getUint32(0)
  if (length > MAX_PLAINTEXT_BYTES || padded.length !== bucketFor(length)) return refuse()
  for (let i = LENGTH_BYTES + length; i < padded.length; i++) if (padded[i] !== 0) return refuse()
  return padded.subarray(LENGTH_BYTES, LENGTH_BYTES + length)
}

import { describe, expect, test } from 'vitest'
import { encode } from './cbor.js'
import { decodeEnvelope, decodeHandshake, decodeHeader, encodeEnvelope, encodeHandshake, encodeHeader } from './envelope.js'

const filled = (length: number): Uint8Array => new Uint8Array(length).fill(7)
const header = { v: 1, suite: 'TS1', sid: filled(16), epoch: 0, dh: filled(32), pn: 0, n: 0, salt: filled(32) } as const
const handshake = {
  ek: filled(32),
  spkId: 1,
  pqId: 2,
  pqKind: 'one-time',
  kemCiphertext: filled(1568),
  certificateDigest: filled(32),
} as const

/** What `make` gives for the size that brings its encoding to exactly this length. */
function encodedTo(length: number, make: (size: number) => object): Uint8Array {
  for (let size = 0; size <= length; size++) {
    const bytes = encode(make(size))
    if (bytes.length === length) return bytes
  }
  throw new Error(`no encoding of ${length} bytes`)
}
/** Of a suite from the future, which is told by its name as long as the header is read at all. */
const headerOf = (length: number): Uint8Array => encodedTo(length, (size) => ({ ...header, suite: 'x'.repeat(size) }))
/** With a field that nobody knows. */
const handshakeOf = (length: number): Uint8Array => encodedTo(length, (size) => ({ ...handshake, zz: filled(size) }))

/** What a refusal says first: of a part that is too long, nothing but its length is looked at. */
function refusal(action: () => unknown): string {
  try {
    action()
  } catch (error) {
    return `${(error as { code: string }).code}: ${(error as Error).message}`
  }
  return 'none'
}

describe('a part of an envelope', () => {
  test('header: of 256 bytes it is read, of one byte more it is not', () => {
    expect(refusal(() => decodeHeader(headerOf(256)))).toMatch(/^UnsupportedVersion/)
    expect(refusal(() => decodeHeader(headerOf(257)))).toMatch(/^Serialization.*257 bytes, at most 256/)
  })

  test('handshake: of 2048 bytes it is read, of one byte more it is not', () => {
    expect(refusal(() => decodeHandshake(handshakeOf(2048)))).toMatch(/^Serialization.*unknown field/)
    expect(refusal(() => decodeHandshake(handshakeOf(2049)))).toMatch(/^Serialization.*2049 bytes, at most 2048/)
  })

  test('that is too long is refused inside an envelope as well', () => {
    const parts = { headerBytes: encodeHeader(header), commit: filled(32), handshakeBytes: new Uint8Array(0), ciphertext: filled(1040) }
    const withParts = (change: object) => refusal(() => decodeEnvelope(encodeEnvelope({ ...parts, ...change })))
    expect(withParts({ handshakeBytes: encodeHandshake(handshake) })).toBe('none')
    expect(withParts({ headerBytes: headerOf(256) })).toMatch(/^UnsupportedVersion/)
    expect(withParts({ headerBytes: headerOf(257) })).toBe('Serialization: header: wrong type or length')
    expect(withParts({ handshakeBytes: handshakeOf(2048) })).toMatch(/^Serialization.*unknown field/)
    expect(withParts({ handshakeBytes: handshakeOf(2049) })).toBe('Serialization: handshake: wrong type or length')
  })
})

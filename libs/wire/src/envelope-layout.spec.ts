import { describe, expect, test } from 'vitest'
import { encode } from './cbor.js'
import { decodeEnvelope, decodeHeader, encodeEnvelope, encodeHeader, type Header } from './envelope.js'
import { layOutEnvelope, readPlainEnvelope, readPlainHeader } from './envelope-layout.js'

const counting = (length: number, from: number): Uint8Array => Uint8Array.from({ length }, (_, i) => (i + from) & 0xff)
const INTEGERS = [0, 1, 23, 24, 255, 256, 65_535, 65_536, 0xffff_ffff]
const NO_HANDSHAKE = new Uint8Array(0)

function headerOf(change: Partial<Header> = {}): Header {
  return { v: 1, suite: 'TS1', sid: counting(16, 1), epoch: 1, dh: counting(32, 40), pn: 0, n: 0, salt: counting(32, 90), ...change }
}

const headers = INTEGERS.flatMap((value) => [headerOf({ n: value }), headerOf({ pn: value }), headerOf({ epoch: value })])

/** Every change of one byte to one of `values`, every cut, and one byte more. Each is valid until the next. */
function* variants(bytes: Uint8Array, values: readonly number[], upTo = bytes.length): Generator<Uint8Array> {
  const changed = bytes.slice()
  for (let at = 0; at < upTo; at++) {
    for (const value of values) {
      changed[at] = value
      yield changed
    }
    changed[at] = bytes[at]!
    yield bytes.subarray(0, at)
    yield bytes.subarray(at)
  }
  yield Uint8Array.of(...bytes, 0)
}
const EVERY_BYTE = Array.from({ length: 256 }, (_, i) => i)

describe('an envelope laid out at fixed places', () => {
  test('is what CBOR makes of it, for every width of its integers, with and without a handshake', () => {
    for (const header of headers) {
      for (const handshake of [NO_HANDSHAKE, counting(20, 3), counting(300, 3), counting(2048, 3)]) {
        for (const length of [1040, 65_535, 65_536]) {
          const out = layOutEnvelope(header, handshake, length)
          out.commit.set(counting(32, 7))
          out.ciphertext.fill(9)
          const parts = { headerBytes: encodeHeader(header), commit: counting(32, 7), handshakeBytes: handshake }
          expect(Buffer.compare(out.bytes, encodeEnvelope({ ...parts, ciphertext: new Uint8Array(length).fill(9) }))).toBe(0)
          expect(out.headerBytes).toEqual(parts.headerBytes)
        }
      }
    }
  })

  test('a field of another size, or an integer beyond 32 bits, is refused', () => {
    const wrong = [{ sid: counting(15, 0) }, { dh: counting(33, 0) }, { salt: counting(0, 0) }, { n: 2 ** 32 }, { pn: -1 }, { epoch: 0.5 }]
    for (const change of wrong) expect(() => layOutEnvelope(headerOf(change), NO_HANDSHAKE, 1040), JSON.stringify(change)).toThrow(/header/)
  })
})

describe('the readers of the one layout', () => {
  test('read what the general decoder reads', () => {
    for (const header of headers) {
      const bytes = encodeHeader(header)
      expect(readPlainHeader(bytes)).toEqual(header)
      const envelope = encodeEnvelope({
        headerBytes: bytes,
        commit: counting(32, 7),
        handshakeBytes: NO_HANDSHAKE,
        ciphertext: counting(1040, 5),
      })
      expect(readPlainEnvelope(envelope)).toEqual({ headerBytes: bytes, commit: counting(32, 7), ciphertext: counting(1040, 5) })
      expect(decodeEnvelope(envelope).header).toEqual(header)
    }
  })

  test('accept nothing but the one encoding: every change of one byte of a header', () => {
    let accepted = 0
    for (const header of [headerOf(), headerOf({ n: 300, pn: 70_000, epoch: 24 })]) {
      for (const bytes of variants(encodeHeader(header), EVERY_BYTE)) {
        const read = readPlainHeader(bytes)
        if (read === undefined) continue
        accepted++
        expect(Buffer.compare(encode({ ...read }), bytes)).toBe(0)
      }
    }
    expect(accepted).toBeGreaterThan(2 * 80 * 255)
  })

  test('accept nothing but the one encoding: every change of one byte of an envelope', () => {
    const headerBytes = encodeHeader(headerOf())
    for (const [length, values] of [
      [1040, EVERY_BYTE],
      [65_536, [0, 0x18, 0x59, 0x5a, 0xff]],
    ] as const) {
      const ciphertext = new Uint8Array(length)
      const bytes = encodeEnvelope({ headerBytes, commit: counting(32, 7), handshakeBytes: NO_HANDSHAKE, ciphertext })
      for (const changed of variants(bytes, values, bytes.length - length)) {
        const read = readPlainEnvelope(changed)
        if (read === undefined) continue
        if (Buffer.compare(changed, bytes) === 0) continue
        expect(Buffer.compare(encode({ header: read.headerBytes, commit: read.commit, ciphertext: read.ciphertext }), changed)).toBe(0)
      }
    }
  })

  test('accept no integer and no length in a longer form', () => {
    const longer = (bytes: Uint8Array, at: number, took: number, form: readonly number[]): Uint8Array =>
      Uint8Array.of(...bytes.subarray(0, at), ...form, ...bytes.subarray(at + took))
    const header = encodeHeader(headerOf({ n: 5 }))
    for (const form of [
      [0x18, 5],
      [0x19, 0, 5],
      [0x1a, 0, 0, 0, 5],
      [0x1b, 0, 0, 0, 0, 0, 0, 0, 5],
    ])
      expect(readPlainHeader(longer(header, 3, 1, form)), `${form}`).toBeUndefined()
    const parts = { headerBytes: header, commit: counting(32, 7), handshakeBytes: NO_HANDSHAKE }
    const envelope = encodeEnvelope({ ...parts, ciphertext: new Uint8Array(1040) })
    expect(readPlainEnvelope(longer(envelope, envelope.length - 1043, 3, [0x5a, 0, 0, 4, 16]))).toBeUndefined()
    expect(readPlainEnvelope(longer(envelope, envelope.length - 1043, 3, [0x59, 4, 16]))).toBeDefined()
  })

  test('a version or suite from the future is still told by its code', () => {
    const bytes = (header: object): Uint8Array => encode({ ...headerOf(), ...header })
    for (const future of [{ v: 2 }, { suite: 'TS2' }])
      expect(() => decodeHeader(bytes(future))).toThrow(expect.objectContaining({ code: 'UnsupportedVersion' }))
    expect(() => decodeHeader(bytes({ zz: 1 }))).toThrow(expect.objectContaining({ code: 'Serialization' }))
  })
})

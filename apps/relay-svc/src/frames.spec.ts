import { encode } from '@tallystick/wire/cbor'
import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  decodeFrameHeader,
  decodeHopReceipt,
  encodeFrameHead,
  encodeHopReceipt,
  FrameReader,
  type Frame,
  type FrameHeader,
} from './frames.js'

const LIMITS = { frameHeaderBytes: 512, frameBodyBytes: 1_000_000 }
const HEADERS: FrameHeader[] = [
  { t: 'hello', v: 1, bytes: 8_000_000, frames: 64 },
  { t: 'envelope', seq: 1 },
  { t: 'receipt', seq: 0xffff_ffff, status: 'duplicate' },
  { t: 'refusal', seq: 7, code: 'RateLimited', retryAfterMs: 1200 },
  { t: 'refusal', seq: 7, code: 'Serialization', retryAfterMs: null },
  { t: 'bundle-request', seq: 2 },
  { t: 'bundle', seq: 2 },
  { t: 'bye', code: 'IdleTimeout', retryAfterMs: null },
]

function frameBytes(header: unknown, body = new Uint8Array(0)): Uint8Array {
  return Buffer.concat([encodeFrameHead(header as FrameHeader, body.length), body])
}

describe('frames', () => {
  it.each(HEADERS)('round trip: %j', (header) => {
    expect(decodeFrameHeader(encode(header))).toEqual(Object.assign(Object.create(null), header))
  })

  it('are cut from any chunking of the stream', () => {
    const bodies = [0, 1, 300, 70_000]
    const wire = Buffer.concat(
      bodies.flatMap((length, i) => [frameBytes({ t: 'envelope', seq: i }, new Uint8Array(length).fill(i)), frameBytes(HEADERS[2])]),
    )
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 20_000 }), { minLength: 1 }), (sizes) => {
        const reader = new FrameReader(LIMITS)
        const frames: Frame[] = []
        for (let at = 0, i = 0; at < wire.length; i++) {
          const size = sizes[i % sizes.length]!
          frames.push(...reader.push(wire.subarray(at, at + size)))
          at += size
        }
        expect(frames.map((f) => [f.header.t, f.body.length])).toEqual(
          bodies.flatMap((length) => [
            ['envelope', length],
            ['receipt', 0],
          ]),
        )
        expect(reader.pending).toBeUndefined()
      }),
      { numRuns: 100 },
    )
  })

  it('refuse a body above the limit from the prefix, before any of it has come', () => {
    const prefix = frameBytes({ t: 'envelope', seq: 1 }, new Uint8Array(1_000_001)).subarray(0, 6)
    expect(() => new FrameReader(LIMITS).push(prefix)).toThrow(expect.objectContaining({ code: 'QuotaExceeded' }))
  })

  it('refuse a body on a frame that has none, once the header is there', () => {
    expect(() => new FrameReader(LIMITS).push(frameBytes({ t: 'hello', v: 1, bytes: 1, frames: 1 }, new Uint8Array(10)))).toThrow(
      expect.objectContaining({ code: 'QuotaExceeded' }),
    )
    expect(() => new FrameReader(LIMITS).push(frameBytes({ t: 'bundle', seq: 1 }, new Uint8Array(16_385)))).toThrow(
      expect.objectContaining({ code: 'QuotaExceeded' }),
    )
  })

  it('refuse a receipt that is longer than any is', () => {
    const receipt = (length: number) => frameBytes({ t: 'receipt', seq: 1, status: 'stored' }, new Uint8Array(length))
    expect(new FrameReader(LIMITS).push(receipt(512))).toHaveLength(1)
    expect(() => new FrameReader(LIMITS).push(receipt(513))).toThrow(expect.objectContaining({ code: 'QuotaExceeded' }))
  })

  const hostile: [string, Uint8Array][] = [
    ['an unknown kind', encode({ t: 'exec', seq: 1 })],
    ['a missing field', encode({ t: 'envelope' })],
    ['a field too many', encode({ t: 'envelope', seq: 1, x: 1 })],
    ['a negative seq', encode({ t: 'envelope', seq: -1 })],
    ['a seq beyond 32 bits', encode({ t: 'envelope', seq: 2 ** 32 })],
    ['a text seq', encode({ t: 'envelope', seq: '1' })],
    ['an unknown code', encode({ t: 'bye', code: 'Nope', retryAfterMs: null })],
    ['a retry beyond a day', encode({ t: 'bye', code: 'Network', retryAfterMs: 86_400_001 })],
    ['an array', encode(['envelope', 1])],
    ['bytes', encode(new Uint8Array(3))],
    [
      'a prototype key',
      encode(
        Object.fromEntries([
          ['__proto__', 1],
          ['t', 'bye'],
        ]),
      ),
    ],
    ['t named after a built-in', encode({ t: 'constructor', seq: 1 })],
    ['a nesting bomb', new Uint8Array(512).fill(0x81)],
    ['a tag', Uint8Array.of(0xc2, 0x41, 0x01)],
    ['an indefinite map', Uint8Array.of(0xbf, 0xff)],
    ['trailing bytes', Buffer.concat([encode({ t: 'envelope', seq: 1 }), Buffer.of(0)])],
    ['unsorted keys', Buffer.from('a26373657101617468656e76656c6f7065', 'hex')],
  ]
  it.each(hostile)('refuse %s', (_, header) => {
    expect(() => decodeFrameHeader(header)).toThrow(expect.objectContaining({ code: 'Serialization' }))
  })

  it('survive a megabyte of noise quickly', () => {
    const started = performance.now()
    for (let i = 0; i < 200; i++) {
      try {
        new FrameReader(LIMITS).push(randomBytes(1_048_576))
      } catch (error) {
        expect(error).toMatchObject({ name: 'ProtocolError' })
      }
    }
    expect((performance.now() - started) / 200).toBeLessThan(50)
  })

  it('never give more than fast-check can find wrong', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          new FrameReader(LIMITS).push(bytes)
        } catch (error) {
          expect(['Serialization', 'QuotaExceeded']).toContain((error as { code?: string }).code)
        }
      }),
      { numRuns: 2_000 },
    )
  })
})

describe('the hop receipt', () => {
  it('is deterministic and holds digest and time', () => {
    const digest = randomBytes(32)
    const bytes = encodeHopReceipt({ digest, receivedAt: 1_795_000_000_000 })
    expect(encodeHopReceipt({ digest, receivedAt: 1_795_000_000_000 })).toEqual(bytes)
    expect(Buffer.from(decodeHopReceipt(bytes).digest)).toEqual(digest)
    expect(bytes.length).toBeLessThan(100)
  })

  it.each([
    encode(null),
    encode({ v: 1 }),
    encode({ v: 1, kind: 'hop', digest: new Uint8Array(31), receivedAt: 1 }),
    encode({ v: 2, kind: 'hop', digest: new Uint8Array(32), receivedAt: 1 }),
  ])('refuses %#', (bytes) => {
    expect(() => decodeHopReceipt(bytes)).toThrow(expect.objectContaining({ code: 'Serialization' }))
  })
})

import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { concat, u32be } from '@tallystick/primitives/bytes'
import { MAX_ENVELOPE_BYTES, MAX_PLAINTEXT_BYTES } from '@tallystick/wire/envelope'
import { bucketFor, pad, unpad } from './padding.js'

test('buckets at their borders', () => {
  expect([0, 1020, 1021, 2044, 2045, 32764, 32765, 65532, 65533].map(bucketFor)).toEqual([
    1024, 1024, 2048, 2048, 4096, 32768, 65536, 65536, 98304,
  ])
  expect(bucketFor(MAX_PLAINTEXT_BYTES) + 4096).toBeLessThan(MAX_ENVELOPE_BYTES)
})

test('what is padded comes back, and any other padding is refused', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 5000 }), fc.nat(), (plaintext, where) => {
      const padded = pad(plaintext)
      expect(unpad(padded)).toEqual(plaintext)
      const dirty = padded.slice()
      const zeros = padded.length - 4 - plaintext.length
      if (zeros > 0) {
        dirty[4 + plaintext.length + (where % zeros)] = 1
        expect(() => unpad(dirty)).toThrow(expect.objectContaining({ code: 'Decryption' }))
      }
      expect(() => unpad(concat(padded, new Uint8Array(padded.length)))).toThrow(expect.objectContaining({ code: 'Decryption' }))
    }),
    { numRuns: 200 },
  )
  for (const bad of [
    new Uint8Array(0),
    new Uint8Array(3),
    new Uint8Array(1023),
    concat(u32be(1021), new Uint8Array(1020)),
    concat(u32be(0xffff_ffff), new Uint8Array(1020)),
  ]) {
    expect(() => unpad(bad)).toThrow(expect.objectContaining({ code: 'Decryption' }))
  }
})

test('4 MiB fit, one byte more does not', () => {
  expect(unpad(pad(new Uint8Array(MAX_PLAINTEXT_BYTES))).length).toBe(MAX_PLAINTEXT_BYTES)
  expect(() => pad(new Uint8Array(MAX_PLAINTEXT_BYTES + 1))).toThrow(expect.objectContaining({ code: 'Encryption' }))
})

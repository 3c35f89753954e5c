/** Whatever way the making of a key ends, the arena holds no more than what was handed out. */
import { SecretArena, withSecret } from '@tallystick/secret-bytes/arena'
import { describe, expect, test } from 'vitest'
import { argon2id } from './argon2id.js'
import { generateSigningKey } from './ed25519.js'
import { generateKeyPair as generateKemKeyPair } from './mlkem1024.js'
import { xopenInto, xsealInto } from './xaead.js'
import { generateKeyPair } from './x25519.js'

const open = (size: number) => SecretArena.open(size, { allowUnlocked: true })

describe('a key that cannot be made leaves nothing in the arena', () => {
  test('Ed25519: no room for the seed beside the key', () => {
    const arena = open(64)
    expect(() => generateSigningKey(arena)).toThrow(/full/)
    expect(arena.usedBytes).toBe(0)
    expect(() => generateSigningKey(arena, new Uint8Array(31))).toThrow(RangeError)
    expect(arena.usedBytes).toBe(0)
  })

  test.each([
    ['X25519', generateKeyPair, 32],
    ['ML-KEM-1024', generateKemKeyPair, 64],
  ] as const)('%s: a random source that throws, or gives too little, which is wiped', (_, generate, length) => {
    const arena = open(256)
    expect(() =>
      generate(arena, () => {
        throw new Error('no randomness')
      }),
    ).toThrow('no randomness')
    const short = new Uint8Array(length - 1).fill(7)
    expect(() => generate(arena, () => short)).toThrow(/wrong number of bytes/)
    expect(short.every((byte) => byte === 0)).toBe(true)
    expect(arena.usedBytes).toBe(0)
    const good = new Uint8Array(length).fill(9)
    generate(arena, () => good).secret.destroy()
    expect(good.every((byte) => byte === 0)).toBe(true)
    expect(arena.usedBytes).toBe(0)
  })

  test('Argon2id: a cost that libsodium refuses', () => {
    const arena = open(64)
    expect(() => argon2id(arena, new Uint8Array(3), new Uint8Array(16), 0, 8)).toThrow()
    expect(() => argon2id(arena, new Uint8Array(3), new Uint8Array(15), 1, 8)).toThrow(RangeError)
    expect(arena.usedBytes).toBe(0)
  })
})

/** draft-irtf-cfrg-xchacha-03, A.3.1. */
describe('XChaCha20-Poly1305', () => {
  const hex = (text: string) => new Uint8Array(Buffer.from(text.replaceAll(/\s/g, ''), 'hex'))
  const plaintext = new Uint8Array(
    Buffer.from(
      "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.",
      'latin1',
    ),
  )
  const aad = hex('50515253c0c1c2c3c4c5c6c7')
  const key = hex('808182838485868788898a8b8c8d8e8f 909192939495969798999a9b9c9d9e9f')
  const nonce = hex('404142434445464748494a4b4c4d4e4f5051525354555657')
  const expected = hex(`
    bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb 731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452
    2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9 21f9664c97637da9768812f615c68b13b52ec0875924c1c7987947deafd8780acf49`)

  test('gives the values of the draft, and opens them', () => {
    const sealed = new Uint8Array(plaintext.length + 16)
    xsealInto(sealed, key, nonce, aad, plaintext)
    expect(Buffer.from(sealed).toString('hex')).toBe(Buffer.from(expected).toString('hex'))
    const out = new Uint8Array(plaintext.length)
    expect(xopenInto(out, key, nonce, aad, sealed)).toBe(true)
    expect(out).toEqual(plaintext)
  })

  test('opens nothing that was changed, and leaves zeros behind', () => {
    for (let i = 0; i < expected.length; i++) {
      const changed = expected.slice()
      changed[i]! ^= 1
      const out = new Uint8Array(plaintext.length).fill(7)
      expect(xopenInto(out, key, nonce, aad, changed)).toBe(false)
      expect(out.every((byte) => byte === 0)).toBe(true)
    }
    const out = new Uint8Array(plaintext.length)
    for (const [k, n, a] of [
      [key.map((b) => b ^ 1), nonce, aad],
      [key, nonce.map((b) => b ^ 1), aad],
      [key, nonce, aad.map((b) => b ^ 1)],
    ] as const)
      expect(xopenInto(out, k, n, a, expected)).toBe(false)
  })

  test('refuses lengths that cannot be right', () => {
    const out = new Uint8Array(16)
    for (const [k, n, a, o] of [
      [key.subarray(1), nonce, aad, out],
      [key, nonce.subarray(1), aad, out],
      [key, nonce, aad.subarray(0, 0), out],
      [key, nonce, aad, out.subarray(1)],
    ] as const) {
      expect(() => xsealInto(o, k, n, a, new Uint8Array(0))).toThrow(RangeError)
      expect(() => xopenInto(new Uint8Array(o.length), k, n, a, o)).toThrow(RangeError)
    }
  })

  test('takes its plaintext from the arena, and writes there', () => {
    const arena = open(256)
    const [from, to] = [arena.allocate(32), arena.allocate(32)]
    withSecret(from, (bytes) => bytes.fill(3))
    const sealed = new Uint8Array(48)
    withSecret(from, (bytes) => xsealInto(sealed, key, nonce, aad, bytes))
    expect(withSecret(to, (bytes) => xopenInto(bytes, key, nonce, aad, sealed))).toBe(true)
    expect(withSecret(to, (bytes) => bytes.every((byte) => byte === 3))).toBe(true)
  })
})

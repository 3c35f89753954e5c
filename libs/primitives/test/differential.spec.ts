/** Each primitive of the product against an implementation that shares no code with it, on random inputs. */
import { chacha20poly1305 } from '@noble/ciphers/chacha.js'
import { ed25519 as nobleEd25519, ED25519_TORSION_SUBGROUP, x25519 as nobleX25519 } from '@noble/curves/ed25519.js'
import { blake3 as nobleBlake3 } from '@noble/hashes/blake3.js'
import { hkdf as nobleHkdf } from '@noble/hashes/hkdf.js'
import { hmac as nobleHmac } from '@noble/hashes/hmac.js'
import { sha256 as nobleSha256, sha512 } from '@noble/hashes/sha2.js'
import { ml_kem1024 } from '@noble/post-quantum/ml-kem.js'
import * as fc from 'fast-check'
import { createHmac, createPrivateKey, diffieHellman, createPublicKey, hkdfSync, sign as nodeSign } from 'node:crypto'
import { afterAll, describe, expect, test } from 'vitest'
import { SecretArena, secretFrom, withSecret } from '@tallystick/secret-bytes/arena'
import * as aead from '../src/aead.js'
import { concat, fromHex, toHex, utf8 } from '../src/bytes.js'
import { generateSigningKey, sign, verify } from '../src/ed25519.js'
import { blake3, blake3Keyed, sha256 } from '../src/hash.js'
import { hkdfSha256, hkdfSha256EachInto, hmacSha256, hmacSha256Into } from '../src/kdf.js'
import * as kem from '../src/mlkem1024.js'
import { systemRandom } from '../src/random.js'
import * as x25519 from '../src/x25519.js'

const arena = SecretArena.open(64 * 1024, { allowUnlocked: true })
afterAll(() => arena.close())

const any = (maxLength: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ maxLength })
const exactly = (length: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ minLength: length, maxLength: length })
const run = { numRuns: 200 }

describe('against @noble and node:crypto', () => {
  test('SHA-256 over parts', () => {
    fc.assert(
      fc.property(fc.array(any(300), { maxLength: 5 }), (parts) => {
        expect(sha256(...parts)).toEqual(nobleSha256(concat(...parts)))
      }),
      run,
    )
  })

  test('HMAC-SHA256, keys on both sides of the block size', () => {
    fc.assert(
      fc.property(any(150), any(300), (key, message) => {
        const expected = nobleHmac(nobleSha256, key, message)
        expect(hmacSha256(key, message)).toEqual(expected)
        expect(Buffer.from(expected)).toEqual(createHmac('sha256', key).update(message).digest())
      }),
      run,
    )
  })

  test('HMAC-SHA256 of every length up to 400, in one part and in two', () => {
    const key = systemRandom(32)
    for (let length = 0; length <= 400; length++) {
      const message = systemRandom(length)
      const out = new Uint8Array(32)
      hmacSha256Into(out, key, message.subarray(0, length >> 1), message.subarray(length >> 1))
      expect(hmacSha256(key, message)).toEqual(out)
      expect(out, `${length}`).toEqual(nobleHmac(nobleSha256, key, message))
    }
  })

  test('HMAC-SHA256 in place of its own key', () => {
    fc.assert(
      fc.property(exactly(32), any(40), (key, message) => {
        const place = key.slice()
        hmacSha256Into(place, place, message)
        expect(place).toEqual(nobleHmac(nobleSha256, key, message))
      }),
      run,
    )
  })

  test('HKDF-SHA256', () => {
    fc.assert(
      fc.property(any(100), any(100), any(100), fc.integer({ min: 1, max: 300 }), (ikm, salt, info, length) => {
        const okm = hkdfSha256(ikm, salt, info, length)
        expect(okm).toEqual(nobleHkdf(nobleSha256, ikm, salt, info, length))
        expect(okm).toEqual(new Uint8Array(hkdfSync('sha256', ikm, salt, info, length)))
      }),
      run,
    )
  })

  test('ChaCha20-Poly1305', () => {
    fc.assert(
      fc.property(exactly(32), exactly(12), any(100), any(2000), (key, nonce, aad, plaintext) => {
        const sealed = aead.seal(key, nonce, aad, plaintext)
        expect(sealed).toEqual(chacha20poly1305(key, nonce, aad).encrypt(plaintext))
        expect(aead.open(key, nonce, aad, sealed)).toEqual(plaintext)
      }),
      run,
    )
  })

  test('X25519', () => {
    const pkcs8 = (key: Uint8Array): Buffer => Buffer.concat([Buffer.from('302e020100300506032b656e04220420', 'hex'), key])
    const spki = (key: Uint8Array): Buffer => Buffer.concat([Buffer.from('302a300506032b656e032100', 'hex'), key])
    fc.assert(
      fc.property(exactly(32), exactly(32), (a, b) => {
        const pair = x25519.generateKeyPair(arena, () => a.slice())
        const other = nobleX25519.getPublicKey(b)
        const shared = x25519.agree(arena, pair.secret, other)
        const got = withSecret(shared, toHex)
        expect(pair.publicKey).toEqual(nobleX25519.getPublicKey(a))
        expect(x25519.publicKeyOf(pair.secret)).toEqual(pair.publicKey)
        expect(got).toBe(toHex(nobleX25519.getSharedSecret(a, other)))
        expect(got).toBe(
          diffieHellman({
            privateKey: createPrivateKey({ key: pkcs8(a), format: 'der', type: 'pkcs8' }),
            publicKey: createPublicKey({ key: spki(other), format: 'der', type: 'spki' }),
          }).toString('hex'),
        )
        pair.secret.destroy()
        shared.destroy()
      }),
      run,
    )
  })

  test('Ed25519', () => {
    fc.assert(
      fc.property(exactly(32), any(200), fc.nat(), (seed, message, flip) => {
        const key = generateSigningKey(arena, seed)
        const signature = sign(key.secret, message)
        expect(key.publicKey).toEqual(nobleEd25519.getPublicKey(seed))
        expect(signature).toEqual(nobleEd25519.sign(message, seed))
        const der = Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed])
        expect(Buffer.from(signature)).toEqual(nodeSign(null, message, createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })))
        expect(verify(key.publicKey, message, signature)).toBe(true)
        const bad = signature.slice()
        bad[flip % 64]! ^= 1 << (flip % 8)
        expect(verify(key.publicKey, message, bad)).toBe(false)
        key.secret.destroy()
      }),
      run,
    )
  })

  test('BLAKE3 against the published test vectors', () => {
    // Input 0, 1, 2, … 250, 0, …; from BLAKE3-team/BLAKE3 test_vectors.json.
    const input = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => i % 251)
    const key = utf8('whats the Elvish word for friend')
    expect(toHex(blake3(input(0)))).toBe('af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262')
    expect(toHex(blake3(input(1)))).toBe('2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213')
    expect(toHex(blake3Keyed(key, input(0)))).toBe('92b2b75604ed3c761f9d6f62392c8a9227ad0ea3f09573e783f1498a4ed60d26')
    expect(blake3(input(5000), 64).slice(0, 32)).toEqual(blake3(input(5000)))
    expect(() => blake3Keyed(key.slice(1), input(1))).toThrow(RangeError)
  })

  test('BLAKE3 around every boundary of blocks, chunks and subtrees, from any place in memory', () => {
    const around = [0, 1, 2, 64, 128, 1024, 2048, 3072, 4096, 5120, 7168, 8192, 16_384, 31_744, 65_536].flatMap((n) => [n - 1, n, n + 1])
    for (const length of around.filter((n) => n >= 0)) {
      for (const offset of [0, 1, 6]) {
        const bytes = systemRandom(length + offset).subarray(offset)
        const key = systemRandom(32)
        expect(blake3(bytes), `${length}`).toEqual(nobleBlake3(bytes))
        expect(blake3Keyed(key, bytes), `${length}, keyed`).toEqual(nobleBlake3(bytes, { key }))
      }
    }
    fc.assert(
      fc.property(any(9000), exactly(32), (bytes, key) => {
        expect(blake3(bytes)).toEqual(nobleBlake3(bytes))
        expect(blake3Keyed(key, bytes)).toEqual(nobleBlake3(bytes, { key }))
      }),
      run,
    )
    expect(blake3Keyed(systemRandom(32), systemRandom(100), 131)).toHaveLength(131)
  })

  test('HKDF-SHA256 of several outputs is that of each', () => {
    fc.assert(
      fc.property(any(100), any(100), fc.array(any(200), { maxLength: 4 }), (ikm, salt, infos) => {
        const outputs = infos.map((info, i) => ({ info, out: new Uint8Array(20 + 30 * i) }))
        hkdfSha256EachInto(outputs, ikm, salt)
        for (const { out, info } of outputs) expect(out).toEqual(nobleHkdf(nobleSha256, ikm, salt, info, out.length))
      }),
      run,
    )
  })

  test('ML-KEM-1024, both ways, seed and expanded keys', () => {
    for (let i = 0; i < 12; i++) {
      const seed = systemRandom(64)
      const noble = ml_kem1024.keygen(seed)
      const pair = kem.generateKeyPair(arena, () => seed.slice())
      expect(pair.publicKey).toEqual(noble.publicKey)
      const ours = kem.encapsulate(arena, pair.publicKey)
      expect(withSecret(ours.sharedSecret, toHex)).toBe(toHex(ml_kem1024.decapsulate(ours.ciphertext, noble.secretKey)))
      const theirs = kem.encapsulateWithCoins(arena, pair.publicKey, systemRandom(32))
      const expanded = secretFrom(arena, noble.secretKey.slice())
      // A ciphertext that was not made for the key: both sides must agree on the rejection's value, too.
      const wrong = theirs.ciphertext.slice()
      wrong[i]! ^= 1
      for (const key of [pair.secret, expanded]) {
        const right = kem.decapsulate(arena, key, theirs.ciphertext)
        const rejected = kem.decapsulate(arena, key, wrong)
        expect(withSecret(right, toHex)).toBe(withSecret(theirs.sharedSecret, toHex))
        expect(withSecret(rejected, toHex)).toBe(toHex(ml_kem1024.decapsulate(wrong, noble.secretKey)))
        right.destroy()
        rejected.destroy()
      }
      for (const secret of [pair.secret, expanded, ours.sharedSecret, theirs.sharedSecret]) secret.destroy()
    }
    expect(arena.usedBytes).toBe(0)
  })
})

describe('where libraries differ, the rule of the product', () => {
  const P = nobleEd25519.Point
  const order = P.Fn.ORDER
  const little = (bytes: Uint8Array): bigint => BigInt(`0x${toHex(bytes.slice().reverse())}`)
  const encode = (scalar: bigint): Uint8Array => fromHex(scalar.toString(16).padStart(64, '0')).reverse()
  const torsion = ED25519_TORSION_SUBGROUP.map((hex) => P.fromBytes(fromHex(hex)))

  test('Ed25519 is cofactorless: a torsion residue is refused where the cofactored equation would hold', () => {
    const seen = { accepted: 0, refused: 0 }
    for (let i = 0; i < 64; i++) {
      const [ta, tr] = [torsion[i % 8]!, torsion[(i >> 3) % 8]!]
      const a = (little(systemRandom(32)) % (order - 1n)) + 1n
      const r = (little(systemRandom(32)) % (order - 1n)) + 1n
      const A = P.BASE.multiply(a).add(ta).toBytes()
      const R = P.BASE.multiply(r).add(tr).toBytes()
      const message = utf8(`message ${i}`)
      const k = little(sha512(concat(R, A, message))) % order
      const signature = concat(R, encode((r + k * a) % order))
      const residue = ta.multiplyUnsafe(k).add(tr).is0()
      expect(verify(A, message, signature)).toBe(residue)
      seen[residue ? 'accepted' : 'refused']++
    }
    expect(seen.accepted).toBeGreaterThan(0)
    expect(seen.refused).toBeGreaterThan(0)
  })

  test('Ed25519 refuses small-order A and R, and S that is not below the group order', () => {
    const key = generateSigningKey(arena)
    const message = utf8('m')
    const good = sign(key.secret, message)
    const S = little(good.slice(32))
    expect(verify(key.publicKey, message, concat(good.slice(0, 32), encode(S + order)))).toBe(false)
    for (const point of torsion) {
      const small = point.toBytes()
      // S = 0 and R = −kA hold in the equation for every small-order A with k ≡ 0; R small and S = ka likewise.
      for (const other of torsion) expect(verify(small, message, concat(other.toBytes(), new Uint8Array(32)))).toBe(false)
      expect(verify(key.publicKey, message, concat(small, good.slice(32)))).toBe(false)
    }
    for (const length of [0, 63, 65, 128]) expect(verify(key.publicKey, message, new Uint8Array(length))).toBe(false)
    for (const length of [0, 31, 33]) expect(verify(new Uint8Array(length), message, good)).toBe(false)
    expect(verify(key.publicKey, message, concat(good, Uint8Array.of(0)))).toBe(false)
    key.secret.destroy()
  })

  test('X25519 refuses each non-canonical u and wrong lengths', () => {
    const pair = x25519.generateKeyPair(arena)
    const p = 2n ** 255n - 19n
    for (let u = p; u < 2n ** 255n; u++)
      expect(() => x25519.agree(arena, pair.secret, encode(u))).toThrow(expect.objectContaining({ code: 'InvalidPublicKey' }))
    const high = pair.publicKey.slice()
    high[31]! |= 0x80
    for (const key of [high, new Uint8Array(31), new Uint8Array(33)])
      expect(() => x25519.agree(arena, pair.secret, key)).toThrow(expect.objectContaining({ code: 'InvalidPublicKey' }))
    expect(x25519.isCanonicalU(encode(p - 1n))).toBe(true)
    pair.secret.destroy()
    expect(arena.usedBytes).toBe(0)
  })

  test('ML-KEM refuses keys of the wrong length or with coefficients above the modulus', () => {
    const pair = kem.generateKeyPair(arena)
    const overflow = pair.publicKey.slice()
    overflow.set([0xff, 0xff, 0xff])
    for (const key of [overflow, pair.publicKey.slice(1)]) {
      expect(() => kem.encapsulate(arena, key)).toThrow(expect.objectContaining({ code: 'InvalidPublicKey' }))
      expect(() => kem.encapsulateWithCoins(arena, key, new Uint8Array(32))).toThrow(expect.objectContaining({ code: 'InvalidPublicKey' }))
    }
    expect(() => kem.decapsulate(arena, pair.secret, new Uint8Array(1567))).toThrow(expect.objectContaining({ code: 'Decryption' }))
    pair.secret.destroy()
    expect(arena.usedBytes).toBe(0)
  })

  test('a failed open gives no plaintext and says nothing but Decryption', () => {
    const sealed = aead.seal(new Uint8Array(32), new Uint8Array(12), new Uint8Array(0), utf8('hello'))
    for (let i = 0; i < sealed.length; i++) {
      const bad = sealed.slice()
      bad[i]! ^= 0x80
      expect(() => aead.open(new Uint8Array(32), new Uint8Array(12), new Uint8Array(0), bad)).toThrow(
        expect.objectContaining({ code: 'Decryption', message: 'cannot be decrypted' }),
      )
    }
    expect(() => aead.open(new Uint8Array(32), new Uint8Array(12), new Uint8Array(0), sealed.slice(0, 15))).toThrow(
      expect.objectContaining({ code: 'Decryption' }),
    )
  })
})

/** Wycheproof's vectors through the very functions that the product calls. */
import { afterAll, expect, test } from 'vitest'
import { fromHex, toHex } from '../src/bytes.js'
import { ProtocolError } from '../src/errors.js'
import * as aead from '../src/aead.js'
import { verify } from '../src/ed25519.js'
import { hkdfSha256, hmacSha256 } from '../src/kdf.js'
import * as kem from '../src/mlkem1024.js'
import { agree } from '../src/x25519.js'
import { SecretArena, type SecretBytes, secretFrom, withSecret } from '@tallystick/secret-bytes/arena'
import { wycheproof } from './corpora.js'

const arena = SecretArena.open(64 * 1024, { allowUnlocked: true })
afterAll(() => arena.close())

/** Hex of a secret result, or the error code. */
function outcome(make: () => SecretBytes): string {
  try {
    const secret = make()
    const hex = withSecret(secret, toHex)
    secret.destroy()
    return hex
  } catch (error) {
    if (error instanceof ProtocolError) return error.code
    throw error
  }
}

test('X25519: valid and twist keys agree; zero results and non-canonical keys are refused', (context) => {
  const P = 2n ** 255n - 19n
  const seen = { agreed: 0, zero: 0, nonCanonical: 0 }
  for (const group of wycheproof<{ public: string; private: string; shared: string }>(context, 'x25519_test.json')) {
    for (const t of group.tests) {
      const secret = secretFrom(arena, fromHex(t.private))
      const got = outcome(() => agree(arena, secret, fromHex(t.public)))
      secret.destroy()
      // The product's rule, from the numbers and not from the file's flags. @see docs/spec/session.md §1.1
      const u = BigInt(`0x${toHex(fromHex(t.public).reverse())}`)
      if (u >= P) seen.nonCanonical++
      else if (/^0*$/.test(t.shared)) seen.zero++
      else seen.agreed++
      expect(got, `tcId ${t.tcId} ${t.comment}`).toBe(u >= P || /^0*$/.test(t.shared) ? 'InvalidPublicKey' : t.shared)
      if (t.result === 'valid') expect(got).toBe(t.shared)
    }
  }
  expect(seen.agreed + seen.zero + seen.nonCanonical).toBe(518)
  expect(seen.zero + seen.nonCanonical).toBeGreaterThanOrEqual(31 + 13)
})

test('Ed25519: valid accepted, invalid refused', (context) => {
  let count = 0
  for (const group of wycheproof<{ msg: string; sig: string }>(context, 'ed25519_test.json')) {
    for (const t of group.tests) {
      expect(verify(fromHex(group.publicKey!.pk), fromHex(t.msg), fromHex(t.sig)), `tcId ${t.tcId} ${t.comment}`).toBe(t.result === 'valid')
      count++
    }
  }
  expect(count).toBe(151)
})

test('ChaCha20-Poly1305: valid opens and seals to the same bytes, invalid is Decryption', (context) => {
  let count = 0
  for (const group of wycheproof<{ key: string; iv: string; aad: string; msg: string; ct: string; tag: string }>(
    context,
    'chacha20_poly1305_test.json',
  )) {
    for (const t of group.tests) {
      const [key, iv, aad, sealed] = [fromHex(t.key), fromHex(t.iv), fromHex(t.aad), fromHex(t.ct + t.tag)]
      if (t.result === 'valid') {
        expect(toHex(aead.open(key, iv, aad, sealed)), `tcId ${t.tcId}`).toBe(t.msg)
        expect(toHex(aead.seal(key, iv, aad, fromHex(t.msg)))).toBe(t.ct + t.tag)
      } else {
        expect(() => aead.open(key, iv, aad, sealed), `tcId ${t.tcId} ${t.comment}`).toThrow(
          expect.objectContaining({ code: 'Decryption' }),
        )
      }
      count++
    }
  }
  expect(count).toBe(325)
})

test('HKDF-SHA256', (context) => {
  let count = 0
  for (const group of wycheproof<{ ikm: string; salt: string; info: string; size: number; okm: string }>(
    context,
    'hkdf_sha256_test.json',
  )) {
    for (const t of group.tests) {
      const derive = (): Uint8Array => hkdfSha256(fromHex(t.ikm), fromHex(t.salt), fromHex(t.info), t.size)
      if (t.result === 'valid') expect(toHex(derive()), `tcId ${t.tcId}`).toBe(t.okm)
      else expect(derive, `tcId ${t.tcId} ${t.comment}`).toThrow(RangeError)
      count++
    }
  }
  expect(count).toBe(86)
})

test('HMAC-SHA256', (context) => {
  let count = 0
  for (const group of wycheproof<{ key: string; msg: string; tag: string }>(context, 'hmac_sha256_test.json')) {
    for (const t of group.tests) {
      const tag = toHex(hmacSha256(fromHex(t.key), fromHex(t.msg))).slice(0, group.tagSize! / 4)
      expect(tag === t.tag, `tcId ${t.tcId} ${t.comment}`).toBe(t.result === 'valid')
      count++
    }
  }
  expect(count).toBe(174)
})

test('ML-KEM-1024: key generation and decapsulation, implicit rejection included', (context) => {
  let count = 0
  for (const group of wycheproof<{ seed: string; ek: string; c: string; K: string }>(context, 'mlkem_1024_test.json')) {
    for (const t of group.tests) {
      const secret = secretFrom(arena, fromHex(t.seed))
      const got = outcome(() => kem.decapsulate(arena, secret, fromHex(t.c)))
      secret.destroy()
      if (t.result === 'valid') {
        expect(got, `tcId ${t.tcId}`).toBe(t.K)
        const pair = kem.generateKeyPair(arena, () => fromHex(t.seed))
        expect(toHex(pair.publicKey)).toBe(t.ek)
        pair.secret.destroy()
      } else {
        expect(got, `tcId ${t.tcId} ${t.comment}`).toBe(t.comment.startsWith('Private key') ? 'KeyStorage' : 'Decryption')
      }
      count++
    }
  }
  expect(count).toBe(193)
})

/** The edges of the arena, and what an error carries. */
import { describe, expect, test } from 'vitest'
import { SecretArena, secretFrom, withSecret } from './arena.js'
import { ProtocolError } from './errors.js'

const open = (size: number): SecretArena => SecretArena.open(size, { allowUnlocked: true })

describe('the arena', () => {
  test('a region that the system cannot give is KeyStorage(locked)', () => {
    expect(() => open(2 ** 46)).toThrow(expect.objectContaining({ code: 'KeyStorage', reason: 'locked' }))
  })

  test('takes whole numbers of bytes only', () => {
    for (const size of [0, -1, 1.5, Number.NaN, 2 ** 60]) expect(() => open(size)).toThrow(RangeError)
    const arena = open(64)
    for (const length of [-1, 1.5, Number.NaN, 2 ** 60]) expect(() => arena.allocate(length)).toThrow(RangeError)
    expect(arena.usedBytes).toBe(0)
    arena.close()
  })

  test('a handle says whether it was destroyed', () => {
    const arena = open(64)
    const secret = secretFrom(arena, Uint8Array.of(1))
    expect(secret.destroyed).toBe(false)
    secret.destroy()
    expect(secret.destroyed).toBe(true)
    secret.destroy()
    expect(arena.usedBytes).toBe(0)
    arena.close()
  })

  test('a secret that outlives its arena is of no use, and destroying it does nothing', () => {
    const arena = open(64)
    const secret = arena.allocate(32)
    arena.close()
    expect(secret.destroyed).toBe(true)
    expect(() => withSecret(secret, () => 0)).toThrow(expect.objectContaining({ code: 'KeyStorage', reason: 'accessControlFailed' }))
    expect(() => secret.destroy()).not.toThrow()
    expect(() => arena.allocate(1)).toThrow(expect.objectContaining({ code: 'KeyStorage', reason: 'locked' }))
  })
})

describe('ProtocolError', () => {
  test('carries what it was given and nothing else', () => {
    const cause = new Error('below')
    const full = new ProtocolError('RateLimited', 'later', { retryAfterMs: 5, cause })
    expect([full.name, full.code, full.message, full.retryAfterMs, full.cause]).toEqual(['ProtocolError', 'RateLimited', 'later', 5, cause])
    expect(new ProtocolError('KeyStorage', 'full', { reason: 'locked' }).reason).toBe('locked')
    const plain = new ProtocolError('Decryption')
    expect([plain.message, plain.retryAfterMs, plain.reason]).toEqual(['Decryption', undefined, undefined])
    expect('cause' in plain).toBe(false)
    expect(JSON.parse(JSON.stringify({ ...plain }))).toEqual({ code: 'Decryption', name: 'ProtocolError' })
  })
})

import { inspect } from 'node:util'
import { readFileSync } from 'node:fs'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { SecretArena, SecretBytes, secretFrom, wipe, withSecret } from './arena.js'
import { ProtocolError } from './errors.js'

const open = (size: number): SecretArena => SecretArena.open(size, { allowUnlocked: true })
const codeOf = (fn: () => unknown): string => {
  try {
    fn()
  } catch (error) {
    if (error instanceof ProtocolError) return `${error.code}(${error.reason})`
    throw error
  }
  return 'no error'
}

describe('SecretBytes', () => {
  test('every way of printing shows the length only', () => {
    const secret = secretFrom(
      open(64),
      Uint8Array.from({ length: 32 }, (_, i) => i + 1),
    )
    const text = '[secret 32 bytes]'
    expect(String(secret)).toBe(text)
    expect(`${secret}`).toBe(text)
    expect(JSON.stringify({ secret })).toBe(`{"secret":"${text}"}`)
    expect(inspect(secret)).toBe(text)
    expect(inspect({ deep: { secret } }, { showHidden: true, depth: 9 })).not.toMatch(/0102|1, ?2|01 02/)
    expect(Object.values(secret)).toEqual([32])
  })

  test('secretFrom wipes its source also when the arena is full', () => {
    const source = Uint8Array.from({ length: 128 }, () => 7)
    expect(codeOf(() => secretFrom(open(64), source))).toMatch(/^KeyStorage/)
    expect(source).toEqual(new Uint8Array(128))
  })

  test('secretFrom wipes its source', () => {
    const source = Uint8Array.of(1, 2, 3)
    const secret = secretFrom(open(64), source)
    expect(source).toEqual(Uint8Array.of(0, 0, 0))
    expect(withSecret(secret, (bytes) => bytes.slice())).toEqual(Uint8Array.of(1, 2, 3))
  })

  test('destroy wipes the bytes, and the handle is of no use afterwards', () => {
    const arena = open(64)
    const secret = secretFrom(arena, Uint8Array.of(9, 9, 9))
    // The view is kept against the rule, to look at the place after the secret has gone.
    const view = withSecret(secret, (bytes) => bytes)
    secret.destroy()
    secret.destroy()
    expect(secret.destroyed).toBe(true)
    expect(view).toEqual(Uint8Array.of(0, 0, 0))
    expect(codeOf(() => withSecret(secret, () => 0))).toBe('KeyStorage(accessControlFailed)')
    expect(arena.usedBytes).toBe(0)
  })

  test('withSecret refuses an asynchronous function', () => {
    const secret = open(64).allocate(8)
    expect(() => withSecret(secret, async () => 0)).toThrow(TypeError)
  })
})

describe('SecretArena', () => {
  test('full and closed are KeyStorage(locked)', () => {
    const arena = open(96)
    const first = arena.allocate(33)
    expect(arena.usedBytes).toBe(64)
    expect(codeOf(() => arena.allocate(33))).toBe('KeyStorage(locked)')
    arena.allocate(32)
    first.destroy()
    arena.allocate(64)
    arena.close()
    arena.close()
    expect(arena.usedBytes).toBe(0)
    expect(codeOf(() => arena.allocate(1))).toBe('KeyStorage(locked)')
    expect(codeOf(() => withSecret(first, () => 0))).toBe('KeyStorage(accessControlFailed)')
  })

  test('refuses nonsense sizes', () => {
    for (const size of [0, -1, 1.5, Number.NaN]) expect(() => SecretArena.open(size)).toThrow(RangeError)
    const arena = open(64)
    for (const length of [-1, 1.5, Number.NaN]) expect(() => arena.allocate(length)).toThrow(RangeError)
    expect(arena.allocate(0).length).toBe(0)
  })

  test('is locked memory, as the kernel counts it', (context) => {
    const lockedKiB = (): number => Number(/VmLck:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1])
    const before = lockedKiB()
    const arena = open(256 * 1024)
    if (!arena.locked) {
      expect(() => SecretArena.open(256 * 1024)).toThrow(/memlock limit/)
      context.skip('the memlock limit of this machine allows no locked memory')
    }
    expect(lockedKiB() - before).toBeGreaterThanOrEqual(256)
    const escaped = withSecret(arena.allocate(32), (bytes) => bytes)
    arena.close()
    // The kernel gets the pages back when the collector finalises the region; nothing can reach them before that.
    expect(escaped.length).toBe(0)
  })

  test('any order of allocating and destroying keeps contents apart and loses no space', () => {
    const step = fc.oneof(
      { weight: 3, arbitrary: fc.record({ do: fc.constant('allocate' as const), length: fc.integer({ min: 0, max: 300 }) }) },
      { weight: 2, arbitrary: fc.record({ do: fc.constant('destroy' as const), which: fc.nat() }) },
    )
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
        const arena = open(8 * 1024)
        const alive: { secret: SecretBytes; mark: number }[] = []
        let mark = 0
        for (const s of steps) {
          if (s.do === 'destroy') {
            const index = alive.length === 0 ? -1 : s.which % alive.length
            if (index >= 0) alive.splice(index, 1)[0]!.secret.destroy()
          } else {
            let secret: SecretBytes
            try {
              secret = arena.allocate(s.length)
            } catch (error) {
              expect(error).toMatchObject({ code: 'KeyStorage' })
              continue
            }
            mark = (mark % 255) + 1
            withSecret(secret, (bytes) => {
              expect(bytes.every((b) => b === 0)).toBe(true)
              bytes.fill(mark)
            })
            alive.push({ secret, mark })
          }
          for (const entry of alive) withSecret(entry.secret, (bytes) => expect(bytes.every((b) => b === entry.mark)).toBe(true))
        }
        for (const { secret } of alive) secret.destroy()
        expect(arena.usedBytes).toBe(0)
        arena.allocate(8 * 1024)
        arena.close()
      }),
      { numRuns: 60 },
    )
  })

  test('ten thousand secrets fit one region', () => {
    const arena = open(320 * 1024)
    const secrets = Array.from({ length: 10_000 }, () => arena.allocate(32))
    for (const secret of secrets) secret.destroy()
    expect(arena.usedBytes).toBe(0)
    arena.close()
  })
})

test('wipe', () => {
  const bytes = Uint8Array.of(1, 2, 3)
  wipe(bytes)
  wipe(new Uint8Array(0))
  expect(bytes).toEqual(new Uint8Array(3))
})

import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { clockFromEnv } from './clock.js'
import { parseEnv } from './env.js'
import { Readiness } from './readiness.js'
import { readSecretFile } from './secrets.js'

let directory: string
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'tallystick-env-'))
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const variables = {
  TALLYSTICK_FLEET: 'acme',
  TALLYSTICK_NATS_URL: 'nats://127.0.0.1:4222',
  TALLYSTICK_SECRETS_DIR: '/run/secrets',
  TALLYSTICK_OPS_PORT: '9000',
}

describe('the environment', () => {
  it('has defaults that are the numbers of the design', () => {
    expect(parseEnv(z.object({}), variables)).toMatchObject({
      TALLYSTICK_HOST: '127.0.0.1',
      TALLYSTICK_OPS_PORT: 9000,
      LOG_LEVEL: 'info',
      TALLYSTICK_BREAKER_FAILURES: 5,
      TALLYSTICK_BREAKER_WINDOW_MS: 60_000,
      TALLYSTICK_BREAKER_RESET_MS: 120_000,
      TALLYSTICK_BREAKER_MAX_RESET_MS: 900_000,
    })
  })

  it('is refused with the names of what is wrong and never a value', () => {
    const extra = z.object({
      TALLYSTICK_HTTP_PORT: z.coerce.number().int(),
      OWN: z.string().refine((v) => v === 'x', { error: ({ input }) => `no good: ${String(input)}` }),
    })
    const message = (() => {
      try {
        parseEnv(extra, {
          ...variables,
          TALLYSTICK_FLEET: 'Secret Value',
          TALLYSTICK_OPS_PORT: 'hunter2',
          TALLYSTICK_NATS_URL: '',
          OWN: 'swordfish',
        })
        return ''
      } catch (error) {
        return (error as Error).message
      }
    })()
    for (const name of [
      'TALLYSTICK_FLEET',
      'TALLYSTICK_OPS_PORT',
      'TALLYSTICK_NATS_URL: is missing',
      'TALLYSTICK_HTTP_PORT: is missing',
      'OWN: is not acceptable',
    ])
      expect(message).toContain(name)
    for (const value of ['Secret Value', 'hunter2', 'swordfish']) expect(message).not.toContain(value)
  })

  it('takes an empty text for absent', () => {
    expect(parseEnv(z.object({}), { ...variables, TALLYSTICK_HOST: '', TALLYSTICK_CLOCK_FILE: '' })).toMatchObject({
      TALLYSTICK_HOST: '127.0.0.1',
    })
  })
})

describe('a secret', () => {
  const put = (name: string, mode: number, bytes: string | Uint8Array = 'x') => {
    writeFileSync(join(directory, name), bytes)
    chmodSync(join(directory, name), mode)
  }

  it('is read as bytes that the caller owns', () => {
    const kek = Uint8Array.from({ length: 32 }, (_, i) => 255 - i)
    put('kek', 0o400, kek)
    const read = readSecretFile(directory, 'kek')
    expect(Uint8Array.from(read)).toEqual(kek)
    expect(read.buffer.byteLength).toBe(32)
  })

  it.each([0o440, 0o404, 0o444, 0o640, 0o600 | 0o020, 0o601])('with mode %o is refused', (mode) => {
    put('loose', mode, 'hunter2')
    expect(() => readSecretFile(directory, 'loose')).toThrow(/secret loose: readable by group or others/)
    expect(() => readSecretFile(directory, 'loose')).not.toThrow(/hunter2/)
  })

  it('that is absent, a directory, too large or outside the directory is refused', () => {
    mkdirSync(join(directory, 'folder'), { recursive: true, mode: 0o700 })
    put('large', 0o400, new Uint8Array(64 * 1024 + 1))
    expect(() => readSecretFile(directory, 'absent')).toThrow(/ENOENT/)
    expect(() => readSecretFile(directory, 'folder')).toThrow(/not a regular file/)
    expect(() => readSecretFile(directory, 'large')).toThrow(/more than/)
    for (const name of ['../etc/passwd', '/etc/passwd', 'a/b', '', '.', '..', 'a..b/c', 'a\0b'])
      expect(() => readSecretFile(directory, name)).toThrow('not the name of a secret')
  })

  it('may be a link, as Kubernetes mounts them, and the mode of what it points to counts', () => {
    put('target', 0o400, 'bytes')
    symlinkSync(join(directory, 'target'), join(directory, 'linked'))
    expect(readSecretFile(directory, 'linked').toString()).toBe('bytes')
    chmodSync(join(directory, 'target'), 0o644)
    expect(() => readSecretFile(directory, 'linked')).toThrow(/readable/)
  })
})

describe('the clock', () => {
  it('follows the file at each use, and ignores it in production', () => {
    const file = join(directory, 'clock')
    const clock = clockFromEnv({ TALLYSTICK_CLOCK_FILE: file })
    const off = () => clock.now() - Date.now()
    expect(Math.abs(off())).toBeLessThan(1_000)
    for (const [text, shift] of [
      ['86400000', 86_400_000],
      ['-3600000\n', -3_600_000],
      ['+5000', 5_000],
      ['', 0],
    ] as const) {
      writeFileSync(file, text)
      expect(Math.abs(off() - shift)).toBeLessThan(1_000)
    }
    writeFileSync(file, '86400000')
    expect(Math.abs(clockFromEnv({ TALLYSTICK_CLOCK_FILE: file, NODE_ENV: 'production' }).now() - Date.now())).toBeLessThan(1_000)
    writeFileSync(file, '1e9')
    expect(off).toThrow(/whole number/)
  })
})

describe('readiness', () => {
  it('names the checks that fail, and all of them once stopping', async () => {
    const readiness = new Readiness()
    let up = false
    readiness.add('database', async () => {
      if (!up) throw new Error('down')
    })
    readiness.add('nats', () => undefined)
    expect(await readiness.failing()).toEqual(['database'])
    up = true
    expect(await readiness.failing()).toEqual([])
    expect(() => readiness.add('nats', () => undefined)).toThrow(/exists/)
    readiness.stop()
    expect(await readiness.failing()).toEqual(['stopping'])
  })

  it('a check that hangs is down after two seconds', async () => {
    const readiness = new Readiness()
    readiness.add('slow', () => new Promise(() => undefined))
    expect(await readiness.failing()).toEqual(['slow'])
  })
})

import { randomBytes } from 'node:crypto'
import { inspect } from 'node:util'
import { describe, expect, it } from 'vitest'
import { createLogger, LOG_FIELDS, scrub } from './logger.js'

function capture() {
  const lines: string[] = []
  const log = createLogger({
    service: 'session-svc',
    fleet: 'acme',
    level: 'trace',
    destination: { write: (line: string) => void lines.push(line) },
  })
  return { log, lines, last: () => JSON.parse(lines.at(-1)!) as Record<string, unknown> }
}

/** Every form in which 32 secret bytes appear in a log by accident. */
function forms(key: Buffer): Record<string, string> {
  return {
    hex: key.toString('hex'),
    'upper-case hex': key.toString('hex').toUpperCase(),
    base64: key.toString('base64'),
    base64url: key.toString('base64url'),
    'array of numbers': JSON.stringify([...key]),
    'inspected Buffer': `<Buffer ${[...key].map((b) => b.toString(16).padStart(2, '0')).join(' ')}>`,
    'inspected Uint8Array': inspect(new Uint8Array(key), { breakLength: 60, maxArrayLength: null }),
    'JSON of a Uint8Array': JSON.stringify(new Uint8Array(key)),
    'JSON of a Buffer': JSON.stringify(key),
  }
}

const keys = Array.from({ length: 40 }, () => randomBytes(32))

function traces(key: Buffer, text: string): string[] {
  const needles = {
    hex: key.toString('hex').slice(0, 24),
    base64: key.toString('base64').slice(0, 20),
    base64url: key.toString('base64url').slice(0, 20),
    list: [...key].slice(0, 10).join(','),
    spaced: [...key]
      .slice(0, 10)
      .map((b) => b.toString(16).padStart(2, '0'))
      .join(' '),
    indexed: `"3":${key[3]},"4":${key[4]},"5":${key[5]}`,
    wide: [...key].slice(0, 6).join(', '),
  }
  const plainText = text.toLowerCase()
  return Object.entries(needles)
    .filter(([, needle]) => text.includes(needle) || plainText.includes(needle.toLowerCase()))
    .map(([name]) => name)
}

describe('a planted key', () => {
  it.each(Object.keys(forms(keys[0]!)))('never appears as %s: in a message, a field, an error, a child, beside other text', (form) => {
    for (const key of keys) {
      const { log, lines } = capture()
      const text = forms(key)[form]!
      log.info(text)
      log.info(`key=${text} of the peer`)
      log.info('%s', text)
      log.warn({ what: text }, `"${text}"`)
      log.warn({ reason: `before\r\n${text}\r\nafter` }, 'x')
      log.error({ err: new Error(`bad key ${text}`) }, 'failed')
      log.error(new Error('outer', { cause: new Error(text) }))
      log.error({ err: { key: text } }, 'not an error')
      log.child({ peer: text, secret: text }).info('child')
      log.child({ subject: 'x' }, { serializers: { subject: () => text } }).info('child with serializer')
      log.info({ secret: text, key: text, [text]: 1 }, 'fields that are not allowed')
      expect(lines.flatMap((line) => traces(key, line))).toEqual([])
      expect(lines.length).toBeGreaterThan(10)
    }
  })

  it('never appears when the bytes themselves are logged', () => {
    for (const key of keys) {
      const { log, lines } = capture()
      const shapes: unknown[] = [
        key,
        new Uint8Array(key),
        key.buffer,
        [...key],
        { bytes: key },
        new Map([['k', key]]),
        BigInt(`0x${key.toString('hex')}`),
      ]
      for (const shape of shapes) {
        log.info({ what: shape, subject: shape, envelopeDigest: shape === key ? undefined : 'x' } as object, 'x')
        log.info('with arguments %s', shape as string)
        log.info(shape as object, 'as the object')
        log.error({ err: shape }, 'x')
      }
      expect(lines.flatMap((line) => traces(key, line))).toEqual([])
    }
  })

  it('of 64 bytes never appears either', () => {
    for (const key of [randomBytes(64), randomBytes(64)])
      for (const text of Object.values(forms(key))) expect(traces(key, scrub(`x ${text} y`))).toEqual([])
  })

  it('never appears as an nkey seed', () => {
    const seed = 'SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY'
    expect(scrub(`seed ${seed}`)).toBe('seed [redacted]')
  })
})

describe('fields', () => {
  it('outside the allow-list are dropped, in child loggers too', () => {
    const { log, last } = capture()
    log
      .child({ correlationId: 'c-1', password: 'p', amount: '100.00' })
      .info({ subject: 's', invoiceNumber: 'INV-1', body: { a: 1 } }, 'text')
    expect(Object.keys(last()).sort()).toEqual(['correlationId', 'fleet', 'level', 'msg', 'service', 'subject', 'time'].sort())
    const { log: other, last: otherLast } = capture()
    other.setBindings({ password: 'p', subject: 's' })
    other.info('text')
    expect(otherLast()).not.toHaveProperty('password')
  })

  it('hold public ids whole and digests cut', () => {
    const { log, last } = capture()
    const fleetId = `tsf1${'abcdefgh234567'.repeat(4).slice(0, 52)}`
    const peer = '12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5'
    const traceId = '0af7651916cd43dd8448eb211c80319c'
    log.info(
      { fleetId, peer, messageId: '01890a5d-ac96-774b-bcce-b302099a8057', traceId, envelopeDigest: 'ab'.repeat(32), count: 3, status: 200 },
      `dialling /ip4/127.0.0.1/tcp/4001/p2p/${peer}`,
    )
    expect(last()).toMatchObject({
      fleetId,
      peer,
      traceId,
      messageId: '01890a5d-ac96-774b-bcce-b302099a8057',
      envelopeDigest: 'ab'.repeat(8),
      count: 3,
      status: 200,
    })
    expect(last().msg).toContain(peer)
    log.info({ envelopeDigest: new Uint8Array(32).fill(0xab) }, 'x')
    expect(last().envelopeDigest).toBe('ab'.repeat(8))
  })

  it('with structure are named, not printed, and long text is cut', () => {
    const { log, last } = capture()
    log.info({ what: { deep: 'secret' }, subject: [1, 2], reason: 'r'.repeat(10_000), path: Symbol('x') } as object, 'x')
    expect(last()).toMatchObject({ what: '[object]', subject: '[object]', path: '[symbol]' })
    expect((last().reason as string).length).toBeLessThan(2_100)
  })

  it('of the allow-list have names only, no values that could hold content', () => {
    for (const forbidden of [
      'body',
      'payload',
      'plaintext',
      'key',
      'secret',
      'token',
      'amount',
      'name',
      'email',
      'iban',
      'value',
      'headers',
    ])
      expect(LOG_FIELDS).not.toContain(forbidden)
  })
})

describe('a line', () => {
  it('stays one line whatever control characters come in', () => {
    const { log, lines } = capture()
    for (const evil of ['a\r\n{"level":"fatal","msg":"forged"}', 'a\u2028b', '\u001b[2J\u001b[31mred', 'a\u0000b', 'a\u0085b']) {
      log.info({ subject: evil, err: new Error(evil) }, evil)
      const line = lines.at(-1)!
      expect(line.endsWith('\n')).toBe(true)
      expect([...line.slice(0, -1)].some((c) => c < ' ')).toBe(false)
      expect(() => JSON.parse(line) as unknown).not.toThrow()
    }
    expect(lines).toHaveLength(5)
  })

  it('keeps a path in a stack that has the length of a key, and no key in its place', () => {
    const path = `/${'a'.repeat(42)}`
    expect(scrub(`at file:${path}.spec.ts:190:36`)).toBe(`at file:${path}.spec.ts:190:36`)
    expect(scrub(`the key ${path}. Then`)).toBe('the key [redacted]. Then')
    expect(scrub(`${path}.ts`)).toBe('[redacted].ts')
  })

  it('is still JSON after scrubbing', () => {
    const { log, lines } = capture()
    for (const key of keys) for (const text of Object.values(forms(key))) log.warn({ reason: text, what: `x"${text}\\` }, `y${text}z"`)
    for (const line of lines) expect(() => JSON.parse(line) as unknown).not.toThrow()
  })

  it('of an error has name, message, causes, stack and code', () => {
    const { log, last } = capture()
    log.error({ err: Object.assign(new TypeError('outer', { cause: new Error('inner') }), { code: 'ECONNREFUSED' }) }, 'failed')
    expect(last()).toMatchObject({
      level: 'error',
      msg: 'failed',
      errorName: 'TypeError',
      errorMessage: 'outer ← inner',
      code: 'ECONNREFUSED',
    })
    expect(last().stack).toContain('logger.spec')
  })
})

it('scrubbing a hostile megabyte takes no time to speak of', () => {
  for (const unit of [
    'a',
    '1',
    ' ',
    '\\',
    '"',
    '1 ',
    '1,',
    '"1":1,',
    '1:',
    '00 ',
    '00:',
    '<Buffer ',
    '<',
    'A=',
    '=',
    'tsf1',
    '12D3KooW',
    'SU',
    '\n',
  ]) {
    const text = unit.repeat(Math.ceil(1_000_000 / unit.length))
    const startedAt = performance.now()
    scrub(text)
    expect(performance.now() - startedAt, unit).toBeLessThan(1_000)
  }
})

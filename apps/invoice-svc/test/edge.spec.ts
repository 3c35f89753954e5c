import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startPostgres, type TestPostgres } from '../../../tools/testing/postgres.ts'
import { apiRoutes } from '../src/module.js'
import { draftInvoice, startInvoiceService, type Service } from './harness.ts'

let postgres: TestPostgres
let service: Service
let limited: Service
let behindTls: Service
beforeAll(async () => {
  postgres = await startPostgres()
  service = await startInvoiceService({ databaseUrl: (await postgres.createFleet('edge')).urls.invoice })
  limited = await startInvoiceService({
    databaseUrl: (await postgres.createFleet('limited')).urls.invoice,
    limits: { apiRatePerMinute: 100, authFailuresPerMinute: 20 },
  })
  behindTls = await startInvoiceService({ databaseUrl: (await postgres.createFleet('tls')).urls.invoice, behindTls: true })
})
afterAll(async () => {
  await service?.stop()
  await limited?.stop()
  await behindTls?.stop()
  await postgres?.stop()
})

const id = '0198c0de-0000-7000-8000-000000000000'
const concrete = (path: string) => path.replaceAll(/:id|:eventId/g, id).replace('/*', '/0/000')

describe('tokens', () => {
  it('every route but the open ones refuses a request without a token, an unknown one, and one without the scope', async () => {
    const open = apiRoutes()
      .filter((route) => route.scope === null)
      .map((route) => route.path)
    expect(open.sort()).toEqual(['/health/live', '/health/ready', '/openapi.json'])
    for (const { method, path, scope } of apiRoutes()) {
      if (scope === null) continue
      const none = await service.request(method, concrete(path), { token: null })
      expect([path, none.status, none.json.code]).toEqual([path, 401, 'Unauthenticated'])
      expect(none.headers['www-authenticate']).toBe('Bearer')
      expect((await service.request(method, concrete(path), { token: 'not-a-token-of-this-fleet' })).status).toBe(401)
      if (scope.endsWith(':write')) {
        const refused = await service.request(method, concrete(path), { token: service.tokens.auditor })
        expect([path, refused.status, refused.json.code]).toEqual([path, 403, 'Forbidden'])
      }
    }
  })

  it('writes refusals to the audit outbox, many as one', async () => {
    for (let n = 0; n < 30; n++) await service.request('GET', '/v1/fleet', { token: 'wrong-wrong-wrong-wrong' })
    await service.app.refusals.flush()
    const rows = await service.db.auditOutbox.findMany()
    const events = rows
      .map((row) => row.event as { type: string; body: { reason?: string; count: number } })
      .filter((event) => event.type === 'AuthFailed')
    const unknown = events.filter((event) => event.body.reason === 'unknown-token')
    expect(unknown.reduce((sum, event) => sum + event.body.count, 0)).toBeGreaterThanOrEqual(30)
    expect(unknown.length).toBeLessThan(10)
    expect(JSON.stringify(rows, (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value))).not.toContain('wrong-wrong')
  })

  it('a refused body is not even read', async () => {
    const answer = await service.request('POST', '/v1/invoices', { token: null, body: 'x'.repeat(900_000) })
    expect(answer.status).toBe(401)
  })
})

describe('rate limit', () => {
  it('lets 100 requests a minute through, per endpoint and client, and says when to come again', async () => {
    const answers = await Promise.all(Array.from({ length: 130 }, () => limited.request('GET', '/v1/invoices')))
    expect(answers.filter((answer) => answer.status === 200)).toHaveLength(100)
    const refused = answers.find((answer) => answer.status === 429)!
    expect(refused.json.code).toBe('RateLimited')
    expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0)
    expect(Number(refused.headers['retry-after'])).toBeLessThanOrEqual(60)
    // Another endpoint, another client: not affected.
    expect((await limited.request('GET', '/v1/shares')).status).toBe(200)
    expect((await limited.request('GET', '/v1/invoices', { token: limited.tokens.other })).status).toBe(200)
    expect(await limited.metrics.metrics()).toMatch(/tallystick_rate_limited_total\{layer="api"\} 30/)
    limited.clock.advance(61_000)
    expect((await limited.request('GET', '/v1/invoices')).status).toBe(200)
  })

  it('slows the guessing of tokens, by address', async () => {
    const answers = []
    for (let n = 0; n < 25; n++) answers.push((await limited.request('GET', '/v1/fleet', { token: `guess-number-${n}-guess` })).status)
    expect(answers.filter((status) => status === 401)).toHaveLength(20)
    expect(answers.filter((status) => status === 429)).toHaveLength(5)
  })
})

describe('hostile input', () => {
  const post = (body: string | Uint8Array, type = 'application/json') => service.request('POST', '/v1/invoices', { body, type })
  const timed = async (body: string, type: string) => {
    const begun = performance.now()
    const answer = await post(body, type)
    return { answer, ms: performance.now() - begun }
  }

  it('answers a nesting bomb of 1 MiB in under 100 ms', async () => {
    const bombs: Array<[string, string]> = [
      ['['.repeat(1_000_000), 'application/json'],
      ['{"a":'.repeat(200_000), 'application/json'],
      [`${'<a>'.repeat(340_000)}`, 'application/xml'],
      [
        `<Invoice xmlns="urn:oasis:names:specification:ubl:schema:xsd:Invoice-2">${'<a>'.repeat(170_000)}${'</a>'.repeat(170_000)}</Invoice>`.slice(
          0,
          1_048_576,
        ),
        'application/xml',
      ],
    ]
    await post('[1]')
    await post('<a/>', 'application/xml')
    for (const [body, type] of bombs) {
      const { answer, ms } = await timed(body, type)
      expect(answer.status, answer.text).toBeGreaterThanOrEqual(400)
      expect(answer.status).toBeLessThan(500)
      expect(ms).toBeLessThan(100)
    }
  })

  it('refuses a document type declaration by name', async () => {
    const answer = await post(
      '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><Invoice xmlns="urn:oasis:names:specification:ubl:schema:xsd:Invoice-2">&e;</Invoice>',
      'application/xml',
    )
    expect([answer.status, answer.json.code]).toEqual([422, 'XML-DOCTYPE'])
    expect(answer.text).not.toContain('root:')
  })

  it('refuses names that reach into prototypes, at every level, and repeated keys', async () => {
    for (const body of [
      '{"__proto__":{"x":1}}',
      '{"seller":{"constructor":{"prototype":{"x":1}}}}',
      '{"seller":{"prototype":1}}',
      '{"number":"1","number":"2"}',
      '{"a":1e999}',
      '{"a":"\u0001"}',
      '{',
      '',
      '[] []',
      '\ufeff{}',
    ]) {
      const answer = await post(body)
      expect([body, answer.status >= 400 && answer.status < 500]).toEqual([body, true])
    }
    expect((await post('{"seller":{"__proto__":1}}')).json.errors[0].pointer).toBe('/seller/__proto__')
    expect(({} as Record<string, unknown>).x).toBeUndefined()
    expect((await post(Uint8Array.of(0x22, 0xff, 0x22))).status).toBe(400)
  })

  it('limits bodies, and takes only what it names', async () => {
    expect((await post(`"${'x'.repeat(1_048_600)}"`)).status).toBe(413)
    expect((await post('<a>'.padEnd(4 * 1024 * 1024 + 10, ' '), 'application/xml')).status).toBe(413)
    expect((await post('a=b', 'application/x-www-form-urlencoded')).status).toBe(415)
    expect((await service.request('POST', '/v1/consents', { body: '<a/>', type: 'application/xml' })).status).toBe(415)
  })

  it('names the unknown field of a strict body and keeps its value to itself', async () => {
    const answer = await service.request('POST', '/v1/peers', { body: { invitation: 'tally1x', password: 'hunter2hunter2' } })
    expect(answer.status).toBe(400)
    expect(answer.json.errors).toEqual([{ pointer: '/password', rule: 'UnknownField', message: 'unknown field' }])
    expect(answer.text).not.toContain('hunter2')
  })

  it('refuses a broken invitation with its reason', async () => {
    for (const invitation of ['x', 'tally1', 'tally1qqqqqqqqqqqqqqqqqqqqqqqq', 'tally2aaaa', `tally1${'a'.repeat(16_000)}`]) {
      const answer = await service.request('POST', '/v1/peers', { body: { invitation } })
      expect([invitation.slice(0, 20), answer.status]).toEqual([invitation.slice(0, 20), 422])
    }
  })

  it('sends security headers with everything, and a trace id with every problem', async () => {
    for (const answer of [
      await service.request('GET', '/v1/invoices'),
      await service.request('GET', '/nowhere'),
      await service.request('GET', '/v1/fleet', { token: null }),
    ]) {
      expect(answer.headers).toMatchObject({
        'x-content-type-options': 'nosniff',
        'x-frame-options': 'DENY',
        'content-security-policy': expect.stringContaining("default-src 'none'"),
      })
      if (answer.status >= 400) expect(answer.json.traceId).toMatch(/^[0-9a-f-]{36}$/)
    }
    const away = await service.request('GET', '/v1/fleet')
    expect([away.status, away.json.code]).toEqual([503, 'Network'])
    expect(Number(away.headers['retry-after'])).toBeGreaterThan(0)
  })
})

describe('the edge of the edge', () => {
  it('answers a malformed URL with a problem as well', async () => {
    for (const path of ['/%zz', '/v1/invoices/%e0%a4%a', '/%', '/v1/%zz?token=hunter2']) {
      const answer = await service.request('GET', path)
      expect([path, answer.status]).toEqual([path, 400])
      expect(answer.headers['content-type']).toMatch(/^application\/problem\+json/)
      expect(answer.json).toMatchObject({ code: 'InvalidRequest', status: 400, traceId: expect.stringMatching(/^[0-9a-f-]{36}$/) })
      expect(answer.headers).toMatchObject({ 'x-content-type-options': 'nosniff', 'cache-control': 'no-store' })
      expect(answer.text).not.toMatch(/zz|hunter2/)
    }
  })

  it('tells browsers to stay on TLS where TLS ends in front, with every answer, and nowhere else', async () => {
    const hsts = 'strict-transport-security'
    for (const path of ['/v1/invoices', '/nowhere', '/%zz']) {
      expect((await behindTls.request('GET', path)).headers[hsts]).toBe('max-age=31536000; includeSubDomains')
      expect((await service.request('GET', path)).headers[hsts]).toBeUndefined()
    }
  })
})

describe('idempotency', () => {
  const count = async () => await service.db.document.count()
  const send = (key: string, body: unknown, more: { token?: string; path?: string } = {}) =>
    service.request('POST', more.path ?? '/v1/invoices', {
      body,
      headers: { 'idempotency-key': key },
      ...(more.token === undefined ? {} : { token: more.token }),
    })

  it('gives the stored answer to the same request', async () => {
    const before = await count()
    const first = await send('key-1', draftInvoice())
    const second = await send('key-1', draftInvoice())
    expect([first.status, second.status]).toEqual([201, 201])
    expect(second.text).toBe(first.text)
    expect(second.headers['idempotency-replayed']).toBe('true')
    expect(await count()).toBe(before + 1)
  })

  it('refuses the key for another body or path, and keeps clients apart', async () => {
    await send('key-2', draftInvoice())
    const other = await send('key-2', draftInvoice({ dueDate: '2026-04-30' }))
    expect([other.status, other.json.code]).toEqual([422, 'IdempotencyKeyReused'])
    expect((await send('key-2', draftInvoice(), { path: '/v1/credit-notes' })).status).toBe(422)
    expect((await send('key-2', draftInvoice(), { token: service.tokens.other })).headers['idempotency-replayed']).toBeUndefined()
  })

  it('50 requests with one key at once have one effect', async () => {
    const before = await count()
    const answers = await Promise.all(Array.from({ length: 50 }, () => send('key-3', draftInvoice())))
    expect(await count()).toBe(before + 1)
    expect(new Set(answers.map((answer) => answer.status)).size).toBeLessThanOrEqual(2)
    for (const answer of answers) expect([201, 409]).toContain(answer.status)
    const ids = new Set(answers.filter((answer) => answer.status === 201).map((answer) => answer.json.id))
    expect(ids.size).toBe(1)
    expect((await send('key-3', draftInvoice())).json.id).toBe([...ids][0])
  })

  it('stores refusals too, and forgets after a day', async () => {
    const first = await send('key-4', { color: 1 })
    const second = await send('key-4', { color: 1 })
    expect([first.status, second.status, second.text === first.text]).toEqual([422, 422, true])
    service.clock.advance(25 * 3_600_000)
    expect((await send('key-4', draftInvoice())).status).toBe(201)
  })

  it('a request that was cut off is taken over, and its late effect is refused', async () => {
    const { claimOperation } = await import('../src/http/operation.js')
    const request = { operation: 'POST /v1/x', body: new Uint8Array(), mediaType: '' }
    const cut = await claimOperation(service.app, 'admin', 'key-5', request)
    await expect(claimOperation(service.app, 'admin', 'key-5', request)).rejects.toThrow(/still running/)
    service.clock.advance(11_000)
    const taken = await claimOperation(service.app, 'admin', 'key-5', request)
    if (!('run' in cut) || !('run' in taken)) throw new Error('both should run')
    await expect(service.db.$transaction((tx) => cut.run.finish(tx, 201, { from: 'cut' }))).rejects.toThrow(/took too long/)
    await service.db.$transaction((tx) => taken.run.finish(tx, 201, { from: 'taken' }))
    expect(await claimOperation(service.app, 'admin', 'key-5', request)).toEqual({ replay: { status: 201, text: '{"from":"taken"}' } })
  })

  it('a request that is only slow keeps its key', async () => {
    const { claimOperation } = await import('../src/http/operation.js')
    const deps = {
      db: service.db,
      log: service.app.log,
      clock: { now: () => Date.now() },
      limits: { idempotencyLeaseMs: 300, idempotencyTtlMs: 60_000 },
    }
    const request = { operation: 'POST /v1/x', body: new Uint8Array(), mediaType: '' }
    const slow = await claimOperation(deps, 'admin', 'key-6', request)
    if (!('run' in slow)) throw new Error('it should run')
    for (const end = Date.now() + 900; Date.now() < end;) {
      await expect(claimOperation(deps, 'admin', 'key-6', request)).rejects.toThrow(/still running/)
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    await service.db.$transaction((tx) => slow.run.finish(tx, 201, {}))
    slow.run.end()
  })

  it('refuses a key that is none', async () => {
    expect((await send('x'.repeat(129), draftInvoice())).status).toBe(400)
    expect((await send('a b', draftInvoice())).status).toBe(400)
  })
})

/** Guards that a friendly day never meets. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { encode } from '@tallystick/wire/cbor'
import { contentDigest, encodePayload } from '@tallystick/wire/payload'
import { z } from 'zod'
import { startPostgres, type TestPostgres } from '../../../tools/testing/postgres.ts'
import { AuditAggregator } from '../src/audit/aggregator.js'
import { readMessage } from '../src/inbound/read-message.js'
import { AUDIT_AGGREGATE_KEYS, LIMIT_VARIABLES, LIMITS_ENV, limitsWith, type LimitName } from '../src/limits.js'
import { draftInvoice, startInvoiceService, type Service } from './harness.ts'
import { StandInFleet } from './two-fleets.ts'

let postgres: TestPostgres
let service: Service
beforeAll(async () => {
  postgres = await startPostgres()
  service = await startInvoiceService({
    databaseUrl: (await postgres.createFleet('limits')).urls.invoice,
    limits: { documentBytes: 2_000, changesListeners: 2 },
  })
})
afterAll(async () => {
  await service?.stop()
  await postgres?.stop()
})

const created = async (overrides: Record<string, unknown> = {}) =>
  (await service.request('POST', '/v1/invoices', { body: draftInvoice(overrides) })).json.id as string
const issue = async (id: string, series: string) => await service.request('POST', `/v1/invoices/${id}/issue`, { body: { series } })

interface Written {
  type: string
  body: Record<string, unknown> & { count: number }
}
const events = async (type: string) =>
  (await service.db.auditOutbox.findMany({ orderBy: { id: 'asc' } }))
    .map((row) => row.event as unknown as Written)
    .filter((event) => event.type === type)

describe('documents', () => {
  it('that cannot be sent are not issued, and take no number', async () => {
    const large = await issue(await created({ notes: [{ text: 'x'.repeat(2_000) }] }), 'BIG')
    expect([large.status, large.json.code]).toEqual([413, 'EndpointTooLarge'])
    expect((await issue(await created(), 'BIG')).json.number).toBe('BIG-2026-0001')
  })

  it('of more items than a document can have are refused before they are looked at', () => {
    const fleet = new StandInFleet('acme')
    const body = encode(new Array<number>(400_001).fill(0))
    const payload = encodePayload({
      v: 1,
      kind: 'document',
      id: '0198c0de-0000-7000-8000-000000000001',
      seq: 0,
      prevHash: new Uint8Array(32),
      issuedAt: 1,
      contentDigest: contentDigest(body),
      body,
    })
    const begun = performance.now()
    expect(() => readMessage(payload, { certificate: fleet.certificate, ownFleetId: fleet.fleetId, now: Date.now() })).toThrow(
      expect.objectContaining({ code: 'Serialization', message: expect.stringContaining('more than 400000 items') }),
    )
    expect(performance.now() - begun).toBeLessThan(500)
  })

  it('skips a thousand numbers that imported documents have taken, not more', async () => {
    const taken = (series: string, count: number) => service.db.$executeRaw`
      INSERT INTO document (id, kind, state, number, source, terms, summary, body, content_digest, created_by, created_at, updated_at, issued_at)
      SELECT gen_random_uuid(), 'invoice', 'issued', ${series} || '-2026-' || lpad(n::text, 4, '0'), 'ubl', '{}', '{}', 'x', 'x', 'test', now(), now(), now()
      FROM generate_series(1, ${count}::int) n`
    await taken('MANY', 1_000)
    await taken('SOME', 999)
    const refused = await issue(await created(), 'MANY')
    expect([refused.status, refused.json.code]).toEqual([409, 'Conflict'])
    expect((await issue(await created(), 'SOME')).json.number).toBe('SOME-2026-1000')
  })
})

describe('listeners', () => {
  it('are counted: one too many is told to come again, and a place that is left is free', async () => {
    const { feed } = service.app
    const quiet = () => undefined
    const ends = [await feed.listen(undefined, quiet, quiet), await feed.listen(undefined, quiet, quiet)]
    const refused = await service.request('GET', '/v1/events')
    expect([refused.status, refused.json.code, refused.headers['retry-after']]).toEqual([429, 'RateLimited', '10'])
    ends[0]!()
    const again = await feed.listen(undefined, quiet, quiet)
    again()
    ends[1]!()
  })
})

describe('audit events', () => {
  it('of a wide flood stay few: what is beyond is counted with the first of its kind', async () => {
    const refusals = new AuditAggregator({ ...service.app, wake: () => undefined })
    for (let n = 0; n < AUDIT_AGGREGATE_KEYS + 101; n++) refusals.authFailed('scope', `client-${n}`)
    await refusals.flush()
    const written = await events('AuthFailed')
    // The very first is written at once, the rest when the interval ends.
    expect(written).toHaveLength(1 + AUDIT_AGGREGATE_KEYS)
    expect(written.reduce((sum, event) => sum + event.body.count, 0)).toBe(AUDIT_AGGREGATE_KEYS + 101)
    expect(written.filter((event) => event.body.count > 1).map((event) => [event.body.client, event.body.count])).toEqual([
      ['client-1', 101],
    ])
  })

  it('say that a circuit has changed, and listeners hear of it', async () => {
    const transition = { service: 'invoice-svc', target: 'session-svc session.v1.seal', from: 'closed', to: 'open' } as const
    await service.assembled.breakerChanged({ ...transition, at: service.clock.now() })
    expect(await events('BreakerStateChanged')).toMatchObject([{ actor: 'invoice-svc', stream: 'security', body: transition }])
    expect(await service.db.changeEvent.findMany({ where: { topic: 'breaker' } })).toMatchObject([
      { subject: transition.target, data: { target: transition.target, from: 'closed', to: 'open' } },
    ])
  })
})

describe('variables', () => {
  const parse = (variables: Record<string, string>) => z.object(LIMITS_ENV).parse(variables)

  it('override each limit by its name, the first name of the rate included', () => {
    const names = Object.keys(LIMIT_VARIABLES) as LimitName[]
    for (const [n, name] of names.entries()) {
      const variable = LIMIT_VARIABLES[name]
      expect(variable).toBe(`TALLYSTICK_INVOICE_${name.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`)
      expect(limitsWith({}, parse({ [variable]: String(n + 1) }))).toEqual(limitsWith({ [name]: n + 1 }))
    }
    expect(limitsWith({}, parse({}))).toEqual(limitsWith())
    expect(limitsWith({}, parse({ TALLYSTICK_API_RATE_PER_MINUTE: '7' })).apiRatePerMinute).toBe(7)
    expect(limitsWith({}, parse({ TALLYSTICK_API_RATE_PER_MINUTE: '7', [LIMIT_VARIABLES.apiRatePerMinute]: '8' })).apiRatePerMinute).toBe(8)
  })

  it('refuse what the bus or a peer would refuse', () => {
    for (const [name, value] of [
      ['pumpBatch', '65'],
      ['documentBytes', '4194304'],
      ['statementLifetimeMs', '7776000001'],
      ['pumpPollMs', '2147483648'],
      ['stepBatch', '0'],
      ['retryMaxMs', '1.5'],
    ] as const)
      expect(() => parse({ [LIMIT_VARIABLES[name]]: value }), name).toThrow()
  })
})

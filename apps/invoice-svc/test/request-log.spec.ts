import { currentContext } from '@tallystick/nats-rpc/context'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { startPostgres, type TestPostgres } from '../../../tools/testing/postgres.ts'
import type { Rpc } from '../src/app.js'
import { draftInvoice, startInvoiceService, type Service } from './harness.ts'

/** The correlation ids under which session-svc was called. */
const called: (string | undefined)[] = []
const rpc: Rpc = {
  call: (contract) => {
    called.push(currentContext()?.correlationId)
    return Promise.resolve(contract.response.parse({ ok: false, code: 'NotReady', message: 'no certificate yet' })) as never
  },
  circuits: () => [],
}
const lines: { fields: Record<string, unknown>; text: string }[] = []

let postgres: TestPostgres
let service: Service
beforeAll(async () => {
  postgres = await startPostgres()
  service = await startInvoiceService({ databaseUrl: (await postgres.createFleet('request-log')).urls.invoice, rpc })
  service.app.log.debug = ((fields: Record<string, unknown>, text: string) => lines.push({ fields, text })) as never
})
afterAll(async () => {
  await service?.stop()
  await postgres?.stop()
})

it('every request is logged with its outcome and a correlation id of its own, under which the other services are called too', async () => {
  const created = await service.request('POST', '/v1/invoices', { body: draftInvoice(), headers: { 'idempotency-key': 'log-1' } })
  expect(created.status).toBe(201)
  const read = await service.request('GET', `/v1/documents/${String(created.json.id)}`)
  expect(read.status).toBe(200)
  expect((await service.request('GET', '/v1/fleet')).status).toBe(503)

  const logged = () => lines.filter((line) => line.text === 'request').map((line) => line.fields)
  // A line is written once its response is out.
  await expect.poll(() => logged().length).toBe(3)
  const requests = logged()
  expect(requests).toEqual(
    [
      { method: 'POST', path: '/v1/invoices', status: 201 },
      { method: 'GET', path: '/v1/documents/:id', status: 200 },
      { method: 'GET', path: '/v1/fleet', status: 503 },
    ].map((each) => ({ ...each, durationMs: expect.any(Number), correlationId: expect.stringMatching(/^[0-9a-f-]{36}$/) })),
  )
  expect(new Set(requests.map((fields) => fields.correlationId)).size).toBe(3)
  expect(called).toEqual([requests[2]!.correlationId])
})

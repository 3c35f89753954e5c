import 'reflect-metadata'
import { readFileSync, writeFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { SCOPES } from '../src/http/tokens.js'
import { apiRoutes, openApiText } from '../src/module.js'

const FILE = new URL('../../../docs/openapi.json', import.meta.url)

it('the checked-in description is the one that the routes give (UPDATE_OPENAPI=1 writes it)', () => {
  const text = openApiText()
  if (process.env.UPDATE_OPENAPI === '1') writeFileSync(FILE, text)
  expect(readFileSync(FILE, 'utf8')).toBe(text)
})

it('every reference leads to a schema, every operation has a name of its own and says what it refuses', () => {
  const description = JSON.parse(openApiText()) as {
    openapi: string
    paths: Record<string, Record<string, { operationId: string; responses: Record<string, unknown>; 'x-scope'?: string }>>
    components: { schemas: Record<string, unknown> }
  }
  expect(description.openapi).toBe('3.1.0')
  for (const [, name] of JSON.stringify(description).matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g))
    expect(Object.keys(description.components.schemas)).toContain(name)
  const operations = Object.values(description.paths).flatMap((path) => Object.values(path))
  expect(operations).toHaveLength(apiRoutes().length)
  expect(new Set(operations.map((operation) => operation.operationId)).size).toBe(operations.length)
  for (const operation of operations) {
    if (operation['x-scope'] === undefined) continue
    expect(SCOPES).toContain(operation['x-scope'])
    expect(Object.keys(operation.responses)).toEqual(expect.arrayContaining(['400', '401', '403', '429']))
  }
})

it('serves every path of the public contract', () => {
  const served = apiRoutes().map(({ method, path }) => `${method} ${path}`)
  expect(served).toEqual(
    expect.arrayContaining([
      'GET /v1/fleet',
      'POST /v1/peers',
      'GET /v1/peers',
      'GET /v1/peers/:id',
      'POST /v1/peers/:id/verify',
      'POST /v1/peers/:id/block',
      'DELETE /v1/peers/:id',
      'POST /v1/consents',
      'DELETE /v1/consents/:id',
      'POST /v1/invoices',
      'PATCH /v1/invoices/:id',
      'POST /v1/invoices/:id/issue',
      'GET /v1/invoices',
      'GET /v1/invoices/:id',
      'POST /v1/credit-notes',
      'POST /v1/documents/:id/shares',
      'GET /v1/shares',
      'GET /v1/shares/:id',
      'POST /v1/shares/:id/retry',
      'POST /v1/shares/:id/cancel',
      'GET /v1/inbox',
      'GET /v1/inbox/:id',
      'POST /v1/inbox/:id/verdict',
      'GET /v1/documents/:id/evidence',
      'GET /v1/audit/events',
      'GET /v1/audit/checkpoint',
      'GET /v1/audit/inclusion/:eventId',
      'GET /v1/audit/consistency',
      'GET /checkpoint',
      'GET /tile/*',
      'GET /v1/breakers',
      'GET /v1/limits',
      'POST /v1/peers/:id/rotate',
      'POST /v1/peers/:id/resync',
      'PATCH /v1/peers/:id',
      'POST /v1/fleet/renew-identity',
      'GET /v1/custody',
      'POST /v1/custody/backup',
      'POST /v1/custody/rotate-kek',
      'GET /v1/events',
      'GET /openapi.json',
      'GET /health/live',
      'GET /health/ready',
    ]),
  )
})

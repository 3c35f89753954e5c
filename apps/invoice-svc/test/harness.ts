/** One invoice-svc in this process on a real PostgreSQL. What it is wired to is up to the test. */
import 'reflect-metadata'
import { createHash, randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { NestFactory } from '@nestjs/core'
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify'
import { PrismaPg } from '@prisma/adapter-pg'
import { RpcFault } from '@tallystick/nats-rpc/fault'
import { createLogger } from '@tallystick/service-host/logger'
import { Registry } from 'prom-client'
import { TRANSACTION, type App, type Rpc } from '../src/app.js'
import { PrismaClient } from '../src/gen/client.js'
import { configureEdge, frameworkErrors } from '../src/http/configure.js'
import { SCOPES, TokenBook, type Scope } from '../src/http/tokens.js'
import { limitsWith, type Limits } from '../src/limits.js'
import { apiRoutes, assemble, type Assembled } from '../src/module.js'

/** As if no other service were there. */
export const NOBODY: Rpc = {
  call: (contract) => Promise.reject(new RpcFault('Network', contract.subject, 'nobody listens', { origin: 'transport' })),
  circuits: () => [],
}

export class TestClock {
  #offset = 0
  now(): number {
    return Date.now() + this.#offset
  }
  advance(ms: number): void {
    this.#offset += ms
  }
}

export interface Answer {
  readonly status: number
  readonly headers: Record<string, unknown>
  readonly text: string
  /** The body as JSON. */
  readonly json: any // eslint-disable-line @typescript-eslint/no-explicit-any -- shapes are what the tests look at
}

export interface Request {
  readonly token?: string | null
  readonly headers?: Record<string, string>
  /** Sent as JSON, unless it is text or bytes. */
  readonly body?: unknown
  readonly type?: string
}

export interface Service {
  readonly assembled: Assembled
  readonly app: App
  readonly nest: NestFastifyApplication
  readonly db: PrismaClient
  readonly clock: TestClock
  readonly metrics: Registry
  readonly tokens: Record<'admin' | 'auditor' | 'other', string>
  request(method: string, path: string, request?: Request): Promise<Answer>
  stop(): Promise<void>
}

export async function startInvoiceService(options: {
  databaseUrl: string
  rpc?: Rpc
  limits?: Partial<Limits>
  background?: boolean
  behindTls?: boolean
}): Promise<Service> {
  const db = new PrismaClient({
    transactionOptions: TRANSACTION,
    adapter: new PrismaPg({ connectionString: options.databaseUrl, max: 12 }, { schema: 'invoice' }),
  })
  const tokens = { admin: newToken(), auditor: newToken(), other: newToken() }
  const reading = SCOPES.filter((scope) => scope.endsWith(':read'))
  const entry = (name: keyof typeof tokens, scopes: readonly Scope[]) => ({
    name,
    scopes: [...scopes],
    sha256: createHash('sha256').update(tokens[name]).digest('hex'),
  })
  const clock = new TestClock()
  const { behindTls = false } = options
  const metrics = new Registry()
  const assembled = assemble({
    db,
    clock,
    metrics,
    rpc: options.rpc ?? NOBODY,
    log: createLogger({ service: 'invoice-svc', level: process.env.TEST_LOG_LEVEL ?? 'silent' }),
    tokens: new TokenBook([entry('admin', SCOPES), entry('auditor', reading), entry('other', SCOPES)]),
    limits: limitsWith({
      apiRatePerMinute: 100_000,
      authFailuresPerMinute: 100_000,
      pumpPollMs: 50,
      retryFirstMs: 50,
      retryMaxMs: 200,
      ...options.limits,
    }),
    missing: () => Promise.resolve([]),
  })
  const nest = await NestFactory.create<NestFastifyApplication>(
    assembled.module,
    new FastifyAdapter({ frameworkErrors: frameworkErrors(assembled.app, { behindTls }) }),
    {
      logger: false,
      abortOnError: false,
    },
  )
  configureEdge(nest, assembled.app, { routes: apiRoutes(), behindTls })
  await nest.init()
  await nest.getHttpAdapter().getInstance().ready()
  if (options.background === true) assembled.start()
  return {
    assembled,
    app: assembled.app,
    nest,
    db,
    clock,
    metrics,
    tokens,
    async request(method, path, { token = tokens.admin, headers = {}, body, type } = {}) {
      const payload =
        body === undefined ? undefined : typeof body === 'string' || body instanceof Uint8Array ? Buffer.from(body) : JSON.stringify(body)
      const answer = await nest.inject({
        method: method as 'GET',
        url: path,
        headers: {
          ...(token === null ? {} : { authorization: `Bearer ${token}` }),
          ...(payload === undefined ? {} : { 'content-type': type ?? 'application/json' }),
          ...headers,
        },
        ...(payload === undefined ? {} : { payload }),
      })
      const text = answer.payload
      return {
        status: answer.statusCode,
        headers: answer.headers,
        text,
        json: /json/.test(String(answer.headers['content-type'])) && text !== '' ? JSON.parse(text) : undefined,
      }
    },
    async stop() {
      if (options.background === true) await assembled.stop()
      await nest.close()
      await db.$disconnect()
    },
  }
}

function newToken(): string {
  return randomBytes(24).toString('base64url')
}

/** A document that breaks no rule, without a number. */
export function draftInvoice(overrides: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    currency: 'EUR',
    issueDate: '2026-03-01',
    dueDate: '2026-03-31',
    buyerReference: 'PO-7',
    typeCode: '380',
    seller: {
      name: 'Acme GmbH',
      vatIdentifier: 'DE123456789',
      electronicAddress: { value: '123456789', schemeId: '9930' },
      address: { line1: 'Hauptstr. 1', city: 'Berlin', postCode: '10115', country: 'DE' },
    },
    buyer: {
      name: 'Globex BV',
      electronicAddress: { value: 'NL123', schemeId: '9944' },
      address: { city: 'Utrecht', postCode: '3511', country: 'NL' },
    },
    paymentTerms: 'Net 30 days',
    lines: [
      { id: '1', quantity: '3', unit: 'C62', item: { name: 'Widget' }, price: { net: '19.90' }, vat: { code: 'S', rate: '19' } },
      { id: '2', quantity: '1', unit: 'HUR', item: { name: 'Setup' }, price: { net: '80' }, vat: { code: 'S', rate: '19' } },
    ],
    ...overrides,
  }
}

export function sampleXml(): string {
  return readFileSync(new URL('../../../samples/acme-invoice.xml', import.meta.url), 'utf8')
}

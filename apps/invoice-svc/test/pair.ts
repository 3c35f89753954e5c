/** The seller and the buyer of one test file, pinned to each other. */
import { expect } from 'vitest'
import { startPostgres, type TestPostgres } from '../../../tools/testing/postgres.ts'
import type { Limits } from '../src/limits.js'
import { draftInvoice, startInvoiceService, type Service } from './harness.ts'
import { carry, StandInFleet } from './two-fleets.ts'

let postgres: TestPostgres | undefined
export interface Side {
  readonly fleet: StandInFleet
  service: Service
  ownerUrl: string
}
export const seller = { fleet: new StandInFleet('acme') } as Side
export const buyer = { fleet: new StandInFleet('globex') } as Side

/** For beforeAll. */
export async function startPair(): Promise<void> {
  await startPairWith({})
}

export async function startPairWith(limits: Partial<Limits>): Promise<void> {
  postgres = await startPostgres()
  for (const side of [seller, buyer]) {
    const { urls, ownerUrl } = await postgres.createFleet(side.fleet.name)
    side.ownerUrl = ownerUrl
    side.service = await startInvoiceService({
      databaseUrl: urls.invoice,
      rpc: side.fleet.rpc,
      background: true,
      limits,
    })
  }
  for (const [one, other] of [
    [seller, buyer],
    [buyer, seller],
  ] as const) {
    const { invitation } = (await other.service.request('GET', '/v1/fleet')).json as { invitation: string }
    const pinned = await one.service.request('POST', '/v1/peers', { body: { invitation } })
    expect([pinned.status, pinned.json.state], pinned.text).toEqual([201, 'active'])
  }
}

/** For afterAll. */
export async function stopPair(): Promise<void> {
  await seller.service?.stop()
  await buyer.service?.stop()
  await postgres?.stop()
}

export async function until<T>(look: () => Promise<T | undefined | false>): Promise<T> {
  for (const deadline = Date.now() + 25_000; Date.now() < deadline;) {
    const seen = await look()
    if (seen !== undefined && seen !== false) return seen
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  throw new Error('it did not happen in 25 s')
}

/** Both relays carry whatever waits, both ways, until the condition holds. */
export async function carryUntil<T>(look: () => Promise<T | undefined | false>): Promise<T> {
  return await until(async () => {
    await carry(seller, buyer)
    await carry(buyer, seller)
    return await look()
  })
}

export async function issued(overrides: Record<string, unknown> = {}): Promise<string> {
  const draft = await seller.service.request('POST', '/v1/invoices', { body: draftInvoice(overrides) })
  const answer = await seller.service.request('POST', `/v1/invoices/${draft.json.id}/issue`)
  expect(answer.status, answer.text).toBe(200)
  return answer.json.id as string
}

export const consent = async (side: typeof seller, peer: StandInFleet, purpose: string) => {
  const answer = await side.service.request('POST', '/v1/consents', {
    body: { peerId: peer.fleetId, purpose, kinds: ['invoice', 'credit-note', 'verdict'] },
  })
  expect(answer.status, answer.text).toBe(201)
  return answer.json.id as string
}
export const share = async (documentId: string) =>
  await seller.service.request('POST', `/v1/documents/${documentId}/shares`, { body: { peerId: buyer.fleet.fleetId } })
export const shareState = async (id: string) => (await seller.service.request('GET', `/v1/shares/${id}`)).json
export const inState = (id: string, state: string) => async () => {
  const row = await shareState(id)
  return row.state === state ? row : undefined
}

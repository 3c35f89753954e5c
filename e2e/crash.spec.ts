/** kill -9 of each of the eight services and of NATS during a batch of 20 invoices: none lost, none twice. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import {
  auditEvents,
  exampleInvoice,
  get,
  grant,
  issueUbl,
  pinEachOther,
  share,
  shareReaches,
  startTwoFleets,
  until,
  type TwoFleets,
} from './support.ts'

const BATCH = 20
const VICTIMS = ['invoice-svc', 'session-svc', 'relay-svc', 'audit-svc', 'nats'] as const

let fleets: TwoFleets
beforeAll(async () => {
  fleets = await startTwoFleets()
  await pinEachOther(fleets)
  await grant(fleets.acme, fleets.globexId)
  await grant(fleets.globex, fleets.acmeId)
})
afterAll(() => fleets?.stop())

it('kill -9 of every service and of NATS during a batch of 20 invoices loses none and duplicates none', { timeout: 240_000 }, async () => {
  const { acme, globex, globexId } = fleets
  const source = exampleInvoice('ubl-tc434-example9.xml', 'acme-invoice.xml').toString()
  const invoice = (n: number) =>
    source.replace(/(<cbc:ID[^>]*>)([^<]*)(<\/cbc:ID>)/, (_, open: string, id: string, close: string) => `${open}${id}-B${n}${close}`)
  const victims = [acme, globex].flatMap((fleet) => VICTIMS.map((service) => ({ fleet, service })))

  const shares: { shareId: string; contentDigest: string }[] = []
  const send = async () => {
    for (let n = 0; n < BATCH; n++) {
      const { id, contentDigest } = await issueUbl(acme, invoice(n))
      shares.push({ shareId: (await share(acme, id, globexId)).shareId, contentDigest })
    }
  }
  const kill = async () => {
    for (const [turn, { fleet, service }] of victims.entries()) {
      // Spread over the batch: the next victim falls when two more shares are under way.
      await until(`share ${turn * 2} is under way`, async () => shares.length >= turn * 2, { timeoutMs: 120_000 })
      await fleet.kill(service, 'SIGKILL')
    }
  }
  await Promise.all([send(), kill()])
  expect(shares).toHaveLength(BATCH)
  await Promise.all([acme.ready(), globex.ready()])

  for (const { shareId } of shares) await shareReaches(acme, shareId, 'delivered', 120_000)
  const { items } = await get(globex, '/v1/inbox?limit=200')
  const received = items.map((item: { contentDigest: string }) => item.contentDigest).sort()
  expect(received).toEqual(shares.map((s) => s.contentDigest).sort())

  // What happened and what the log says agree, in both directions.
  for (const [fleet, type] of [
    [acme, 'MessageSent'],
    [globex, 'MessageReceived'],
  ] as const) {
    const events = await until(`${BATCH} ${type} events at ${fleet.info.name}`, async () => {
      const found = (await auditEvents(fleet)).filter((e) => e.type === type && e.body.kind === 'invoice')
      return found.length >= BATCH ? found : undefined
    })
    expect(new Set(events.map((e) => e.body.messageId)).size).toBe(BATCH)
    expect(events).toHaveLength(BATCH)
  }
})

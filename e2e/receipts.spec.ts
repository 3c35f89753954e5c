/** Messages and receipts that are lost behind a hop receipt, between two real fleets. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import {
  exampleInvoice,
  get,
  grant,
  inboxItem,
  issueUbl,
  pinEachOther,
  share,
  shareReaches,
  sql,
  startTwoFleets,
  until,
  type TwoFleets,
} from './support.ts'

let fleets: TwoFleets
beforeAll(async () => {
  fleets = await startTwoFleets({
    TALLYSTICK_INVOICE_RESEND_GAP_MS: '200',
    TALLYSTICK_INVOICE_RESEND_AFTER_MS: '2000',
    TALLYSTICK_INVOICE_ASK_AFTER_MS: '1000',
  })
  await pinEachOther(fleets)
  await grant(fleets.acme, fleets.globexId, ['share'])
})
afterAll(() => fleets?.stop())

let number = 0
const sample = () =>
  exampleInvoice('ubl-tc434-example9.xml', 'acme-invoice.xml')
    .toString()
    .replace(/(<cbc:ID[^>]*>)([^<]*)(<\/cbc:ID>)/, (_, open: string, id: string, close: string) => `${open}${id}-R${++number}${close}`)

/** What the relay of this fleet takes in from now on is acknowledged, waits, and is gone in the end. @returns how many were lost */
async function losing(fleet: string, during: () => Promise<void>): Promise<number> {
  await sql(
    fleets,
    fleet,
    `CREATE FUNCTION relay.hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.next_attempt_at := now() + interval '1 day'; RETURN NEW; END $$;
     CREATE TRIGGER hold BEFORE INSERT ON relay.inbound FOR EACH ROW EXECUTE FUNCTION relay.hold()`,
  )
  await during()
  await sql(fleets, fleet, 'DROP TRIGGER hold ON relay.inbound; DROP FUNCTION relay.hold()')
  return (
    await sql(fleets, fleet, `DELETE FROM relay.inbound WHERE state = 'queued' AND next_attempt_at > now() + interval '1 hour' RETURNING 1`)
  ).length
}

it('a document that the peer’s relay has lost is missed, sent again and delivered once; a lost receipt is made up for', async () => {
  const { acme, globex, globexId, acmeId } = fleets
  const first = await issueUbl(acme, sample())
  let firstShare = ''
  const lost = await losing('globex', async () => {
    firstShare = (await share(acme, first.id, globexId)).shareId
    await shareReaches(acme, firstShare, 'stored')
  })
  expect(lost).toBe(1)
  const second = await issueUbl(acme, sample())
  await shareReaches(acme, (await share(acme, second.id, globexId)).shareId, 'delivered')
  await shareReaches(acme, firstShare, 'delivered')
  await inboxItem(globex, first.contentDigest)
  const rows = await sql(fleets, 'globex', 'SELECT 1 FROM invoice.inbox WHERE content_digest = $1', [
    Buffer.from(first.contentDigest, 'hex'),
  ])
  expect(rows).toHaveLength(1)
  expect((await get(globex, `/v1/peers/${acmeId}`)).missing).toBe(0)

  const third = await issueUbl(acme, sample())
  let thirdShare = ''
  const receipts = await losing('acme', async () => {
    thirdShare = (await share(acme, third.id, globexId)).shareId
    await inboxItem(globex, third.contentDigest)
    await until(
      'the receipt has arrived at the relay',
      async () =>
        (await sql(fleets, 'acme', `SELECT 1 FROM relay.inbound WHERE state = 'queued' AND next_attempt_at > now() + interval '1 hour'`))
          .length > 0,
    )
  })
  expect(receipts).toBeGreaterThan(0)
  // Nothing else is sent: acme asks, and globex sends its receipt again.
  await shareReaches(acme, thirdShare, 'delivered')
  await until(
    'the receipt is there for the evidence',
    async () => (await sql(fleets, 'acme', 'SELECT receipt FROM invoice.share WHERE id = $1', [thirdShare]))[0]?.receipt != null,
  )
  const resent = await sql(fleets, 'acme', 'SELECT count(*)::int AS n FROM invoice.message WHERE agains > 0')
  console.log(`real fleets: ${lost} document and ${receipts} receipt lost; ${resent[0].n} documents sent again; all delivered once`)
})

/** Receipts: batched, cumulative, selective; what is lost on the way, or with a database, and comes all the same. */
import { createHash, randomBytes } from 'node:crypto'
import { decodeReceipt, encodeReceipt, type ReceiptBody } from '@tallystick/wire/messages'
import { contentDigest, decodePayload, encodePayload } from '@tallystick/wire/payload'
import pg from 'pg'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { deliver } from '../src/inbound/deliver.js'
import { recordProgress } from '../src/messages/relay-progress.js'
import { sweep } from '../src/sweep.js'
import { buyer, consent, inState, issued, seller, share, shareState, startPairWith, stopPair, until, type Side } from './pair.ts'
import { replay, sealedPayload, sealForTest } from './two-fleets.ts'

interface Shared {
  readonly id: string
  readonly messageId: string
  readonly documentId: string
}

beforeAll(async () => {
  await startPairWith({ stepPollMs: 20, attentionPollMs: 20, keyWatchMs: 60_000 })
  await consent(seller, buyer.fleet, 'share')
})
afterAll(stopPair)
afterEach(() => {
  seller.fleet.tamper = undefined
  buyer.fleet.tamper = undefined
  seller.fleet.sessionsOver = false
  buyer.fleet.sessionsOver = false
})

const digestOf = (envelope: Uint8Array) => new Uint8Array(createHash('sha256').update(envelope).digest())
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')

async function settle(from: Side, messageIds: readonly string[]): Promise<void> {
  const at = Date.now()
  await recordProgress(
    from.service.app,
    messageIds.map((messageId) => ({ state: 'stored', messageId, at, hopReceipt: new Uint8Array(randomBytes(64)) })),
  )
}

/** As two relays do it: an envelope that has arrived once is acknowledged and goes no further. @returns envelopes given on */
async function carry(from: Side, to: Side): Promise<number> {
  const items = from.fleet.queue.splice(0)
  if (items.length === 0) return 0
  const fresh = items.filter((item) => !to.fleet.arrived.has(hex(digestOf(item.envelope))))
  for (const item of fresh) to.fleet.arrived.add(hex(digestOf(item.envelope)))
  if (fresh.length > 0)
    await deliver(
      to.service.app,
      fresh.map((item) => ({
        fleetId: from.fleet.fleetId,
        envelopeDigest: digestOf(item.envelope),
        envelope: new Uint8Array(item.envelope),
        receivedAt: Date.now(),
      })),
    )
  await settle(
    from,
    items.map((item) => item.messageId),
  )
  return fresh.length
}

async function carryUntil<T>(look: () => Promise<T | undefined | false>): Promise<T> {
  return await until(async () => {
    await carry(seller, buyer)
    await carry(buyer, seller)
    return await look()
  })
}

/** The peer's relay says that it has stored them, and loses them. */
async function lose(from: Side): Promise<number> {
  const items = from.fleet.queue.splice(0)
  await settle(
    from,
    items.map((item) => item.messageId),
  )
  return items.length
}

async function shared(): Promise<Shared> {
  const { json } = await share(await issued())
  return json as Shared
}
const relayed = async (one: Shared) => void (await until(inState(one.id, 'relayed')))
const delivered = async (one: Shared) => await carryUntil(inState(one.id, 'delivered'))
const receiptsOf = async (side: Side) => await side.service.db.message.findMany({ where: { kind: 'receipt' }, orderBy: { id: 'asc' } })
const lastReceipt = async (side: Side) => (await receiptsOf(side)).at(-1)!
const given = async (one: Shared) => await buyer.service.db.inbox.count({ where: { documentId: one.documentId } })
const peerOf = async (side: Side, other: Side) => await side.service.db.peer.findUniqueOrThrow({ where: { fleetId: other.fleet.fleetId } })
const missing = async () => (await buyer.service.request('GET', `/v1/peers/${seller.fleet.fleetId}`)).json.missing as number
const contradictions = () =>
  seller.fleet.events.filter((event) => event.type === 'VerificationFailed' && (event.body as { what: string }).what === 'content-digest')
    .length

/** Time for both. */
function later(ms: number): void {
  seller.service.clock.advance(ms)
  buyer.service.clock.advance(ms)
}
/** Once everything that waits for its receipt has one, and every receipt has left. */
async function quiet(): Promise<void> {
  await carryUntil(async () => {
    const waiting = { where: { OR: [{ state: { in: ['queued', 'sealed', 'relayed'] } }, { againAt: { not: null } }] } }
    return (await seller.service.db.message.count(waiting)) + (await buyer.service.db.message.count(waiting)) === 0
  })
}

describe('a receipt', () => {
  it('is one for all that came together, and says how far the sequence reaches', async () => {
    const before = (await receiptsOf(buyer)).length
    const many = await Promise.all(Array.from({ length: 20 }, shared))
    for (const one of many) await relayed(one)
    await carry(seller, buyer)
    const receipts = await receiptsOf(buyer)
    expect(receipts.length - before).toBe(1)
    const body = decodeReceipt(receipts.at(-1)!.body)
    expect(body.items.map((item) => item.messageId).sort()).toEqual(many.map((one) => one.messageId).sort())
    const last = await seller.service.db.message.findFirstOrThrow({ where: { seq: body.received!.seq! } })
    expect(hex(body.received!.hash!)).toBe(hex(digestOf(last.payload!)))
    expect([Number((await peerOf(seller, buyer)).outSeq) - 1, body.received!.ranges]).toEqual([body.received!.seq, undefined])
    const arrived = { id: { in: many.map((one) => one.id) }, state: 'delivered' }
    await carryUntil(async () => (await seller.service.db.share.count({ where: arrived })) === many.length)
    console.log(`receipts: ${many.length} documents, ${receipts.length - before} receipt`)
  })

  it('that is lost is made up for by the next one, and comes later for the evidence', async () => {
    const first = await shared()
    await relayed(first)
    await carry(seller, buyer)
    const lost = await until(async () => ((await lastReceipt(buyer)).state === 'relayed' ? await lastReceipt(buyer) : undefined))
    expect(await lose(buyer)).toBe(1)
    expect((await shareState(first.id)).state).toBe('stored')
    const second = await shared()
    await delivered(second)
    expect((await shareState(first.id)).state).toBe('delivered')
    const row = async () => await seller.service.db.share.findUniqueOrThrow({ where: { id: first.id } })
    expect((await row()).receipt).toBeNull()
    // The seller sees the gap in what the buyer sends, and asks.
    later(31_000)
    await carryUntil(async () => (await row()).receipt !== null)
    expect(Buffer.from((await row()).receipt!).equals(lost.body)).toBe(true)
    await quiet()
  })

  it('that is lost for good is asked for', async () => {
    const one = await shared()
    await relayed(one)
    await carry(seller, buyer)
    await until(async () => (await lastReceipt(buyer)).state === 'relayed')
    await lose(buyer)
    // Sent again after a minute: the peer's relay has it and says no more. So the seller tells the buyer what it has.
    later(61_000)
    await carryUntil(async () => (await seller.service.db.message.findUniqueOrThrow({ where: { id: one.messageId } })).agains === 1)
    expect((await shareState(one.id)).cause).toContain('sent again')
    later(31_000)
    await carryUntil(async () => (await lastReceipt(seller)).state === 'stored')
    later(61_000)
    await delivered(one)
    expect(await given(one)).toBe(1)
    expect((await shareState(one.id)).cause).toBeNull()
    await quiet()
  })

  it('is the same again, byte for byte, for a message that comes again under another envelope', async () => {
    const one = await shared()
    await delivered(one)
    const receipt = await until(async () => {
      const row = await lastReceipt(buyer)
      return row.state === 'stored' ? row : undefined
    })
    const original = seller.fleet.sent.find((item) => item.messageId === one.messageId)!
    const copies = () => buyer.fleet.sent.filter((item) => hex(decodePayload(sealedPayload(item.envelope)).body) === hex(receipt.body))
    expect(copies()).toHaveLength(1)
    const again = async () => await replay({ envelope: sealForTest(sealedPayload(original.envelope)) }, seller.fleet, buyer.service)
    // At most once in 30 seconds.
    expect(await again()).toMatchObject([{ outcome: 'taken' }])
    later(31_000)
    expect(await again()).toMatchObject([{ outcome: 'taken' }])
    await until(() => Promise.resolve(copies().length === 2))
    expect(await again()).toMatchObject([{ outcome: 'taken' }])
    const [first, second] = copies()
    expect(Buffer.from(sealedPayload(second!.envelope)).equals(sealedPayload(first!.envelope))).toBe(true)
    expect(second!.messageId).not.toBe(first!.messageId)
    await quiet()
    expect([copies().length, await given(one)]).toEqual([2, 1])
  })

  it('that names another hash confirms nothing by it, and is on record', async () => {
    const before = contradictions()
    const one = await shared()
    await relayed(one)
    await carry(seller, buyer)
    await until(async () => (await lastReceipt(buyer)).state === 'relayed')
    seller.fleet.tamper = (bytes) => {
      const payload = decodePayload(bytes)
      const { received } = decodeReceipt(payload.body)
      const body = encodeReceipt({ items: [], received: { ...received, hash: new Uint8Array(32).fill(7) } })
      return encodePayload({ ...payload, body, contentDigest: contentDigest(body) })
    }
    await carry(buyer, seller)
    await until(() => Promise.resolve(contradictions() === before + 1))
    expect((await shareState(one.id)).state).toBe('stored')
    const message = await seller.service.db.message.findUniqueOrThrow({ where: { id: one.messageId } })
    expect([message.confirmedAt, message.againAt]).toEqual([null, expect.any(Date)])
    seller.fleet.tamper = undefined
    // The next one is right.
    await delivered(await shared())
    expect((await shareState(one.id)).state).toBe('delivered')
    later(31_000)
    await quiet()
  })

  it('says that a message is not taken: its share ends, and a retry sends another one', async () => {
    const one = await shared()
    await relayed(one)
    buyer.fleet.tamper = (bytes) => {
      const payload = decodePayload(bytes)
      return payload.id === one.messageId ? encodePayload({ ...payload, statement: new Uint8Array([1]) }) : bytes
    }
    await carryUntil(inState(one.id, 'refused'))
    expect((await shareState(one.id)).code).toBe('VerificationFailed')
    expect(decodeReceipt((await lastReceipt(buyer)).body).items).toMatchObject([{ messageId: one.messageId, status: 'refused' }])
    buyer.fleet.tamper = undefined
    expect((await seller.service.request('POST', `/v1/shares/${one.id}/retry`)).status).toBe(202)
    await delivered(one)
    expect([await given(one), await missing()]).toEqual([1, 0])
  })
})

describe('a message', () => {
  it('that the peer’s relay lost is missed, shown, sent again and delivered once', async () => {
    const resent = async () => (await seller.service.app.metrics.messagesResent.get()).values[0]!.value
    const before = await resent()
    const first = await shared()
    await relayed(first)
    expect(await lose(seller)).toBe(1)
    const second = await shared()
    await delivered(second)
    expect([(await shareState(first.id)).state, await given(first), await missing()]).toEqual(['stored', 0, 1])
    await sweep(buyer.service.app)
    expect((await buyer.service.metrics.getSingleMetric('tallystick_messages_missing')!.get()).values[0]!.value).toBe(1)
    later(2_100)
    await delivered(first)
    expect([await given(first), await missing(), (await resent()) - before]).toEqual([1, 0, 1])
    const carried = seller.fleet.sent.filter((item) => {
      return decodePayload(sealedPayload(item.envelope)).id === first.messageId
    })
    // Once more, under an id of its own, with the same bytes: its session goes on.
    expect([
      carried.length,
      new Set(carried.map((item) => item.messageId)).size,
      new Set(carried.map((item) => hex(item.envelope))).size,
    ]).toEqual([2, 2, 1])
    await quiet()
  })

  it('that nobody misses, because nothing came after it, goes again after a minute; sealed anew if its session is over', async () => {
    const one = await shared()
    await relayed(one)
    await lose(seller)
    seller.fleet.sessionsOver = true
    later(50_000)
    expect(await carry(seller, buyer)).toBe(0)
    later(11_000)
    await delivered(one)
    const envelopes = seller.fleet.sent.filter((item) => decodePayload(sealedPayload(item.envelope)).id === one.messageId)
    expect(new Set(envelopes.map((item) => hex(item.envelope))).size).toBe(2)
    expect(await given(one)).toBe(1)
    await quiet()
  })

  it('goes again 12 times, with longer and longer pauses; then its share says so', async () => {
    const one = await shared()
    await relayed(one)
    await lose(seller)
    const row = async () => await seller.service.db.message.findUniqueOrThrow({ where: { id: one.messageId } })
    const pauses: number[] = []
    for (let n = 1; n <= 12; n++) {
      const { againAt } = await row()
      pauses.push(Math.round((againAt!.getTime() - seller.service.clock.now()) / 60_000))
      later(againAt!.getTime() - seller.service.clock.now() + 1)
      await until(async () => (await row()).agains === n && seller.fleet.queue.length > 0)
      await lose(seller)
      await until(async () => (await row()).againAt !== null)
    }
    expect(pauses).toEqual([1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 60])
    later(3_600_001)
    const waiting = await until(async () => {
      const view = await shareState(one.id)
      return (view.cause as string | null)?.includes('does not confirm') === true && view
    })
    expect([waiting.state, (await row()).againAt]).toEqual(['stored', null])
    // The next message shows the gap.
    await delivered(await shared())
    later(3_600_000)
    await delivered(one)
    await quiet()
  })

  it('that may not be shared any more does not go again; the peer stops waiting for it', async () => {
    const one = await shared()
    await relayed(one)
    await lose(seller)
    await seller.service.db.$executeRaw`UPDATE consent SET withdrawn_at = now() WHERE withdrawn_at IS NULL`
    later(61_000)
    expect((await until(inState(one.id, 'refused'))).code).toBe('ConsentRequired')
    await consent(seller, buyer.fleet, 'share')
    await delivered(await shared())
    await carryUntil(async () => (await missing()) === 0)
    expect(await given(one)).toBe(0)
    expect(await buyer.service.db.inboundVoid.count()).toBe(1)
    await quiet()
  })

  it('that session-svc will not seal leaves no gap behind', async () => {
    seller.fleet.away.add('session.v1.seal')
    const one = await shared()
    const { seq } = await until(async () => {
      const row = await seller.service.db.message.findUniqueOrThrow({ where: { id: one.messageId } })
      return row.seq !== null && row.lastCode === 'Network' && row
    })
    seller.fleet.finalRefusals.add(one.messageId)
    seller.fleet.away.clear()
    expect((await until(inState(one.id, 'refused'))).code).toBe('EndpointTooLarge')
    await delivered(await shared())
    expect(await missing()).toBe(0)
    const peer = await peerOf(buyer, seller)
    expect([peer.inSeq, (await peerOf(seller, buyer)).outSeq - 1n]).toEqual([seq! + 2n, seq! + 2n])
  })
})

describe('session-svc', () => {
  it('that needs a message to a peer gets one, and another one when that has left', async () => {
    await quiet()
    const count = async () => (await receiptsOf(seller)).length
    const before = await count()
    seller.fleet.away.add('relay.v1.send')
    seller.fleet.attention = [{ fleetId: buyer.fleet.fleetId, need: 'resync' }]
    await until(async () => (await count()) === before + 1)
    const asked = () => seller.fleet.calls.filter((subject) => subject === 'session.v1.attention').length
    const soFar = asked()
    await until(() => Promise.resolve(asked() > soFar + 5))
    expect(await count()).toBe(before + 1)
    seller.fleet.away.clear()
    await carryUntil(async () => (await count()) >= before + 2)
    seller.fleet.attention = []
    expect(decodeReceipt((await lastReceipt(seller)).body).items).toEqual([])
    await quiet()
  })
})

describe('a fleet whose database was put back', () => {
  const owner = async (run: (client: pg.Client, tables: string[]) => Promise<void>) => {
    const client = new pg.Client({ connectionString: seller.ownerUrl })
    await client.connect()
    const { rows } = await client.query<{ name: string }>(
      "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'invoice' AND tablename NOT LIKE '\\_%'",
    )
    try {
      await run(
        client,
        rows.map((row) => row.name),
      )
    } finally {
      await client.end()
    }
  }
  const dump = () =>
    owner(async (client, tables) => {
      for (const table of tables) {
        await client.query(`DROP TABLE IF EXISTS invoice._${table}; CREATE TABLE invoice._${table} AS TABLE invoice.${table}`)
      }
    })
  /** The whole fleet's: its sessions are over, and its relay knows nothing of what came since. */
  const putBack = async () => {
    const restore = () =>
      owner(async (client, tables) => {
        await client.query(`BEGIN; TRUNCATE ${tables.map((table) => `invoice.${table}`).join(', ')}`)
        for (const table of tables) await client.query(`INSERT INTO invoice.${table} TABLE invoice._${table}`)
        await client.query('COMMIT')
      })
    // The service works on meanwhile and takes its locks in another order: PostgreSQL then chooses one of the two.
    const tryAgain = (error: { code?: string }): Promise<void> =>
      error.code === '40P01' ? restore().catch(tryAgain) : Promise.reject(error as Error)
    await restore().catch(tryAgain)
    seller.fleet.arrived.clear()
    seller.fleet.queue.length = 0
    buyer.fleet.sessionsOver = true
  }

  it('goes on after what the peer has, and what it sent before it knew is delivered once', async () => {
    await quiet()
    await dump()
    const old = (await peerOf(seller, buyer)).outSeq
    const before = [await shared(), await shared(), await shared()]
    for (const one of before) await delivered(one)
    await quiet()
    const { outSeq, outHash } = await peerOf(seller, buyer)
    expect(outSeq).toBeGreaterThan(old + 2n)
    await putBack()
    const first = await shared()
    await delivered(first)
    expect((await seller.service.db.message.findUniqueOrThrow({ where: { id: first.messageId } })).seq).toBe(old)
    expect([(await peerOf(seller, buyer)).outSeq, hex((await peerOf(seller, buyer)).outHash)]).toEqual([outSeq, hex(outHash)])
    const second = await shared()
    await delivered(second)
    const last = await seller.service.db.message.findUniqueOrThrow({ where: { id: second.messageId } })
    expect([last.seq, hex(decodePayload(last.payload!).prevHash)]).toEqual([outSeq, hex(outHash)])
    for (const one of [...before, first, second]) expect(await given(one)).toBe(1)
    // What the buyer sent in the meantime was lost with the database, and comes again.
    later(31_000)
    await carryUntil(async () => (await peerOf(seller, buyer)).inMissing === 0n)
    later(61_000)
    await carryUntil(async () => (await peerOf(seller, buyer)).inSeq === (await peerOf(buyer, seller)).outSeq - 1n)
    await quiet()
    expect(await missing()).toBe(0)
  })

  it('sends a message that it had sent before under the same id: it stays one, and leaves no gap', async () => {
    seller.fleet.away.add('session.v1')
    seller.fleet.away.add('session')
    const one = await shared()
    await until(async () => (await shareState(one.id)).code === 'Network')
    await dump()
    seller.fleet.away.clear()
    await delivered(one)
    const original = (await receiptsOf(buyer)).find((row) => decodeReceipt(row.body).items[0]?.messageId === one.messageId)!
    await quiet()
    later(31_000)
    seller.fleet.forget(one.messageId)
    // Another message takes the position that it had.
    seller.fleet.away.add('session.v1.signDocument')
    seller.fleet.attention = [{ fleetId: buyer.fleet.fleetId, need: 'resync' }]
    const { outSeq } = await peerOf(seller, buyer)
    await putBack()
    await until(async () => (await peerOf(seller, buyer)).outSeq >= outSeq)
    seller.fleet.attention = []
    seller.fleet.away.clear()
    await delivered(one)
    const { receipt } = await seller.service.db.share.findUniqueOrThrow({ where: { id: one.id } })
    expect(Buffer.from(receipt!).equals(original.body)).toBe(true)
    await delivered(await shared())
    expect([await given(one), await missing()]).toEqual([1, 0])
  })
})

it('a receipt without what is received still counts for what it names', async () => {
  const one = await shared()
  await relayed(one)
  await carry(seller, buyer)
  await until(async () => (await lastReceipt(buyer)).state === 'relayed')
  seller.fleet.tamper = (bytes) => {
    const payload = decodePayload(bytes)
    const { items }: ReceiptBody = decodeReceipt(payload.body)
    const body = encodeReceipt({ items })
    return encodePayload({ ...payload, body, contentDigest: contentDigest(body) })
  }
  await delivered(one)
})

/** Two model endpoints over a line that loses, repeats and reorders; what they say to each other is made by the product's own functions. */
import { createHash } from 'node:crypto'
import { decodeReceipt, encodeReceipt, type PositionRange, type ReceiptBody } from '@tallystick/wire/messages'
import { contentDigest, decodePayload, encodePayload, PAYLOAD_GENESIS, payloadHash, type Payload } from '@tallystick/wire/payload'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  AHEAD_AT_MOST,
  againAfter,
  describeReceived,
  meaningOf,
  mergeRuns,
  NO_HEAD,
  reachOf,
  runsAbove,
  settledOf,
  type Head,
} from './positions.js'

const RESEND_AFTER = 60
const RESEND_GAP = 2
const RESEND_MAX = 3600
const ASK_AFTER = 30

interface Sent {
  readonly id: string
  readonly seq: number
  readonly bytes: Uint8Array
  readonly kind: Payload['kind']
  state: 'sent' | 'refused'
  confirmed: boolean
  offChain: boolean
  sentAt: number
  againAt: number
  agains: number
}
interface Row {
  readonly seq: number
  readonly prevHash: Uint8Array
  readonly hash: Uint8Array
  readonly id: string
  readonly taken: boolean
}

let ids = 0
const newId = () => `0190a1b2-0000-7000-8000-${(++ids).toString(16).padStart(12, '0')}`
const UNREADABLE = new Uint8Array([0])

class Endpoint {
  next = 0
  prev: Uint8Array = PAYLOAD_GENESIS
  sent: Sent[] = []
  rows: Row[] = []
  voids: PositionRange[] = []
  head: Head = NO_HEAD
  heard = -1
  broke = false
  askAt = Infinity
  asks = 0
  voidedAt = -Infinity
  contradicted = 0
  aheads = 0
  readonly receiptOf = new Map<string, string>()
  /** How often each document was given to the application. */
  readonly delivered = new Map<string, number>()

  constructor(private readonly post: (bytes: Uint8Array) => void) {}

  send(kind: Payload['kind'], body: Uint8Array, now: number, arrives = true): Sent {
    const id = newId()
    const bytes = encodePayload({
      v: 1,
      kind,
      id,
      seq: this.next,
      prevHash: this.prev,
      issuedAt: now,
      contentDigest: contentDigest(body),
      body,
    })
    const message: Sent = {
      id,
      seq: this.next,
      bytes,
      kind,
      state: arrives ? 'sent' : 'refused',
      confirmed: false,
      offChain: false,
      sentAt: now,
      againAt: kind === 'receipt' ? Infinity : now + RESEND_AFTER,
      agains: 0,
    }
    this.sent.push(message)
    this.next += 1
    this.prev = payloadHash(bytes)
    if (arrives) this.post(bytes)
    return message
  }

  status(now: number, voids: PositionRange[] = []): void {
    this.send('receipt', encodeReceipt({ items: [], ...this.received(), ...(voids.length > 0 ? { void: voids } : {}) }), now)
  }

  private settled() {
    const rows = this.rows.filter((row) => row.seq > this.head.seq)
    return settledOf(
      rows.toSorted((a, b) => a.seq - b.seq || Number(a.taken) - Number(b.taken)),
      mergeRuns(this.voids),
    )
  }

  private received(): Pick<ReceiptBody, 'received'> {
    const reach = reachOf(this.head, this.settled())
    this.head = reach.head
    this.broke ||= reach.broke
    const part = describeReceived(this.head, runsAbove(this.head, this.settled()), this.refused())
    return part === undefined ? {} : { received: part }
  }

  /** Where the payload that came last was refused. */
  private refused(): PositionRange[] {
    const last = new Map(this.rows.map((row) => [row.seq, row]))
    return mergeRuns([...last.values()].filter((row) => !row.taken).map((row) => [row.seq, row.seq])).slice(-32)
  }

  get missing(): number {
    this.received()
    const runs = runsAbove(this.head, this.settled())
    const top = runs.findLast((run) => run.hash !== undefined)?.to ?? this.head.seq
    return (
      top -
      this.head.seq -
      runs.filter((run) => run.from < top).reduce((sum, { from, to }) => sum + to - from + 1, 0) +
      (runs.some((run) => run.from === top && run.to === top) ? -1 : 0)
    )
  }

  take(bytes: Uint8Array, now: number): void {
    const payload = decodePayload(bytes)
    if (this.rows.some((row) => row.id === payload.id)) {
      // Another envelope of a known message: its first answer again.
      const receipt = this.sent.find((message) => message.id === this.receiptOf.get(payload.id))
      if (receipt !== undefined && receipt.sentAt + ASK_AFTER <= now) this.again(receipt, now)
      return
    }
    this.broke = false
    const unacceptable = payload.kind === 'document' && Buffer.from(payload.body).equals(UNREADABLE)
    const collides = this.rows.some((row) => row.seq === payload.seq)
    if (collides) this.head = NO_HEAD
    this.rows.push({ seq: payload.seq, prevHash: payload.prevHash, hash: payloadHash(bytes), id: payload.id, taken: !unacceptable })
    if (payload.kind === 'receipt') this.apply(payload, decodeReceipt(payload.body), now)
    else {
      if (!unacceptable) this.delivered.set(payload.id, (this.delivered.get(payload.id) ?? 0) + 1)
      const status = unacceptable ? ('refused' as const) : ('stored' as const)
      const items = [{ messageId: payload.id, contentDigest: payload.contentDigest, status, at: now }]
      this.receiptOf.set(payload.id, this.send('receipt', encodeReceipt({ items, ...this.received() }), now).id)
    }
    this.received()
    if (payload.kind === 'receipt' && (collides || this.broke)) this.status(now)
    if (this.missing > 0) this.askAt = Math.min(this.askAt, now + ASK_AFTER)
  }

  private apply(payload: Payload, body: ReceiptBody, now: number): void {
    for (const [from, to] of body.void ?? []) if (from < payload.seq) this.voids.push([from, Math.min(to, payload.seq - 1)])
    for (const item of body.items) {
      const message = this.sent.find((sent) => sent.id === item.messageId)
      if (message === undefined) continue
      this.confirm(message)
      if (item.status === 'refused') message.state = 'refused'
    }
    if (body.received === undefined) return
    const own = new Map(this.sent.map((message) => [message.seq, message]))
    const meaning = meaningOf(body.received, {
      next: this.next,
      hashAt: (seq) => {
        const bytes = own.get(seq)?.bytes
        return bytes && new Uint8Array(createHash('sha256').update(bytes).digest())
      },
    })
    const within = (ranges: readonly PositionRange[], seq: number) => ranges.some(([from, to]) => from <= seq && seq <= to)
    if (meaning.contradicted) this.contradicted += 1
    for (const message of this.sent) {
      if (message.confirmed || message.offChain || message.state === 'refused' || !within(meaning.confirmed, message.seq)) continue
      this.confirm(message)
      if (within(meaning.refused, message.seq)) message.state = 'refused'
    }
    if (meaning.ahead !== undefined) {
      this.aheads += 1
      for (const message of this.sent) if (!message.confirmed) message.offChain = true
      this.next = meaning.ahead.next
      this.prev = meaning.ahead.hash
    }
    if (payload.seq <= this.heard) return
    this.heard = payload.seq
    for (const message of this.sent) {
      if (message.state === 'refused') continue
      const pause = within(meaning.gaps, message.seq)
        ? RESEND_GAP
        : message.seq > meaning.top && message.sentAt + RESEND_AFTER <= now
          ? 0
          : undefined
      if (pause === undefined) continue
      message.confirmed = false
      message.againAt = Math.min(message.againAt, Math.max(now, message.sentAt + againAfter(message.agains, pause, RESEND_MAX)))
    }
    if (meaning.gaps.length === 0 || this.voidedAt > now - RESEND_AFTER) return
    const voids: PositionRange[] = []
    for (const [from, to] of meaning.gaps)
      for (let seq = from; seq <= to; seq++)
        if (!this.sent.some((message) => message.seq === seq && message.state === 'sent')) voids.push([seq, seq])
    if (voids.length === 0) return
    this.voidedAt = now
    this.status(now, mergeRuns(voids).slice(0, 32))
  }

  private confirm(message: Sent): void {
    message.confirmed = true
    message.againAt = Infinity
  }

  private again(message: Sent, now: number): void {
    message.agains += 1
    message.sentAt = now
    message.againAt =
      message.kind === 'receipt' || message.confirmed ? Infinity : now + againAfter(message.agains, RESEND_AFTER, RESEND_MAX)
    this.post(message.bytes)
    if (message.kind !== 'receipt') this.askAt = Math.min(this.askAt, now + ASK_AFTER)
  }

  /** The clock has moved on. */
  tick(now: number): void {
    for (const message of this.sent) if (message.state === 'sent' && message.againAt <= now) this.again(message, now)
    if (this.askAt > now) return
    if (
      this.missing === 0 &&
      !this.sent.some((message) => message.state === 'sent' && !message.confirmed && message.agains > 0 && message.kind !== 'receipt')
    ) {
      this.askAt = Infinity
      this.asks = 0
      return
    }
    this.asks += 1
    this.askAt = now + againAfter(this.asks, ASK_AFTER, RESEND_MAX)
    this.status(now)
  }

  get unheard(): number {
    return this.sent.filter((message) => message.kind !== 'receipt' && message.state === 'sent' && !message.confirmed).length
  }

  /** The database as it was. */
  snapshot(): () => void {
    const { next, prev, sent, rows, voids, head, heard } = structuredClone({
      ...this,
      post: undefined,
      delivered: undefined,
      receiptOf: undefined,
    })
    return () => {
      Object.assign(this, { next, prev, sent, rows, voids, head, heard, askAt: Infinity, asks: 0, voidedAt: -Infinity })
    }
  }
}

class Pair {
  now = 1_000
  /** Under way to each of the two. */
  readonly lines: [Uint8Array[], Uint8Array[]] = [[], []]
  readonly ends: [Endpoint, Endpoint] = [
    new Endpoint((bytes) => this.lines[1].push(bytes)),
    new Endpoint((bytes) => this.lines[0].push(bytes)),
  ]

  run(event: Event): void {
    const { side, at } = event
    const [line, end] = [this.lines[side], this.ends[side]]
    const place = line.length === 0 ? 0 : at % line.length
    if (event.kind === 'send') end.send('document', new Uint8Array([1, at % 256]), this.now)
    else if (event.kind === 'unacceptable') end.send('document', UNREADABLE, this.now)
    else if (event.kind === 'unsendable') end.send('document', new Uint8Array([2]), this.now, false)
    else if (event.kind === 'wait') this.wait(1 + (at % 90))
    else if (line.length === 0) return
    else if (event.kind === 'lose') line.splice(place, 1)
    else if (event.kind === 'repeat') line.push(line[place]!)
    else end.take(line.splice(place, 1)[0]!, this.now)
  }

  wait(seconds: number): void {
    this.now += seconds
    for (const end of this.ends) end.tick(this.now)
  }

  /** From here on nothing is lost. @returns rounds until nobody waits for anything */
  settle(): number {
    for (let round = 1; round <= 400; round++) {
      for (const side of [0, 1] as const) for (const bytes of this.lines[side].splice(0)) this.ends[side].take(bytes, this.now)
      const quiet = this.lines[0].length + this.lines[1].length === 0
      if (quiet && this.ends.every((end) => end.unheard === 0 && end.missing === 0)) return round
      this.wait(20)
    }
    return Infinity
  }
}

interface Event {
  readonly kind: 'send' | 'unacceptable' | 'unsendable' | 'arrive' | 'lose' | 'repeat' | 'wait'
  readonly side: 0 | 1
  readonly at: number
}
const event = fc.record({
  kind: fc.oneof(
    { weight: 6, arbitrary: fc.constant<Event['kind']>('send') },
    { weight: 1, arbitrary: fc.constantFrom<Event['kind']>('unacceptable', 'unsendable') },
    { weight: 8, arbitrary: fc.constant<Event['kind']>('arrive') },
    { weight: 4, arbitrary: fc.constant<Event['kind']>('lose') },
    { weight: 2, arbitrary: fc.constantFrom<Event['kind']>('repeat', 'wait') },
  ),
  side: fc.constantFrom<0 | 1>(0, 1),
  at: fc.nat(10_000),
})

const events = (maxLength: number) => fc.array(event, { maxLength, size: 'max' })
const RUNS = Number(process.env.TALLYSTICK_TEST_RUNS ?? 150)

describe('two endpoints over a line that loses, repeats and reorders', () => {
  it('lose no message, take each once, and agree after the last loss', () => {
    const seen = { cases: 0, sent: 0, lost: 0, repeated: 0, again: 0, rounds: 0 }
    fc.assert(
      fc.property(fc.array(event, { minLength: 10, maxLength: 120, size: 'max' }), (events) => {
        const pair = new Pair()
        for (const each of events) {
          if (each.kind === 'lose' && pair.lines[each.side].length > 0) seen.lost++
          if (each.kind === 'repeat' && pair.lines[each.side].length > 0) seen.repeated++
          pair.run(each)
        }
        const rounds = pair.settle()
        expect(rounds).toBeLessThan(400)
        for (const [n, end] of pair.ends.entries()) {
          const other = pair.ends[1 - n]!
          for (const message of end.sent) {
            if (message.kind === 'receipt') continue
            const readable = !Buffer.from(decodePayload(message.bytes).body).equals(UNREADABLE)
            const sendable = other.rows.some((row) => row.id === message.id)
            expect(other.delivered.get(message.id) ?? 0).toBe(readable && sendable ? 1 : 0)
            // What is said to be delivered is there.
            if (message.state === 'sent') expect([sendable, readable]).toEqual([true, true])
          }
          expect(end.contradicted + end.aheads).toBe(0)
          seen.sent += end.sent.filter((message) => message.kind !== 'receipt').length
          seen.again += end.sent.reduce((sum, message) => sum + message.agains, 0)
        }
        seen.cases++
        seen.rounds = Math.max(seen.rounds, rounds)
      }),
      { numRuns: RUNS },
    )
    console.log(
      `receipts: ${seen.cases} cases, ${seen.sent} messages, ${seen.lost} losses, ${seen.repeated} repetitions, ${seen.again} sent again; 0 lost, 0 taken twice; at most ${seen.rounds} rounds after the last loss`,
    )
    expect(seen.lost).toBeGreaterThan(RUNS)
  })

  it('one of which has its database put back: what it sends afterwards arrives once, and nothing is said to be delivered that is not there', () => {
    const seen = { cases: 0, ahead: 0, contradicted: 0, rounds: 0 }
    fc.assert(
      fc.property(events(40), events(30), events(30), (before, lost, after) => {
        const pair = new Pair()
        for (const each of before) pair.run(each)
        const putBack = pair.ends[0].snapshot()
        for (const each of lost) pair.run(each)
        putBack()
        // What was under way to it belongs to sessions that are gone.
        pair.lines[0].length = 0
        for (const each of after) pair.run(each)
        pair.ends[0].status(pair.now)
        const rounds = pair.settle()
        expect(rounds).toBeLessThan(400)
        const [end, other] = pair.ends
        for (const message of end.sent) {
          if (message.kind === 'receipt' || message.state !== 'sent') continue
          expect(other.delivered.get(message.id)).toBe(1)
        }
        for (const message of other.sent) {
          if (message.kind === 'receipt' || message.state !== 'sent') continue
          expect(end.rows.filter((row) => row.id === message.id)).toHaveLength(1)
        }
        seen.cases++
        seen.ahead += end.aheads
        seen.contradicted += end.contradicted
        seen.rounds = Math.max(seen.rounds, rounds)
      }),
      { numRuns: RUNS },
    )
    console.log(
      `receipts after a restore: ${seen.cases} cases, ${seen.ahead} times gone on after the peer, ${seen.contradicted} contradictions; 0 said to be delivered and not there; at most ${seen.rounds} rounds`,
    )
    expect(seen.ahead).toBeGreaterThan(0)
  })
})

describe('positions', () => {
  const hash = (n: number) => new Uint8Array(32).fill(n)
  const row = (seq: number, prev: number, own: number) => ({ seq, prevHash: hash(prev), hash: hash(own) })

  it('reach as far as nothing is missing; the chain begins anew where it contradicts itself', () => {
    const settled = settledOf([row(0, 0, 1), row(1, 1, 2), row(2, 9, 3), row(3, 3, 4), row(5, 6, 6)], [])
    expect(reachOf(NO_HEAD, settled)).toEqual({ head: { from: 2, seq: 3, hash: hash(4) }, broke: true })
    // Another message for the position before mends it.
    expect(reachOf(NO_HEAD, settledOf([row(0, 0, 1), row(1, 1, 2), row(1, 1, 9), row(2, 9, 3)], []))).toEqual({
      head: { from: 0, seq: 2, hash: hash(3) },
      broke: false,
    })
    // Not by a message that follows nothing here: of what is reached, every payload is here.
    expect(reachOf(NO_HEAD, settledOf([row(0, 0, 1), row(1, 1, 2), row(1, 8, 9), row(2, 9, 3)], []))).toEqual({
      head: { from: 2, seq: 2, hash: hash(3) },
      broke: true,
    })
  })

  it('that are void are passed, and are no head themselves', () => {
    expect(reachOf(NO_HEAD, settledOf([row(0, 0, 1), row(3, 7, 4)], [[1, 2]])).head).toEqual({ from: 0, seq: 3, hash: hash(4) })
    expect(reachOf(NO_HEAD, settledOf([row(0, 0, 1)], [[1, 1_000_000]])).head.seq).toBe(0)
    // A payload counts for more than a declaration.
    expect(settledOf([row(2, 1, 2)], [[1, 3]]).map(({ seq, to, payloads }) => [seq, to, payloads.length])).toEqual([
      [1, 1, 0],
      [2, undefined, 1],
      [3, 3, 0],
    ])
  })

  it('said to be ahead are believed up to 2^20', () => {
    const own = { next: 5, hashAt: () => undefined }
    expect(meaningOf({ seq: 5, hash: hash(1) }, own)).toMatchObject({ ahead: { next: 6, hash: hash(1) }, contradicted: false })
    const far = 4 + AHEAD_AT_MOST
    expect(meaningOf({ ranges: [{ from: far, to: far, hash: hash(1) }] }, own).ahead).toEqual({ next: far + 1, hash: hash(1) })
    const absurd = meaningOf({ seq: far + 1, hash: hash(1) }, own)
    expect([absurd.ahead, absurd.contradicted, absurd.confirmed, absurd.gaps]).toEqual([undefined, true, [], []])
  })

  it('in more than 32 runs: the lowest are told', () => {
    const runs = Array.from({ length: 40 }, (_, n) => ({ from: 2 * n + 1, to: 2 * n + 1, hash: hash(n) }))
    expect(describeReceived(NO_HEAD, runs, [])?.ranges).toEqual(runs.slice(0, 32))
    expect(describeReceived(NO_HEAD, [], [])).toBeUndefined()
  })

  it('above the head are told as chains of their own', () => {
    const settled = settledOf([row(0, 0, 1), row(2, 5, 3), row(3, 3, 4), row(4, 9, 5)], [[5, 6]])
    const { head } = reachOf(NO_HEAD, settled)
    expect(runsAbove(head, settled)).toEqual([
      { from: 2, to: 3, hash: hash(4) },
      { from: 4, to: 4, hash: hash(5) },
      { from: 5, to: 6 },
    ])
    // A void position leads on to what comes after it.
    expect(runsAbove(NO_HEAD, settledOf([row(4, 9, 5)], [[2, 3]]))).toEqual([{ from: 2, to: 4, hash: hash(5) }])
  })

  it('of which another payload is remembered are a contradiction, and confirm nothing', () => {
    const received = { from: 2, seq: 3, hash: hash(1), ranges: [{ from: 5, to: 6, hash: hash(7) }] }
    const known = (head: number) => ({ next: 9, hashAt: (seq: number) => hash(seq === 3 ? head : 7) })
    expect(meaningOf(received, known(2))).toMatchObject({ contradicted: true, confirmed: [[5, 6]], gaps: [[4, 4]] })
    expect(meaningOf(received, known(1))).toMatchObject({
      contradicted: false,
      confirmed: [
        [2, 3],
        [5, 6],
      ],
    })
  })
})

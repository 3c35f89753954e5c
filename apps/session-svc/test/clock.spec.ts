/** Wall clocks that jump, on either side: how often a new epoch begins, and what expires, is known exactly. */
import { decodeEnvelope } from '@tallystick/wire/envelope'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { startPostgres, type TestPostgres } from '../../../tools/testing/postgres.ts'
import { requestRotation } from '../src/recovery/requests.js'
import { expire } from '../src/session-core.js'
import { introduce, TestClock, TestFleet } from './fleet.js'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
let postgres: TestPostgres
let round = 0
let clocks: [TestClock, TestClock]
let a: TestFleet
let b: TestFleet

beforeAll(async () => {
  postgres = await startPostgres()
})
afterAll(() => postgres.stop())

beforeEach(async () => {
  round += 1
  clocks = [new TestClock(), new TestClock()]
  a = await TestFleet.start({ url: (await postgres.createFleet(`acme${round}`)).urls.session, clock: clocks[0] })
  b = await TestFleet.start({ url: (await postgres.createFleet(`globex${round}`)).urls.session, clock: clocks[1] })
  await introduce(a, b)
  // Certificates that are older than any jump of a clock here.
  for (const clock of clocks) clock.advance(10 * 24 * HOUR)
  return async () => {
    await a.stop()
    await b.stop()
  }
})

const epochOf = (envelope: Uint8Array) => decodeEnvelope(envelope).header.epoch

async function exchange(one: TestFleet, other: TestFleet): Promise<number[]> {
  const there = await one.seal(other, 'ping')
  await other.open(one, there)
  const back = await other.seal(one, 'pong')
  await one.open(other, back)
  return [epochOf(there), epochOf(back)]
}

/** Reasons of the rotations in the order in which they were audited. */
async function rotations(fleet: TestFleet): Promise<string[]> {
  const rows = await fleet.context.db.auditOutbox.findMany({ orderBy: { id: 'asc' } })
  return rows
    .map(({ event }) => event as { type: string; body: { reason: string } })
    .flatMap(({ type, body }) => (type === 'SessionRotated' ? [body.reason] : []))
}

const wiped = async (fleet: TestFleet) => (await fleet.sessions()).filter(({ state }) => state === null).length

interface Case {
  readonly name: string
  readonly jump: number
  /** Rotations that the jump itself causes, and those when the clock is right again. */
  readonly then: number
  readonly back: number
  /** Superseded epochs wiped after the jump: the one retired half an hour before has been quiet for an hour, or not. */
  readonly expired: number
}
const CASES: Case[] = [
  { name: '+25 h', jump: 25 * HOUR, then: 1, back: 1, expired: 1 },
  { name: '-48 h', jump: -48 * HOUR, then: 1, back: 1, expired: 0 },
  { name: '+6 min', jump: 6 * MINUTE, then: 0, back: 1, expired: 0 },
  { name: '-6 min', jump: -6 * MINUTE, then: 1, back: 0, expired: 0 },
]

describe.each(['the sender', 'the receiver'] as const)('the clock of %s jumps', (side) => {
  it.each(CASES)('by $name', { timeout: 60_000 }, async ({ name, jump, then, back, expired }) => {
    const [clock, fleet, other] = side === 'the sender' ? ([clocks[0], a, b] as const) : ([clocks[1], b, a] as const)
    await exchange(a, b)
    await requestRotation(a.context, b.id)
    expect(await exchange(a, b)).toEqual([2, 2])
    for (const each of clocks) each.advance(30 * MINUTE)
    expect(await exchange(a, b)).toEqual([2, 2])
    const counts = async () => [(await rotations(fleet)).length, (await rotations(other)).length]
    const start = await counts()

    clock.advance(jump)
    await expire(fleet.context)
    const gone = await wiped(fleet)
    for (let i = 0; i < 3; i++) await exchange(a, b)
    const after = await counts()
    clock.advance(-jump)
    for (let i = 0; i < 3; i++) await exchange(a, b)
    const end = await counts()

    console.log(
      `clock of ${side} ${name}: ${after[0]! - start[0]!} rotation(s) after the jump, ${end[0]! - after[0]!} when it is right again; ` +
        `${gone} old epoch(s) wiped; last reasons ${(await rotations(fleet)).slice(start[0]).join(', ') || 'none'}`,
    )
    expect(after.map((count, i) => count - start[i]!)).toEqual([then, then])
    expect(end.map((count, i) => count - after[i]!)).toEqual([back, back])
    expect(gone).toBe(expired)
    // It is the side whose clock it is that begins; to the other the rotation is its peer's.
    expect((await rotations(fleet)).slice(start[0])).toEqual(new Array(then + back).fill('age'))
    expect((await rotations(other)).slice(start[1])).toEqual(new Array(then + back).fill('peer'))
    expect((await fleet.peer(other)).recovery).toBe('ok')
  })
})

/**
 * A database that was put back: nothing is encrypted on a state that was used before, and the peers are healed by the
 * first exchange. Watched from outside (ratchet key and number of every envelope) and from inside (AEAD keys).
 */
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { toHex } from '@tallystick/primitives/bytes'
import { sha256 } from '@tallystick/primitives/hash'
import { decodeEnvelope } from '@tallystick/wire/envelope'
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { startPostgres, type TestFleetDatabase, type TestPostgres } from '../../../tools/testing/postgres.ts'
import { DatabasePutBack } from '../src/recovery/generation-file.js'
import { SessionStore } from '../src/sessions/sessions.store.js'
import { introduce, TestClock, TestFleet } from './fleet.js'
import { Rows } from './rows.js'

const aead = vi.hoisted(() => ({ used: [] as string[], listen: (_key: Uint8Array) => undefined as void }))
vi.mock('@tallystick/primitives/aead', async (original) => {
  const real = await original<typeof import('@tallystick/primitives/aead')>()
  return {
    ...real,
    seal: (...args: Parameters<typeof real.seal>) => (aead.listen(args[0]), real.seal(...args)),
    sealInPlace: (...args: Parameters<typeof real.sealInPlace>) => (aead.listen(args[0]), real.sealInPlace(...args)),
  }
})

const MESSAGES = 50
let postgres: TestPostgres
let clock: TestClock
let database: TestFleetDatabase
let rows: Rows
let a: TestFleet
let b: TestFleet
/** Every envelope that a released: ratchet key and number. */
let released: string[]
let round = 0

beforeAll(async () => {
  postgres = await startPostgres()
})
afterAll(() => postgres.stop())

beforeEach(async () => {
  round += 1
  clock = new TestClock()
  released = []
  aead.used = []
  aead.listen = (key) => void aead.used.push(toHex(sha256(key)))
  database = await postgres.createFleet(`acme${round}`)
  rows = await Rows.of(postgres, database)
  a = await TestFleet.start({ url: database.urls.session, clock, tap: tapped() })
  b = await TestFleet.start({ url: (await postgres.createFleet(`globex${round}`)).urls.session, clock })
  await introduce(a, b)
  return async () => {
    await a.stop()
    await b.stop()
    await rows.stop()
  }
})

function tapped() {
  return {
    message(_at: number, direction: 'in' | 'out', _peer: string, envelope: () => ReturnType<typeof decodeEnvelope>) {
      const { header } = envelope()
      if (direction === 'out') released.push(`${toHex(header.dh)} ${header.n}`)
    },
  }
}

const repeated = (values: readonly string[]) => values.length - new Set(values).size
const handshakeOf = (envelope: Uint8Array) => decodeEnvelope(envelope).handshake
const restoredAt = async (fleet: TestFleet) => (await fleet.context.db.fence.findFirst())!.restoredAt

/** Opens as invoice-svc does: comes again when it is told to wait. */
async function arrives(at: TestFleet, from: TestFleet, envelope: Uint8Array): Promise<string> {
  return vi.waitFor(async () => at.open(from, envelope), { timeout: 5_000, interval: 5 })
}

/** a and b talk, the database is put aside, they talk on, the database is put back. */
async function putBack(): Promise<void> {
  for (let i = 0; i < 3; i++) {
    await b.open(a, await a.seal(b, `before ${i}`))
    await a.open(b, await b.seal(a, 'receipt', { class: 'control' }))
  }
  await rows.dump()
  for (let i = 0; i < MESSAGES; i++) {
    await b.open(a, await a.seal(b, `after ${i}`))
    if (i % 10 === 9) await a.open(b, await b.seal(a, 'receipt', { class: 'control' }))
  }
  await rows.restore()
}

describe('a database of fifty messages ago', () => {
  it('is noticed before the first encryption, discloses nothing, and heals within ten round trips', { timeout: 60_000 }, async () => {
    await putBack()
    const [encryptions, envelopes] = [aead.used.length, released.length]
    // b does not know yet, and writes in the session that a has lost.
    const underWay = await b.seal(a, 'under way')
    const states = (await a.sessions()).filter(({ active }) => active).length
    expect(states).toBe(1)

    const first = await a.seal(b, 'first of the restored fleet')
    expect(handshakeOf(first)).toMatchObject({ reset: true })
    const noticed = await restoredAt(a)
    const lost = (await a.sessions()).filter((session) => session.lost).length
    let trips = 0
    let healed = false
    const text = await arrives(b, a, first)
    while (!healed && trips < 10) {
      trips += 1
      await a.open(b, await b.seal(a, 'receipt', { class: 'control' }))
      const state = [(await a.peer(b)).recovery, (await b.peer(a)).recovery]
      healed = state.every((one) => one === 'ok')
      if (!healed) await arrives(b, a, await a.seal(b, 'again', { class: 'control' }))
    }
    for (let i = 0; i < MESSAGES; i++) await b.open(a, await a.seal(b, `healed ${i}`))
    const late = await a.tryOpen(b, underWay)
    console.log(
      `rollback: ${MESSAGES} messages after the dump; ${repeated(released)} (ratchet key, n) and ${repeated(aead.used)} AEAD keys used twice ` +
        `in ${released.length} envelopes and ${aead.used.length} encryptions; noticed before the first; healed after ${trips} round trip(s)`,
    )
    expect(text).toBe('first of the restored fleet')
    expect(noticed).toEqual(new Date(clock.now()))
    expect(lost).toBe(1)
    expect([repeated(released), repeated(aead.used)]).toEqual([0, 0])
    expect(released.length - envelopes).toBe(MESSAGES + trips)
    expect(aead.used.length).toBeGreaterThan(encryptions + MESSAGES)
    expect(healed).toBe(true)
    expect(trips).toBeLessThanOrEqual(10)
    // Asked for again by b's receipts; here it is only shown that it does no harm.
    expect(late.ok ? 'ok' : late.code).toMatch(/^(ok|Decryption)$/)
    expect(await a.audited()).toEqual(expect.arrayContaining(['AdminAction', 'KeysZeroized', 'ResyncStarted', 'ResyncCompleted']))
  })

  it('the same at the start of the service, and no prekey of before is left', { timeout: 60_000 }, async () => {
    await putBack()
    const before = await a.context.db.prekey.findMany({ select: { id: true } })
    const again = await a.again({ tap: tapped() })
    expect(await restoredAt(again)).not.toBeNull()
    const after = await again.context.db.prekey.findMany({ select: { id: true, kind: true } })
    const ids = new Set(before.map(({ id }) => id))
    expect(after.filter(({ id }) => ids.has(id))).toEqual([])
    expect(Math.min(...after.map(({ id }) => id))).toBeGreaterThan(100_000)
    expect(new Set(after.map(({ kind }) => kind)).size).toBe(4)
    await arrives(b, again, await again.seal(b, 'hello'))
    expect(repeated(released)).toBe(0)
    await again.stop()
  })

  it('a bundle is not handed out of it either', async () => {
    await putBack()
    await expect(a.take(b.id)).rejects.toThrow(DatabasePutBack)
    expect(await a.core.fence.guard(() => a.take(b.id))).toMatchObject({ ok: true })
    expect(await restoredAt(a)).not.toBeNull()
  })

  it('is not noticed when the number is put back with it: the number has to be elsewhere', { timeout: 60_000 }, async () => {
    const kept = mkdtempSync(path.join(os.tmpdir(), 'tallystick-kept-'))
    await b.open(a, await a.seal(b, 'one'))
    await a.open(b, await b.seal(a, 'two', { class: 'control' }))
    await b.open(a, await a.seal(b, 'three'))
    await rows.dump()
    copyFileSync(path.join(a.stateDir, 'generation'), path.join(kept, 'generation'))
    await a.seal(b, 'four')
    await rows.restore()
    const fooled = await a.again({ stateDir: kept, tap: tapped() })
    await fooled.seal(b, 'five')
    expect(repeated(released)).toBe(1)
    // The random salt still gives every message an AEAD key of its own.
    expect(repeated(aead.used)).toBe(0)
    await fooled.stop()
    rmSync(kept, { recursive: true })
  })
})

describe('the number outside', () => {
  it('of another database, missing beside a used database, or unreadable: counts as put back', { timeout: 60_000 }, async () => {
    await b.open(a, await a.seal(b, 'one'))
    const file = path.join(a.stateDir, 'generation')
    const found: (Date | null)[] = []
    for (const content of [
      'tallystick-generation/v1 6f1f0a52-1f0b-4b8e-9d7f-0d9a4f4b7c11 0000000000000001\n',
      undefined,
      'not a number\n',
    ]) {
      if (content === undefined) rmSync(file)
      else writeFileSync(file, content)
      clock.advance(1_000)
      const again = await a.again()
      found.push(await restoredAt(again))
      expect(readFileSync(file, 'latin1')).toMatch(/^tallystick-generation\/v1 [0-9a-f-]{36} \d{16}\n$/)
      await again.stop()
    }
    expect(found.map((at) => at?.getTime())).toEqual([clock.now() - 2_000, clock.now() - 1_000, clock.now()])
    const again = await a.again()
    expect((await restoredAt(again))!.getTime()).toBe(clock.now())
    await again.stop()
  })

  it('two replicas at once: transactions that overtake each other are no restore', { timeout: 60_000 }, async () => {
    const other = await a.again({ stateDir: a.stateDir, tap: tapped() })
    await b.open(a, await a.seal(b, 'one'))
    await a.open(b, await b.seal(a, 'two', { class: 'control' }))
    await Promise.all(Array.from({ length: 20 }, (_, i) => (i % 2 === 0 ? a : other).seal(b, `message ${i}`, { class: 'control' })))
    expect(await restoredAt(a)).toBeNull()
    expect(repeated(released)).toBe(0)
    await other.stop()
  })

  it('what commits while another transaction finds it is taken back and sealed anew', { timeout: 60_000 }, async () => {
    await b.open(a, await a.seal(b, 'one'))
    await a.open(b, await b.seal(a, 'two', { class: 'control' }))
    await rows.dump()
    const old = await a.seal(b, 'three')
    await rows.restore()
    // As if the numbers between had been used up by transactions that have not answered yet: this one does not notice.
    const number = Number(readFileSync(path.join(a.stateDir, 'generation'), 'latin1').slice(-17))
    await a.context.db.$queryRaw`SELECT setval('session.generation_seq', ${number}::bigint)`
    let elsewhere = 0
    class Meanwhile extends SessionStore {
      override async save(...args: Parameters<SessionStore['save']>) {
        if (elsewhere++ === 0) expect(() => a.context.generation.putBack('found elsewhere')).toThrow(DatabasePutBack)
        return super.save(...args)
      }
    }
    const messageId = a.newId()
    await a.use(new Meanwhile())
    const four = await a.seal(b, 'four', { messageId })
    expect(elsewhere).toBeGreaterThan(1)
    expect(handshakeOf(four)).toMatchObject({ reset: true })
    expect(decodeEnvelope(four).header.dh).not.toEqual(decodeEnvelope(old).header.dh)
    expect(await a.context.db.sealedEnvelope.count({ where: { messageId } })).toBe(1)
    expect(repeated(released)).toBe(0)
  })
})

/** The long form of race.spec.ts, at the limits that ship: 10 sessions × 200 messages, each session rotates once. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { startPostgres, type TestPostgres } from '../tools/testing/postgres.ts'
import { figure } from './support/checks.ts'
import { PROCESSES, race, WORKERS } from './support/race.ts'
import { Stage } from './support/stage.ts'

let postgres: TestPostgres
beforeAll(async () => {
  postgres = await startPostgres()
})
afterAll(() => postgres.stop())

const PEERS = 10
const EACH = 200

it(`${PROCESSES} processes × ${WORKERS} workers, ${PEERS} sessions × ${EACH} messages: no key twice`, async ({ onTestFinished }) => {
  const stage = await Stage.open({ postgres, name: 'race', peers: PEERS })
  onTestFinished(() => stage.close())
  const { sealed, reused, keys, opened, epochs, perSecond } = await race(stage, EACH)
  figure(`race: ${reused} keys reused of ${keys}, ${opened}/${sealed} opened, ${epochs} epochs, ${perSecond.toFixed(0)} seals/s`)
  expect({ sealed, reused, keys, opened, epochs }).toEqual({
    sealed: PEERS * EACH,
    reused: 0,
    keys: PEERS * EACH,
    opened: PEERS * EACH,
    epochs: 2 * PEERS,
  })
})

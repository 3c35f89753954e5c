/** The long form of rollback.spec.ts: the recovery itself dies at each of its writes. @see docs/spec/custody.md §7.3 */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { startPostgres, type TestPostgres } from '../tools/testing/postgres.ts'
import { figure } from './support/checks.ts'
import { killRecovery } from './support/rollback.ts'
import { Stage } from './support/stage.ts'

let postgres: TestPostgres
beforeAll(async () => {
  postgres = await startPostgres()
})
afterAll(() => postgres.stop())

it('kill -9 at every write of the recovery of a database that was put back', async ({ onTestFinished }) => {
  // A put-back for each write: more resyncs than a day allows.
  const limits = { resyncsPerDay: 1_000 }
  const stage = await Stage.open({ postgres, name: 'recovery', limits, peerLimits: limits })
  onTestFinished(() => stage.close())
  const { points, reused, unhealed, slowest } = await killRecovery(postgres, stage, 'every write')
  figure(
    `rollback, recovery killed at ${points.length} points: ${reused} keys reused, ${unhealed.length} not healed, ` +
      `the slowest in ${slowest} round trip(s)`,
  )
  expect({ reused, unhealed }).toEqual({ reused: 0, unhealed: [] })
  expect(points.length).toBeGreaterThan(20)
})

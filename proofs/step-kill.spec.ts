/**
 * The process dies at every write of what it does; a fresh one repeats the call. Nothing is lost, no key is used twice,
 * a resend has the same bytes. @see docs/spec/custody.md §5
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startPostgres, type TestPostgres } from '../tools/testing/postgres.ts'
import { figure } from './support/checks.ts'
import { type Operation, OPERATIONS } from './support/operations.ts'
import { stepKill } from './support/step-kill.ts'
import { Stage } from './support/stage.ts'

let postgres: TestPostgres
beforeAll(async () => {
  postgres = await startPostgres()
})
afterAll(() => postgres.stop())

describe.concurrent('kill -9 at every write', () => {
  for (const [n, operation] of Object.values(OPERATIONS).entries()) {
    it(operation.name, { timeout: 180_000 }, async ({ onTestFinished }) => {
      const { limits = {}, peerLimits = {} } = operation as Operation
      const stage = await Stage.open({ postgres, name: `kill${n}`, limits, peerLimits })
      onTestFinished(() => stage.close())
      const { points, aimed, places, wrong, keysReused } = await stepKill(stage, operation, 'edges')
      figure(
        `step-kill, ${operation.name}: ${points.length} of ${places} points (all ${places}, and by strace, in test:long), ` +
          `${wrong.length} lost or twice, ${keysReused} keys reused`,
      )
      expect({ wrong, keysReused, points: points.length }).toEqual({ wrong: [], keysReused: 0, points: aimed })
    })
  }
})

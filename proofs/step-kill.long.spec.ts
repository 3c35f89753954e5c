/** The long form of step-kill.spec.ts: every write, and every write system call of the process as `strace` counts them. */
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startPostgres, type TestPostgres } from '../tools/testing/postgres.ts'
import { figure } from './support/checks.ts'
import { type Operation, OPERATIONS } from './support/operations.ts'
import { stepKill, straceKill } from './support/step-kill.ts'
import { Stage } from './support/stage.ts'
import { hasStrace } from './support/strace.ts'

let postgres: TestPostgres
beforeAll(async () => {
  postgres = await startPostgres()
})
afterAll(() => postgres.stop())

const EACH = Object.entries(OPERATIONS) as [string, Operation][]

describe.concurrent('kill -9 at every write, reads included', () => {
  for (const [key, operation] of EACH) {
    it(operation.name, async ({ onTestFinished }) => {
      const { limits = {}, peerLimits = {} } = operation
      const stage = await Stage.open({ postgres, name: `all-${key.toLowerCase()}`, limits, peerLimits })
      onTestFinished(() => stage.close())
      const { points, places, wrong, keysReused } = await stepKill(stage, operation, 'all')
      figure(`step-kill, ${operation.name}: ${points.length} / ${places} points, ${wrong.length} lost or twice, ${keysReused} keys reused`)
      expect({ wrong, keysReused, points: points.length }).toEqual({ wrong: [], keysReused: 0, points: places })
    })
  }
})

// Where there is no strace the form above is all there is, and says so.
describe.runIf(hasStrace())('kill -9 at every write system call, by strace', () => {
  for (const [key, operation] of EACH) {
    it(operation.name, async ({ onTestFinished }) => {
      const { limits = {}, peerLimits = {} } = operation
      const stage = await Stage.open({ postgres, name: `strace-${key.toLowerCase()}`, limits, peerLimits })
      onTestFinished(() => stage.close())
      const { points, places, wrong, keysReused } = await straceKill(stage, operation, path.join(stage.home, 'calls'))
      const inCall = points.filter((point) => point.startsWith('operation')).length
      figure(
        `step-kill by strace, ${operation.name}: ${points.length} / ${places} points (${inCall} in the operation, the rest at start and stop), ` +
          `${wrong.length} lost or twice, ${keysReused} keys reused`,
      )
      expect({ wrong, keysReused }).toEqual({ wrong: [], keysReused: 0 })
      // Wake-ups between threads differ from run to run by a few.
      expect(points.length).toBeGreaterThanOrEqual(places * 0.9)
    })
  }
})

it('says whether strace was there', () => {
  figure(hasStrace() ? 'step-kill: strace was used' : 'step-kill: no strace on this machine, writes were counted inside the process only')
  expect(OPERATIONS.seal.name).toBe('seal')
})

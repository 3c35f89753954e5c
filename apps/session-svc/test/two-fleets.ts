/** Two fleets that know each other, new for each test; the exports are theirs for as long as it runs. */
import { afterAll, beforeAll, beforeEach } from 'vitest'
import { startPostgres, type TestFleetDatabase, type TestPostgres } from '../../../tools/testing/postgres.ts'
import type { Limits } from '../src/limits.js'
import { introduce, TestClock, TestFleet } from './fleet.js'

export let postgres: TestPostgres
export let clock: TestClock
/** Those of `a` and `b`. */
export let databases: TestFleetDatabase[]
export let a: TestFleet
export let b: TestFleet
/** Counts the tests: names of further fleets are made with it. */
export let round = 0

/** Call once, at the top of the file. @param limits of both fleets */
export function twoFleetsForEachTest(limits: Partial<Limits> = {}): void {
  beforeAll(async () => {
    postgres = await startPostgres()
  })
  afterAll(() => postgres.stop())
  beforeEach(async () => {
    round += 1
    clock = new TestClock()
    databases = [await postgres.createFleet(`acme${round}`), await postgres.createFleet(`globex${round}`)]
    a = await TestFleet.start({ url: databases[0]!.urls.session, clock, limits })
    b = await TestFleet.start({ url: databases[1]!.urls.session, clock, limits })
    await introduce(a, b)
    return async () => {
      await a.stop()
      await b.stop()
    }
  })
}

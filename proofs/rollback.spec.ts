/**
 * The database is put back to an earlier day. The service notices before it encrypts anything, uses no key twice, gives
 * out no one-time prekey twice, and understands its peers again by itself. @see docs/spec/custody.md §7.3
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startPostgres, type TestPostgres } from '../tools/testing/postgres.ts'
import { figure } from './support/checks.ts'
import { killRecovery, MOST_ROUND_TRIPS, rollback } from './support/rollback.ts'
import { Stage } from './support/stage.ts'

let postgres: TestPostgres
beforeAll(async () => {
  postgres = await startPostgres()
})
afterAll(() => postgres.stop())

const CASES = [
  { name: 'kill -9, put back, started again', messages: 50, process: 'killed', peers: 2 },
  { name: 'put back under a running process', messages: 50, process: 'running', peers: 2 },
  { name: 'the same copy put back twice', messages: 6, process: 'killed', times: 2, peers: 1 },
  { name: 'copied at work, one message, kill -9, put back', messages: 1, process: 'killed', hot: true, peers: 1 },
] as const

describe.concurrent('a copy of the database is put back', () => {
  for (const [n, { name, peers, ...options }] of CASES.entries()) {
    it(`${name}: ${options.messages} messages are missing`, { timeout: 180_000 }, async ({ onTestFinished }) => {
      const stage = await Stage.open({ postgres, name: `rollback${n}`, peers })
      onTestFinished(() => stage.close())
      const result = await rollback(postgres, stage, options)
      const { reused, keys, detectedFirst, roundTrips, prekeysTwice, prekeys } = result
      figure(
        `rollback, ${name}: ${options.messages} messages missing, ${reused} keys reused of ${keys}, ` +
          `${detectedFirst ? '' : 'NOT '}detected before the first encrypt, healed in ${roundTrips} round trip(s), ` +
          `${prekeysTwice} of ${prekeys} one-time prekeys given out twice`,
      )
      expect(result).toMatchObject({ reused: 0, detectedFirst: true, prekeysTwice: 0 })
      expect(roundTrips).toBeLessThanOrEqual(MOST_ROUND_TRIPS)
    })
  }

  it('kill -9 before the commit of the recovery: the next process finds it as well', { timeout: 180_000 }, async ({ onTestFinished }) => {
    const stage = await Stage.open({ postgres, name: 'rollback-recovery' })
    onTestFinished(() => stage.close())
    const { points, reused, unhealed, slowest } = await killRecovery(postgres, stage, 'before its commit')
    figure(`rollback, killed before the commit of the recovery: ${reused} keys reused, healed in ${slowest} round trip(s)`)
    expect({ points: points.length, reused, unhealed }).toEqual({ points: 1, reused: 0, unhealed: [] })
  })
})

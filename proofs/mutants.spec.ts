/**
 * Versions of the service that are wrong on purpose: each must be caught by the proof that is named for it. A proof
 * that a mistake passes would prove nothing. The table of all mutants is in README.md.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startPostgres, type TestPostgres } from '../tools/testing/postgres.ts'
import { figure } from './support/checks.ts'
import type { Mutant } from './support/mutants.ts'
import { type Operation, OPERATIONS } from './support/operations.ts'
import { race } from './support/race.ts'
import { killRecovery, rollback } from './support/rollback.ts'
import { AFTER_ANSWER, BEFORE_COMMIT, type Shot, stepKill } from './support/step-kill.ts'
import { Stage } from './support/stage.ts'

let postgres: TestPostgres
beforeAll(async () => {
  postgres = await startPostgres()
})
afterAll(() => postgres.stop())

interface Caught {
  readonly mutant: Mutant
  readonly operation: keyof typeof OPERATIONS
  /** The place that the mistake concerns. */
  readonly at: Shot
  /** What the proof says about it. */
  readonly says: RegExp
}

const BY_STEP_KILL: readonly Caught[] = [
  { mutant: 'release-before-commit', operation: 'seal', at: AFTER_ANSWER, says: /other bytes.*keys reused/ },
  { mutant: 'release-before-commit', operation: 'open', at: AFTER_ANSWER, says: /opened anew twice/ },
  { mutant: 'prekey-deleted-before-commit', operation: 'consume', at: BEFORE_COMMIT, says: /lost: not opened: Decryption/ },
  { mutant: 'prekey-deleted-after-commit', operation: 'consume', at: AFTER_ANSWER, says: /still there/ },
  { mutant: 'prefetched-bundle-kept', operation: 'rotate', at: AFTER_ANSWER, says: /lost: the peer cannot open it/ },
]

describe.concurrent('mutants of persistence', () => {
  it('read-modify-write without a lock: caught by the race', { timeout: 180_000 }, async ({ onTestFinished }) => {
    const stage = await Stage.open({ postgres, name: 'mutant-race', mutant: 'read-modify-write' })
    onTestFinished(() => stage.close())
    const { reused, keys } = await race(stage, 40)
    figure(`mutant read-modify-write → race: ${reused} keys reused of ${keys}`)
    expect(reused).toBeGreaterThan(0)
  })

  for (const mutant of ['generation-not-checked', 'generation-written-after-release'] as const) {
    it(`${mutant}: caught by rollback`, { timeout: 180_000 }, async ({ onTestFinished }) => {
      const stage = await Stage.open({ postgres, name: `mutant-${mutant}`.slice(0, 24), mutant })
      onTestFinished(() => stage.close())
      const { reused, keys, detectedFirst } = await rollback(postgres, stage, { messages: 1, process: 'killed', hot: true })
      figure(`mutant ${mutant} → rollback: ${detectedFirst ? '' : 'not detected, '}${reused} keys reused of ${keys}`)
      expect({ detectedFirst, reused: reused > 0 }).toEqual({ detectedFirst: false, reused: true })
    })
  }

  it('generation-leaps-before-recovery-commits: caught by rollback', { timeout: 180_000 }, async ({ onTestFinished }) => {
    const mutant = 'generation-leaps-before-recovery-commits'
    const stage = await Stage.open({ postgres, name: 'mutant-leap', mutant })
    onTestFinished(() => stage.close())
    const { reused, unhealed } = await killRecovery(postgres, stage, 'before its commit')
    figure(`mutant ${mutant} → rollback: ${unhealed.length} not healed, ${reused} keys reused`)
    expect({ unhealed: unhealed.length, reused: reused > 0 }).toEqual({ unhealed: 1, reused: true })
  })

  for (const [n, { mutant, operation, at, says }] of BY_STEP_KILL.entries()) {
    it(`${mutant} (${operation}): caught by step-kill`, { timeout: 180_000 }, async ({ onTestFinished }) => {
      const { limits = {}, peerLimits = {} } = OPERATIONS[operation] as Operation
      const stage = await Stage.open({ postgres, name: `mutant-kill${n}`, limits, peerLimits, mutant })
      onTestFinished(() => stage.close())
      const { wrong, keysReused } = await stepKill(stage, OPERATIONS[operation], [at, at, at])
      const found = [...wrong, ...(keysReused > 0 ? [`${keysReused} keys reused`] : [])]
      figure(`mutant ${mutant} → step-kill of ${operation}: ${found[0] ?? 'not caught'}`)
      expect(found.join('; ')).toMatch(says)
    })
  }
})

/** Two service processes on one database: no message key twice, and no stale write. @see docs/spec/custody.md §5 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startPostgres, type TestPostgres } from '../tools/testing/postgres.ts'
import { figure, keysReused, keysUsed } from './support/checks.ts'
import type { Sealed } from './support/commands.ts'
import { PROCESSES, race, WORKERS } from './support/race.ts'
import { Fault } from './support/replica-process.ts'
import { sealAt, sealCommand, Stage } from './support/stage.ts'

let postgres: TestPostgres
beforeAll(async () => {
  postgres = await startPostgres()
})
afterAll(() => postgres.stop())

const PEERS = 4
const EACH = 40
/** So that each session begins a new epoch in the middle of the race. */
const LIMIT = 20

it(
  `${PROCESSES} processes × ${WORKERS} workers, ${PEERS} sessions × ${EACH} messages: no key twice`,
  { timeout: 180_000 },
  async ({ onTestFinished }) => {
    const stage = await Stage.open({ postgres, name: 'race', peers: PEERS, limits: { rotateAfterMessages: LIMIT } })
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
  },
)

describe('a holder that is stopped in its transaction, for longer than the limit', () => {
  const TRANSACTION_MS = 1_500

  for (const at of ['UPDATE session.session', 'COMMIT']) {
    it(`at ${at}: another process goes on; the stale write is rejected after SIGCONT`, { timeout: 180_000 }, async ({ onTestFinished }) => {
      const stage = await Stage.open({ postgres, name: `stop-${at.slice(0, 6).toLowerCase()}` })
      onTestFinished(() => stage.close())
      const { peer, acme } = stage
      const holder = await stage.start({ limits: { transactionMs: TRANSACTION_MS } })
      await peer.open(acme, await sealAt(holder, sealCommand(peer, 'first')))
      await holder.call({ do: 'arm', aim: { at: 1, side: 'before', signal: 'SIGSTOP', only: at } })
      const command = sealCommand(peer, 'held')
      const held = holder.call<Sealed>(command).then(
        () => 'released',
        (error: unknown) => error,
      )
      await holder.untilStopped()
      const started = performance.now()
      const other = await stage.start({ replica: 2 })
      const overtaking = await sealAt(other, sealCommand(peer, 'overtaking'))
      const waited = performance.now() - started
      await holder.kill('SIGCONT')
      const outcome = await held
      expect(outcome).toBeInstanceOf(Fault)
      // The same process, the same message id: now it is sealed from the state that the other one left. The connection
      // that the server cut may be noticed only by the next call.
      const again = await sealAt(holder, command).catch((error: unknown) => {
        if (error instanceof Fault) return sealAt(holder, command)
        throw error
      })
      expect(await peer.open(acme, overtaking)).toBe('overtaking')
      expect(await peer.open(acme, again)).toBe('held')
      const lines = stage.tapped()
      figure(
        `race, stopped at ${at}: stale write rejected, ${keysReused(lines)} keys reused of ${keysUsed(lines)}, ` +
          `the other process waited ${(waited / 1_000).toFixed(1)} s`,
      )
      expect(keysReused(lines)).toBe(0)
      expect(keysUsed(lines)).toBe(3)
    })
  }
})

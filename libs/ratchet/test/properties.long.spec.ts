/** The same model at the size that the threat model asks for. Not part of the quick run. */
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { program, runProgram, stage, Tally } from './model.js'

test.each([
  { programs: 5000, most: 40 },
  { programs: 300, most: 400 },
])(
  '$programs programs of up to $most events',
  ({ programs, most }) => {
    const at = stage()
    const used = at.arena.usedBytes
    const tally = new Tally()
    fc.assert(
      fc.property(program(most), (events) => runProgram(at, events, { tally })),
      { numRuns: programs },
    )
    process.stdout.write(`${tally.line()}\n`)
    process.stdout.write(`${tally.details()}\n`)
    expect(tally.programs).toBe(programs)
    expect(at.arena.usedBytes).toBe(used)
    at.arena.close()
  },
  1_200_000,
)

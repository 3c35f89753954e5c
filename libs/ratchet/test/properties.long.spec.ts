/** The same model at the size that the threat model asks for: 10,000 programs. Not part of the quick run. */
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { program, runProgram, stage } from './model.js'

test('10,000 programs of up to 40 events, and 300 of up to 400', () => {
  const at = stage()
  const used = at.arena.usedBytes
  fc.assert(
    fc.property(program(40), (events) => runProgram(at, events)),
    { numRuns: 10_000 },
  )
  fc.assert(
    fc.property(program(400), (events) => runProgram(at, events)),
    { numRuns: 300 },
  )
  expect(at.arena.usedBytes).toBe(used)
  at.arena.close()
}, 1_200_000)

import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { decodeEnvelope } from '@tallystick/wire/envelope'
import { toHex } from '@tallystick/primitives/bytes'
import { program, runProgram, stage, Tally, World } from './model.js'

test('any interleaving, loss, repetition, reordering, change, rotation, restart and restore', () => {
  const at = stage()
  const used = at.arena.usedBytes
  const tally = new Tally()
  fc.assert(
    fc.property(program(40), (events) => runProgram(at, events, { tally })),
    { numRuns: 300 },
  )
  process.stdout.write(`${tally.line()}\n`)
  expect(at.arena.usedBytes).toBe(used)
  expect(tally.failed).toBeGreaterThan(100)
  at.arena.close()
}, 120_000)

test('both start at once, a hundred times: nothing is lost, and both end on one session', () => {
  const at = stage()
  fc.assert(
    fc.property(fc.array(fc.nat(), { minLength: 6, maxLength: 6 }), (order) => {
      const world = new World(at.arena, at.fleets)
      for (const by of [0, 1, 0, 1, 0, 1] as const) world.send(by, 10)
      for (const which of order) world.deliver(which % world.flying.length)
      expect(world.opened).toHaveLength(6)
      world.send(0, 10)
      world.send(1, 10)
      const [ours, theirs] = world.flying.map((message) => toHex(decodeEnvelope(message.bytes).header.sid))
      expect(ours).toBe(theirs)
      world.run([])
      world.close()
    }),
    { numRuns: 100 },
  )
  at.arena.close()
})

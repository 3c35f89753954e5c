/** The same as memory.spec.ts with more keys, more messages and more epochs. */
import { expect, it } from 'vitest'
import { searchTheMemoryOfAService } from './memory-run.ts'

it('nothing is left of 1,000 session keys after 300 round trips and 100 rotations', { timeout: 600_000 }, async () => {
  expect(process.platform).toBe('linux')
  await searchTheMemoryOfAService({ keys: 1_000, roundTrips: 300 })
})

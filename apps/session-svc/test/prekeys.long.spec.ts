import { expect, it } from 'vitest'
import { startPostgres } from '../../../tools/testing/postgres.ts'
import { drain } from './drain.js'
import { introduce, TestClock, TestFleet } from './fleet.js'

it('10,000 fetches of one peer take its quota at most, and another peer still gets one-time keys', { timeout: 600_000 }, async () => {
  const postgres = await startPostgres()
  const clock = new TestClock()
  const newFleet = async (name: string) => TestFleet.start({ url: (await postgres.createFleet(name)).urls.session, clock })
  const [a, greedy, other] = [await newFleet('acme'), await newFleet('globex'), await newFleet('initech')]
  await introduce(a, greedy)
  await introduce(a, other)
  await drain({ a, greedy, other, clock }, 10_000)
  expect(await a.context.db.prekey.count({ where: { handedTo: greedy.id } })).toBe(200)
  for (const fleet of [a, greedy, other]) await fleet.stop()
  await postgres.stop()
})

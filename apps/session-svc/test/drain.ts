/** One peer that fetches bundles as fast as it may, and another one that wants just one. */
import { type Bundle, decodeBundle } from '@tallystick/wire/bundle'
import { expect } from 'vitest'
import type { TestClock, TestFleet } from './fleet.js'

const AT_ONCE = 10
const PER_WINDOW = 50

export async function bundleOf(from: TestFleet, forPeer: TestFleet): Promise<Bundle> {
  const answer = await from.take(forPeer.id)
  if (!answer.ok) throw new Error(answer.code)
  return decodeBundle(answer.bundle)
}

/** Names of the one-time keys in a bundle. */
export function oneTimeOf({ opk, pq }: Bundle): string[] {
  return [...(opk ? [`one-time ${opk.id}`] : []), ...(pq.kind === 'one-time' ? [`pq-one-time ${pq.id}`] : [])]
}

/** Half of the fetches in one window of the quota, the rest in windows of their own, where the cap on unused keys holds. */
export async function drain(
  { a, greedy, other, clock }: { a: TestFleet; greedy: TestFleet; other: TestFleet; clock: TestClock },
  fetches: number,
): Promise<void> {
  const { bundlesPerPeer, handedOutPerPeer } = a.context.limits
  let given = 0
  let refused = 0
  const fetch = async () => {
    if ((await a.take(greedy.id)).ok) given += 1
    else refused += 1
  }
  for (let i = 0; i < fetches / 2; i += AT_ONCE) await Promise.all(Array.from({ length: AT_ONCE }, fetch))
  expect([given, refused]).toEqual([bundlesPerPeer, fetches / 2 - bundlesPerPeer])
  expect(oneTimeOf(await bundleOf(a, other))).toHaveLength(2)
  for (let i = 0; i < fetches / 2; i += PER_WINDOW) {
    clock.advance(a.context.limits.bundleWindowMs + 1)
    await Promise.all(Array.from({ length: PER_WINDOW }, fetch))
  }
  const held = await a.context.db.prekey.groupBy({ by: ['kind'], where: { handedTo: greedy.id }, _count: true, orderBy: { kind: 'asc' } })
  const text = held.map(({ kind, _count }) => `${_count} ${kind}`).join(', ')
  console.log(`${fetches} fetches of one peer: ${given} bundles, ${refused} refused, it holds ${text}`)
  expect(held.map(({ _count }) => _count)).toEqual([handedOutPerPeer, handedOutPerPeer])
  expect(oneTimeOf(await bundleOf(a, greedy))).toHaveLength(0)
  expect(oneTimeOf(await bundleOf(a, other))).toHaveLength(2)
}

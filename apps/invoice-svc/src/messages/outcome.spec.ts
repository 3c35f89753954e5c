import { RpcFault } from '@tallystick/nats-rpc/fault'
import { expect, it } from 'vitest'
import { batchesOf } from './batches.js'
import { faultAsRefusal, isFinal, waitAfter } from './outcome.js'

const limits = { retryFirstMs: 1_000, retryMaxMs: 60_000, retryBlockedMs: 300_000 }
const delay = (code: 'Network' | 'PeerBlocked' | 'CircuitBreakerOpen', attempts: number, retryAfterMs?: number) =>
  waitAfter({ code, message: 'x', ...(retryAfterMs === undefined ? {} : { retryAfterMs }) }, attempts, 0, limits).nextAttemptAt.getTime()

it('waits longer each time, up to a cap; only a person ends a block', () => {
  expect([1, 2, 3, 4].map((attempts) => delay('Network', attempts))).toEqual([1_000, 2_000, 4_000, 8_000])
  expect(delay('Network', 1_000)).toBe(60_000)
  expect(delay('Network', 1, 30_000)).toBe(30_000)
  expect(delay('Network', 1, 600_000)).toBe(60_000)
  expect(delay('PeerBlocked', 1)).toBe(300_000)
  expect(delay('CircuitBreakerOpen', 9, 120_000)).toBe(1_000)
})

it('tells a fault of the bus from an error of our own', () => {
  expect(
    faultAsRefusal(new RpcFault('CircuitBreakerOpen', 'session.v1.seal', 'open', { origin: 'caller', retryAfterMs: 5 })),
  ).toMatchObject({ code: 'CircuitBreakerOpen', message: expect.stringContaining('session-svc'), retryAfterMs: 5 })
  expect(() => faultAsRefusal(new TypeError('ours'))).toThrow('ours')
  expect(isFinal({ code: 'EndpointTooLarge' })).toBe(true)
  expect(isFinal({ code: 'Network' })).toBe(false)
})

it('cuts batches by number and by bytes, and never drops an item that is too large alone', () => {
  const sizes = [3, 3, 3, 9, 20, 1]
  expect(batchesOf(sizes, (size) => size, { pumpBatch: 2, pumpBatchBytes: 10 })).toEqual([[3, 3], [3], [9], [20], [1]])
})

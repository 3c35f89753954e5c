import { afterEach, describe, expect, it, vi } from 'vitest'
import { Wake } from './wake.js'

afterEach(() => {
  vi.useRealTimers()
})

describe('a wake-up', () => {
  it('that comes before anybody waits is not lost', async () => {
    const wake = new Wake()
    wake.wake()
    await wake.wait()
  })

  it('leaves no timer behind', async () => {
    vi.useFakeTimers()
    const wake = new Wake()
    for (let i = 0; i < 10; i++) {
      const waited = wake.wait(3_600_000)
      wake.wake()
      await waited
    }
    expect(vi.getTimerCount()).toBe(0)
  })
})

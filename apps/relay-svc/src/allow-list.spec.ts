import { describe, expect, it } from 'vitest'
import { AllowList } from './allow-list.js'
import type { PeerRecord } from './peers.store.js'

describe('the allow-list', () => {
  it('is not set back by a read that began before a change and ends after it', async () => {
    const record = (state: PeerRecord['state']): PeerRecord => ({ fleetId: 'a', state, multiaddrs: [], peerIds: ['p'], addresses: [] })
    let state: PeerRecord['state'] = 'allowed'
    let slow: (() => void) | undefined
    let reads = 0
    const list = new AllowList({
      version: () => Promise.resolve(state),
      async all() {
        const seen = [record(state)]
        if (reads++ === 0)
          await new Promise<void>((resolve) => {
            slow = resolve
          })
        return seen
      },
    })
    const polled = list.refresh()
    await new Promise(setImmediate)
    state = 'blocked'
    const changed = list.refresh(true)
    await new Promise(setImmediate)
    slow!()
    await Promise.all([polled, changed])
    expect(list.stateOf('p')).toBe('blocked')
  })

  it('is read again after a read that failed', async () => {
    let away = true
    const list = new AllowList({
      version: () => (away ? Promise.reject(new Error('database is away')) : Promise.resolve('1')),
      all: () => Promise.resolve([]),
    })
    await expect(list.refresh()).rejects.toThrow('database is away')
    away = false
    await list.refresh()
    expect(list.loaded).toBe(true)
  })
})

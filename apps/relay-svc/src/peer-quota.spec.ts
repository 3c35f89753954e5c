import { describe, expect, it } from 'vitest'
import { backoffMs } from './backoff.js'
import { uuidv7 } from './ids.js'
import { DEFAULT_LIMITS, limitsFrom, limitVariable } from './limits.js'
import { PeerQuotas } from './peer-quota.js'

describe('the rates of one peer', () => {
  it('count messages, and say when to come back', () => {
    const quotas = new PeerQuotas({ ...DEFAULT_LIMITS, peerMessagesPerMinute: 60 })
    for (let i = 0; i < 60; i++) expect(quotas.envelope('a', 10, 0).ok).toBe(true)
    expect(quotas.envelope('a', 10, 0)).toEqual({ ok: false, layer: 'peer-messages', limit: 'peerMessagesPerMinute', retryAfterMs: 1_000 })
    expect(quotas.envelope('b', 10, 0).ok).toBe(true)
    expect(quotas.envelope('a', 10, 1_000).ok).toBe(true)
    expect(quotas.envelope('a', 10, 1_000).ok).toBe(false)
  })

  it('count bytes without using up a message', () => {
    const quotas = new PeerQuotas({ ...DEFAULT_LIMITS, peerMessagesPerMinute: 2, peerBytesPerMinute: 1_000 })
    expect(quotas.envelope('a', 900, 0).ok).toBe(true)
    expect(quotas.envelope('a', 200, 0)).toMatchObject({ ok: false, layer: 'peer-bytes', retryAfterMs: 6_000 })
    expect(quotas.envelope('a', 100, 0).ok).toBe(true)
    // Larger than the whole budget: passes when the budget is full, so that no limit can make an envelope impossible.
    expect(quotas.envelope('b', 5_000, 0).ok).toBe(true)
  })

  it('count bundles', () => {
    const quotas = new PeerQuotas(DEFAULT_LIMITS)
    const answers = Array.from({ length: 11 }, () => quotas.bundle('a', 0).ok)
    expect(answers.filter(Boolean)).toHaveLength(DEFAULT_LIMITS.peerBundlesPerMinute)
    quotas.forget('a')
    expect(quotas.bundle('a', 0).ok).toBe(true)
  })
})

describe('limits', () => {
  it('are overridden by their variable', () => {
    expect(limitVariable('handshakesPerAddress')).toBe('TALLYSTICK_RELAY_HANDSHAKES_PER_ADDRESS')
    expect(limitsFrom({ leaseMs: 1 }, { TALLYSTICK_RELAY_HANDSHAKES_PER_ADDRESS: 9 })).toMatchObject({
      handshakesPerAddress: 9,
      leaseMs: 1,
      readTimeoutMs: 30_000,
    })
  })

  it('carry the numbers that were settled', () => {
    expect(DEFAULT_LIMITS).toMatchObject({
      handshakesPerAddress: 5,
      handshakesUnknown: 100,
      handshakeWindowMs: 60_000,
      trackedAddresses: 100_000,
      handshakeTimeoutMs: 10_000,
      readTimeoutMs: 30_000,
      idleTimeoutMs: 300_000,
    })
  })
})

describe('back-off', () => {
  it('doubles from the first to the cap, with jitter in its upper half', () => {
    expect([1, 2, 3, 20].map((n) => backoffMs(n, 250, 30_000, 1))).toEqual([250, 500, 1_000, 30_000])
    expect(backoffMs(1, 250, 30_000, 0)).toBe(125)
    expect(backoffMs(5_000, 250, 30_000, 0.5)).toBe(22_500)
  })
})

describe('uuidv7', () => {
  it('has version, variant and the time in front', () => {
    const id = uuidv7(1_645_557_742_000, new Uint8Array(10).fill(0xff))
    expect(id).toBe('017f22e2-79b0-7fff-bfff-ffffffffffff')
  })
})

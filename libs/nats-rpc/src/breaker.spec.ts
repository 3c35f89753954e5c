import { Registry } from 'prom-client'
import { describe, expect, it } from 'vitest'
import { Breaker, type BreakerOptions, type BreakerState } from './breaker.js'
import { RpcFault, speaksAgainstCallee } from './fault.js'

const ok = async () => 'ok'
const fail = async () => {
  throw new Error('down')
}

function makeBreaker(options: Partial<BreakerOptions> = {}) {
  const metrics = new Registry()
  const breaker = new Breaker({ service: 'invoice-svc', target: 'session.v1.seal', metrics, resetMs: 20, maxResetMs: 80, ...options })
  return { breaker, metrics }
}

const swallow = (call: Promise<unknown>) =>
  call.then(
    () => undefined,
    () => undefined,
  )

async function failTimes(breaker: Breaker, times: number) {
  for (let i = 0; i < times; i++) await swallow(breaker.fire(fail))
}

function entered(breaker: Breaker, state: BreakerState): Promise<number> {
  const startedAt = performance.now()
  return new Promise((resolve) => {
    const end = breaker.onTransition(({ to }) => {
      if (to !== state) return
      end()
      resolve(performance.now() - startedAt)
    })
  })
}

describe('opening', () => {
  it('blocks the sixth call at once after five failures, without running it', async () => {
    const { breaker } = makeBreaker({ resetMs: 60_000 })
    await failTimes(breaker, 4)
    expect(breaker.state).toBe('closed')
    await expect(breaker.fire(fail)).rejects.toThrow('down')
    let ran = false
    const sixth = await breaker
      .fire(async () => {
        ran = true
      })
      .catch((error: unknown) => error)
    expect(sixth).toBeInstanceOf(RpcFault)
    expect(sixth).toMatchObject({ code: 'CircuitBreakerOpen', subject: 'session.v1.seal' })
    expect((sixth as RpcFault).retryAfterMs).toBeGreaterThan(59_000)
    expect(ran).toBe(false)
    breaker.shutdown()
  })

  it('counts absolute failures: a thousand successes before and between change nothing', async () => {
    const { breaker } = makeBreaker({ resetMs: 60_000 })
    for (let i = 0; i < 1000; i++) await breaker.fire(ok)
    for (let i = 0; i < 5; i++) {
      expect(breaker.state).toBe('closed')
      await failTimes(breaker, 1)
      if (i < 4) for (let k = 0; k < 20; k++) await breaker.fire(ok)
    }
    expect(breaker.state).toBe('open')
    breaker.shutdown()
  })

  it('opens on five failures of calls that run at the same time', async () => {
    const { breaker } = makeBreaker({ resetMs: 60_000 })
    await Promise.all(Array.from({ length: 5 }, () => swallow(breaker.fire(fail))))
    expect(breaker.state).toBe('open')
    breaker.shutdown()
  })

  it('forgets failures that leave the window', async () => {
    let now = 1_000_000
    const { breaker } = makeBreaker({ now: () => now })
    await failTimes(breaker, 4)
    now += 60_000
    await failTimes(breaker, 4)
    expect(breaker.failures).toBe(4)
    expect(breaker.state).toBe('closed')
    await failTimes(breaker, 1)
    expect(breaker.state).toBe('open')
    breaker.shutdown()
  })

  it('never counts what does not speak against the target', async () => {
    const { breaker } = makeBreaker({ countsAsFailure: speaksAgainstCallee })
    const notCounted = [
      new RpcFault('Decryption', 's', 'peer', { origin: 'callee' }),
      new RpcFault('VerificationFailed', 's', 'peer', { origin: 'callee' }),
      new RpcFault('Serialization', 's', 'peer', { origin: 'callee' }),
      new RpcFault('RateLimited', 's', 'busy', { origin: 'callee' }),
      new RpcFault('CircuitBreakerOpen', 's', 'further down', { origin: 'callee' }),
      new RpcFault('Serialization', 's', 'own request', { origin: 'caller' }),
      new RpcFault('Network', 's', 'hardly any time', { origin: 'transport', fair: false }),
    ]
    for (const fault of notCounted) for (let i = 0; i < 6; i++) await swallow(breaker.fire(() => Promise.reject(fault)))
    for (let i = 0; i < 6; i++) await swallow(breaker.fire(() => Promise.reject(new DOMException('gave up', 'AbortError'))))
    expect(breaker.state).toBe('closed')
    expect(breaker.failures).toBe(0)
    for (const code of ['Internal', 'Network', 'KeyStorage'] as const)
      await swallow(breaker.fire(() => Promise.reject(new RpcFault(code, 's', 'unwell', { origin: 'callee' }))))
    expect(breaker.failures).toBe(3)
    breaker.shutdown()
  })
})

describe('probing', () => {
  it('lets exactly one probe through, and closes when it succeeds', async () => {
    const { breaker } = makeBreaker()
    const halfOpen = entered(breaker, 'half-open')
    await failTimes(breaker, 5)
    await halfOpen
    const release = Promise.withResolvers<string>()
    let started = 0
    const probe = breaker.fire(() => {
      started++
      return release.promise
    })
    const others = await Promise.all(
      [1, 2, 3].map(() =>
        breaker
          .fire(async () => {
            started++
          })
          .catch((error: unknown) => (error as RpcFault).code),
      ),
    )
    expect(others).toEqual(['CircuitBreakerOpen', 'CircuitBreakerOpen', 'CircuitBreakerOpen'])
    expect(started).toBe(1)
    release.resolve('back')
    expect(await probe).toBe('back')
    expect(breaker.state).toBe('closed')
    expect(await breaker.fire(ok)).toBe('ok')
    breaker.shutdown()
  })

  it('doubles the wait while the probe fails, up to the cap, and starts anew once closed', async () => {
    const { breaker } = makeBreaker({ resetMs: 40, maxResetMs: 100 })
    const waits: number[] = []
    let halfOpen = entered(breaker, 'half-open')
    await failTimes(breaker, 5)
    for (let i = 0; i < 4; i++) {
      waits.push(await halfOpen)
      halfOpen = entered(breaker, 'half-open')
      await failTimes(breaker, 1)
      expect(breaker.state).toBe('open')
    }
    await halfOpen
    await breaker.fire(ok)
    halfOpen = entered(breaker, 'half-open')
    await failTimes(breaker, 5)
    expect(breaker.nextProbeAt! - Date.now()).toBeLessThanOrEqual(40)
    waits.push(await halfOpen)
    breaker.shutdown()
    // Timers may fire late, never early.
    expect(waits.map((ms, i) => ms >= [40, 80, 100, 100, 40][i]! - 2)).toEqual([true, true, true, true, true])
  })

  it('says when the next probe is due, with the real defaults', async () => {
    const now = 5_000_000
    const { breaker } = makeBreaker({ resetMs: undefined as never, maxResetMs: undefined as never, now: () => now })
    await failTimes(breaker, 5)
    const due: Array<number | undefined> = [breaker.nextProbeAt]
    for (let i = 0; i < 5; i++) {
      breaker.probeNow()
      expect(breaker.nextProbeAt).toBeUndefined()
      await failTimes(breaker, 1)
      due.push(breaker.nextProbeAt)
    }
    expect(due.map((at) => at! - now)).toEqual([120_000, 240_000, 480_000, 900_000, 900_000, 900_000])
    breaker.shutdown()
  })

  it('does not take the outcome of a call from before for the outcome of the probe', async () => {
    const { breaker } = makeBreaker()
    const slowOk = Promise.withResolvers<string>()
    const slowFail = Promise.withResolvers<string>()
    const before = [breaker.fire(() => slowOk.promise), swallow(breaker.fire(() => slowFail.promise))]
    const halfOpen = entered(breaker, 'half-open')
    await failTimes(breaker, 5)
    await halfOpen
    slowOk.resolve('late')
    expect(await before[0]).toBe('late')
    slowFail.reject(new Error('late'))
    await before[1]
    expect(breaker.state).toBe('half-open')
    await breaker.fire(ok)
    expect(breaker.state).toBe('closed')
    breaker.shutdown()
  })

  it('gives the probe to the next call when the first one is aborted', async () => {
    const { breaker } = makeBreaker()
    const halfOpen = entered(breaker, 'half-open')
    await failTimes(breaker, 5)
    await halfOpen
    await swallow(breaker.fire(() => Promise.reject(new DOMException('gave up', 'AbortError'))))
    expect(breaker.state).toBe('half-open')
    expect(await breaker.fire(ok)).toBe('ok')
    expect(breaker.state).toBe('closed')
    breaker.shutdown()
  })

  it('probeNow does nothing unless open', () => {
    const { breaker } = makeBreaker()
    breaker.probeNow()
    expect(breaker.state).toBe('closed')
    breaker.shutdown()
  })
})

it('reports states and transitions to Prometheus, and takes its series away at shutdown', async () => {
  const { breaker, metrics } = makeBreaker({ resetMs: 60_000 })
  const text = () => metrics.metrics()
  expect(await text()).toContain('tallystick_breaker_state{service="invoice-svc",target="session.v1.seal"} 0')
  await failTimes(breaker, 5)
  expect(await text()).toContain('tallystick_breaker_state{service="invoice-svc",target="session.v1.seal"} 2')
  breaker.probeNow()
  expect(await text()).toContain('tallystick_breaker_state{service="invoice-svc",target="session.v1.seal"} 1')
  await breaker.fire(ok)
  const final = await text()
  expect(final).toContain('tallystick_breaker_transitions_total{service="invoice-svc",target="session.v1.seal",from="closed",to="open"} 1')
  expect(final).toContain(
    'tallystick_breaker_transitions_total{service="invoice-svc",target="session.v1.seal",from="half-open",to="closed"} 1',
  )
  breaker.shutdown()
  expect(await text()).not.toContain('tallystick_breaker_state{')
  await expect(breaker.fire(ok)).rejects.toMatchObject({ code: 'CircuitBreakerOpen' })
})

it('passes the value and the error of the action through unchanged, also of one that throws at once', async () => {
  const { breaker } = makeBreaker()
  const value = { some: 'value' }
  expect(await breaker.fire(async () => value)).toBe(value)
  const error = new TypeError('mine')
  await expect(
    breaker.fire(() => {
      throw error
    }),
  ).rejects.toBe(error)
  breaker.shutdown()
})

import { sessionFleet } from '@tallystick/contracts/session'
import { auditIdentity } from '@tallystick/contracts/audit'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { startNats, type TestNats } from '../../../tools/testing/nats.ts'
import { answer, startTestService, type TestService } from './bus-fixture.ts'

let nats: TestNats
const running: TestService[] = []

beforeAll(async () => {
  nats = await startNats()
})
afterAll(() => nats.stop())
// Also after a failure: a service left behind would answer the next test's calls.
afterEach(async () => {
  for (const service of running.splice(0)) await service.close()
})

function start(name: Parameters<typeof startTestService>[1], at: Parameters<typeof startTestService>[0] = nats): TestService {
  const service = startTestService(at, name)
  running.push(service)
  return service
}

const back = (service: TestService) =>
  new Promise<void>((resolve) => {
    const end = service.bus.onReconnect(() => {
      end()
      resolve()
    })
  })

const lost = (service: TestService) => service.log.line((l) => l.message.startsWith('lost the connection'))

it('survives kill -9 of NATS: calls fail fast, then work again with the circuits of the default numbers', async () => {
  const [caller, callee] = [start('invoice-svc'), start('session-svc')]
  let ran = 0
  await callee.serve([
    answer(sessionFleet)(async () => {
      ran++
      return { ok: false, code: 'NotReady', message: 'x' }
    }),
  ])
  await caller.bus.whenConnected()
  expect(await caller.rpc.call(sessionFleet, {})).toMatchObject({ ok: false })

  await nats.kill()
  await Promise.all([lost(caller), lost(callee)])
  const startedAt = performance.now()
  for (let i = 0; i < 5; i++) await expect(caller.rpc.call(sessionFleet, {})).rejects.toMatchObject({ code: 'Network' })
  await expect(caller.rpc.call(sessionFleet, {})).rejects.toMatchObject({ code: 'CircuitBreakerOpen' })
  expect(performance.now() - startedAt).toBeLessThan(500)
  expect(await caller.metrics.metrics()).toContain('tallystick_nats_connected 0')

  const again = Promise.all([back(caller), back(callee)])
  await nats.restart()
  await again
  // Only the loss of the bus had opened the circuit, so it probes at once instead of after 120 s.
  expect(caller.rpc.circuits()[0]).toMatchObject({ state: 'half-open' })
  await callee.bus.connection()!.flush()
  expect(await caller.rpc.call(sessionFleet, {})).toMatchObject({ ok: false })
  expect(ran).toBe(2)
  expect(caller.rpc.circuits()[0]).toMatchObject({ state: 'closed' })
  expect(await caller.metrics.metrics()).toContain('tallystick_nats_connected 1')
})

it('a circuit opened because nobody listened probes as soon as the callee arrives', async () => {
  const caller = start('invoice-svc')
  await caller.bus.whenConnected()
  for (let i = 0; i < 5; i++) await expect(caller.rpc.call(sessionFleet, {})).rejects.toMatchObject({ code: 'Network' })
  expect(caller.rpc.circuits()[0]).toMatchObject({ state: 'open' })
  const halfOpen = new Promise<void>((resolve) => caller.rpc.onTransition((t) => t.to === 'half-open' && resolve()))
  const callee = start('session-svc')
  await callee.serve([answer(sessionFleet)(async () => ({ ok: false, code: 'NotReady', message: 'x' }))])
  await halfOpen
  expect(await caller.rpc.call(sessionFleet, {})).toMatchObject({ ok: false })
  expect(caller.rpc.circuits()[0]).toMatchObject({ state: 'closed' })
})

it('a circuit opened by bad answers waits out its reset time, also when the callee arrives again', async () => {
  const [caller, callee] = [start('invoice-svc'), start('session-svc')]
  await callee.serve([
    answer(sessionFleet)(async () => {
      throw new Error('broken')
    }),
  ])
  await caller.bus.whenConnected()
  for (let i = 0; i < 5; i++) await expect(caller.rpc.call(sessionFleet, {})).rejects.toMatchObject({ code: 'Internal' })
  const heard = new Promise<void>((resolve) => caller.bus.connection()!.subscribe('arrival.v1.*', { callback: () => resolve() }))
  await caller.bus.connection()!.flush()
  const again = start('session-svc')
  await again.serve([answer(sessionFleet)(async () => ({ ok: false, code: 'NotReady', message: 'x' }))])
  await heard
  expect(caller.rpc.circuits()[0]).toMatchObject({ state: 'open' })
})

it('calls that a killed callee has left without an answer do not open the circuit of its successor', async () => {
  const caller = start('invoice-svc')
  await caller.bus.whenConnected()
  // Stands for a callee that is gone without the server's noticing: it takes requests and answers none.
  const gone = start('session-svc')
  const taken = Promise.withResolvers<void>()
  const release = Promise.withResolvers<never>()
  let count = 0
  await gone.serve([
    answer(sessionFleet)(async () => {
      if (++count === 5) taken.resolve()
      return release.promise
    }),
  ])
  const timeoutMs = sessionFleet.timeoutMs * 0.6
  const calls = Array.from({ length: 5 }, () => caller.rpc.call(sessionFleet, {}, { timeoutMs }).catch((error: unknown) => error))
  await taken.promise
  const heard = new Promise<void>((resolve) => caller.bus.connection()!.subscribe('arrival.v1.*', { callback: () => resolve() }))
  await caller.bus.connection()!.flush()
  const successor = start('session-svc')
  await successor.serve([answer(sessionFleet)(async () => ({ ok: false, code: 'NotReady', message: 'x' }))])
  await heard
  const errors = await Promise.all(calls)
  release.reject(new Error('too late'))
  for (const error of errors) expect(error).toMatchObject({ code: 'Network' })
  expect(caller.rpc.circuits()[0]).toMatchObject({ state: 'closed', failures: 0 })
})

it('an answer that counts nothing does not keep a circuit from probing when the callee arrives', async () => {
  const [caller, callee] = [start('invoice-svc'), start('session-svc')]
  await callee.serve([
    answer(sessionFleet)(async () => {
      throw Object.assign(new Error('full'), { code: 'RateLimited', retryAfterMs: 1 })
    }),
  ])
  await caller.bus.whenConnected()
  const gone = start('session-svc')
  await expect(caller.rpc.call(sessionFleet, {})).rejects.toMatchObject({ code: 'RateLimited' })
  await callee.close()
  await expect(caller.rpc.call(sessionFleet, {})).rejects.toMatchObject({ code: 'Network' })
  await gone.serve([
    answer(sessionFleet)(async () => {
      throw Object.assign(new Error('full'), { code: 'RateLimited', retryAfterMs: 1 })
    }),
  ])
  await expect(caller.rpc.call(sessionFleet, {})).rejects.toMatchObject({ code: 'RateLimited' })
  await gone.close()
  for (let i = 0; i < 4; i++) await expect(caller.rpc.call(sessionFleet, {})).rejects.toMatchObject({ code: 'Network' })
  expect(caller.rpc.circuits()[0]).toMatchObject({ state: 'open' })
  const halfOpen = new Promise<void>((resolve) => caller.rpc.onTransition((x) => x.to === 'half-open' && resolve()))
  await start('session-svc').serve([answer(sessionFleet)(async () => ({ ok: false, code: 'NotReady', message: 'x' }))])
  await halfOpen
})

it('a circuit that the callee itself has opened stays open over a reconnect', async () => {
  const caller = start('invoice-svc')
  await caller.bus.whenConnected()
  for (let i = 0; i < 5; i++) await expect(caller.rpc.call(sessionFleet, {})).rejects.toMatchObject({ code: 'Network' })
  const again = back(caller)
  await nats.kill()
  await nats.restart()
  await again
  expect(caller.rpc.circuits()[0]).toMatchObject({ state: 'open' })
})

it('a call in flight ends when NATS goes, and the late answer is not sent into the new connection', async () => {
  const [caller, callee] = [start('invoice-svc'), start('session-svc')]
  const entered = Promise.withResolvers<void>()
  const release = Promise.withResolvers<void>()
  await callee.serve([
    answer(sessionFleet)(async () => {
      entered.resolve()
      await release.promise
      return { ok: false, code: 'NotReady', message: 'x' }
    }),
  ])
  await caller.bus.whenConnected()
  const startedAt = performance.now()
  const call = caller.rpc.call(sessionFleet, {}).catch((error: unknown) => error)
  await entered.promise
  const again = Promise.all([back(caller), back(callee)])
  await nats.kill()
  expect(await call).toMatchObject({ code: 'Network' })
  expect(performance.now() - startedAt).toBeLessThan(sessionFleet.timeoutMs)
  await nats.restart()
  await again
  release.resolve()
  await expect.poll(() => callee.metrics.metrics()).toContain('tallystick_rpc_in_flight 0')
  await callee.bus.connection()!.flush()
  await new Promise((resolve) => setImmediate(resolve))
  // A reply that the new server had not allowed would be a permission violation.
  expect(await callee.metrics.metrics()).not.toContain('tallystick_nats_permission_violations_total{')
})

it('services that start before NATS answer as soon as it is there', async () => {
  await nats.kill()
  const [caller, callee] = [start('invoice-svc'), start('audit-svc')]
  const served = callee.serve([answer(auditIdentity)(async () => ({ ok: true, publicKey: new Uint8Array(32).fill(7) }))])
  expect(caller.bus.connected).toBe(false)
  await expect(caller.rpc.call(auditIdentity, {})).rejects.toMatchObject({ code: 'Network' })
  await nats.restart()
  await served
  await caller.bus.whenConnected()
  expect(await caller.rpc.call(auditIdentity, {})).toEqual({ ok: true, publicKey: new Uint8Array(32).fill(7) })
})

it('a wrong key and an absent seed file are retried, not fatal, and closing ends it', async () => {
  const stranger = start('audit-svc', { url: nats.url, seedFile: () => '/nonexistent/nats.nk' })
  await stranger.log.line((l) => l.level === 'error' && l.message.includes('no connection'))
  expect(stranger.bus.connected).toBe(false)
  await stranger.close()
})

it('closing while NATS is away ends at once, with a handler subscribed and a call waiting', async () => {
  const [caller, callee] = [start('invoice-svc'), start('session-svc')]
  await callee.serve([answer(sessionFleet)(async () => ({ ok: false, code: 'NotReady', message: 'x' }))])
  await caller.bus.whenConnected()
  await nats.kill()
  await Promise.all([lost(caller), lost(callee)])
  const startedAt = performance.now()
  await Promise.all([caller.close(), callee.close()])
  expect(performance.now() - startedAt).toBeLessThan(1_500)
  await nats.restart()
})

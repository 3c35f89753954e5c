import { contract } from '@tallystick/contracts/call'
import { refusal } from '@tallystick/contracts/codes'
import { relaySend } from '@tallystick/contracts/relay'
import { sessionFleet, sessionSeal, sessionTakeBundle } from '@tallystick/contracts/session'
import { headers } from 'nats'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { startNats, type TestNats } from '../../../tools/testing/nats.ts'
import { decodeBus, encodeBus } from '../src/codec.js'
import { currentContext, runInContext, traceIdOf, type CallContext } from '../src/context.js'
import type { RpcFault } from '../src/fault.js'
import { answer, startTestService, type TestService } from './bus-fixture.ts'

const FLEET = `tsf1${'a'.repeat(52)}`
const MESSAGE = '01890a5d-ac96-774b-bcce-b302099a8057'

let nats: TestNats
const running: TestService[] = []

beforeAll(async () => {
  nats = await startNats()
})
afterAll(() => nats.stop())
afterEach(async () => {
  for (const service of running.splice(0)) await service.close()
})

async function start(name: Parameters<typeof startTestService>[1], breaker?: Parameters<typeof startTestService>[2]): Promise<TestService> {
  const service = startTestService(nats, name, breaker)
  running.push(service)
  await service.bus.whenConnected()
  return service
}

const sealed = (envelope: Uint8Array) => ({ items: [{ ok: true as const, messageId: MESSAGE, envelope, epoch: 1 }] })
const toSeal = (payload: Uint8Array) => ({ items: [{ messageId: MESSAGE, fleetId: FLEET, class: 'application' as const, payload }] })
const caught = (call: Promise<unknown>) =>
  call.then(
    () => {
      throw new Error('should have failed')
    },
    (error: unknown) => error as RpcFault,
  )

describe('a call', () => {
  it('carries megabytes of bytes there and back unchanged', async () => {
    const [caller, callee] = [await start('invoice-svc'), await start('session-svc')]
    await callee.serve([answer(sessionSeal)(async ({ items }) => sealed(items[0]!.payload.toReversed()))])
    const payload = Uint8Array.from({ length: 3_000_000 }, (_, i) => (i * 31) & 255)
    const response = await caller.rpc.call(sessionSeal, toSeal(payload))
    const item = response.items[0]!
    expect(item.ok && Buffer.compare(item.envelope, payload.toReversed())).toBe(0)
    const text = await caller.metrics.metrics()
    expect(text).toContain('tallystick_rpc_duration_seconds_count{target="session.v1.seal",outcome="ok"} 1')
  })

  it('brings a refusal back as a value that never counts', async () => {
    const [caller, callee] = [await start('relay-svc'), await start('session-svc')]
    await callee.serve([answer(sessionFleet)(async () => ({ ok: false, code: 'NotReady', message: 'not yet' }))])
    for (let i = 0; i < 10; i++)
      expect(await caller.rpc.call(sessionFleet, {})).toEqual({ ok: false, code: 'NotReady', message: 'not yet' })
    expect(caller.rpc.circuits()).toEqual([{ target: 'session.v1.fleet', state: 'closed', failures: 0 }])
    expect(await caller.metrics.metrics()).toContain(
      'tallystick_rpc_duration_seconds_count{target="session.v1.fleet",outcome="refused"} 10',
    )
  })

  it('hands on correlation id, trace, caller and deadline, also through a second service', async () => {
    const [invoice, session, relay] = [await start('invoice-svc'), await start('session-svc'), await start('relay-svc')]
    const seen: Array<CallContext | undefined> = []
    await relay.serve([
      answer(relaySend)(async (_, context) => {
        seen.push(context, currentContext())
        return relay.rpc
          .call(sessionTakeBundle, { forFleetId: FLEET })
          .then(() => ({ items: [{ ok: false, code: 'Conflict', message: 'x', messageId: MESSAGE }] }))
      }),
    ])
    await session.serve([
      answer(sessionTakeBundle)(async (_, context) => {
        seen.push(context)
        return { ok: false, code: 'NotFound', message: 'none' }
      }),
    ])
    const before = Date.now()
    await runInContext({ correlationId: 'order-17', traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' }, () =>
      invoice.rpc.call(relaySend, { items: [{ messageId: MESSAGE, fleetId: FLEET, envelope: new Uint8Array(3) }] }),
    )
    const [first, current, nested] = seen as [CallContext, CallContext, CallContext]
    expect(first).toEqual(current)
    expect([first.caller, nested.caller]).toEqual(['invoice-svc', 'relay-svc'])
    expect([first.correlationId, nested.correlationId]).toEqual(['order-17', 'order-17'])
    expect([first, nested].map((c) => traceIdOf(c.traceparent))).toEqual([
      '0af7651916cd43dd8448eb211c80319c',
      '0af7651916cd43dd8448eb211c80319c',
    ])
    expect(new Set([first.traceparent, nested.traceparent]).size).toBe(2)
    expect(first.deadline).toBeGreaterThanOrEqual(before + relaySend.timeoutMs)
    expect(nested.deadline).toBeLessThanOrEqual(first.deadline)
  })

  it('validates before anything is sent, and names fields without their values', async () => {
    const caller = await start('invoice-svc')
    const fault = await caught(
      caller.rpc.call(sessionSeal, {
        items: [{ messageId: 'secret-value', fleetId: FLEET, class: 'application', payload: new Uint8Array(1) }],
      }),
    )
    expect(fault).toMatchObject({ code: 'Serialization', origin: 'caller' })
    expect(fault.message).toContain('items.0.messageId')
    expect(fault.message).not.toContain('secret-value')
    expect(caller.rpc.circuits()).toEqual([])
  })

  it('of more bytes than the bus takes is refused before it is sent', async () => {
    const caller = await start('invoice-svc')
    const big = { messageId: MESSAGE, fleetId: FLEET, class: 'application' as const, payload: new Uint8Array(4 * 1024 * 1024) }
    const fault = await caught(caller.rpc.call(sessionSeal, { items: [big, big] }))
    expect(fault).toMatchObject({ code: 'Serialization', origin: 'caller' })
  })

  it('to nobody fails fast', async () => {
    const caller = await start('invoice-svc')
    const startedAt = performance.now()
    expect(await caught(caller.rpc.call(sessionFleet, {}))).toMatchObject({ code: 'Network', subject: 'session.v1.fleet' })
    expect(performance.now() - startedAt).toBeLessThan(1_000)
  })

  it('can be given up by the caller, which does not count', async () => {
    const [caller, callee] = [await start('invoice-svc'), await start('session-svc')]
    const entered = Promise.withResolvers<void>()
    const release = Promise.withResolvers<void>()
    await callee.serve([
      answer(sessionFleet)(async () => {
        entered.resolve()
        await release.promise
        return { ok: false, code: 'NotReady', message: 'late' }
      }),
    ])
    const controller = new AbortController()
    const call = caught(caller.rpc.call(sessionFleet, {}, { signal: controller.signal }))
    await entered.promise
    controller.abort()
    expect(await call).toMatchObject({ name: 'AbortError' })
    expect(caller.rpc.circuits()[0]).toMatchObject({ state: 'closed', failures: 0 })
    release.resolve()
  })
})

describe('a fault', () => {
  it('carries a code and no internal text, and is logged once with the correlation id', async () => {
    const [caller, callee] = [await start('invoice-svc'), await start('session-svc')]
    await callee.serve([
      answer(sessionFleet)(async () => {
        throw new Error('password=hunter2')
      }),
    ])
    const fault = await caught(caller.rpc.call(sessionFleet, {}, { correlationId: 'c-42' }))
    expect(fault).toMatchObject({ code: 'Internal', origin: 'callee', correlationId: 'c-42' })
    expect(`${fault.message}${fault.stack}`).not.toContain('hunter2')
    const logged = callee.log.lines.filter((l) => l.level === 'error')
    expect(logged).toHaveLength(1)
    expect(logged[0]!.fields).toMatchObject({ subject: 'session.v1.fleet', correlationId: 'c-42', code: 'Internal', from: 'invoice-svc' })
  })

  it('keeps the code of a protocol error', async () => {
    const [caller, callee] = [await start('invoice-svc'), await start('session-svc')]
    await callee.serve([
      answer(sessionFleet)(async () => {
        throw Object.assign(new Error('x'), { code: 'KeyStorage' })
      }),
    ])
    expect(await caught(caller.rpc.call(sessionFleet, {}))).toMatchObject({ code: 'KeyStorage' })
  })

  it('answers a response outside the contract, naming fields only', async () => {
    const [caller, callee] = [await start('invoice-svc'), await start('session-svc')]
    await callee.serve([answer(sessionFleet)(async () => ({ ok: true, fleetId: 'top-secret' }) as never)])
    expect(await caught(caller.rpc.call(sessionFleet, {}))).toMatchObject({ code: 'Internal' })
    const text = JSON.stringify(callee.log.lines.map((l) => ({ ...l, fields: { ...l.fields, err: String(l.fields.err) } })))
    expect(text).toContain('fleetId')
    expect(text).not.toContain('top-secret')
  })

  it('answers a request that is not CBOR or outside the schema, without running the handler', async () => {
    const [caller, callee] = [await start('invoice-svc'), await start('session-svc')]
    let ran = 0
    await callee.serve([
      answer(sessionFleet)(async () => {
        ran++
        return { ok: false, code: 'NotReady', message: 'x' }
      }),
    ])
    const raw = (body: Uint8Array) =>
      caller.bus
        .connection()!
        .request('session.v1.fleet', body, { timeout: 2_000 })
        .then((m) => decodeBus(m.data))
    for (const body of [new Uint8Array(0), new Uint8Array(1000).fill(0x81), encodeBus({ extra: 1 }), encodeBus('x')])
      expect(await raw(body)).toEqual({ fault: 'Serialization' })
    expect(ran).toBe(0)
  })

  it('of a hostile reply is Serialization at the caller', async () => {
    const [caller, callee] = [await start('invoice-svc'), await start('session-svc')]
    const replies = [
      new Uint8Array(0),
      encodeBus({ ok: true }),
      encodeBus({ fault: 'Internal' }),
      encodeBus({ ok: false, code: 'NotReady', message: 'x', more: 1 }),
    ]
    callee.bus.connection()!.subscribe('session.v1.fleet', { callback: (_, m) => void m.respond(replies.shift()!) })
    await callee.bus.connection()!.flush()
    for (const _ of [...replies])
      expect(await caught(caller.rpc.call(sessionFleet, {}))).toMatchObject({ code: 'Serialization', origin: 'transport' })
  })

  it('RateLimited meets the request beyond what a replica handles at once', async () => {
    const [caller, callee] = [await start('invoice-svc'), await start('session-svc')]
    const entered = Promise.withResolvers<void>()
    const release = Promise.withResolvers<void>()
    await callee.serve(
      [
        answer(sessionFleet)(async () => {
          entered.resolve()
          await release.promise
          return { ok: false, code: 'NotReady', message: 'x' }
        }),
      ],
      { maxInFlight: 1 },
    )
    const first = caller.rpc.call(sessionFleet, {})
    await entered.promise
    expect(await caught(caller.rpc.call(sessionFleet, {}))).toMatchObject({ code: 'RateLimited', retryAfterMs: 250 })
    release.resolve()
    expect(await first).toMatchObject({ code: 'NotReady' })
  })

  it('RateLimited meets the request beyond the bytes that a replica handles at once', async () => {
    const [caller, callee] = [await start('invoice-svc'), await start('session-svc')]
    const entered = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const release = Promise.withResolvers<void>()
    let calls = 0
    await callee.serve(
      [
        answer(sessionFleet)(async () => {
          entered[calls++]?.resolve()
          await release.promise
          return { ok: false, code: 'NotReady', message: 'x' }
        }),
      ],
      // An empty request is one byte: there is room for two.
      { maxInFlightBytes: 2 },
    )
    const taken = [caller.rpc.call(sessionFleet, {}), caller.rpc.call(sessionFleet, {})]
    await Promise.all(entered.map((one) => one.promise))
    expect(await caught(caller.rpc.call(sessionFleet, {}))).toMatchObject({ code: 'RateLimited', retryAfterMs: 250 })
    release.resolve()
    expect(await Promise.all(taken)).toMatchObject([{ code: 'NotReady' }, { code: 'NotReady' }])
    // What has been answered makes room again.
    expect(await caller.rpc.call(sessionFleet, {})).toMatchObject({ code: 'NotReady' })
    expect(calls).toBe(3)
  })
})

describe('a deadline', () => {
  const slow = contract({
    subject: sessionFleet.subject,
    owner: 'session-svc',
    callers: sessionFleet.callers,
    timeoutMs: 80,
    request: z.strictObject({}),
    response: z.discriminatedUnion('ok', [z.strictObject({ ok: z.literal(true) }), refusal]),
  })

  it('ends the wait, leaves nothing behind, and counts', async () => {
    const [caller, callee] = [await start('invoice-svc'), await start('session-svc')]
    const release = Promise.withResolvers<void>()
    await callee.serve([answer(slow)(() => release.promise.then(() => ({ ok: true })))])
    // The callee's arrival has been sent and heard: it is not its predecessor that fails.
    await callee.bus.connection()!.flush()
    await caller.bus.connection()!.flush()
    const startedAt = performance.now()
    expect(await caught(caller.rpc.call(slow, {}))).toMatchObject({ code: 'Network' })
    expect(performance.now() - startedAt).toBeGreaterThanOrEqual(75)
    expect(caller.rpc.circuits()[0]).toMatchObject({ failures: 1 })
    expect(pendingRequests(caller)).toBe(0)
    release.resolve()
  })

  it('that has passed keeps a request from being executed', async () => {
    const [caller, callee] = [await start('invoice-svc'), await start('session-svc')]
    let ran = 0
    await callee.serve([
      answer(slow)(async () => {
        ran++
        return { ok: true }
      }),
    ])
    const h = headers()
    h.set('Tallystick-Deadline', String(Date.now() - 1))
    await expect(caller.bus.connection()!.request(slow.subject, encodeBus({}), { timeout: 150, headers: h })).rejects.toMatchObject({
      code: 'TIMEOUT',
    })
    expect(ran).toBe(0)
    expect(await callee.metrics.metrics()).toContain('tallystick_rpc_expired_total{target="session.v1.fleet"} 1')
  })

  it('of the surrounding request bounds the nested call', async () => {
    const caller = await start('invoice-svc')
    const startedAt = performance.now()
    const fault = await runInContext({ deadline: Date.now() - 1 }, () => caught(caller.rpc.call(slow, {})))
    expect(fault).toMatchObject({ code: 'Network', origin: 'caller' })
    expect(performance.now() - startedAt).toBeLessThan(70)
  })
})

describe('the circuit of a callee', () => {
  it('opens after five faults: the sixth call does not reach the callee, also after many successes', async () => {
    const [caller, callee] = [await start('invoice-svc', { resetMs: 60_000 }), await start('session-svc')]
    let broken = false
    let ran = 0
    await callee.serve([
      answer(sessionFleet)(async () => {
        ran++
        if (broken) throw new Error('down')
        return { ok: false, code: 'NotReady', message: 'x' }
      }),
    ])
    const transitions: string[] = []
    caller.rpc.onTransition(({ service, target, from, to }) => transitions.push(`${service} ${target} ${from}>${to}`))
    for (let i = 0; i < 100; i++) await caller.rpc.call(sessionFleet, {})
    broken = true
    for (let i = 0; i < 5; i++) expect(await caught(caller.rpc.call(sessionFleet, {}))).toMatchObject({ code: 'Internal' })
    const startedAt = performance.now()
    const sixth = await caught(caller.rpc.call(sessionFleet, {}))
    expect(performance.now() - startedAt).toBeLessThan(500)
    expect(sixth).toMatchObject({ code: 'CircuitBreakerOpen', subject: 'session.v1.fleet' })
    expect(sixth.retryAfterMs).toBeGreaterThan(50_000)
    expect(ran).toBe(105)
    expect(transitions).toEqual(['invoice-svc session.v1.fleet closed>open'])
    expect(await caller.metrics.metrics()).toContain('tallystick_breaker_state{service="invoice-svc",target="session.v1.fleet"} 2')
  })

  it('of one operation leaves the others alone, and closes after a probe', async () => {
    const [caller, callee] = [await start('invoice-svc', { resetMs: 50 }), await start('session-svc')]
    const halfOpen = new Promise<void>((resolve) => caller.rpc.onTransition(({ to }) => to === 'half-open' && resolve()))
    for (let i = 0; i < 5; i++) await caught(caller.rpc.call(sessionFleet, {}))
    await callee.serve([
      answer(sessionFleet)(async () => ({ ok: false, code: 'NotReady', message: 'x' })),
      answer(sessionSeal)(async ({ items }) => sealed(items[0]!.payload)),
    ])
    expect((await caller.rpc.call(sessionSeal, toSeal(new Uint8Array(2)))).items).toHaveLength(1)
    await halfOpen
    expect(await caller.rpc.call(sessionFleet, {})).toMatchObject({ code: 'NotReady' })
    expect(caller.rpc.circuits().map((c) => c.state)).toEqual(['closed', 'closed'])
  })
})

describe('shutdown', () => {
  it('takes no new call and loses none in flight', async () => {
    const [caller, callee] = [await start('invoice-svc'), await start('session-svc')]
    const release = Promise.withResolvers<void>()
    let entered = 0
    const all = Promise.withResolvers<void>()
    const app = await callee.serve([
      answer(sessionFleet)(async () => {
        if (++entered === 20) all.resolve()
        await release.promise
        return { ok: false, code: 'NotReady', message: 'answered' }
      }),
    ])
    const calls = Promise.allSettled(Array.from({ length: 20 }, () => caller.rpc.call(sessionFleet, {})))
    await all.promise
    const closed = app.close()
    // Once the subscription is gone nobody listens; the twenty are still being handled.
    await expect.poll(async () => (await caught(caller.rpc.call(sessionFleet, {}, { timeoutMs: 100 }))).message).toMatch(/nobody listens/)
    const before = entered
    expect((await caught(caller.rpc.call(sessionFleet, {}))).code).toBe('Network')
    expect(entered).toBe(before)
    release.resolve()
    await closed
    expect((await calls).map((r) => r.status)).toEqual(Array(20).fill('fulfilled'))
  })

  it('of one replica under load is not noticed by the callers', async () => {
    const caller = await start('invoice-svc')
    const replicas = [await start('session-svc'), await start('session-svc')]
    const served = [0, 0]
    const apps = await Promise.all(
      replicas.map((r, i) =>
        r.serve([
          answer(sessionFleet)(async () => {
            served[i]!++
            await new Promise((resolve) => setImmediate(resolve))
            return { ok: false, code: 'NotReady', message: 'x' }
          }),
        ]),
      ),
    )
    let stopped = false
    let calls = 0
    const load = Array.from({ length: 8 }, async () => {
      while (!stopped) {
        await caller.rpc.call(sessionFleet, {})
        calls++
      }
    })
    await expect.poll(() => served.every((n) => n > 20)).toBe(true)
    await apps[0]!.close()
    const before = calls
    await expect.poll(() => calls).toBeGreaterThan(before + 50)
    stopped = true
    await Promise.all(load)
    expect(served[0]! + served[1]!).toBe(calls)
  })

  it('does not wait for ever for a handler that hangs', async () => {
    const [caller, callee] = [await start('invoice-svc'), await start('session-svc')]
    const entered = Promise.withResolvers<void>()
    const release = Promise.withResolvers<void>()
    const app = await callee.serve(
      [
        answer(sessionFleet)(async () => {
          entered.resolve()
          await release.promise
          return { ok: false, code: 'NotReady', message: 'x' }
        }),
      ],
      { drainMs: 30 },
    )
    const call = caller.rpc.call(sessionFleet, {})
    await entered.promise
    await app.close()
    expect(callee.log.lines.some((l) => l.message.includes('still in flight'))).toBe(true)
    release.resolve()
    expect(await call).toMatchObject({ code: 'NotReady' })
  })
})

describe('ownership', () => {
  it('a service cannot answer a contract of another', async () => {
    const relay = await start('relay-svc')
    await expect(relay.serve([answer(sessionFleet)(async () => ({ ok: false, code: 'NotReady', message: 'x' }))])).rejects.toThrow(
      'belongs to session-svc',
    )
  })
})

/** What the client library still waits for: a leak would show here. */
function pendingRequests(service: TestService): number {
  const connection = service.bus.connection() as unknown as { protocol: { muxSubscriptions: { size(): number } } }
  return connection.protocol.muxSubscriptions.size()
}

import { SERVICE_NAMES, type ServiceName } from '@tallystick/contracts/call'
import { CATALOGUE } from '@tallystick/contracts/catalogue'
import { sessionFleet, sessionSeal } from '@tallystick/contracts/session'
import type { NatsConnection, Subscription } from 'nats'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startNats, type TestNats } from '../../../tools/testing/nats.ts'
import { answer, startTestService, type TestService } from './bus-fixture.ts'

let nats: TestNats
const services = {} as Record<ServiceName, TestService>

beforeAll(async () => {
  nats = await startNats()
  for (const name of SERVICE_NAMES) {
    services[name] = startTestService(nats, name)
    await services[name].bus.whenConnected()
  }
})
afterAll(async () => {
  for (const service of Object.values(services)) await service.close()
  await nats.stop()
})

const connection = (name: ServiceName): NatsConnection => services[name].bus.connection()!

/** Whether the server lets a service subscribe: its refusal comes before the answer to a later flush. */
async function maySubscribe(name: ServiceName, subject: string, queue?: string): Promise<boolean> {
  let refused = false
  const subscription: Subscription = connection(name).subscribe(subject, {
    ...(queue === undefined ? {} : { queue }),
    callback: (error) => {
      refused ||= error !== null
    },
  })
  await connection(name).flush()
  subscription.unsubscribe()
  return !refused
}

/** Whether a publication of a service arrives at a listener that may listen. */
async function mayPublish(from: ServiceName, to: ServiceName, subject: string): Promise<boolean> {
  let arrived = false
  const subscription = connection(to).subscribe(subject, {
    callback: (error) => {
      arrived ||= error === null
    },
  })
  await connection(to).flush()
  connection(from).publish(subject)
  await connection(from).flush()
  await connection(to).flush()
  subscription.unsubscribe()
  return arrived
}

describe.each(SERVICE_NAMES)('%s', (name) => {
  it('may subscribe to what it owns and to nothing else of the catalogue', async () => {
    const allowed: string[] = []
    for (const c of CATALOGUE) if (await maySubscribe(name, c.subject)) allowed.push(c.subject)
    expect(allowed.sort()).toEqual(
      CATALOGUE.filter((c) => c.owner === name)
        .map((c) => c.subject)
        .sort(),
    )
  })

  it('may publish what it calls and nothing else of the catalogue', async () => {
    const allowed: string[] = []
    for (const c of CATALOGUE) if (await mayPublish(name, c.owner, c.subject)) allowed.push(c.subject)
    expect(allowed.sort()).toEqual(
      CATALOGUE.filter((c) => c.callers.includes(name))
        .map((c) => c.subject)
        .sort(),
    )
  })

  it('may not listen to everything, to others by wildcard, to another inbox, or to the server', async () => {
    const others = SERVICE_NAMES.filter((other) => other !== name)
    const subjects = [
      '>',
      '*',
      '*.>',
      '*.v1.*',
      '$SYS.>',
      '_INBOX.>',
      ...others.map((o) => `_INBOX_${o}.>`),
      ...others.map((o) => `${o.split('-')[0]}.v1.*`),
      ...others.map((o) => `${o.split('-')[0]}.>`),
    ]
    for (const subject of subjects) expect(await maySubscribe(name, subject), subject).toBe(false)
    for (const subject of subjects.slice(0, 4)) expect(await maySubscribe(name, subject, 'queue'), subject).toBe(false)
  })

  it('may not publish into an inbox unasked', async () => {
    for (const other of SERVICE_NAMES.filter((o) => o !== name)) expect(await mayPublish(name, other, `_INBOX_${other}.x.y`)).toBe(false)
  })
})

it('relay-svc may not subscribe to session.v1.* in any form', async () => {
  for (const subject of ['session.v1.*', 'session.v1.open', 'session.>', 'session.*.open', '*.v1.open']) {
    expect(await maySubscribe('relay-svc', subject)).toBe(false)
    expect(await maySubscribe('relay-svc', subject, 'session-svc')).toBe(false)
  }
})

it('a request may be answered once', async () => {
  const answers: string[] = []
  const inbox = connection('invoice-svc').subscribe('_INBOX_invoice-svc.once', { callback: (_, m) => answers.push(m.string()) })
  const subscription = connection('session-svc').subscribe(sessionFleet.subject, {
    callback: (_, m) => {
      m.respond('first')
      m.respond('second')
    },
  })
  await connection('session-svc').flush()
  connection('invoice-svc').publish(sessionFleet.subject, '', { reply: '_INBOX_invoice-svc.once' })
  await connection('invoice-svc').flush()
  await connection('session-svc').flush()
  await connection('invoice-svc').flush()
  expect(answers).toEqual(['first'])
  inbox.unsubscribe()
  subscription.unsubscribe()
})

it('a refused publication fails the call at once and shows in log and metric', async () => {
  const { rpc, log, metrics } = services['relay-svc']
  const startedAt = performance.now()
  await expect(
    rpc.call(sessionSeal, {
      items: [
        {
          messageId: '01890a5d-ac96-774b-bcce-b302099a8057',
          fleetId: `tsf1${'a'.repeat(52)}`,
          class: 'control',
          payload: new Uint8Array(1),
        },
      ],
    }),
  ).rejects.toMatchObject({ code: 'Internal', origin: 'caller' })
  expect(performance.now() - startedAt).toBeLessThan(2_000)
  await log.line((l) => l.level === 'error' && l.fields.subject === 'session.v1.seal')
  expect(await metrics.metrics()).toMatch(
    /tallystick_nats_permission_violations_total\{operation="publish",subject="session\.v1\.seal"\} [1-9]/,
  )
})

it('a refused subscription shows in log and metric', async () => {
  expect(await maySubscribe('audit-svc', 'relay.v1.send')).toBe(false)
  await services['audit-svc'].log.line((l) => l.fields.subject === 'relay.v1.send' && l.fields.what === 'subscription')
  expect(await services['audit-svc'].metrics.metrics()).toMatch(
    /tallystick_nats_permission_violations_total\{operation="subscription",subject="relay\.v1\.send"\} [1-9]/,
  )
})

it('one key for two services is of no use: the user decides, not the name', async () => {
  const impostor = startTestService({ url: nats.url, seedFile: () => nats.seedFile('relay-svc') }, 'session-svc')
  await impostor.bus.whenConnected()
  await impostor.serve([answer(sessionFleet)(async () => ({ ok: false, code: 'NotReady', message: 'impostor' }))])
  await expect(services['invoice-svc'].rpc.call(sessionFleet, {})).rejects.toMatchObject({ code: 'Network' })
  await impostor.close()
})

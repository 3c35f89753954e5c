import 'reflect-metadata'
import { Controller, Get, type DynamicModule } from '@nestjs/common'
import { auditIdentity } from '@tallystick/contracts/audit'
import { relayIdentity } from '@tallystick/contracts/relay'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chmodSync, copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { z } from 'zod'
import { startNats, type TestNats } from '../../../tools/testing/nats.ts'
import { answer, moduleOf, startTestService } from '../../nats-rpc/test/bus-fixture.ts'
import { startService, type Host, type RunningService, type StartedService } from '../src/lifecycle.js'

const PUBLIC_KEY = new Uint8Array(32).fill(7)
const canary = randomBytes(32)

let nats: TestNats
let directory: string
let lines: string[] = []
const running: RunningService[] = []

beforeAll(async () => {
  nats = await startNats()
  directory = mkdtempSync(join(tmpdir(), 'tallystick-host-'))
  copyFileSync(nats.seedFile('audit-svc'), join(directory, 'nats.nk'))
  writeFileSync(join(directory, 'log.seed'), canary)
  for (const name of ['nats.nk', 'log.seed']) chmodSync(join(directory, name), 0o400)
})
afterAll(async () => {
  await nats.stop()
  rmSync(directory, { recursive: true, force: true })
})
afterEach(async () => {
  for (const service of running.splice(0)) await service.stop()
  lines = []
})

async function start(body: (host: Host) => Promise<StartedService>, variables: Record<string, string> = {}): Promise<RunningService> {
  const service = await startService(
    { name: 'audit-svc', env: z.object({}), start: body },
    {
      variables: {
        TALLYSTICK_FLEET: 'acme',
        TALLYSTICK_NATS_URL: nats.url,
        TALLYSTICK_SECRETS_DIR: directory,
        TALLYSTICK_OPS_PORT: '0',
        LOG_LEVEL: 'trace',
        ...variables,
      },
      onFatal: (error) => {
        throw error
      },
      destination: { write: (line: string) => void lines.push(line) },
    },
  )
  running.push(service)
  return service
}

const identity = answer(auditIdentity)(async () => ({ ok: true, publicKey: PUBLIC_KEY }))
const IdentityModule = moduleOf([identity])

/** The same controller with a route beside its handler, as invoice-svc has them. */
function withRoute(wait?: Promise<void>): DynamicModule {
  class Hello {
    hello = () => ({ hello: 'world' })
    async route() {
      await wait
      return this.hello()
    }
  }
  Get('/v1/hello')(Hello.prototype, 'route', Object.getOwnPropertyDescriptor(Hello.prototype, 'route')!)
  Controller()(Hello)
  return { module: class HelloModule {}, imports: [IdentityModule], controllers: [Hello] }
}

const get = async (port: number, path: string) => {
  const response = await fetch(`http://127.0.0.1:${port}${path}`)
  return { status: response.status, type: response.headers.get('content-type') ?? '', text: await response.text() }
}

it('answers the bus, serves its HTTP routes from the same module, and reports itself', async () => {
  let host: Host | undefined
  const service = await start(async (h) => {
    host = h
    return {
      module: withRoute(),
      http: {
        port: 0,
        configure: (app) => {
          app
            .getHttpAdapter()
            .getInstance()
            .addHook('onRequest', async (_, reply) => void reply.header('x-configured', 'yes'))
        },
      },
    }
  })
  await service.ready
  expect(await get(service.httpPort!, '/v1/hello')).toMatchObject({ status: 200, text: '{"hello":"world"}' })
  expect((await fetch(`http://127.0.0.1:${service.httpPort}/v1/hello`)).headers.get('x-configured')).toBe('yes')
  expect(await get(service.opsPort, '/health/live')).toMatchObject({ status: 200, text: '{"status":"ok"}' })
  expect(await get(service.opsPort, '/health/ready')).toMatchObject({ status: 200, text: '{"status":"ok","checks":{"nats":"up"}}' })
  const metrics = await get(service.opsPort, '/metrics')
  expect(metrics.type).toContain('text/plain')
  expect(metrics.text).toContain('process_cpu_seconds_total')
  expect(metrics.text).toContain('tallystick_nats_connected 1')
  expect((await get(service.opsPort, '/nothing')).status).toBe(404)
  // audit-svc may not call its own identity: the permissions are in force.
  await expect(host!.rpc.call(auditIdentity, {})).rejects.toMatchObject({ code: 'Internal' })
  expect(lines.filter((line) => line.includes('"msg":"ready"'))).toHaveLength(1)
})

it('is alive and not ready while NATS or the database is away, and becomes ready by itself', async () => {
  await nats.kill()
  let database = false
  let becameReady = 0
  const service = await start(async (host) => {
    host.readiness('database', async () => {
      if (!database) throw new Error('password=hunter2')
    })
    host.onReady(() => becameReady++)
    return { module: IdentityModule }
  })
  expect((await get(service.opsPort, '/health/live')).status).toBe(200)
  expect(await get(service.opsPort, '/health/ready')).toMatchObject({
    status: 503,
    text: '{"status":"error","checks":{"nats":"down","database":"down"}}',
  })
  expect(lines.some((line) => line.includes('"msg":"ready"'))).toBe(false)
  await nats.restart()
  await expect
    .poll(async () => (await get(service.opsPort, '/health/ready')).text, { timeout: 5_000 })
    .toBe('{"status":"error","checks":{"nats":"up","database":"down"}}')
  database = true
  await service.ready
  await expect.poll(async () => (await get(service.opsPort, '/health/ready')).status, { timeout: 5_000 }).toBe(200)
  expect(becameReady).toBe(1)
  await nats.kill()
  await expect.poll(async () => (await get(service.opsPort, '/health/ready')).text, { timeout: 5_000 }).toContain('"nats":"down"')
  expect((await get(service.opsPort, '/health/live')).status).toBe(200)
  await nats.restart()
  await expect.poll(async () => (await get(service.opsPort, '/health/ready')).status, { timeout: 5_000 }).toBe(200)
  expect(lines.join('')).not.toContain('hunter2')
})

it('stops in order: not ready, requests in flight, the own stop with the bus still there, then the rest', async () => {
  const order: string[] = []
  let host: Host | undefined
  const service = await start(async (h) => {
    host = h
    return { module: IdentityModule, stop: async () => void order.push(`stop, bus ${h.bus.connected ? 'there' : 'gone'}`) }
  })
  await service.ready
  await service.stop()
  order.push(`after, bus ${host!.bus.connected ? 'there' : 'gone'}`)
  expect(order).toEqual(['stop, bus there', 'after, bus gone'])
  await expect(get(service.opsPort, '/health/live')).rejects.toThrow()
})

it('at shutdown lets a request finish, and then waits for no connection, not even one that never carried a request', async () => {
  const release = Promise.withResolvers<void>()
  const arrived = Promise.withResolvers<void>()
  const configure: NonNullable<StartedService['http']>['configure'] = (app) =>
    void app
      .getHttpAdapter()
      .getInstance()
      .addHook('onRequest', async () => arrived.resolve())
  const service = await start(async () => ({ module: withRoute(release.promise), http: { port: 0, configure } }))
  await service.ready
  const silent = connect(service.httpPort!, '127.0.0.1')
  const cut = once(silent, 'close')
  await once(silent, 'connect')
  const answered = get(service.httpPort!, '/v1/hello')
  await arrived.promise
  const begun = performance.now()
  const stopped = service.stop()
  await expect(Promise.race([stopped, new Promise((resolve) => setTimeout(resolve, 300, 'still waiting'))])).resolves.toBe('still waiting')
  release.resolve()
  expect(await answered).toMatchObject({ status: 200, text: '{"hello":"world"}' })
  await stopped
  await cut
  expect(performance.now() - begun).toBeLessThan(3_000)
})

it('a service answers in its own words what the router refuses', async () => {
  const service = await start(async () => ({
    module: withRoute(),
    http: { port: 0, frameworkErrors: (_error, _request, reply) => void reply.code(400).type('text/plain').send('no such way') },
  }))
  expect(await get(service.httpPort!, '/%zz')).toMatchObject({ status: 400, text: 'no such way' })
})

it('a start that fails leaves nothing behind and keeps its error', async () => {
  await expect(
    start(async () => {
      throw new Error('no such migration')
    }),
  ).rejects.toThrow('no such migration')
  await expect(
    start(async (host) => {
      host.secret('absent')
      return { module: IdentityModule }
    }),
  ).rejects.toThrow('secret absent')
  const foreign = moduleOf([answer(relayIdentity)(async () => ({ ok: true, peerId: 'x', multiaddrs: [] }))])
  await expect(start(async () => ({ module: foreign }))).rejects.toThrow('belongs to relay-svc')
})

it('a seed readable by others is refused before anything connects', async () => {
  chmodSync(join(directory, 'nats.nk'), 0o444)
  await expect(start(async () => ({ module: IdentityModule }))).rejects.toThrow(/readable by group or others/)
  chmodSync(join(directory, 'nats.nk'), 0o400)
})

it('a planted key shows in no log line, metric, health answer or fault, wherever a service puts it by mistake', async () => {
  const forms = (key: Buffer) => [
    key.toString('hex'),
    key.toString('hex').toUpperCase(),
    key.toString('base64'),
    key.toString('base64url'),
    JSON.stringify([...key]),
    `<Buffer ${[...key].map((b) => b.toString(16).padStart(2, '0')).join(' ')}>`,
  ]
  const leaky = moduleOf([
    answer(auditIdentity)(async () => {
      throw Object.assign(new Error(`bad seed ${forms(canary).join(' ')}`), { seed: canary })
    }),
  ])
  const bodies: string[] = []
  const service = await start(async (host) => {
    const seed = host.secret('log.seed')
    host.readiness('leaky', () => {
      throw new Error(forms(seed).join('\r\n'))
    })
    for (const form of forms(seed)) {
      host.log.info({ seed, what: form, subject: form }, form)
      host.log.error({ err: new Error(form) }, `${form}\r\n{"msg":"forged"}`)
      host.log.child({ peer: form }).warn(form)
    }
    return { module: leaky }
  })
  const caller = startTestService(nats, 'invoice-svc')
  await caller.bus.whenConnected()
  await expect
    .poll(async () => {
      const fault = await caller.rpc.call(auditIdentity, {}).catch((error: unknown) => error as Error & { code?: string })
      bodies.push(String(fault), JSON.stringify(fault), (fault as Error).stack ?? '')
      return (fault as { code?: string }).code
    })
    .toBe('Internal')
  bodies.push((await get(service.opsPort, '/health/ready')).text, (await get(service.opsPort, '/metrics')).text, ...lines)
  await caller.close()

  const everything = bodies.join('\n')
  const fragments = [
    ...forms(canary).map((form) => form.slice(0, 40)),
    canary.toString('base64url').slice(0, 16),
    [...canary].slice(0, 8).join(','),
  ]
  for (const fragment of fragments) expect(everything.includes(fragment), 'a form of the key').toBe(false)
  expect(lines.every((line) => line.startsWith('{') && line.endsWith('}\n') && line.indexOf('\n') === line.length - 1)).toBe(true)
  expect(lines.filter((line) => line.includes('a request ended in a fault'))).not.toHaveLength(0)
})

import { connect, nkeyAuthenticator } from 'nats'
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { startNats, type TestNats } from './nats.ts'

let server: TestNats
beforeAll(async () => {
  server = await startNats()
})
afterAll(() => server.stop())

const connectAs = (service: 'relay-svc' | 'invoice-svc') =>
  connect({
    servers: server.url,
    authenticator: nkeyAuthenticator(readFileSync(server.seedFile(service))),
    inboxPrefix: `_INBOX_${service}`,
    reconnect: false,
  })

it('lets a service in with its key and refuses a stranger', async () => {
  const connection = await connectAs('relay-svc')
  expect(connection.info?.max_payload).toBe(8 * 1024 * 1024)
  await connection.close()
  await expect(connect({ servers: server.url, reconnect: false })).rejects.toThrow(/Authorization/)
})

it('comes back on the same port after kill -9', async () => {
  const before = server.pid
  await server.kill()
  await expect(connectAs('relay-svc')).rejects.toThrow()
  await server.restart()
  expect(server.pid).not.toBe(before)
  await (await connectAs('relay-svc')).close()
})

/** A real nats-server for integration tests, with the permissions generated from the catalogue. */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import type { ServiceName } from '@tallystick/contracts/call'
import { createNkey } from '@tallystick/nats-rpc/nkeys'
import { natsServerConfig } from '@tallystick/nats-rpc/server-config'
import { findNatsServer, startNatsServer } from '../nats-server.ts'
import { SERVICES } from '../paths.ts'
import { guardDirectory } from '../process/guard.ts'
import { freePort, returnPort } from '../process/ports.ts'

export interface TestNats {
  readonly url: string
  /** Process id of the running server; changes with a restart. */
  readonly pid: number
  /** File with the nkey seed of a service, for `connectBus({ seedFile })`. */
  seedFile(service: ServiceName): string
  /** kill -9, and wait until it is gone. */
  kill(): Promise<void>
  /** Same port, same users; also brings a killed server back. */
  restart(): Promise<void>
  stop(): Promise<void>
}

export interface TestNatsOptions {
  /** Extra lines at the end of the server's configuration. */
  extraConfig?: string
  maxPayload?: number
}

export async function startNats(options: TestNatsOptions = {}): Promise<TestNats> {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'tallystick-nats-'))
  guardDirectory(directory)
  const program = findNatsServer()
  const port = await freePort()
  const users = {} as Record<ServiceName, string>
  for (const service of SERVICES) {
    const { seed, publicKey } = createNkey()
    mkdirSync(path.join(directory, service), { mode: 0o700 })
    writeFileSync(seedFile(service), seed, { mode: 0o400 })
    seed.fill(0)
    users[service] = publicKey
  }
  function seedFile(service: ServiceName): string {
    return path.join(directory, service, 'nats.nk')
  }

  const configFile = path.join(directory, 'nats.conf')
  const logFile = path.join(directory, 'nats.log')
  const config = natsServerConfig({
    port,
    host: '127.0.0.1',
    users,
    ...(options.maxPayload === undefined ? {} : { maxPayload: options.maxPayload }),
  })
  writeFileSync(configFile, `${config}\n${options.extraConfig ?? ''}\n`)
  chmodSync(configFile, 0o600)
  let server = await startNatsServer({ program, configFile, port, logFile })
  return {
    url: `nats://127.0.0.1:${port}`,
    get pid() {
      return server.pid
    },
    seedFile,
    async kill() {
      await server.child.end('SIGKILL')
    },
    async restart() {
      if (server.child.running) await server.child.end('SIGTERM', 5_000)
      server = await startNatsServer({ program, configFile, port, logFile })
    },
    async stop() {
      if (server.child.running) await server.child.end('SIGTERM', 5_000)
      returnPort(port)
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

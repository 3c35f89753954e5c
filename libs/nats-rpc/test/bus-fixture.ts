/** Services on a real NATS server, in one process: a bus, a client and handlers per service. */
import 'reflect-metadata'
import { Controller, Module, type INestMicroservice } from '@nestjs/common'
import { NestFactory } from '@nestjs/core'
import type { Contract, ServiceName } from '@tallystick/contracts/call'
import { Registry } from 'prom-client'
import type { BreakerNumbers } from '../src/breaker.js'
import { ServiceClient } from '../src/client.js'
import { connectBus, type Bus } from '../src/connection.js'
import type { CallContext } from '../src/context.js'
import { Handles, type Handler } from '../src/handles.js'
import { NatsTransport, type NatsTransportOptions } from '../src/transport.js'
import type { TestNats } from '../../../tools/testing/nats.ts'

export interface LogLine {
  level: string
  fields: Record<string, unknown>
  message: string
}

export class TestLog {
  readonly lines: LogLine[] = []
  readonly #waiting = new Set<() => void>()
  debug = (fields: object, message: string) => this.#add('debug', fields, message)
  info = (fields: object, message: string) => this.#add('info', fields, message)
  warn = (fields: object, message: string) => this.#add('warn', fields, message)
  error = (fields: object, message: string) => this.#add('error', fields, message)

  /** Resolves with the first line, past or future, that fits. */
  async line(fits: (line: LogLine) => boolean): Promise<LogLine> {
    for (;;) {
      const found = this.lines.find(fits)
      if (found) return found
      await new Promise<void>((resolve) => this.#waiting.add(resolve))
    }
  }

  #add(level: string, fields: object, message: string) {
    this.lines.push({ level, fields: fields as Record<string, unknown>, message })
    for (const resolve of this.#waiting) resolve()
    this.#waiting.clear()
  }
}

export interface TestService {
  readonly bus: Bus
  readonly rpc: ServiceClient
  readonly metrics: Registry
  readonly log: TestLog
  /** Answer the given contracts as this service. */
  serve(handlers: Answer[], options?: Partial<NatsTransportOptions>): Promise<INestMicroservice>
  close(): Promise<void>
}

export interface Answer {
  readonly contract: Contract
  readonly handle: (request: never, context: CallContext) => Promise<unknown>
}

/** Curried: the contract fixes the types before the handler is looked at. */
export function answer<C extends Contract>(contract: C): (handle: Handler<C>) => Answer {
  return (handle) => ({ contract, handle })
}

export function startTestService(
  nats: Pick<TestNats, 'url' | 'seedFile'>,
  service: ServiceName,
  breaker: BreakerNumbers = {},
): TestService {
  const log = new TestLog()
  const metrics = new Registry()
  const bus = connectBus({ url: nats.url, seedFile: nats.seedFile(service), service, name: `test/${service}`, log, metrics })
  const rpc = new ServiceClient({ bus, service, metrics, breaker })
  const apps: INestMicroservice[] = []
  return {
    bus,
    rpc,
    metrics,
    log,
    async serve(handlers, options = {}) {
      const app = await NestFactory.createMicroservice(moduleOf(handlers), {
        strategy: new NatsTransport({ bus, service, log, metrics, ...options }),
        logger: false,
        abortOnError: false,
      })
      await app.listen()
      apps.push(app)
      // Subscriptions are on their way when the server has answered a later message.
      await (await bus.whenConnected()).flush()
      return app
    },
    async close() {
      for (const app of apps) await app.close()
      rpc.close()
      await bus.close()
    },
  }
}

/** A controller with one method per contract. The decorators are called by hand: test folders are outside the compiler's decorator options. */
export function moduleOf(handlers: Answer[]): new () => object {
  class TestController {}
  Controller()(TestController)
  for (const [i, { contract, handle }] of handlers.entries()) {
    const name = `handler${i}`
    const descriptor: TypedPropertyDescriptor<Answer['handle']> = { value: handle, configurable: true, writable: true, enumerable: false }
    Handles(contract)(TestController.prototype, name, descriptor as never)
    Object.defineProperty(TestController.prototype, name, descriptor)
  }
  class TestModule {}
  Module({ controllers: [TestController] })(TestModule)
  return TestModule
}

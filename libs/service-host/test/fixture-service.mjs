// A service process for host.spec.ts, on the built packages as in production. Its behaviour follows MODE.
import 'reflect-metadata'
import { Controller, Module } from '@nestjs/common'
import { auditIdentity } from '@tallystick/contracts/audit'
import { Handles } from '@tallystick/nats-rpc/handles'
import { runService } from '@tallystick/service-host/host'
import { z } from 'zod'

class IdentityController {
  async identity() {
    process.stdout.write('entered\n')
    await new Promise((resolve) => process.once('SIGUSR2', resolve))
    return { ok: true, publicKey: new Uint8Array(32).fill(9) }
  }
}
const descriptor = Object.getOwnPropertyDescriptor(IdentityController.prototype, 'identity')
Handles(auditIdentity)(IdentityController.prototype, 'identity', descriptor)
Object.defineProperty(IdentityController.prototype, 'identity', descriptor)
Controller()(IdentityController)
class IdentityModule {}
Module({ controllers: [IdentityController] })(IdentityModule)

await runService({
  name: 'audit-svc',
  env: z.object({ MODE: z.enum(['serve', 'reject', 'throw', 'fatal', 'fail']) }),
  async start(host) {
    if (host.env.MODE === 'fail') throw new Error('cannot start')
    const provoke = {
      serve: () => undefined,
      reject: () => void Promise.reject(new Error('nobody handles this')),
      throw: () =>
        setImmediate(() => {
          throw new Error('thrown in a callback')
        }),
      fatal: () => host.fatal(new Error('the log would fork')),
    }[host.env.MODE]
    host.onReady(provoke)
    return { module: IdentityModule, stop: async () => void process.stdout.write('own stop\n') }
  },
})

/** audit-svc put together: from a host to a running log. */
import type { DynamicModule } from '@nestjs/common'
import { AuditPump } from '@tallystick/audit-outbox/pump'
import { systemRandom } from '@tallystick/primitives/random'
import type { Host, StartedService } from '@tallystick/service-host/host'
import { z } from 'zod'
import { Appender } from './appender.js'
import { AuditController, LOG_PUBLIC_KEY } from './audit.controller.js'
import { CheckpointLoop } from './checkpoint-loop.js'
import { CheckpointSigner } from './checkpoint-signer.js'
import { openDatabase } from './db.js'
import { Halt, LogHalted } from './halt.js'
import { AUDIT_LIMITS_ENV, auditLimitsFrom } from './limits.js'
import { openLogKey } from './log-key.js'
import { readHead } from './log.store.js'
import { AuditMetrics } from './metrics.js'
import { Proofs } from './proofs.js'

export const auditEnv = z.object(AUDIT_LIMITS_ENV)

class AuditModule {}

export async function startAudit(host: Host<z.output<typeof auditEnv>>): Promise<StartedService> {
  const limits = auditLimitsFrom(host.env)
  const { clock, log, rpc } = host
  const metrics = new AuditMetrics(host.metrics)
  const url = host.secret('database-url')
  const db = openDatabase(url.toString('utf8').trim(), limits)
  url.fill(0)
  const key = openLogKey(host.secret('log.seed'))

  const halt = new Halt(db, log, host.metrics)
  const pump = new AuditPump({ db, rpc, log, metrics: host.metrics, clock })
  const signer = new CheckpointSigner({ db, key, halt, clock, random: systemRandom, limits, metrics })
  const loop = new CheckpointLoop({
    signer,
    publicKey: key.publicKey,
    rpc,
    clock,
    limits,
    log,
    fatal: (error) => host.fatal(error),
    onSigned: () => pump.wake(),
  })
  const appender = new Appender({ db, halt, metrics, limits, onGrown: () => loop.wake() })
  host.readiness('database', async () => {
    const head = await readHead(db)
    if (head.haltedReason !== null) throw new LogHalted(head.haltedReason)
  })

  const module: DynamicModule = {
    module: AuditModule,
    controllers: [AuditController],
    providers: [
      { provide: LOG_PUBLIC_KEY, useValue: key.publicKey },
      { provide: Appender, useValue: appender },
      { provide: Proofs, useValue: new Proofs(db) },
      { provide: Halt, useValue: halt },
      { provide: CheckpointLoop, useValue: loop },
    ],
  }
  loop.start()
  pump.start()
  return {
    module,
    async stop() {
      await pump.stop()
      await loop.stop()
      await db.$disconnect()
      key.close()
    },
  }
}

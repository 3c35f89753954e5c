/** session-svc: identity, prekeys, ratchet sessions and key custody of one fleet. The only service with end-to-end keys. */
import 'reflect-metadata'
import path from 'node:path'
import { relayFetchBundle } from '@tallystick/contracts/relay'
import { AuditPump } from '@tallystick/audit-outbox/pump'
import { systemRandom } from '@tallystick/primitives/random'
import { runService } from '@tallystick/service-host/host'
import { z } from 'zod'
import { auditTrail } from './audit.js'
import { prepareRestore } from './backup/prepare-restore.js'
import type { Context } from './context.js'
import { configureCustody, custodyEnv } from './custody/configure-custody.js'
import { custodyMetrics } from './custody/custody-metrics.js'
import { lockedBytes, openLockedArena } from './custody/locked-memory.js'
import { openDatabase } from './db.js'
import { limitsEnv, limitsFrom } from './limits.js'
import { sessionMetrics } from './metrics.js'
import { GenerationFile } from './recovery/generation-file.js'
import { ServiceKeySource } from './service-keys.js'
import { SessionController } from './session.controller.js'
import { Upkeep } from './upkeep.js'
import { fileTap, noTap } from './wire-tap.js'

class SessionModule {}

await runService({
  name: 'session-svc',
  env: limitsEnv.extend(custodyEnv.shape).extend({
    /** Name in the certificate, shown to peers; the fleet's short name unless given. */
    TALLYSTICK_DISPLAY_NAME: z.string().min(1).max(100).optional(),
    /** 1: start although the kernel refuses to lock memory. */
    TALLYSTICK_ALLOW_UNLOCKED: z.enum(['0', '1']).default('0'),
    /**
     * Folder for what must not be in the database: the generation number that shows a database that was put back. Kept
     * between starts, one per replica; `session-state` beside the secrets folder unless given. @see docs/spec/custody.md §7
     */
    TALLYSTICK_STATE_DIR: z.string().min(1).optional(),
  }),
  async start(host) {
    const { env, log, clock, rpc } = host
    const limits = limitsFrom(env)
    const arena = openLockedArena(limits.arenaBytes, env.TALLYSTICK_ALLOW_UNLOCKED === '1')
    if (!arena.locked) log.warn({ what: 'memory' }, 'keys are held in memory that is not locked')
    const secrets = { directory: env.TALLYSTICK_SECRETS_DIR, read: (name: string) => host.secret(name) }
    const custody = await configureCustody(env, arena, secrets)
    custodyMetrics(host.metrics, arena, custody)
    const url = host.secret('database-url')
    const db = openDatabase(url.toString('utf8').trim(), limits)
    url.fill(0)
    host.readiness('database', async () => {
      await db.$queryRaw`SELECT 1`
    })

    const generation = GenerationFile.open(env.TALLYSTICK_STATE_DIR ?? path.join(env.TALLYSTICK_SECRETS_DIR, '..', 'session-state'))

    const pump = new AuditPump({ db, rpc, log, metrics: host.metrics, clock })
    const context: Context = {
      db,
      arena,
      custody,
      clock,
      random: systemRandom,
      limits,
      generation,
      log,
      audit: auditTrail(clock, systemRandom, () => pump.wake()),
      metrics: sessionMetrics(host.metrics, lockedBytes),
      tap: env.TALLYSTICK_WIRE_TAP === undefined ? noTap : fileTap(env.TALLYSTICK_WIRE_TAP),
    }
    rpc.onTransition(({ target, from, to }) => {
      context.audit
        .record(db, 'BreakerStateChanged', { service: 'session-svc', target, from, to })
        .catch((error: unknown) => log.warn({ err: error, target }, 'a breaker change could not be recorded'))
    })

    const keys = new ServiceKeySource(rpc, () => host.bus.connected)
    const upkeep = new Upkeep({
      context,
      keys,
      fatal: host.fatal,
      prepare: prepareRestore(context, secrets),
      bundles: { fetch: (fleetId) => rpc.call(relayFetchBundle, { fleetId }) },
      displayName: env.TALLYSTICK_DISPLAY_NAME ?? env.TALLYSTICK_FLEET,
      // Before audit-svc answers, appends would only open its circuit.
      auditSeen: () => pump.start(),
    })
    host.readiness('custody', () => {
      if (!upkeep.complete) throw new Error('identity, prekeys or certificate are missing')
    })
    upkeep.start()

    return {
      module: {
        module: SessionModule,
        controllers: [SessionController],
        providers: [
          { provide: Upkeep, useValue: upkeep },
          { provide: ServiceKeySource, useValue: keys },
        ],
      },
      async stop() {
        await upkeep.stop()
        await pump.stop()
        await db.$disconnect()
        generation.close()
        custody.close()
        arena.close()
      },
    }
  },
})

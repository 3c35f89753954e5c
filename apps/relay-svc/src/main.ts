/** Entry point of relay-svc: bytes in, bytes out. It holds the transport key and no other. */
import 'reflect-metadata'
import { AuditPump } from '@tallystick/audit-outbox/pump'
import { runService } from '@tallystick/service-host/host'
import { hostname } from 'node:os'
import { z } from 'zod'
import { openDatabase } from './db.js'
import { LIMIT_VARIABLES, limitsFrom } from './limits.js'
import { Relay } from './relay.js'
import { RelayController } from './relay.controller.js'
import { WireTap } from './wire-tap.js'

const env = z.object({
  /** TCP port of libp2p; QUIC takes the UDP port of the same number. 0: any free one. */
  TALLYSTICK_P2P_PORT: z.coerce.number().int().min(0).max(65_535),
  /** Multiaddrs that peers are told instead of the listening ones (behind a NAT or a load balancer), comma separated. */
  TALLYSTICK_ANNOUNCE: z.string().optional(),
  /** `off` leaves QUIC out. */
  TALLYSTICK_QUIC: z.enum(['on', 'off']).optional(),
  ...LIMIT_VARIABLES,
})

await runService({
  name: 'relay-svc',
  env,
  async start(host) {
    const { log, clock, rpc, metrics } = host
    const limits = limitsFrom({}, host.env)
    const db = openDatabase(host.secret('database-url').toString('utf8').trim(), limits)
    const relay = await Relay.start({
      db,
      rpc,
      metrics,
      log,
      clock,
      limits,
      tap: new WireTap(host.env.TALLYSTICK_WIRE_TAP, (err) => log.warn({ err }, 'wire tap not written')),
      auditPump: new AuditPump({ db, rpc, log, metrics, clock }),
      owner: `${hostname()}:${host.env.TALLYSTICK_P2P_PORT}`,
      node: {
        seed: host.secret('transport.seed'),
        host: host.env.TALLYSTICK_HOST,
        port: host.env.TALLYSTICK_P2P_PORT,
        quic: host.env.TALLYSTICK_QUIC !== 'off',
        announce: (host.env.TALLYSTICK_ANNOUNCE ?? '')
          .split(',')
          .map((address) => address.trim())
          .filter((address) => address !== ''),
      },
    })
    host.readiness('database', async () => {
      await db.$queryRaw`SELECT 1`
    })
    host.readiness('allow-list', () => {
      if (!relay.allowList.loaded) throw new Error('not read yet')
    })
    log.info({ transport: relay.node.quic ? 'tcp, quic' : 'tcp', peer: relay.node.peerId }, 'libp2p is listening')
    return {
      module: { module: class RelayModule {}, controllers: [RelayController], providers: [{ provide: Relay, useValue: relay }] },
      stop: async () => {
        await relay.stop()
        await db.$disconnect()
      },
    }
  },
})

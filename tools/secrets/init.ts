#!/usr/bin/env node
/**
 * Makes a fleet's keys, tokens and passwords once, for deployments without the launcher (Compose, Kubernetes).
 *
 *   node tools/secrets/init.ts --dir DIR [--nats-config FILE --nats-port PORT --nats-host HOST]
 *
 * DIR/<service>/… are the services' secret folders, DIR/launcher/roles the input of `migrate.ts --passwords`,
 * DIR/launcher/tokens.json the API tokens in the clear. Run again it changes nothing.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { natsServerConfig } from '@tallystick/nats-rpc/server-config'
import { ensureFleetSecrets } from './fleet-secrets.ts'

const { values } = parseArgs({
  options: {
    dir: { type: 'string' },
    'nats-config': { type: 'string' },
    'nats-port': { type: 'string', default: '4222' },
    'nats-host': { type: 'string', default: '0.0.0.0' },
  },
})
if (values.dir === undefined) {
  process.stderr.write('usage: init.ts --dir DIR [--nats-config FILE --nats-port PORT --nats-host HOST]\n')
  process.exitCode = 2
} else {
  const { natsUsers } = ensureFleetSecrets(path.resolve(values.dir))
  const file = values['nats-config']
  if (file !== undefined) {
    mkdirSync(path.dirname(file), { recursive: true })
    // Public keys only: the file may be read by the NATS server's own account.
    writeFileSync(file, natsServerConfig({ port: Number(values['nats-port']), host: values['nats-host'], users: natsUsers }), {
      mode: 0o644,
    })
  }
  process.stderr.write(`secrets are in ${path.resolve(values.dir)}\n`)
}

/**
 * Writes deploy/nats/nats.conf from the contracts catalogue: `node tools/nats-permissions.ts` after a contract changed,
 * `--check` to compare only. The public keys come from the server's environment.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { SERVICE_NAMES, type ServiceName } from '@tallystick/contracts/call'
import { natsServerConfig } from '@tallystick/nats-rpc/server-config'

const file = new URL('../deploy/nats/nats.conf', import.meta.url)
const users = Object.fromEntries(SERVICE_NAMES.map((name) => [name, `$TALLYSTICK_NKEY_${name.replace('-', '_').toUpperCase()}`])) as Record<
  ServiceName,
  string
>
const text = natsServerConfig({ port: 4222, host: '0.0.0.0', users, monitorPort: 8222 })

if (process.argv.includes('--check')) {
  if (readFileSync(file, 'utf8') !== text) {
    process.stderr.write('deploy/nats/nats.conf is not what the catalogue says: run node tools/nats-permissions.ts\n')
    process.exitCode = 1
  }
} else {
  mkdirSync(new URL('.', file), { recursive: true })
  writeFileSync(file, text)
}

#!/usr/bin/env node
/**
 * Runs once before a fleet in containers, and changes nothing when it runs again.
 *
 *   node tools/container/prepare.ts prepare        keys, tokens and passwords into the volumes below /run/tallystick
 *   node tools/container/prepare.ts token [NAME]   prints one API token (admin, operator, auditor); default admin
 *   node tools/container/prepare.ts grafana        prints the first password of Grafana's user admin
 *
 * `prepare` prints where things are and no secret. TALLYSTICK_FLEET names the fleet.
 */
import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { FLEET_NAME } from '../paths.ts'
import { TOKEN_NAMES } from '../secrets/fleet-secrets.ts'
import { prepareFleet } from './prepare-fleet.ts'

const ROOT = process.env.TALLYSTICK_RUN_DIR ?? '/run/tallystick'

const print = (text: string) => void process.stdout.write(`${text}\n`)
const fail = (text: string, code: number) => {
  process.stderr.write(`${text}\n`)
  process.exitCode = code
}

const [command = 'prepare', name = 'admin'] = process.argv.slice(2)
if (command === 'prepare') prepare(process.env.TALLYSTICK_FLEET ?? '')
else if (command === 'token' && (TOKEN_NAMES as readonly string[]).includes(name)) show(path.join('tokens', name))
else if (command === 'grafana') show(path.join('grafana', 'password'))
else fail(`usage: prepare.ts prepare | token [${TOKEN_NAMES.join('|')}] | grafana`, 2)

function prepare(fleet: string): void {
  if (!FLEET_NAME.test(fleet))
    return fail('TALLYSTICK_FLEET is not a fleet name (a-z, 0-9 and "-", at most 31 characters, a letter first)', 2)
  try {
    const { isNew } = prepareFleet(ROOT, fleet)
    print(`fleet ${fleet}: ${isNew ? 'keys, tokens and passwords made' : 'keys, tokens and passwords are there; nothing made anew'}`)
    print(`API tokens (${TOKEN_NAMES.join(', ')}): docker compose run --rm secrets token NAME`)
  } catch (error) {
    fail(`prepare: ${(error as Error).message}`, 1)
  }
}

function show(name: string): void {
  const file = path.join(ROOT, name)
  if (!existsSync(file)) return fail('this fleet has no secrets yet: start it first', 1)
  print(readFileSync(file, 'utf8').trim())
}

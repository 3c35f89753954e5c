import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { publicNkey } from '@tallystick/nats-rpc/nkeys'
import { prepareFleet } from './prepare-fleet.ts'

let root: string
beforeEach(() => {
  root = mkdtempSync(path.join(os.tmpdir(), 'tallystick-container-'))
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

const gid = process.getgid?.() ?? 0
const prepare = (fleet = 'acme') => prepareFleet(root, fleet, { groups: { postgres: gid, grafana: gid } })
const read = (...parts: string[]) => readFileSync(path.join(root, ...parts), 'utf8')
const files = (folder: string) => readdirSync(path.join(root, folder)).sort()
const everything = () =>
  Object.fromEntries(
    readdirSync(root, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => [path.join(entry.parentPath, entry.name), readFileSync(path.join(entry.parentPath, entry.name)).toString('hex')]),
  )

it('gives each service its own secrets and no other', () => {
  prepare()
  expect(files('secrets/invoice-svc')).toEqual(['api-tokens.json', 'database-url', 'nats.nk'])
  expect(files('secrets/session-svc')).toEqual(['database-url', 'kek', 'nats.nk'])
  expect(files('secrets/relay-svc')).toEqual(['database-url', 'nats.nk', 'transport.seed'])
  expect(files('secrets/audit-svc')).toEqual(['database-url', 'log.seed', 'nats.nk'])
  expect(files('migrate')).toEqual(['admin-url', 'audit', 'invoice', 'owner', 'relay', 'session'])
})

it('lets the role of a service log in with the password that migrate sets', () => {
  prepare()
  for (const short of ['invoice', 'session', 'relay', 'audit']) {
    const url = new URL(read('secrets', `${short}-svc`, 'database-url'))
    expect(url.username).toBe(`acme_${short}`)
    expect(url.password).toBe(read('migrate', short))
    expect(`${url.host}${url.pathname}`).toBe('postgres:5432/acme')
  }
  expect(new URL(read('migrate', 'admin-url')).password).toBe(read('postgres', 'password'))
})

it('tells NATS public keys only', () => {
  prepare()
  const conf = read('nats', 'nats.conf')
  for (const service of ['invoice-svc', 'session-svc', 'relay-svc', 'audit-svc']) {
    const seed = readFileSync(path.join(root, 'secrets', service, 'nats.nk'))
    expect(conf).toContain(publicNkey(seed))
    expect(conf).not.toContain(seed.toString().trim())
  }
  expect(conf).toContain('http: "127.0.0.1:8222"')
})

it('keeps modes that nobody else can read', () => {
  prepare()
  for (const file of ['secrets/session-svc/kek', 'secrets/session-svc/database-url', 'migrate/admin-url', 'tokens/admin', 'nats/nats.conf'])
    expect(statSync(path.join(root, file)).mode & 0o777).toBe(0o400)
  for (const file of ['postgres/password', 'grafana/password']) expect(statSync(path.join(root, file)).mode & 0o777).toBe(0o440)
})

it('changes nothing when it runs again, and refuses another fleet', () => {
  expect(prepare()).toEqual({ isNew: true })
  const before = everything()
  expect(prepare()).toEqual({ isNew: false })
  expect(everything()).toEqual(before)
  expect(() => prepare('globex')).toThrow(/belong to the fleet "acme"/)
  expect(everything()).toEqual(before)
})

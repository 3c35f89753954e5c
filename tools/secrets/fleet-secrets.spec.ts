import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { ensureFleetSecrets } from './fleet-secrets.ts'

let directory: string
beforeEach(() => {
  directory = path.join(mkdtempSync(path.join(os.tmpdir(), 'tallystick-secrets-')), 'secrets')
})
afterEach(() => rmSync(path.dirname(directory), { recursive: true, force: true }))

const modeOf = (...parts: string[]) => statSync(path.join(directory, ...parts)).mode & 0o777
const read = (...parts: string[]) => readFileSync(path.join(directory, ...parts))

it('makes one folder per service that nobody else can read', () => {
  ensureFleetSecrets(directory)
  expect(modeOf()).toBe(0o700)
  for (const [service, ...files] of [
    ['session-svc', 'kek', 'nats.nk'],
    ['relay-svc', 'transport.seed', 'nats.nk'],
    ['audit-svc', 'log.seed', 'nats.nk'],
    ['invoice-svc', 'api-tokens.json', 'nats.nk'],
  ] as const) {
    expect(modeOf(service)).toBe(0o700)
    for (const file of files) expect(modeOf(service, file)).toBe(0o400)
  }
  expect(read('session-svc', 'kek')).toHaveLength(32)
})

it('gives the same keys and tokens again', () => {
  const first = ensureFleetSecrets(directory)
  const kek = read('session-svc', 'kek')
  const second = ensureFleetSecrets(directory)
  expect({ ...second, folder: null }).toEqual({ ...first, folder: null })
  expect(read('session-svc', 'kek')).toEqual(kek)
})

it('hands invoice-svc digests of tokens, not tokens', () => {
  const { tokens } = ensureFleetSecrets(directory)
  const text = read('invoice-svc', 'api-tokens.json').toString()
  const entries = JSON.parse(text) as { name: string; scopes: string[]; sha256: string }[]
  for (const [name, token] of Object.entries(tokens)) {
    expect(text).not.toContain(token)
    expect(entries.find((entry) => entry.name === name)?.sha256).toBe(createHash('sha256').update(token).digest('hex'))
  }
  expect(entries.find(({ name }) => name === 'operator')?.scopes).not.toContain('peers:write')
  expect(entries.find(({ name }) => name === 'auditor')?.scopes.every((scope) => scope.endsWith(':read'))).toBe(true)
})

it('does not make a second identity when a key is lost', () => {
  ensureFleetSecrets(directory)
  rmSync(path.join(directory, 'session-svc', 'kek'))
  expect(() => ensureFleetSecrets(directory)).toThrow(/kek is missing/)
})

import { readFileSync } from 'node:fs'
import { SERVICE_NAMES, type ServiceName } from '@tallystick/contracts/call'
import { CATALOGUE } from '@tallystick/contracts/catalogue'
import { describe, expect, it } from 'vitest'
import { createNkey, publicNkey, signNonce } from './nkeys.js'
import { permissionsFor, RESPONSE_EXPIRES_SECONDS } from './permissions.js'
import { natsServerConfig } from './server-config.js'
import { DRAIN_MS } from './transport.js'

const users = Object.fromEntries(SERVICE_NAMES.map((name) => [name, createNkey().publicKey])) as Record<ServiceName, string>

describe('permissions', () => {
  it('follow the catalogue and nothing else', () => {
    for (const service of SERVICE_NAMES) {
      const p = permissionsFor(service, CATALOGUE)
      for (const c of CATALOGUE) {
        expect(p.publish.allow.includes(c.subject), `${service} publishes ${c.subject}`).toBe(c.callers.includes(service))
        expect(p.subscribe.allow.includes(c.subject), `${service} subscribes ${c.subject}`).toBe(c.owner === service)
      }
      const subjects = CATALOGUE.map((c) => c.subject)
      expect(p.publish.allow.filter((s) => !subjects.includes(s))).toEqual([`arrival.v1.${service}`])
      expect(p.subscribe.allow.filter((s) => !subjects.includes(s))).toEqual([`_INBOX_${service}.>`, 'arrival.v1.*'])
    }
  })

  it('let a responder answer as long as any caller waits, and a shutdown wait as long', () => {
    const longest = Math.max(...CATALOGUE.map((c) => c.timeoutMs))
    expect(RESPONSE_EXPIRES_SECONDS * 1000).toBeGreaterThanOrEqual(2 * longest)
    expect(DRAIN_MS).toBeGreaterThanOrEqual(longest)
  })
})

describe('the server configuration', () => {
  it('refuses a key that is not a public user nkey, a seed above all', () => {
    const { seed } = createNkey()
    const text = Buffer.from(seed).toString('latin1')
    expect(() => natsServerConfig({ port: 4222, users: { ...users, 'relay-svc': text } })).toThrow(TypeError)
    expect(() => natsServerConfig({ port: 4222, users: { ...users, 'relay-svc': text } })).not.toThrow(text)
  })

  it('has no storage and names every user', () => {
    const text = natsServerConfig({ port: 4222, users })
    expect(text).not.toMatch(/jetstream|store_dir/)
    for (const key of Object.values(users)) expect(text).toContain(key)
  })

  it('is what deploy/nats/nats.conf holds: run `node tools/nats-permissions.ts` after changing a contract', () => {
    const file = new URL('../../../deploy/nats/nats.conf', import.meta.url)
    const variables = Object.fromEntries(
      SERVICE_NAMES.map((name) => [name, `$TALLYSTICK_NKEY_${name.replace('-', '_').toUpperCase()}`]),
    ) as Record<ServiceName, string>
    expect(readFileSync(file, 'utf8')).toBe(natsServerConfig({ port: 4222, host: '0.0.0.0', users: variables, monitorPort: 8222 }))
  })
})

describe('nkeys', () => {
  it('are read back from their seed, with or without a line break at the end', () => {
    const { seed, publicKey } = createNkey()
    expect(seed.length).toBe(58)
    expect(publicNkey(seed)).toBe(publicKey)
    expect(publicNkey(Buffer.concat([seed, Buffer.from('\n')]))).toBe(publicKey)
  })

  it('sign a nonce and wipe the seed', () => {
    const { seed, publicKey } = createNkey()
    const { nkey, sig } = signNonce(seed, 'nonce')
    expect(nkey).toBe(publicKey)
    expect(sig).toMatch(/^[A-Za-z0-9+/=_-]{86,88}$/)
    expect(seed.every((b) => b === 0)).toBe(true)
  })
})

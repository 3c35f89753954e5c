import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { decodeHopReceipt } from '../src/frames.js'
import { message, pin, sha256hex, startRelay, stopPostgres, until, type TestRelay } from './harness.ts'

const running: TestRelay[] = []
const start = async (...args: Parameters<typeof startRelay>): Promise<TestRelay> => {
  const relay = await startRelay(...args)
  running.push(relay)
  return relay
}
afterEach(async () => {
  await Promise.all(running.splice(0).map((relay) => relay.stop()))
})
afterAll(stopPostgres)

describe('two relays', () => {
  it.each(['tcp', 'quic'] as const)('exchange envelopes over %s, in both directions', async (transport) => {
    const acme = await start('acme', { quic: true })
    const globex = await start('globex', { quic: true })
    const only = (relay: TestRelay) =>
      relay.relay.identity().multiaddrs.filter((address) => address.includes(transport === 'quic' ? '/quic-v1' : '/tcp/'))
    await pin(acme, globex, { multiaddrs: only(globex) })
    await pin(globex, acme, { multiaddrs: only(acme) })
    const there = Array.from({ length: 30 }, () => message(globex))
    const back = Array.from({ length: 30 }, () => message(acme))
    const [sent] = await Promise.all([acme.relay.send({ items: there }), globex.relay.send({ items: back })])
    expect(sent.items.every((item) => item.ok)).toBe(true)
    await until(() => globex.fleet.delivered.length >= 30 && acme.fleet.delivered.length >= 30, 'all delivered')
    expect(globex.fleet.delivered.map((d) => sha256hex(d.envelope)).sort()).toEqual(there.map((m) => sha256hex(m.envelope)).sort())
    expect(acme.fleet.delivered.every((d) => d.fleetId === globex.fleetId)).toBe(true)
    await until(() => there.every((m) => acme.fleet.progressOf(m.messageId).some((p) => p.state === 'stored')), 'all reported')
    const report = acme.fleet.progressOf(there[0]!.messageId).find((p) => p.state === 'stored')!
    expect(Buffer.from(decodeHopReceipt(report.hopReceipt).digest).toString('hex')).toBe(sha256hex(there[0]!.envelope))
    const state = await acme.relay.peer(globex.fleetId)
    expect(state).toMatchObject({ ok: true, connected: true, transport, lastError: null })
  })
})

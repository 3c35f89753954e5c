/** From the inbound queue to invoice-svc: until taken, refused or quarantined, and nobody waits for a poisoned one. */
import { RpcFault } from '@tallystick/nats-rpc/fault'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import type { Limits } from '../src/limits.js'
import { message, pin, sha256hex, startRelay, stopPostgres, until, type TestRelay } from './harness.ts'

const running: { stop(): Promise<unknown> }[] = []
afterEach(async () => {
  await Promise.all(running.splice(0).map((r) => r.stop()))
})
afterAll(stopPostgres)

async function pair(limits: Partial<Limits> = {}): Promise<{ acme: TestRelay; globex: TestRelay }> {
  const acme = await startRelay('acme')
  const globex = await startRelay('globex', { limits: { deliveryBackoffMaxMs: 100, ...limits } })
  running.push(acme, globex)
  await pin(globex, acme)
  await pin(acme, globex)
  return { acme, globex }
}

const isOf = (item: { envelope: Uint8Array }) => (other: { envelope: Uint8Array }) => sha256hex(item.envelope) === sha256hex(other.envelope)
const all = (items: { envelopeDigest: Uint8Array }[], outcome: string, code?: string) =>
  items.map((i) => ({ outcome, envelopeDigest: i.envelopeDigest, ...(code === undefined ? {} : { code }) }))

describe('delivery', () => {
  it('goes on until taken, also over a restart', async () => {
    const { acme, globex } = await pair()
    globex.fleet.deliver = (items) => ({ items: all(items, 'retry', 'NotReady') })
    const sent = message(globex)
    await acme.relay.send({ items: [sent] })
    await until(() => globex.fleet.delivered.length >= 3, 'three attempts')
    await globex.stop()
    const again = await globex.restart()
    running.splice(1, 1, again)
    globex.fleet.deliver = (items) => ({ items: all(items, 'taken') })
    await until(async () => (await globex.db.inbound.findFirstOrThrow()).state === 'taken', 'taken')
    const row = await globex.db.inbound.findFirstOrThrow()
    expect(row).toMatchObject({ envelope: null, failures: 0 })
    const before = globex.fleet.delivered.length
    await acme.relay.send({ items: [message(globex)] })
    await until(() => globex.fleet.delivered.length === before + 1, 'the next')
  })

  it('a service that is away never leads to quarantine, however often', async () => {
    const { acme, globex } = await pair({ deliveryFailures: 2, deliveryBackoffMaxMs: 10, backoffFirstMs: 5 })
    let calls = 0
    globex.fleet.deliver = () => {
      calls += 1
      throw new RpcFault(calls % 2 ? 'Network' : 'CircuitBreakerOpen', 'invoice.v1.deliver', 'no responders', { origin: 'transport' })
    }
    await acme.relay.send({ items: [message(globex)] })
    await until(() => calls > 10, 'ten attempts')
    expect(await globex.db.inbound.findFirstOrThrow()).toMatchObject({ state: 'queued', failures: 0 })
    globex.fleet.deliver = (items) => ({ items: all(items, 'taken') })
    await until(async () => (await globex.db.inbound.findFirstOrThrow()).state === 'taken', 'taken')
  })

  it('a refused envelope is final and kept for inspection', async () => {
    const { acme, globex } = await pair()
    globex.fleet.deliver = (items) => ({ items: all(items, 'refused', 'VerificationFailed') })
    const sent = message(globex)
    await acme.relay.send({ items: [sent] })
    await until(async () => (await globex.db.inbound.findFirst())?.state === 'refused', 'refused')
    const row = await globex.db.inbound.findFirstOrThrow()
    expect(row.code).toBe('VerificationFailed')
    expect(Buffer.from(row.envelope!)).toEqual(Buffer.from(sent.envelope))
    expect(globex.fleet.delivered).toHaveLength(1)
  })

  it('an envelope that fails by itself is quarantined with an audit event, the others pass', async () => {
    const { acme, globex } = await pair({ deliveryFailures: 3 })
    const poison = message(globex)
    globex.fleet.deliver = (items) => ({
      items: items.map((i) => (isOf(poison)(i) ? all([i], 'retry', 'Internal')[0] : all([i], 'taken')[0])),
    })
    const good = Array.from({ length: 20 }, () => message(globex))
    await acme.relay.send({ items: [...good.slice(0, 10), poison, ...good.slice(10)] })
    await until(async () => (await globex.db.inbound.count({ where: { state: 'taken' } })) === 20, 'the good ones')
    await until(async () => (await globex.db.inbound.count({ where: { state: 'quarantined' } })) === 1, 'quarantine')
    const event = (await globex.db.auditOutbox.findMany())
      .map((row) => row.event)
      .find((e) => (e as { type: string }).type === 'VerificationFailed')
    expect(event).toMatchObject({
      body: { peer: acme.fleetId, envelopeDigest: sha256hex(poison.envelope), what: 'envelope', code: 'Internal' },
    })
  })

  it('an envelope that makes the whole call fail is found, and blamed alone', async () => {
    const { acme, globex } = await pair({ deliveryFailures: 3 })
    const poison = message(globex)
    globex.fleet.deliver = (items) => {
      if (items.some(isOf(poison))) throw new RpcFault('Internal', 'invoice.v1.deliver', 'fault', { origin: 'callee' })
      return { items: all(items, 'taken') }
    }
    const good = Array.from({ length: 20 }, () => message(globex))
    await acme.relay.send({ items: [...good.slice(0, 10), poison, ...good.slice(10)] })
    await until(async () => (await globex.db.inbound.count({ where: { state: 'taken' } })) === 20, 'the good ones')
    await until(async () => (await globex.db.inbound.count({ where: { state: 'quarantined' } })) === 1, 'quarantine')
  })

  it('keeps batches below the bytes of the bus', async () => {
    const { acme, globex } = await pair({ deliverBatchBytes: 250_000 })
    const sizes: number[] = []
    globex.fleet.deliver = (items) => {
      sizes.push(items.reduce((sum, i) => sum + i.envelope.length, 0))
      return { items: all(items, 'taken') }
    }
    await acme.relay.send({ items: [...Array.from({ length: 10 }, () => message(globex, 100_000)), message(globex, 400_000)] })
    await until(() => globex.fleet.delivered.length === 11, 'all')
    expect(Math.max(...sizes.filter((s) => s !== 400_000))).toBeLessThanOrEqual(250_000)
    expect(sizes).toContain(400_000)
  })
})

describe('progress', () => {
  it('is reported until acknowledged, and a refused report holds up no other', async () => {
    const { acme, globex } = await pair()
    const unwanted = message(globex)
    let away = true
    acme.fleet.progress = (items) => {
      if (away) throw new RpcFault('Network', 'invoice.v1.relayProgress', 'no responders', { origin: 'transport' })
      return items.some((i) => i.messageId === unwanted.messageId)
        ? { ok: false, code: 'NotFound', message: 'no such message' }
        : { ok: true }
    }
    const sent = [message(globex), unwanted, message(globex)]
    await acme.relay.send({ items: sent })
    await until(() => acme.fleet.progressOf(unwanted.messageId).length > 2, 'attempts')
    away = false
    await until(async () => (await acme.db.outbound.count({ where: { reportedAt: { not: null } } })) === 2, 'the two others')
    expect(await acme.db.outbound.count({ where: { reportedAt: null } })).toBe(1)
  })
})

describe('a progress report', () => {
  it('that invoice-svc fails on holds up no other', async () => {
    const { acme, globex } = await pair()
    const poisoned = message(globex)
    acme.fleet.progress = (items) => {
      if (items.some((i) => i.messageId === poisoned.messageId))
        throw new RpcFault('Internal', 'invoice.v1.relayProgress', 'failed', { origin: 'callee' })
      return { ok: true }
    }
    await acme.relay.send({ items: [message(globex), poisoned, message(globex)] })
    await until(async () => (await acme.db.outbound.count({ where: { reportedAt: { not: null } } })) === 2, 'the two others')
  })
})

describe('old rows', () => {
  it('are pruned; quarantined bytes of a peer are bounded', async () => {
    const { acme, globex } = await pair()
    globex.fleet.deliver = (items) => ({ items: all(items, 'refused', 'Decryption') })
    await acme.relay.send({ items: Array.from({ length: 5 }, () => message(globex, 1_000)) })
    await until(async () => (await globex.db.inbound.count({ where: { state: 'refused' } })) === 5, 'refused')
    const { InboundStore } = await import('../src/inbound.store.js')
    const { OutboundStore } = await import('../src/outbound.store.js')
    await new InboundStore(globex.db).prune(1_000_000, 2_500)
    const kept = await globex.db.inbound.findMany({ orderBy: { id: 'asc' } })
    expect(kept.map((row) => row.envelope !== null)).toEqual([false, false, false, true, true])
    await new InboundStore(globex.db).prune(-60_000, 0)
    expect(await globex.db.inbound.count()).toBe(0)
    await until(async () => (await acme.db.outbound.count({ where: { reportedAt: { not: null } } })) === 5, 'reported')
    expect(await new OutboundStore(acme.db).prune(-60_000)).toBe(5)
  })
})

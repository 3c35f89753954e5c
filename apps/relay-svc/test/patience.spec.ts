/** What cannot hold this relay up: a peer that does not read, a peer that asks for silence, a database that hangs. */
import { createServer, connect, type AddressInfo, type Server, type Socket } from 'node:net'
import { randomBytes } from 'node:crypto'
import { multiaddr } from '@multiformats/multiaddr'
import type { Stream } from '@libp2p/interface'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { openDatabase } from '../src/db.js'
import { RELAY_PROTOCOL, type FrameHeader } from '../src/frames.js'
import { FrameLink } from '../src/link.js'
import { limitsFrom } from '../src/limits.js'
import { addressOf, message, pinRaw, rawNode, sharedPostgres, startRelay, stopPostgres, until, type TestRelay } from './harness.ts'

const running: { stop(): unknown }[] = []
afterEach(async () => {
  await Promise.all(running.splice(0).map((r) => r.stop()))
})
afterAll(stopPostgres)

/** A peer that stands on our connection and is driven by what it does with each frame. */
async function peerOf(relay: TestRelay, onFrame: (link: FrameLink, header: FrameHeader, stream: Stream) => void): Promise<string> {
  const seed = randomBytes(32)
  const fleetId = await pinRaw(relay, seed, 'hand-driven')
  const node = await rawNode('tcp', seed)
  running.push(node)
  await node.handle(RELAY_PROTOCOL, (stream) => {
    const link = new FrameLink(stream, limitsFrom(), (frame) => onFrame(link, frame.header, stream))
  })
  await node.dial(multiaddr(addressOf(relay)))
  return fleetId
}
const HELLO = { t: 'hello', v: 1, bytes: 10_000_000, frames: 64 } as const

describe('a peer', () => {
  it('that does not read its stream does not hold up the end of the service', async () => {
    const relay = await startRelay('acme')
    const fleetId = await peerOf(relay, (link, header, stream) => {
      if (header.t !== 'hello') return
      void link.send(HELLO).then(() => stream.pause())
    })
    await relay.relay.send({ items: [1, 2].map(() => ({ ...message(relay, 3_000_000), fleetId })) })
    // It has begun to write and waits for room.
    await until(
      () =>
        relay.relay.node
          .connections([...relay.relay.allowList.fleet(fleetId)!.peerIds])
          .some((c) => c.streams.some((stream) => stream.writeBufferLength > 100_000)),
      'a full buffer',
    )
    const began = performance.now()
    await relay.stop()
    expect(performance.now() - began).toBeLessThan(8_000)
  })

  it('that says bye and asks for a day is looked for again like one that is away', async () => {
    const relay = await startRelay('acme')
    running.push(relay)
    let streams = 0
    const fleetId = await peerOf(relay, (link, header) => {
      if (header.t === 'hello') void link.send(HELLO)
      if (header.t !== 'envelope') return
      streams += 1
      void link.send({ t: 'bye', code: 'RateLimited', retryAfterMs: 86_400_000 }).then(() => link.finish())
    })
    await relay.relay.send({ items: [{ ...message(relay), fleetId }] })
    await until(() => streams > 3, 'a fourth attempt')
  })
})

describe('the database', () => {
  it('that accepts connections and says nothing is given up', async () => {
    const sockets: Socket[] = []
    const server = createServer((socket) => sockets.push(socket))
    await listening(server)
    const db = openDatabase(`postgresql://x:y@127.0.0.1:${portOf(server)}/x`, { databaseConnectMs: 200, databaseStatementMs: 30_000 })
    const began = performance.now()
    await expect(db.$queryRaw`SELECT 1`).rejects.toThrow()
    expect(performance.now() - began).toBeLessThan(5_000)
    await db.$disconnect()
    for (const socket of sockets) socket.destroy()
    server.close()
  })

  it('that stops answering in the middle, or takes too long for a statement, is given up', async () => {
    const { urls } = await (await sharedPostgres()).createFleet(`patience-${process.pid}`)
    const target = new URL(urls.relay)
    const { hostname, port } = target
    let frozen = false
    const sockets: Socket[] = []
    const proxy = createServer((socket) => {
      const upstream = connect(Number(port), hostname)
      sockets.push(socket, upstream)
      for (const [from, to] of [
        [socket, upstream],
        [upstream, socket],
      ] as const) {
        from.on('data', (bytes: Buffer) => void (frozen || to.write(bytes)))
        from.on('error', () => to.destroy())
      }
    })
    await listening(proxy)
    target.host = `127.0.0.1:${portOf(proxy)}`
    const db = openDatabase(target.href, { databaseConnectMs: 2_000, databaseStatementMs: 300 })
    await db.$queryRaw`SELECT 1`
    frozen = true
    const began = performance.now()
    await expect(db.$queryRaw`SELECT 1`).rejects.toThrow(/timeout/)
    expect(performance.now() - began).toBeLessThan(8_000)
    frozen = false
    await expect(db.$queryRaw`SELECT pg_sleep(20)::text`).rejects.toThrow(/statement timeout/)
    for (const socket of sockets) socket.destroy()
    await db.$disconnect()
    proxy.close()
  })
})

function listening(server: Server): Promise<void> {
  return new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
}
function portOf(server: Server): number {
  return (server.address() as AddressInfo).port
}

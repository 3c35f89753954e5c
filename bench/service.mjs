// Seal and open as session-svc does them, on a real PostgreSQL that keeps what it has committed: the service's own
// classes, without the bus in front. Beside it the commits a second that the same server gives to plain `pg`.
import { randomBytes } from 'node:crypto'
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import pg from 'pg'
import { encodeBundle } from '@tallystick/wire/bundle'
import { decodeEnvelope, envelopeDigest } from '@tallystick/wire/envelope'
import { accept, fleet, open, seal } from './conversation.mjs'
import './typescript-hooks.mjs'

const { introduce, TestClock, TestFleet } = await import('../apps/session-svc/test/fleet.ts')
const { pinPeer } = await import('../apps/session-svc/dist/peers/pin-peer.js')
const { readCertificate } = await import('@tallystick/wire/certificate')
const { startPostgres } = await import('../tools/testing/postgres.ts')
const { startEmbeddedPostgres } = await import('../tools/postgres/embedded.ts')
const { guardDirectory } = await import('../tools/process/guard.ts')
const { freePort } = await import('../tools/process/ports.ts')

const PAYLOAD = new Uint8Array(randomBytes(1024))
const BATCH = 64
const HOT_BATCHES = 40
const PEERS = 100
/** Items of one call to the service; two calls are under way at a time. */
const PEERS_PER_CALL = 50
const PEER_ROUNDS = 20
const COMMITS_MS = 2_000
const CONNECTIONS = 10

export async function benchService() {
  const { postgres, stop } = await durablePostgres()
  try {
    const plain = []
    const { url } = postgres
    plain.push(await commits(url))
    const hot = await hotPeer(postgres)
    plain.push(await commits(url))
    const many = await manyPeers(postgres)
    plain.push(await commits(url))
    report(plain, hot, many)
  } catch (error) {
    console.error(error) // before connections that are cut off at the end can have the last word
    throw error
  } finally {
    await stop()
  }
}

function report(plain, hot, many) {
  const middle = (name) => plain.map((run) => run[name]).sort((a, b) => a - b)[1]
  console.log('\nsession-svc with PostgreSQL (fsync on), 1 KiB, messages a second')
  console.log(`  plain pg, one row of 2.5 kB and one commit each: ${middle('one').toFixed(0)} commits a second over one connection,`)
  console.log(
    `    ${middle('many').toFixed(0)} over ${CONNECTIONS} (${plain.map(({ many }) => many.toFixed(0)).join(', ')} in the course of the run)`,
  )
  for (const [name, { sealed, opened, commits }] of [
    [`one hot peer, batches of ${BATCH}, a new epoch every 100 messages`, hot],
    [`${PEERS} peers, one message to or from each in turn`, many],
  ]) {
    console.log(`  ${name}: seal ${sealed.toFixed(0)}, open ${opened.toFixed(0)}`)
    const connections = name.startsWith('one') ? 'one' : 'many'
    const share = (rate) => (rate / middle(connections)).toFixed(2)
    console.log(
      `    for each commit of plain pg (${connections === 'one' ? 1 : CONNECTIONS} connections): seal ${share(sealed)}, open ${share(opened)}; ${commits}`,
    )
  }
}

/** A server that syncs what it commits, as in production. */
async function durablePostgres() {
  if (process.env.TALLYSTICK_TEST_DATABASE_URL) {
    const postgres = await startPostgres()
    return { postgres, stop: () => postgres.stop() }
  }
  const directory = mkdtempSync(path.join(os.tmpdir(), 'tallystick-bench-'))
  chmodSync(directory, 0o755) // the server may run under an account of its own
  guardDirectory(directory)
  const server = await startEmbeddedPostgres({
    dataDir: path.join(directory, 'data'),
    passwordFile: path.join(directory, 'password'),
    logFile: path.join(directory, 'postgres.log'),
    port: await freePort(),
    durable: true,
  })
  process.env.TALLYSTICK_TEST_DATABASE_URL = server.adminUrl
  const postgres = await startPostgres()
  return {
    postgres,
    stop: async () => {
      await postgres.stop()
      await server.stop()
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

/** One row and one commit at a time, for as long as COMMITS_MS, over one connection and over several. */
async function commits(url) {
  const row = randomBytes(2560)
  const rate = async (connections) => {
    const clients = Array.from({ length: connections }, () => new pg.Client({ connectionString: url }))
    await Promise.all(clients.map((client) => client.connect()))
    await clients[0].query('CREATE TABLE IF NOT EXISTS public.tallystick_bench (id bigserial PRIMARY KEY, row bytea NOT NULL)')
    let done = 0
    const started = performance.now()
    await Promise.all(
      clients.map(async (client) => {
        while (performance.now() - started < COMMITS_MS) {
          await client.query('INSERT INTO public.tallystick_bench (row) VALUES ($1)', [row])
          done++
        }
      }),
    )
    const seconds = (performance.now() - started) / 1000
    await clients[0].query('TRUNCATE public.tallystick_bench')
    await Promise.all(clients.map((client) => client.end()))
    return done / seconds
  }
  return { one: await rate(1), many: await rate(CONNECTIONS) }
}

/** Two fleets; every batch is answered, as receipts do, so that epochs can change. */
async function hotPeer(postgres) {
  const clock = new TestClock()
  const a = await TestFleet.start({ url: (await postgres.createFleet('hot-a')).urls.session, clock })
  const b = await TestFleet.start({ url: (await postgres.createFleet('hot-b')).urls.session, clock })
  await introduce(a, b)
  const time = { seal: 0, open: 0 }
  for (let batch = -2; batch < HOT_BATCHES; batch++) {
    clock.advance(1_000)
    const [sealMs, envelopes] = await timed(() => a.core.sealing.seal(items(a, Array(BATCH).fill(b.id))))
    const [openMs, opened] = await timed(() => b.core.opening.open(received(a.id, outcomes(envelopes))))
    outcomes(opened)
    await b.core.opening.acknowledge(received(a.id, envelopes).map(({ envelopeDigest: digest }) => digest))
    const answer = await b.core.sealing.seal(items(b, [a.id], 'control'))
    outcomes(await a.core.opening.open(received(b.id, outcomes(answer))))
    if (batch < 0) continue // the first batches start the session and warm up
    time.seal += sealMs
    time.open += openMs
  }
  const epochs = (await a.sessions()).length
  await a.stop()
  await b.stop()
  const count = HOT_BATCHES * BATCH
  return { sealed: (count / time.seal) * 1000, opened: (count / time.open) * 1000, commits: `${BATCH} messages a commit, ${epochs} epochs` }
}

/** One fleet, and peers that are nothing but their keys. */
async function manyPeers(postgres) {
  const clock = new TestClock()
  const a = await TestFleet.start({ url: (await postgres.createFleet('many')).urls.session, clock })
  const { arena } = a.context
  const own = readCertificate(await a.certificate(), clock.now())
  const self = { dhPublic: own.dhKey, certificateDigest: own.digest, peerId: own.peerIds[0], fleetId: own.fleetId, signKey: own.signKey }
  const peers = Array.from({ length: PEERS }, (_, i) => fleet(arena, `peer ${i}`, clock.now()))
  const byId = new Map(peers.map((peer) => [peer.self.fleetId, peer]))
  for (const { bundle } of peers) {
    const pinned = await pinPeer(a.context, a.id, bundle.certificate)
    if (!pinned.ok) throw new Error(pinned.message)
  }
  a.peers = (fleetId) => ({ take: async () => ({ ok: true, bundle: encodeBundle(byId.get(fleetId).bundle) }) })
  const ids = [...byId.keys()]
  const groups = Array.from({ length: PEERS / PEERS_PER_CALL }, (_, i) => ids.slice(i * PEERS_PER_CALL, (i + 1) * PEERS_PER_CALL))
  const each = async (use) => (await Promise.all(groups.map(use))).flat()

  for (const envelope of outcomes(await each((group) => a.core.sealing.seal(items(a, group)))).entries()) {
    const peer = byId.get(ids[envelope[0]])
    peer.end = accept(arena, peer, self, decodeEnvelope(envelope[1].envelope))
  }
  const answer = (fleetId) => ({ fleetId, envelope: seal(byId.get(fleetId).end, PAYLOAD) })
  const openAll = (envelopes) =>
    each((group) => a.core.opening.open(envelopes.filter(({ fleetId }) => group.includes(fleetId)).map(addressed)))
  outcomes(await openAll(ids.map(answer)))

  const time = { seal: 0, open: 0 }
  for (let round = 0; round < PEER_ROUNDS; round++) {
    clock.advance(1_000)
    const [sealMs, envelopes] = await timed(() => each((group) => a.core.sealing.seal(items(a, group))))
    outcomes(envelopes).forEach(({ envelope }, i) => open(byId.get(ids[i]).end, envelope))
    const answers = ids.map(answer)
    const [openMs, opened] = await timed(() => openAll(answers))
    outcomes(opened)
    await a.core.opening.acknowledge(answers.map(({ envelope }) => envelopeDigest(envelope)))
    time.seal += sealMs
    time.open += openMs
  }
  await a.stop()
  const count = PEER_ROUNDS * PEERS
  return { sealed: (count / time.seal) * 1000, opened: (count / time.open) * 1000, commits: 'one message a commit, each a DH step' }
}

function items(from, fleetIds, kind = 'application') {
  return fleetIds.map((fleetId) => ({ messageId: from.newId(), fleetId, class: kind, payload: PAYLOAD }))
}

const received = (fleetId, sealed) => sealed.map(({ envelope }) => addressed({ fleetId, envelope }))
const addressed = ({ fleetId, envelope }) => ({ fleetId, envelopeDigest: envelopeDigest(envelope), envelope })

/** The same, when every one of them is good. */
function outcomes(list) {
  const refused = list.find(({ ok }) => !ok)
  if (refused) throw new Error(`${refused.code}: ${refused.message}`)
  return list
}

async function timed(work) {
  const started = performance.now()
  const result = await work()
  return [performance.now() - started, result]
}

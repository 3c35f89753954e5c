/**
 * The libp2p node: own Ed25519 key, TCP + Noise + yamux, QUIC where its native part loads, and the connection gater
 * that applies admission and the allow-list before any stream exists.
 * @see docs/spec/relay.md §2, §6
 */
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import type { Connection, MultiaddrConnection, PeerId, PrivateKey, Stream } from '@libp2p/interface'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p, type Libp2p, type Libp2pOptions } from 'libp2p'
import { createServer, type AddressInfo } from 'node:net'
import type { HandshakeAdmission, HandshakeTicket } from './admission.js'
import { remoteKey, type PeerEndpoint } from './address.js'
import type { AllowList } from './allow-list.js'
import { CERTIFICATE_PROTOCOL } from './certificate-stream.js'
import { RELAY_PROTOCOL } from './frames.js'
import type { Limits } from './limits.js'
import type { RelayMetrics } from './metrics.js'
import type { SecurityEvents } from './security-events.js'

interface Log {
  info(fields: object, text: string): void
  warn(fields: object, text: string): void
}

export interface NodeDeps {
  readonly limits: Limits
  readonly allowList: AllowList
  readonly admission: HandshakeAdmission
  readonly metrics: RelayMetrics
  readonly security: Pick<SecurityEvents, 'authFailed' | 'rateLimited'>
  readonly log: Log
  /** An allowed peer has opened a connection to us from this address. */
  onConnected(fleetId: string, addressKey: string | undefined): void
  /** A connection with an allowed peer stands, whoever opened it. */
  onOpened(fleetId: string): void
  /** An allowed peer has opened a relay stream. */
  onStream(fleetId: string, peerId: string, stream: Stream): void
  /** An allowed peer has opened a stream to show its certificate. */
  onCertificateStream(fleetId: string, stream: Stream): void
}

export interface NodeOptions {
  /** 32 bytes; wiped when this returns. libp2p keeps its own copy of the key for the life of the process. */
  readonly seed: Uint8Array
  readonly host: string
  /** TCP port, and UDP port for QUIC; 0 takes a free one. */
  readonly port: number
  readonly quic?: boolean
  /** Multiaddrs to announce instead of the listening ones. */
  readonly announce?: readonly string[]
}

/** Far above our own limits: libp2p's own counters must never be what refuses a connection, since they do not know who is allowed. */
const UNBOUND = 100_000
const STREAMS_PER_CONNECTION = 2

export class RelayNode {
  readonly #deps: NodeDeps
  readonly #libp2p: Libp2p
  readonly #announce: readonly string[]
  readonly #sweep: NodeJS.Timeout
  readonly #busyAt = new Map<string, number>()
  readonly quic: boolean

  private constructor(deps: NodeDeps, libp2p: Libp2p, options: NodeOptions, quic: boolean) {
    this.#deps = deps
    this.#libp2p = libp2p
    this.#announce = options.announce ?? []
    this.quic = quic
    libp2p.addEventListener('connection:open', (event) => this.#opened(event.detail))
    libp2p.addEventListener('connection:close', (event) => {
      this.#busyAt.delete(event.detail.id)
      this.#count()
    })
    this.#sweep = setInterval(() => this.#closeIdle(), Math.max(50, Math.min(30_000, deps.limits.idleTimeoutMs / 4)))
    this.#sweep.unref()
  }

  /** @throws Error when the TCP port cannot be had; a QUIC listener that cannot be had is logged and left out */
  static async start(deps: NodeDeps, options: NodeOptions): Promise<RelayNode> {
    const privateKey = await generateKeyPairFromSeed('Ed25519', options.seed)
    options.seed.fill(0)
    const port = options.port === 0 ? await freePort(options.host) : options.port
    const tickets = new WeakMap<MultiaddrConnection, HandshakeTicket>()
    const quic = options.quic === false ? undefined : await loadQuic(deps)
    let failure: unknown
    for (const withQuic of quic === undefined ? [false] : [true, false]) {
      const libp2p = await createLibp2p(
        configuration(deps, privateKey, options.host, port, withQuic ? quic : undefined, gater(deps, tickets)),
      )
      const node = new RelayNode(deps, libp2p, options, withQuic)
      try {
        await libp2p.handle(RELAY_PROTOCOL, (stream, connection) => node.#serve(stream, connection), {
          maxInboundStreams: STREAMS_PER_CONNECTION,
          maxOutboundStreams: STREAMS_PER_CONNECTION,
        })
        await libp2p.handle(CERTIFICATE_PROTOCOL, (stream, connection) => node.#serveCertificate(stream, connection), {
          maxInboundStreams: STREAMS_PER_CONNECTION,
          maxOutboundStreams: STREAMS_PER_CONNECTION,
        })
        await libp2p.start()
        return node
      } catch (err) {
        failure = err
        await node.stop()
        if (withQuic) deps.log.warn({ err, port }, 'no QUIC listener, TCP only')
      }
    }
    throw failure
  }

  get peerId(): string {
    return this.#libp2p.peerId.toString()
  }

  /** Addresses to give to peers, each ending in /p2p/<PeerId>. */
  multiaddrs(): string[] {
    const listening = this.#announce.length > 0 ? this.#announce : this.#libp2p.getMultiaddrs().map(String)
    return listening.map((address) => (address.includes('/p2p/') ? address : `${address}/p2p/${this.peerId}`))
  }

  connections(peerIds: readonly string[]): Connection[] {
    return this.#libp2p.getConnections().filter((c) => c.status === 'open' && peerIds.includes(c.remotePeer.toString()))
  }

  /** The address ends in /p2p/<PeerId>: another key at the other end fails the handshake, before any application byte. */
  async dial(endpoint: PeerEndpoint, signal: AbortSignal): Promise<Connection> {
    return this.#libp2p.dial(multiaddr(endpoint.address), { signal })
  }

  async openStream(connection: Connection, signal: AbortSignal): Promise<Stream> {
    return connection.newStream(RELAY_PROTOCOL, { signal, maxOutboundStreams: STREAMS_PER_CONNECTION })
  }

  /** @throws Error also when the peer's relay does not know the protocol (`name` is UnsupportedProtocolError) */
  async openCertificateStream(connection: Connection, signal: AbortSignal): Promise<Stream> {
    return connection.newStream(CERTIFICATE_PROTOCOL, { signal, maxOutboundStreams: STREAMS_PER_CONNECTION })
  }

  /** Cut every connection of these PeerIds, now. */
  cut(peerIds: readonly string[], reason: string): void {
    for (const connection of this.connections(peerIds)) connection.abort(new Error(reason))
  }

  async stop(): Promise<void> {
    clearInterval(this.#sweep)
    await this.#libp2p.stop()
  }

  #serve(stream: Stream, connection: Connection): void {
    this.#deps.metrics.streams.inc()
    const peerId = connection.remotePeer.toString()
    const peer = this.#deps.allowList.peer(peerId)
    // The gater has let the connection in; the peer may have been blocked since.
    if (peer?.state !== 'allowed') return connection.abort(new Error('the peer is not allowed'))
    this.#deps.onStream(peer.fleetId, peerId, stream)
  }

  #serveCertificate(stream: Stream, connection: Connection): void {
    const peer = this.#deps.allowList.peer(connection.remotePeer.toString())
    if (peer?.state !== 'allowed') return connection.abort(new Error('the peer is not allowed'))
    this.#deps.onCertificateStream(peer.fleetId, stream)
  }

  #opened(connection: Connection): void {
    this.#busyAt.set(connection.id, performance.now())
    this.#count()
    const peerId = connection.remotePeer.toString()
    const peer = this.#deps.allowList.peer(peerId)
    if (peer?.state !== 'allowed') return connection.abort(new Error('the peer is not allowed'))
    const mine = this.connections(peer.peerIds).sort((a, b) => a.timeline.open - b.timeline.open)
    for (const oldest of mine.slice(0, Math.max(0, mine.length - this.#deps.limits.connectionsPerPeer))) {
      if (oldest.id !== connection.id) oldest.abort(new Error('replaced by a newer connection of the same peer'))
    }
    if (connection.direction === 'inbound') this.#deps.onConnected(peer.fleetId, remoteKey(connection.remoteAddr))
    this.#deps.onOpened(peer.fleetId)
  }

  /** A connection without a relay stream does nothing for anyone. */
  #closeIdle(): void {
    const now = performance.now()
    for (const connection of this.#libp2p.getConnections()) {
      if (connection.streams.some((stream) => stream.protocol === RELAY_PROTOCOL)) this.#busyAt.set(connection.id, now)
      else if (now - (this.#busyAt.get(connection.id) ?? now) > this.#deps.limits.idleTimeoutMs) {
        this.#deps.metrics.streamsCut.inc({ code: 'IdleTimeout' })
        connection
          .close({ signal: AbortSignal.timeout(1_000) })
          .catch((error: unknown) => connection.abort(error instanceof Error ? error : new Error('idle')))
      }
    }
  }

  #count(): void {
    this.#deps.metrics.connections.set(this.#libp2p.getConnections().length)
  }
}

type QuicFactory = NonNullable<Libp2pOptions['transports']>[number]

async function loadQuic(deps: NodeDeps): Promise<QuicFactory | undefined> {
  try {
    const { quic } = await import('@chainsafe/libp2p-quic')
    return quic({ handshakeTimeout: deps.limits.handshakeTimeoutMs }) as QuicFactory
  } catch (err) {
    deps.log.warn({ err }, 'QUIC does not load on this platform, TCP only')
    return undefined
  }
}

function configuration(
  deps: NodeDeps,
  privateKey: PrivateKey,
  host: string,
  port: number,
  quic: QuicFactory | undefined,
  connectionGater: Gater,
): Libp2pOptions {
  const { limits } = deps
  const ip = host.includes(':') ? 'ip6' : 'ip4'
  return {
    start: false,
    privateKey,
    addresses: { listen: [`/${ip}/${host}/tcp/${port}`, ...(quic === undefined ? [] : [`/${ip}/${host}/udp/${port}/quic-v1`])] },
    transports: [
      tcp({
        inboundSocketInactivityTimeout: limits.idleTimeoutMs + 60_000,
        outboundSocketInactivityTimeout: limits.idleTimeoutMs + 60_000,
        // The last line: sockets that even the gater has not seen.
        maxConnections: limits.connections + 8 * limits.pendingHandshakes,
      }),
      ...(quic === undefined ? [] : [quic]),
    ],
    connectionEncrypters: [noise()],
    // Not the 1,000 streams of the default: a peer needs one each way.
    streamMuxers: [yamux({ maxInboundStreams: 16, maxOutboundStreams: 16 })],
    connectionGater,
    connectionManager: {
      maxConnections: UNBOUND,
      maxIncomingPendingConnections: UNBOUND,
      inboundConnectionThreshold: UNBOUND,
      inboundUpgradeTimeout: limits.handshakeTimeoutMs,
      dialTimeout: limits.dialTimeoutMs,
      addressDialTimeout: limits.dialAddressTimeoutMs,
      reconnectRetries: 0,
    },
    // Needs libp2p's ping protocol on both sides; yamux and QUIC have keep-alives of their own.
    connectionMonitor: { enabled: false },
  }
}

type Gater = NonNullable<Libp2pOptions['connectionGater']>

function gater(deps: NodeDeps, tickets: WeakMap<MultiaddrConnection, HandshakeTicket>): Gater {
  const { admission, allowList, limits, metrics, security } = deps
  let accepted = 0

  /** Outcome of a handshake that ended without a PeerId. */
  const watch = (connection: MultiaddrConnection, ticket: HandshakeTicket): void => {
    connection.addEventListener('close', () => {
      if (ticket.settled) return
      admission.settle(ticket, false)
      const late = performance.now() - ticket.at >= limits.handshakeTimeoutMs * 0.95
      metrics.handshakes.inc({ outcome: late ? 'timeout' : 'failed' })
    })
  }

  const judge = (peerId: PeerId, connection: MultiaddrConnection): boolean => {
    const ticket = tickets.get(connection)
    const state = allowList.stateOf(peerId.toString())
    if (state === 'allowed') {
      if (ticket !== undefined) admission.settle(ticket, true)
      if (accepted >= limits.connections) {
        metrics.handshakes.inc({ outcome: 'over-capacity' })
        return true
      }
      accepted += 1
      connection.addEventListener('close', () => {
        accepted -= 1
      })
      metrics.handshakes.inc({ outcome: 'accepted' })
      return false
    }
    if (ticket !== undefined) admission.settle(ticket, false)
    const blocked = state === 'blocked'
    metrics.handshakes.inc({ outcome: blocked ? 'blocked' : 'unauthorized' })
    security.authFailed(blocked ? 'blocked-peer' : 'unknown-peer', peerId.toString())
    return true
  }

  return {
    denyDialMultiaddr: () => false,
    denyInboundConnection: (connection) => {
      const verdict = admission.admit(remoteKey(connection.remoteAddr), performance.now())
      if (verdict.admitted) {
        tickets.set(connection, verdict.ticket)
        watch(connection, verdict.ticket)
        return false
      }
      metrics.handshakes.inc({ outcome: 'rate-limited' })
      metrics.rateLimited.inc({ layer: 'handshake' })
      security.rateLimited('handshake', verdict.limit)
      return true
    },
    denyInboundEncryptedConnection: judge,
    // The peer may have been blocked while the muxer was negotiated.
    denyInboundUpgradedConnection: (peerId) => allowList.stateOf(peerId.toString()) !== 'allowed',
  }
}

async function freePort(host: string): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, host, resolve))
  const { port } = server.address() as AddressInfo
  await new Promise<void>((resolve) => server.close(() => resolve()))
  return port
}

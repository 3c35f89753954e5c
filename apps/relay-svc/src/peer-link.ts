/**
 * The sending side's stream to one peer: found on a connection that stands, or dialled through the peer's breaker.
 * @see docs/spec/relay.md §2, §5
 */
import type { Connection } from '@libp2p/interface'
import type { Breaker } from '@tallystick/nats-rpc/breaker'
import { dialCandidates } from './address.js'
import { DialFailure, dialFailure, helloFailure } from './dial-failure.js'
import { FRAME_VERSION, type Frame } from './frames.js'
import type { Limits } from './limits.js'
import { FrameLink, type LinkEnd } from './link.js'
import type { RelayNode } from './node.js'
import type { PeerRecord } from './peers.store.js'

export interface PeerLink {
  readonly link: FrameLink
  readonly transport: 'tcp' | 'quic'
  /** What the receiver is ready to hold unacknowledged. */
  readonly window: { bytes: number; frames: number }
}

export interface LinkOpener {
  readonly node: Pick<RelayNode, 'connections' | 'dial' | 'openStream'>
  readonly limits: Limits
  readonly breaker: Breaker
  /** The service is stopping. */
  readonly signal: AbortSignal
}

/**
 * @param onFrame every frame after the hello
 * @throws DialFailure with the cause for people; RpcFault CircuitBreakerOpen without a dial
 */
export async function openPeerLink(opener: LinkOpener, peer: PeerRecord, onFrame: (frame: Frame) => void): Promise<PeerLink> {
  for (const connection of opener.node.connections(peer.peerIds).reverse()) {
    try {
      return await greet(opener, connection, onFrame)
    } catch (error) {
      // It stands but does not serve: a half-dead connection, or one that is just being closed.
      connection.abort(error instanceof Error ? error : new Error('no relay stream'))
    }
  }
  return opener.breaker.fire(() => dialInOrder(opener, peer, onFrame))
}

async function dialInOrder(opener: LinkOpener, peer: PeerRecord, onFrame: (frame: Frame) => void): Promise<PeerLink> {
  const { limits, node } = opener
  const candidates = dialCandidates(peer.multiaddrs, peer.peerIds)
  if (candidates.length === 0) throw new DialFailure('Network', 'no address of the peer is known; it must connect to us')
  const deadline = AbortSignal.any([opener.signal, AbortSignal.timeout(limits.dialTimeoutMs)])
  let first: DialFailure | undefined
  for (const endpoint of candidates) {
    try {
      const connection = await node.dial(endpoint, AbortSignal.any([deadline, AbortSignal.timeout(limits.dialAddressTimeoutMs)]))
      return await greet(opener, connection, onFrame)
    } catch (error) {
      // The first candidate's cause is what helps a person: the fallback mostly fails for the same reason.
      first ??= dialFailure(error, endpoint, limits.dialAddressTimeoutMs)
      if (deadline.aborted) break
    }
  }
  throw first!
}

async function greet(opener: LinkOpener, connection: Connection, onFrame: (frame: Frame) => void): Promise<PeerLink> {
  const { limits, node } = opener
  const where = `${connection.remoteAddr.toString().replace(/\/p2p\/.*$/, '')}`
  const stream = await node.openStream(connection, AbortSignal.timeout(limits.helloTimeoutMs)).catch((error: unknown) => {
    if (connection.status !== 'open') throw helloFailure({ code: 'Network', reason: 'closed', byPeer: true, retryAfterMs: null }, where)
    throw error
  })
  let greeted: ((window: { bytes: number; frames: number }) => void) | undefined
  const hello = new Promise<{ bytes: number; frames: number }>((resolve) => {
    greeted = resolve
  })
  const link = new FrameLink(stream, limits, (frame) => {
    if (greeted === undefined) return onFrame(frame)
    if (frame.header.t !== 'hello') return link.close('Serialization', 'the first frame is not a hello')
    if (frame.header.v !== FRAME_VERSION) return link.close('UnsupportedVersion', `version ${frame.header.v}`)
    greeted({ bytes: frame.header.bytes, frames: frame.header.frames })
    greeted = undefined
  })
  const timer = setTimeout(() => link.close('HandshakeTimeout', 'no hello'), limits.helloTimeoutMs)
  timer.unref()
  try {
    await link.send({ t: 'hello', v: FRAME_VERSION, bytes: limits.windowBytes, frames: limits.windowFrames })
    const ended = link.closed.then((end: LinkEnd) => {
      throw helloFailure(end, where)
    })
    const window = await Promise.race([hello, ended])
    ended.catch(() => undefined) // after the hello, the end of the link is its owner's business
    return {
      link,
      transport: where.includes('/quic-v1') ? 'quic' : 'tcp',
      window: { bytes: Math.min(window.bytes, limits.windowBytes), frames: Math.max(1, Math.min(window.frames, limits.windowFrames)) },
    }
  } catch (error) {
    link.finish()
    if (link.open || error instanceof DialFailure) throw error
    throw helloFailure(await link.closed, where)
  } finally {
    clearTimeout(timer)
  }
}

/** Multiaddrs: which can be dialled, in which order, what a person calls them, and what admission counts by. */
import { multiaddr, type Multiaddr } from '@multiformats/multiaddr'

const HOSTS = ['ip4', 'ip6', 'dns', 'dns4', 'dns6']

export interface PeerEndpoint {
  /** Full address, ending in /p2p/<PeerId>: the key at the other end is pinned before any application byte. */
  readonly address: string
  readonly peerId: string
  readonly transport: 'tcp' | 'quic'
  /** host:port, for people. */
  readonly text: string
}

/**
 * @param text `/ip4|ip6|dns*…/tcp/<port>` or `…/udp/<port>/quic-v1`, with or without `/p2p/<PeerId>`
 * @returns one endpoint for each PeerId that the address may belong to, or the reason why it cannot be used
 */
export function endpointsOf(text: string, peerIds: readonly string[]): PeerEndpoint[] | { reason: string } {
  let parsed: Multiaddr
  try {
    parsed = multiaddr(text)
  } catch {
    return { reason: 'not a multiaddr' }
  }
  const parts = parsed.getComponents()
  const [host, port, ...rest] = parts
  if (host?.value === undefined || port?.value === undefined || !HOSTS.includes(host.name)) return { reason: 'not an IP or DNS address' }
  const quic = port.name === 'udp' && rest[0]?.name === 'quic-v1'
  if (!quic && port.name !== 'tcp') return { reason: 'neither TCP nor QUIC' }
  const tail = quic ? rest.slice(1) : rest
  if (tail.length > 1 || (tail.length === 1 && tail[0]!.name !== 'p2p')) return { reason: 'nothing but a PeerId may follow the port' }
  const named = tail[0]?.value
  if (named !== undefined && !peerIds.includes(named)) return { reason: "names a PeerId that is not this peer's" }
  const base = `/${host.name}/${host.value}/${port.name}/${port.value}${quic ? '/quic-v1' : ''}`
  const shown = `${host.name === 'ip6' ? `[${host.value}]` : host.value}:${port.value}`
  return (named === undefined ? peerIds : [named]).map((peerId) => ({
    address: `${base}/p2p/${peerId}`,
    peerId,
    transport: quic ? 'quic' : 'tcp',
    text: quic ? `${shown} (QUIC)` : shown,
  }))
}

/**
 * Dial order: TCP first, QUIC as the fallback. Over TCP the admission limits act before any cryptography, yamux gives
 * real back-pressure and Noise is checked against the pinned PeerId by one implementation; the QUIC library finishes
 * its TLS handshake in native code before the gater is asked and ignores a paused reader.
 */
export function dialCandidates(multiaddrs: readonly string[], peerIds: readonly string[]): PeerEndpoint[] {
  const all = multiaddrs.flatMap((text) => {
    const endpoints = endpointsOf(text, peerIds)
    return 'reason' in endpoints ? [] : endpoints
  })
  return [...all.filter((e) => e.transport === 'tcp'), ...all.filter((e) => e.transport === 'quic')]
}

/** IPv6 is counted by /64, since one host has 2^64 addresses; an IPv4-mapped address counts as IPv4. */
export function addressKey(host: string): string {
  const mapped = /^(?:0*:)*:?ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(host)
  if (mapped) return mapped[1]!
  if (!host.includes(':')) return host
  const [head = '', tail] = host.toLowerCase().split('%')[0]!.split('::')
  const left = head === '' ? [] : head.split(':')
  const right = tail === undefined || tail === '' ? [] : tail.split(':')
  const groups = tail === undefined ? left : [...left, ...Array<string>(Math.max(0, 8 - left.length - right.length)).fill('0'), ...right]
  return `${groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group || '0', 16).toString(16))
    .join(':')}::/64`
}

/** What admission counts a connection by; undefined when there is no IP (which is then refused: fail closed). */
export function remoteKey(remote: Multiaddr): string | undefined {
  const host = remote.getComponents().find((c) => c.name === 'ip4' || c.name === 'ip6')
  return host?.value === undefined ? undefined : addressKey(host.value)
}

/** Keys of the IP addresses among a peer's configured multiaddrs: it is expected to connect from there as well. */
export function configuredKeys(multiaddrs: readonly string[]): string[] {
  const keys = new Set<string>()
  for (const text of multiaddrs) {
    try {
      const key = remoteKey(multiaddr(text))
      if (key !== undefined) keys.add(key)
    } catch (error) {
      if (!(error instanceof Error)) throw error // an address that does not parse names no IP
    }
  }
  return [...keys]
}

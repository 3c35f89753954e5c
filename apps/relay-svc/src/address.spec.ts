import { multiaddr } from '@multiformats/multiaddr'
import { describe, expect, it } from 'vitest'
import { addressKey, configuredKeys, dialCandidates, endpointsOf, remoteKey } from './address.js'

const A = '12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN'
const B = '12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X'

describe('endpoints', () => {
  it.each([
    ['/ip4/127.0.0.1/tcp/4001', 'tcp', '127.0.0.1:4001'],
    ['/ip6/2001:db8::1/tcp/4001', 'tcp', '[2001:db8::1]:4001'],
    ['/dns4/relay.example/tcp/4001', 'tcp', 'relay.example:4001'],
    ['/ip4/127.0.0.1/udp/4001/quic-v1', 'quic', '127.0.0.1:4001 (QUIC)'],
  ])('%s is %s at %s, and always ends in the PeerId', (text, transport, shown) => {
    expect(endpointsOf(text, [A])).toEqual([{ address: `${text}/p2p/${A}`, peerId: A, transport, text: shown }])
    expect(endpointsOf(`${text}/p2p/${A}`, [A, B])).toHaveLength(1)
    expect(endpointsOf(text, [A, B])).toHaveLength(2)
  })

  it.each([
    ['nonsense', 'not a multiaddr'],
    ['', 'IP or DNS'],
    ['/ip4/300.1.1.1/tcp/1', 'not a multiaddr'],
    ['/ip4/127.0.0.1/udp/4001', 'neither TCP nor QUIC'],
    [`/ip4/127.0.0.1/tcp/4001/p2p/${B}`, "not this peer's"],
    ['/ip4/127.0.0.1/tcp/4001/ws', 'nothing but a PeerId'],
    ['/unix/%2Ftmp%2Fx', 'IP or DNS'],
    [`/ip4/127.0.0.1/tcp/4001/p2p/${A}/p2p-circuit/p2p/${B}`, 'nothing but a PeerId'],
  ])('%s is refused', (text, reason) => {
    const result = endpointsOf(text, [A])
    expect('reason' in result && result.reason).toContain(reason)
  })

  it('are dialled TCP first', () => {
    const order = dialCandidates(['/ip4/127.0.0.1/udp/4001/quic-v1', 'broken', '/ip4/127.0.0.1/tcp/4001'], [A])
    expect(order.map((e) => e.transport)).toEqual(['tcp', 'quic'])
  })
})

describe('what admission counts by', () => {
  it.each([
    ['192.0.2.1', '192.0.2.1'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['0:0:0:0:0:ffff:192.0.2.1', '192.0.2.1'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:DB8:1:2::9', '2001:db8:1:2::/64'],
    ['2001:db8::1', '2001:db8:0:0::/64'],
    ['::1', '0:0:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
  ])('%s → %s', (host, key) => expect(addressKey(host)).toBe(key))

  it('is taken from the remote address, and from configured IP addresses only', () => {
    expect(remoteKey(multiaddr('/ip4/192.0.2.1/udp/4001/quic-v1'))).toBe('192.0.2.1')
    expect(remoteKey(multiaddr('/dns4/relay.example/tcp/1'))).toBeUndefined()
    expect(configuredKeys(['/ip4/192.0.2.1/tcp/1', '/ip4/192.0.2.1/udp/1/quic-v1', '/dns4/x.example/tcp/1', 'broken'])).toEqual([
      '192.0.2.1',
    ])
  })
})

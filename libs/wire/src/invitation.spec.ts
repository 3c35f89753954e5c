import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { DAY, NOW, testFleet } from '../test/fixtures.js'
import { CLOCK_SKEW_MS, peerIdFromKey } from './certificate.js'
import { decodeInvitation, encodeInvitation } from './invitation.js'

const acme = testFleet('acme')
const multiaddrs = [
  `/ip4/192.0.2.1/tcp/4001/p2p/${acme.fields.peerIds[0]}`,
  `/dns4/acme.example/udp/4001/quic-v1/p2p/${acme.fields.peerIds[0]}`,
]
const line = encodeInvitation({ certificate: acme.certificate, multiaddrs })
const code = (name: string) => expect.objectContaining({ code: name })

describe('invitation', () => {
  it('is one line that begins with tally1 and comes back whole', () => {
    expect(line).toMatch(/^tally1[a-z2-7]+$/)
    const read = decodeInvitation(line, NOW)
    expect(read).toMatchObject({ certificate: acme.certificate, multiaddrs, fleet: { fleetId: acme.fleetId, displayName: 'acme GmbH' } })
    expect('expiresAt' in read).toBe(false)
  })

  it('forgives upper case, line breaks and spaces', () => {
    const mangled = ` ${line.toUpperCase().replaceAll(/.{60}/g, '$&\r\n  ')}\n`
    expect(decodeInvitation(mangled, NOW).fleet.fleetId).toBe(acme.fleetId)
  })

  it('ends at expiresAt plus 120 s', () => {
    const short = encodeInvitation({ certificate: acme.certificate, multiaddrs, expiresAt: NOW + DAY })
    expect(decodeInvitation(short, NOW + DAY + CLOCK_SKEW_MS).expiresAt).toBe(NOW + DAY)
    expect(() => decodeInvitation(short, NOW + DAY + CLOCK_SKEW_MS + 1)).toThrow(code('ExpiredSignature'))
    expect(() => decodeInvitation(line, acme.fields.notAfter + DAY)).toThrow(code('ExpiredSignature'))
  })

  it('must fail: any mistyped character', () => {
    fc.assert(
      fc.property(fc.integer({ min: 6, max: line.length - 1 }), fc.constantFrom(...'abcdefghijklmnopqrstuvwxyz234567'), (at, character) => {
        fc.pre(line[at] !== character)
        expect(() => decodeInvitation(line.slice(0, at) + character + line.slice(at + 1), NOW)).toThrow(code('Serialization'))
      }),
      { numRuns: 500 },
    )
  })

  it('must fail: cut off, empty, another prefix or version, too long, other alphabets', () => {
    for (const bad of [
      '',
      'tally1',
      line.slice(0, -1),
      line.slice(0, 40),
      `x${line}`,
      'http://example.org',
      line.replace('tally1', 'tally1!'),
      'tally1' + 'a'.repeat(17_000),
    ]) {
      expect(() => decodeInvitation(bad, NOW), bad.slice(0, 20)).toThrow(code('Serialization'))
    }
    expect(() => decodeInvitation(line.replace('tally1', 'tally2'), NOW)).toThrow(code('UnsupportedVersion'))
  })

  it('must fail: an address that leads to another PeerId, or to none', () => {
    const other = peerIdFromKey(testFleet('globex').root.publicKey)
    const elsewhere = encodeInvitation({ certificate: acme.certificate, multiaddrs: [`/ip4/192.0.2.1/tcp/1/p2p/${other}`] })
    expect(() => decodeInvitation(elsewhere, NOW)).toThrow(code('InvalidPeerId'))
    expect(() => encodeInvitation({ certificate: acme.certificate, multiaddrs: ['/ip4/192.0.2.1/tcp/1'] })).toThrow(code('Serialization'))
    expect(() => encodeInvitation({ certificate: acme.certificate, multiaddrs: ['nonsense'] })).toThrow(code('Serialization'))
    expect(() => encodeInvitation({ certificate: acme.certificate, multiaddrs: Array<string>(17).fill(multiaddrs[0]!) })).toThrow(
      code('Serialization'),
    )
  })

  it('a hostile megabyte costs nothing', () => {
    const started = performance.now()
    expect(() => decodeInvitation('tally1' + 'a'.repeat(1024 * 1024), NOW)).toThrow(code('Serialization'))
    expect(performance.now() - started).toBeLessThan(50)
  })
})

/** Edges of certificate, keys and invitation: each is here because a change of the source survived the other tests. */
import { createHash } from 'node:crypto'
import { blake3 } from '@noble/hashes/blake3.js'
import { describe, expect, test } from 'vitest'
import { concat, utf8 } from '@tallystick/primitives/bytes'
import { DAY, NOW, testFleet, testKey } from '../test/fixtures.js'
import { decode, encode } from './cbor.js'
import { CERTIFICATE_MAX_BYTES, CERTIFICATE_MAX_LIFETIME_MS, issueCertificate, readCertificate } from './certificate.js'
import { decodeInvitation, encodeInvitation, INVITATION_MAX_CHARS } from './invitation.js'
import {
  decodeVkey,
  encodeVkey,
  fingerprint,
  fleetIdOf,
  fromBase64,
  isNoteKeyName,
  keyFromPeerId,
  peerIdFromKey,
  verifierKey,
} from './keys.js'

const withCode = (code: string): unknown => expect.objectContaining({ code })
const fleet = testFleet('edges')
const [peerId] = fleet.fields.peerIds
const payloadOf = (certificate: Uint8Array): Record<string, unknown> =>
  decode((decode(certificate) as { payload: Uint8Array }).payload) as Record<string, unknown>
const signed = (payload: Uint8Array): Uint8Array => encode({ payload, signature: fleet.root.sign(payload) })
const read = (certificate: Uint8Array): unknown => readCertificate(certificate, NOW)

describe('labels are those of the specification', () => {
  test('fleet id and fingerprint', () => {
    const key = Uint8Array.from({ length: 32 }, (_, i) => i)
    const digest = createHash('sha256').update('tallystick/fleet-id/v1').update(key).digest()
    const base32 = [...digest]
      .map((byte) => byte.toString(2).padStart(8, '0'))
      .join('')
      .padEnd(260, '0')
    const text = Array.from(
      { length: 52 },
      (_, i) => 'abcdefghijklmnopqrstuvwxyz234567'[Number.parseInt(base32.slice(5 * i, 5 * i + 5), 2)],
    )
    expect(fleetIdOf(key)).toBe(`tsf1${text.join('')}`)
    const stream = blake3(concat(utf8('tallystick/fingerprint/v1'), key), { dkLen: 60 })
    const groups = Array.from({ length: 12 }, (_, i) =>
      Number(BigInt(`0x${Buffer.from(stream).toString('hex', 5 * i, 5 * i + 5)}`) % 100_000n),
    )
    expect(fingerprint(key)).toBe(groups.map((group) => String(group).padStart(5, '0')).join(' '))
  })

  test('the domain of a certificate', () => {
    expect(payloadOf(fleet.certificate)).toMatchObject({ v: 1, domain: 'tallystick/certificate/v1' })
  })
})

describe('certificate', () => {
  test('limits of size hold before anything is looked at', () => {
    const future = (extra: object): Uint8Array => signed(encode({ v: 2, ...extra }))
    expect(() => read(future({}))).toThrow(withCode('UnsupportedVersion'))
    expect(() => read(future({ more: Array.from({ length: 100 }, () => 0) }))).toThrow(withCode('Serialization'))
    expect(() => read(future({ more: new Uint8Array(CERTIFICATE_MAX_BYTES) }))).toThrow(withCode('Serialization'))
    expect(() => read(encode({ payload: encode(null), signature: new Uint8Array(64) }))).toThrow(withCode('Serialization'))
    expect(() => read(encode(Array.from({ length: 9 }, () => 0)))).toThrow(withCode('Serialization'))
  })

  test('names of suites and PeerIds are matched whole', () => {
    for (const suite of ['xTS1', 'TS1 ', 'TS1x', ' TS1', 'TS1\n', ''])
      expect(() => issueCertificate({ ...fleet.fields, suites: [suite] }, fleet.root.sign), suite).toThrow(withCode('Serialization'))
    for (const text of [`x${peerId}`, `${peerId}x`, `${peerId}\n`, peerId!.slice(1), ''])
      expect(() => keyFromPeerId(text), text).toThrow(withCode('InvalidPeerId'))
    expect(peerIdFromKey(keyFromPeerId(peerId!))).toBe(peerId)
  })

  test('five years are allowed, a millisecond more is not', () => {
    const { notBefore } = fleet.fields
    const until = (notAfter: number): Uint8Array => issueCertificate({ ...fleet.fields, notAfter }, fleet.root.sign)
    expect(() => until(notBefore + CERTIFICATE_MAX_LIFETIME_MS)).not.toThrow()
    expect(() => until(notBefore + CERTIFICATE_MAX_LIFETIME_MS + 1)).toThrow(withCode('Serialization'))
  })
})

describe('keys', () => {
  test('of another length are refused everywhere', () => {
    for (const wrong of [new Uint8Array(31), new Uint8Array(33)])
      for (const use of [fleetIdOf, fingerprint, peerIdFromKey, (key: Uint8Array) => verifierKey('log', key)])
        expect(() => use(wrong)).toThrow(withCode('InvalidPublicKey'))
  })

  test('names of note keys', () => {
    for (const good of ['a', 'example.org/log', 'x'.repeat(255)]) expect(isNoteKeyName(good), good).toBe(true)
    for (const bad of ['', 'a b', 'a+b', 'a\n', 'x'.repeat(256), '\ud800']) expect(isNoteKeyName(bad), JSON.stringify(bad)).toBe(false)
  })

  test('verifier keys are matched whole, with the id of their name and key', () => {
    const vkey = encodeVkey(verifierKey('log', testKey('log').publicKey))
    const [name, id, key] = vkey.split('+') as [string, string, string]
    expect(decodeVkey(vkey).name).toBe('log')
    for (const bad of [
      ` ${vkey}`,
      `${vkey} `,
      `\n${vkey}`,
      `${vkey}\n`,
      `${name}+${id}`,
      `log2+${id}+${key}`,
      `${name}+00000000+${key}`,
      `+${vkey}`,
    ])
      expect(() => decodeVkey(bad), JSON.stringify(bad)).toThrow(withCode('Serialization'))
  })

  test('base64 has one spelling of each value', () => {
    expect(fromBase64('AQI=')).toEqual(Uint8Array.of(1, 2))
    for (const bad of ['AQI', 'AQJ=', 'A QI=', ' AQI', 'AQI=\n', '=AQI', 'AQ==AQ==', '-_-_', 'A==='])
      expect(fromBase64(bad), bad).toBeUndefined()
  })
})

describe('invitation', () => {
  const address = `/ip4/192.0.2.1/tcp/4001/p2p/${peerId}`
  const line = (multiaddrs: string[]): string => encodeInvitation({ certificate: fleet.certificate, multiaddrs })

  test('addresses are matched whole and end in a PeerId of the certificate', () => {
    expect(decodeInvitation(line([address]), NOW).multiaddrs).toEqual([address])
    for (const bad of [`x${address}`, `${address}/`, `${address}\n`, ` ${address}`, address.slice(1), `/p2p/${peerId}/tcp/1`])
      expect(() => line([bad]), bad).toThrow(withCode('Serialization'))
    const stranger = peerIdFromKey(testKey('stranger').publicKey)
    for (const other of [`/ip4/192.0.2.1/p2p/${stranger}`, `/p2p/${peerId}/p2p/${stranger}`])
      expect(() => decodeInvitation(line([other]), NOW), other).toThrow(withCode('InvalidPeerId'))
  })

  test('white space is forgiven anywhere, but not beyond the limit', () => {
    const plain = line([address])
    expect(decodeInvitation(` ${[...plain].join(' \t\n')} `, NOW).certificate).toEqual(fleet.certificate)
    expect(plain.length).toBeLessThan(INVITATION_MAX_CHARS)
    expect(decodeInvitation(plain.padEnd(INVITATION_MAX_CHARS), NOW).certificate).toEqual(fleet.certificate)
    expect(() => decodeInvitation(plain.padEnd(INVITATION_MAX_CHARS + 1), NOW)).toThrow(withCode('Serialization'))
  })

  test('one without an end does not expire before its certificate', () => {
    expect(decodeInvitation(line([]), NOW + 300 * DAY).expiresAt).toBeUndefined()
    const ending = encodeInvitation({ certificate: fleet.certificate, multiaddrs: [], expiresAt: NOW })
    expect(decodeInvitation(ending, NOW + 120_000).expiresAt).toBe(NOW)
    expect(() => decodeInvitation(ending, NOW + 120_001)).toThrow(withCode('ExpiredSignature'))
  })
})

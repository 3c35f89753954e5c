import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fromHex, toHex } from '@tallystick/primitives/bytes'
import { DAY, NOW, testFleet, testKey } from '../test/fixtures.js'
import { decode, encode } from './cbor.js'
import {
  CERTIFICATE_MAX_BYTES,
  CERTIFICATE_MAX_LIFETIME_MS,
  CLOCK_SKEW_MS,
  issueCertificate,
  logVkey,
  MAX_SUCCESSION,
  readCertificate,
  succeeds,
  successionMessage,
  type SuccessionLink,
} from './certificate.js'
import { decodeVkey, encodeVkey, fingerprint, fleetIdOf, keyFromPeerId, peerIdFromKey, verifierKey } from './keys.js'

const acme = testFleet('acme')
const code = (name: string) => expect.objectContaining({ code: name })

/** Re-signs a changed payload, so that only the field itself can be the reason of a refusal. */
function resigned(change: Record<string, unknown>, remove: string[] = []): Uint8Array {
  const { payload } = decode(acme.certificate) as { payload: Uint8Array }
  const fields = { ...(decode(payload) as Record<string, unknown>), ...change }
  for (const key of remove) delete fields[key]
  const changed = encode(fields)
  return encode({ payload: changed, signature: acme.root.sign(changed) })
}

describe('fleet certificate', () => {
  it('gives back every field, the fleet id and a digest', () => {
    const read = readCertificate(acme.certificate, NOW)
    expect(read).toMatchObject({ ...acme.fields, fleetId: acme.fleetId })
    expect(read.digest).toHaveLength(32)
    expect(acme.certificate.length).toBeLessThan(600)
  })

  it('is valid from notBefore to notAfter, with 120 s of skew on both sides', () => {
    const { notBefore, notAfter } = acme.fields
    for (const at of [notBefore - CLOCK_SKEW_MS, notBefore, notAfter, notAfter + CLOCK_SKEW_MS])
      expect(readCertificate(acme.certificate, at).sequence).toBe(1)
    for (const at of [notBefore - CLOCK_SKEW_MS - 1, notAfter + CLOCK_SKEW_MS + 1])
      expect(() => readCertificate(acme.certificate, at)).toThrow(code('ExpiredSignature'))
  })

  it('any changed bit is refused', () => {
    fc.assert(
      fc.property(fc.nat({ max: acme.certificate.length - 1 }), fc.integer({ min: 0, max: 7 }), (at, bit) => {
        const changed = acme.certificate.slice()
        changed[at]! ^= 1 << bit
        expect(() => readCertificate(changed, NOW)).toThrow()
      }),
      { numRuns: 2_000 },
    )
  })

  it.each<[string, Record<string, unknown>, string]>([
    ['version 2', { v: 2 }, 'UnsupportedVersion'],
    ['another domain', { domain: 'tallystick/document/v1' }, 'Serialization'],
    ['unknown field', { extra: 1 }, 'Serialization'],
    ['fleet id of another key', { fleetId: fleetIdOf(testKey('mallory').publicKey) }, 'InvalidSignature'],
    ['another root key', { signKey: testKey('mallory').publicKey }, 'InvalidSignature'],
    ['short key', { dhKey: new Uint8Array(31) }, 'Serialization'],
    ['no PeerId', { peerIds: [] }, 'Serialization'],
    ['nine PeerIds', { peerIds: Array.from({ length: 9 }, (_, i) => peerIdFromKey(testKey(`p${i}`).publicKey)) }, 'Serialization'],
    ['PeerId twice', { peerIds: [acme.fields.peerIds[0], acme.fields.peerIds[0]] }, 'Serialization'],
    ['RSA PeerId', { peerIds: ['QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N'] }, 'InvalidPeerId'],
    ['empty name', { displayName: '' }, 'Serialization'],
    ['name with a line break', { displayName: 'a\nb' }, 'Serialization'],
    ['name with a direction override', { displayName: 'acme\u202e' }, 'Serialization'],
    ['name too long', { displayName: 'x'.repeat(101) }, 'Serialization'],
    ['suite in lower case', { suites: ['ts1'] }, 'Serialization'],
    ['suite twice', { suites: ['TS1', 'TS1'] }, 'Serialization'],
    ['sequence 0', { sequence: 0 }, 'Serialization'],
    ['ends before it begins', { notAfter: acme.fields.notBefore }, 'Serialization'],
    ['lifetime beyond the cap', { notAfter: acme.fields.notBefore + CERTIFICATE_MAX_LIFETIME_MS + 1 }, 'Serialization'],
  ])('must fail: %s', (_name, change, expected) => {
    expect(() => readCertificate(resigned(change), NOW)).toThrow(code(expected))
  })

  it.each([
    'v',
    'domain',
    'fleetId',
    'displayName',
    'signKey',
    'dhKey',
    'peerIds',
    'logKey',
    'suites',
    'notBefore',
    'notAfter',
    'sequence',
  ])('must fail: without %s', (field) => {
    expect(() => readCertificate(resigned({}, [field]), NOW)).toThrow(code('Serialization'))
  })

  it('must fail: signed by another key, over 4096 bytes, not CBOR', () => {
    expect(() => issueCertificate(acme.fields, testKey('mallory').sign)).toThrow(code('InvalidSignature'))
    expect(() => readCertificate(new Uint8Array(4097), NOW)).toThrow(code('Serialization'))
    expect(() => readCertificate(new Uint8Array(0), NOW)).toThrow(code('Serialization'))
    expect(() => testFleet('acme', { notBefore: NOW, notAfter: NOW - DAY })).toThrow(code('Serialization'))
  })
})

describe('succession', () => {
  const keys = Array.from({ length: MAX_SUCCESSION + 2 }, (_, i) => (i === 0 ? acme.root : testKey(`acme/root/${i}`)))
  const link = (from: number, to = from + 1): SuccessionLink => ({
    key: keys[from]!.publicKey,
    signature: keys[from]!.sign(successionMessage(keys[to]!.publicKey, acme.fleetId)),
  })
  const chain = (links: number) => Array.from({ length: links }, (_, i) => link(i))
  const fieldsOf = (succession: SuccessionLink[], present = succession.length) => ({
    ...acme.fields,
    signKey: keys[present]!.publicKey,
    sequence: present + 1,
    succession,
  })

  /** Signed by the present key without the checks of the issuer. */
  function unchecked(succession: unknown, present: number): Uint8Array {
    const { payload } = decode(acme.certificate) as { payload: Uint8Array }
    const signKey = keys[present]!.publicKey
    const changed = encode({ ...(decode(payload) as object), signKey, succession } as never)
    return encode({ payload: changed, signature: keys[present]!.sign(changed) })
  }

  it.each([1, 2, MAX_SUCCESSION])('of %i links keeps the fleet id and verifies', (links) => {
    const certificate = issueCertificate(fieldsOf(chain(links)), keys[links]!.sign)
    const read = readCertificate(certificate, NOW)
    expect(read).toMatchObject({ fleetId: acme.fleetId, signKey: keys[links]!.publicKey, sequence: links + 1 })
    expect(read.succession).toEqual(chain(links))
    for (let i = 0; i < links; i++) expect(succeeds(read, keys[i]!.publicKey)).toBe(true)
    expect(succeeds(read, keys[links]!.publicKey)).toBe(false)
  })

  it('the longest one, with all that a certificate may hold, fits', () => {
    const peerIds = Array.from({ length: 8 }, (_, i) => peerIdFromKey(testKey(`p${i}`).publicKey))
    const suites = Array.from({ length: 8 }, (_, i) => `SUITE-WITH-LEN-${i}`)
    const fields = { ...fieldsOf(chain(MAX_SUCCESSION)), peerIds, suites, displayName: '€'.repeat(100) }
    const certificate = issueCertificate(fields, keys[MAX_SUCCESSION]!.sign)
    expect(certificate.length).toBeLessThan(CERTIFICATE_MAX_BYTES)
    expect(readCertificate(certificate, NOW)).toMatchObject({ peerIds, suites })
  })

  it('a certificate without one is what it was, byte for byte', () => {
    expect(issueCertificate({ ...acme.fields }, acme.root.sign)).toEqual(acme.certificate)
    expect(readCertificate(acme.certificate, NOW)).not.toHaveProperty('succession')
    expect(succeeds(readCertificate(acme.certificate, NOW), acme.root.publicKey)).toBe(false)
  })

  it('the signed message is domain, next key and fleet id', () => {
    const next = keys[1]!.publicKey
    expect(Buffer.from(successionMessage(next, acme.fleetId))).toEqual(
      Buffer.concat([Buffer.from('tallystick/succession/v1'), next, Buffer.from(acme.fleetId)]),
    )
  })

  const flipped = ({ key, signature }: SuccessionLink) => ({ key, signature: signature.map((byte, i) => (i === 9 ? byte ^ 1 : byte)) })
  it.each<[string, unknown, number, string]>([
    ['an empty list', [], 0, 'Serialization'],
    ['nine links', chain(9), 9, 'Serialization'],
    ['a link without a signature', [{ key: keys[0]!.publicKey }], 1, 'Serialization'],
    ['a link with another field', [{ ...link(0), next: 1 }], 1, 'Serialization'],
    ['a short key', [{ ...link(0), key: keys[0]!.publicKey.slice(1) }], 1, 'Serialization'],
    ['a short signature', [{ ...link(0), signature: link(0).signature.slice(1) }], 1, 'Serialization'],
    ['no list', link(0), 1, 'Serialization'],
    ['the present key as its own predecessor', [link(0, 0)], 0, 'Serialization'],
    ['a circle', [link(0), link(1, 0), link(0, 2)], 2, 'Serialization'],
    ['a changed signature', [flipped(link(0))], 1, 'InvalidSignature'],
    ['a changed signature in the middle', [link(0), flipped(link(1)), link(2)], 3, 'InvalidSignature'],
    ['a link to another key than the next', [link(0, 2)], 1, 'InvalidSignature'],
    ['a missing link', [link(0), link(2)], 3, 'InvalidSignature'],
    ['the first link missing', [link(1)], 2, 'InvalidSignature'],
    ['links in the wrong order', [link(1), link(0)], 2, 'InvalidSignature'],
    [
      'a link signed by the successor',
      [{ key: keys[0]!.publicKey, signature: keys[1]!.sign(successionMessage(keys[1]!.publicKey, acme.fleetId)) }],
      1,
      'InvalidSignature',
    ],
    [
      'a link for another fleet',
      [{ key: keys[0]!.publicKey, signature: keys[0]!.sign(successionMessage(keys[1]!.publicKey, fleetIdOf(keys[1]!.publicKey))) }],
      1,
      'InvalidSignature',
    ],
    [
      'a stranger who takes the fleet id',
      [{ key: testKey('mallory').publicKey, signature: testKey('mallory').sign(successionMessage(keys[1]!.publicKey, acme.fleetId)) }],
      1,
      'InvalidSignature',
    ],
  ])('must fail: %s', (_name, succession, present, expected) => {
    expect(() => readCertificate(unchecked(succession, present), NOW)).toThrow(code(expected))
  })

  it('must fail: the replaced key cannot go on issuing, nor can a successor leave the succession out', () => {
    const fields = fieldsOf(chain(1))
    expect(() => issueCertificate(fields, keys[0]!.sign)).toThrow(code('InvalidSignature'))
    expect(() => issueCertificate({ ...fields, succession: [flipped(link(0))] }, keys[1]!.sign)).toThrow(code('InvalidSignature'))
    expect(() => issueCertificate(fieldsOf(chain(9)), keys[9]!.sign)).toThrow(code('Serialization'))
    const { payload } = decode(acme.certificate) as { payload: Uint8Array }
    const changed = encode({ ...(decode(payload) as object), signKey: keys[1]!.publicKey } as never)
    expect(() => readCertificate(encode({ payload: changed, signature: keys[1]!.sign(changed) }), NOW)).toThrow(code('InvalidSignature'))
  })
})

describe('keys as text', () => {
  it('fleet id: tsf1 and 52 characters', () => {
    expect(acme.fleetId).toMatch(/^tsf1[a-z2-7]{52}$/)
    expect(() => fleetIdOf(new Uint8Array(31))).toThrow(code('InvalidPublicKey'))
  })

  it('fingerprint: twelve groups of five digits, another for another key', () => {
    expect(fingerprint(acme.root.publicKey)).toMatch(/^(\d{5} ){11}\d{5}$/)
    expect(fingerprint(acme.root.publicKey)).not.toBe(fingerprint(acme.log.publicKey))
  })

  it('PeerId: the vector of the libp2p specification', () => {
    // Public half of the Ed25519 test key of libp2p/specs peer-ids.
    const key = fromHex('1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e')
    expect(peerIdFromKey(key)).toBe('12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq')
  })

  it('PeerId: round trip', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (key) => {
        const text = peerIdFromKey(key)
        expect(text).toMatch(/^12D3KooW[1-9A-HJ-NP-Za-km-z]{44}$/)
        expect(toHex(keyFromPeerId(text))).toBe(toHex(key))
      }),
    )
    for (const bad of ['', '12D3KooW', `12D3KooW${'z'.repeat(44)}`, 'QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N'])
      expect(() => keyFromPeerId(bad)).toThrow(code('InvalidPeerId'))
  })

  it('vkey: the example of the signed-note specification', () => {
    const vkey = 'PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW'
    expect(encodeVkey(decodeVkey(vkey))).toBe(vkey)
    expect(toHex(verifierKey('PeterNeumann', decodeVkey(vkey).publicKey).keyId)).toBe('c74f20a3')
  })

  it('vkey: of a fleet, and must-fail forms', () => {
    const vkey = logVkey(readCertificate(acme.certificate, NOW))
    expect(decodeVkey(vkey)).toMatchObject({ name: `tallystick/${acme.fleetId}`, publicKey: acme.log.publicKey })
    for (const bad of [
      '',
      'a+b',
      vkey.replace('tallystick', 'tallystack'),
      `${vkey}=`,
      vkey.replace(/\+A(?=[^+]*$)/, '+B'),
      vkey.slice(0, -4),
      ` ${vkey}`,
      vkey.replace('tallystick/', 'tally stick/'),
    ]) {
      expect(() => decodeVkey(bad), bad).toThrow(code('Serialization'))
    }
    expect(() => verifierKey('a b', acme.log.publicKey)).toThrow(code('Serialization'))
  })
})

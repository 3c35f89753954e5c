/** Statements of a peer whose identity was renewed while its messages were on their way. */
import { describe, expect, it } from 'vitest'
import { sha256 } from '@tallystick/primitives/hash'
import { issueCertificate, successionMessage } from '@tallystick/wire/certificate'
import { assembleStatement, encodeStatementPayload } from '@tallystick/wire/document'
import { encodeVerdict } from '@tallystick/wire/messages'
import { contentDigest, encodePayload } from '@tallystick/wire/payload'
import { DAY, NOW, testFleet, testKey, type TestKey } from '../../../../libs/wire/test/fixtures.js'
import { readMessage, Unacceptable, type Reader } from './read-message.js'

const peer = testFleet('globex')
const own = testFleet('acme').fleetId
const documentId = '0190a1b2-0000-7000-8000-000000000001'

/** The peer's certificate after a renewal, with the key that it names. */
function renewed(from: TestKey, name: string): { certificate: Uint8Array; key: TestKey } {
  const key = testKey(`globex/root ${name}`)
  const succession = [{ key: from.publicKey, signature: from.sign(successionMessage(key.publicKey, peer.fleetId)) }]
  return {
    key,
    certificate: issueCertificate({ ...peer.fields, signKey: key.publicKey, notBefore: NOW, sequence: 2, succession }, key.sign),
  }
}

function verdict(key: TestKey, issuedAt: number): Uint8Array {
  const body = encodeVerdict({ documentId, contentDigest: sha256(), verdict: 'accepted', at: NOW - DAY })
  const digest = contentDigest(body)
  const signed = encodeStatementPayload({
    kind: 'verdict',
    documentId,
    contentDigest: digest,
    signer: peer.fleetId,
    audience: own,
    issuedAt,
    expiresAt: NOW + DAY,
    nonce: sha256(),
  })
  return encodePayload({
    v: 1,
    kind: 'verdict',
    id: '0190a1b2-0000-7000-8000-000000000002',
    seq: 0,
    prevHash: new Uint8Array(32),
    issuedAt: NOW - DAY,
    contentDigest: digest,
    body,
    statement: assembleStatement(signed, key.sign(signed)),
  })
}

const read = (bytes: Uint8Array, reader: Omit<Reader, 'ownFleetId' | 'now'>) => {
  try {
    return readMessage(bytes, { ...reader, ownFleetId: own, now: NOW })
  } catch (error) {
    if (error instanceof Unacceptable) return error.code
    throw error
  }
}

describe('a statement from before the peer’s renewal', () => {
  const { certificate, key } = renewed(peer.root, 'two')
  const before = verdict(peer.root, NOW - 1_000)

  it('is good under the identity that it was made with, and is kept with that certificate', () => {
    expect(read(before, { certificate, previous: peer.certificate })).toMatchObject({ kind: 'verdict', certificate: peer.certificate })
    expect(read(verdict(key, NOW), { certificate, previous: peer.certificate })).toMatchObject({ kind: 'verdict', certificate })
  })

  it('is not, when the earlier identity is unknown, claims to sign later, or was never this peer’s', () => {
    expect(read(before, { certificate })).toBe('InvalidSignature')
    expect(read(before, { certificate, previous: null })).toBe('InvalidSignature')
    expect(read(verdict(peer.root, NOW + 121_000), { certificate, previous: peer.certificate })).toBe('InvalidSignature')
    const mallory = testKey('mallory')
    const foreign = issueCertificate({ ...peer.fields, signKey: mallory.publicKey }, mallory.sign)
    expect(read(verdict(mallory, NOW - 1_000), { certificate, previous: foreign })).toBe('InvalidSignature')
    expect(read(verdict(mallory, NOW - 1_000), { certificate, previous: peer.certificate })).toBe('InvalidSignature')
  })
})

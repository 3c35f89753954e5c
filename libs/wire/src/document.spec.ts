import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { DAY, NOW, testFleet } from '../test/fixtures.js'
import { decode, encode } from './cbor.js'
import { CLOCK_SKEW_MS } from './certificate.js'
import {
  assembleStatement,
  encodeStatementPayload,
  readStatement,
  STATEMENT_MAX_LIFETIME_MS,
  type StatementExpectation,
  type StatementFields,
  verifyStatement,
} from './document.js'

const acme = testFleet('acme')
const globex = testFleet('globex')
const certificate = { fleetId: acme.fleetId, signKey: acme.root.publicKey }
const code = (name: string) => expect.objectContaining({ code: name })

const fields: StatementFields = {
  kind: 'invoice',
  documentId: '0190a1b2-0000-7000-8000-000000000001',
  contentDigest: new Uint8Array(32).fill(1),
  signer: acme.fleetId,
  audience: globex.fleetId,
  issuedAt: NOW,
  expiresAt: NOW + 30 * DAY,
  nonce: new Uint8Array(32).fill(2),
}
const { documentId, contentDigest, kind } = fields
const expected: StatementExpectation = { certificate, audience: globex.fleetId, now: NOW, contentDigest, kind, documentId }

function signed(change: Record<string, unknown> = {}): Uint8Array {
  const payload = encode({ ...(decode(encodeStatementPayload(fields)) as object), ...change })
  return assembleStatement(payload, acme.root.sign(payload))
}

describe('document statement', () => {
  it('verifies for the audience it names and comes back whole', () => {
    const payload = encodeStatementPayload(fields)
    expect(verifyStatement(assembleStatement(payload, acme.root.sign(payload)), expected)).toMatchObject(fields)
    expect(signed().length).toBeLessThan(600)
  })

  it('may have no audience, if none is expected', () => {
    const open = signed({ audience: null })
    expect(verifyStatement(open, { ...expected, audience: null }).audience).toBeNull()
    expect(() => verifyStatement(open, expected)).toThrow(code('InvalidSignature'))
  })

  it('holds from 120 s before issuedAt to 120 s after expiresAt', () => {
    const at = (now: number) => verifyStatement(signed(), { ...expected, now })
    for (const now of [NOW - CLOCK_SKEW_MS, fields.expiresAt + CLOCK_SKEW_MS]) expect(at(now).kind).toBe('invoice')
    for (const now of [NOW - CLOCK_SKEW_MS - 1, fields.expiresAt + CLOCK_SKEW_MS + 1])
      expect(() => at(now)).toThrow(code('ExpiredSignature'))
  })

  it('any changed bit is refused', () => {
    const whole = signed()
    fc.assert(
      fc.property(fc.nat({ max: whole.length - 1 }), fc.integer({ min: 0, max: 7 }), (at, bit) => {
        const changed = whole.slice()
        changed[at]! ^= 1 << bit
        expect(() => verifyStatement(changed, expected)).toThrow()
      }),
      { numRuns: 2_000 },
    )
  })

  it.each<[string, Record<string, unknown>, string]>([
    ['another domain', { domain: 'tallystick/certificate/v1' }, 'Serialization'],
    ['version 2', { v: 2 }, 'UnsupportedVersion'],
    ['unknown field', { extra: 1 }, 'Serialization'],
    ['another signer', { signer: globex.fleetId }, 'InvalidSignature'],
    ['another audience', { audience: acme.fleetId }, 'InvalidSignature'],
    ['another kind', { kind: 'credit-note' }, 'InvalidSignature'],
    ['another document', { documentId: '0190a1b2-0000-7000-8000-000000000002' }, 'InvalidSignature'],
    ['another content', { contentDigest: new Uint8Array(32) }, 'VerificationFailed'],
    ['lifetime beyond 90 days', { expiresAt: NOW + STATEMENT_MAX_LIFETIME_MS + 1 }, 'Serialization'],
    ['expires before it is issued', { expiresAt: NOW }, 'Serialization'],
    ['short nonce', { nonce: new Uint8Array(31) }, 'Serialization'],
  ])('must fail: %s', (_name, change, want) => {
    expect(() => verifyStatement(signed(change), expected)).toThrow(code(want))
  })

  it('must fail: signed by the audience instead of the signer', () => {
    const payload = encodeStatementPayload(fields)
    expect(() => verifyStatement(assembleStatement(payload, globex.root.sign(payload)), expected)).toThrow(code('InvalidSignature'))
  })

  it('must fail: a certificate is not a statement', () => {
    expect(() => readStatement(acme.certificate)).toThrow(code('Serialization'))
  })

  it('refuses to build what no receiver would take', () => {
    expect(() => encodeStatementPayload({ ...fields, expiresAt: NOW + STATEMENT_MAX_LIFETIME_MS + 1 })).toThrow(code('Serialization'))
    expect(() => encodeStatementPayload({ ...fields, signer: 'acme' })).toThrow(code('Serialization'))
    expect(() => assembleStatement(encodeStatementPayload(fields), new Uint8Array(63))).toThrow(code('Serialization'))
  })
})

/**
 * The fleet certificate: which keys speak for a fleet, signed by its root key IK_sign.
 *
 * `{ payload: bstr, signature: bstr }`, where payload is the deterministic CBOR of the fields and the signature is over
 * the payload bytes, which begin their meaning with a domain string. Its digest enters every handshake.
 * @see docs/spec/identity.md §2
 */
import { equalConstantTime, toHex, utf8 } from '@tallystick/primitives/bytes'
import { verify } from '@tallystick/primitives/ed25519'
import { ProtocolError } from '@tallystick/primitives/errors'
import { sha256 } from '@tallystick/primitives/hash'
import { decode, encode } from './cbor.js'
import { encodeVkey, fingerprint, fleetIdOf, keyFromPeerId, peerIdFromKey, verifierKey } from './keys.js'
import { bytes, displayText, epochMs, fixedBytes, fleetIdText, integer, list, oneOf, optional, record, refuse, text } from './shape.js'

export { fingerprint, fleetIdOf, keyFromPeerId, peerIdFromKey }

/** One root key that was replaced. @see docs/spec/identity.md §5 */
export interface SuccessionLink {
  /** The earlier IK_sign, 32 bytes. */
  readonly key: Uint8Array
  /** Of `key` over {@link successionMessage}, 64 bytes. */
  readonly signature: Uint8Array
}

export interface FleetCertificate {
  /** Derived from the first root key: `signKey`, or the first of `succession`. */
  readonly fleetId: string
  /** One line, 1 to 100 characters. */
  readonly displayName: string
  /** IK_sign, Ed25519, 32 bytes. */
  readonly signKey: Uint8Array
  /** IK_dh, X25519, 32 bytes. */
  readonly dhKey: Uint8Array
  /** 1 to 8 Ed25519 PeerIds, sorted as given. */
  readonly peerIds: string[]
  /** Ed25519 key of the audit log, 32 bytes. */
  readonly logKey: Uint8Array
  /** Protocol suites in order of preference, 1 to 8. */
  readonly suites: string[]
  /** Milliseconds, inclusive. */
  readonly notBefore: number
  /** Milliseconds, inclusive. */
  readonly notAfter: number
  /** Grows with every reissue; a lower one than the pinned is never accepted. */
  readonly sequence: number
  /** Root keys before `signKey`, oldest first, 1 to 8; absent while the first one is in use. */
  readonly succession?: SuccessionLink[]
}

export type ReadCertificate = FleetCertificate & {
  /** SHA-256 of the whole certificate, 32 bytes. */
  readonly digest: Uint8Array
}

export const CERTIFICATE_MAX_BYTES = 4096
/** Clocks of two fleets may differ this much. @see docs/spec/identity.md §2 */
export const CLOCK_SKEW_MS = 120_000
/** A certificate is reissued at least this often; five years bound what a lost root key can still vouch for. */
export const CERTIFICATE_MAX_LIFETIME_MS = 5 * 366 * 24 * 3_600_000

/** How often a fleet may replace its root key: bounds the size of a certificate and the work of its readers. */
export const MAX_SUCCESSION = 8

const DOMAIN = 'tallystick/certificate/v1'
const SUCCESSION = utf8('tallystick/succession/v1')
/** 14 entries in all, 8 PeerIds, 8 suites and 8 links of two fields come to 86. */
const PAYLOAD_ITEMS = 96

const outer = record({ payload: bytes(CERTIFICATE_MAX_BYTES), signature: fixedBytes(64) })
const inner = record({
  v: oneOf(1),
  domain: oneOf(DOMAIN),
  fleetId: fleetIdText,
  displayName: displayText(100),
  signKey: fixedBytes(32),
  dhKey: fixedBytes(32),
  peerIds: list(text(52), 1, 8),
  logKey: fixedBytes(32),
  suites: list(text(16, /^[A-Z][A-Z0-9-]{0,15}$/), 1, 8),
  notBefore: epochMs,
  notAfter: epochMs,
  sequence: integer(1),
  succession: optional(list(record({ key: fixedBytes(32), signature: fixedBytes(64) }), 1, MAX_SUCCESSION)),
})

function checked(value: unknown): FleetCertificate {
  const { v: _v, domain: _domain, ...certificate } = inner(value, 'certificate')
  if (new Set(certificate.peerIds).size !== certificate.peerIds.length) refuse('certificate.peerIds', 'PeerId twice')
  if (new Set(certificate.suites).size !== certificate.suites.length) refuse('certificate.suites', 'suite twice')
  if (certificate.notAfter <= certificate.notBefore) refuse('certificate.notAfter', 'not after notBefore')
  if (certificate.notAfter - certificate.notBefore > CERTIFICATE_MAX_LIFETIME_MS)
    refuse('certificate.notAfter', 'lifetime beyond five years')
  const keys = rootKeys(certificate)
  if (new Set(keys.map((key) => toHex(key))).size !== keys.length) refuse('certificate.succession', 'key twice')
  for (const peerId of certificate.peerIds) keyFromPeerId(peerId)
  return certificate
}

/** Every root key of the fleet, first to present. */
function rootKeys({ signKey, succession = [] }: Pick<FleetCertificate, 'signKey' | 'succession'>): Uint8Array[] {
  return [...succession.map(({ key }) => key), signKey]
}

/**
 * What a root key signs to name the one that takes its place.
 * @param next IK_sign, 32 bytes
 * @param fleetId digest of the fleet's first IK_sign
 * @see docs/spec/identity.md §5
 */
export function successionMessage(next: Uint8Array, fleetId: string): Uint8Array {
  const fleet = utf8(fleetId)
  const message = new Uint8Array(SUCCESSION.length + next.length + fleet.length)
  message.set(SUCCESSION)
  message.set(next, SUCCESSION.length)
  message.set(fleet, SUCCESSION.length + next.length)
  return message
}

/** @throws ProtocolError InvalidSignature: the fleet id is not that of the first key, or a key did not sign the next */
function checkSuccession(certificate: FleetCertificate): void {
  const keys = rootKeys(certificate)
  if (certificate.fleetId !== fleetIdOf(keys[0]!)) throw new ProtocolError('InvalidSignature', 'certificate: fleet id of another key')
  for (const [i, { key, signature }] of (certificate.succession ?? []).entries()) {
    if (!verify(key, successionMessage(keys[i + 1]!, certificate.fleetId), signature))
      throw new ProtocolError('InvalidSignature', `certificate: link ${i} of the succession does not verify`)
  }
}

/**
 * @param fields the fleet id follows from the first root key
 * @param sign Ed25519 with IK_sign over the given bytes, 64 bytes out
 * @returns the certificate, at most 4096 bytes
 * @throws ProtocolError Serialization, InvalidPeerId; InvalidSignature if `sign` does not belong to `signKey`, or a link of
 *   the succession does not verify
 * @see docs/spec/identity.md §2
 */
export function issueCertificate(fields: Omit<FleetCertificate, 'fleetId'>, sign: (message: Uint8Array) => Uint8Array): Uint8Array {
  const { displayName, signKey, dhKey, peerIds, logKey, suites, notBefore, notAfter, sequence, succession } = fields
  const value = {
    v: 1,
    domain: DOMAIN,
    fleetId: fleetIdOf(rootKeys(fields)[0]!),
    displayName,
    signKey,
    dhKey,
    peerIds,
    logKey,
    suites,
    notBefore,
    notAfter,
    sequence,
    ...(succession === undefined ? {} : { succession: succession.map(({ key, signature }) => ({ key, signature })) }),
  }
  checkSuccession(checked(value))
  const payload = encode(value)
  const signature = sign(payload)
  if (!verify(signKey, payload, signature)) throw new ProtocolError('InvalidSignature', 'certificate: signed with another key than signKey')
  const certificate = encode({ payload, signature })
  if (certificate.length > CERTIFICATE_MAX_BYTES) refuse('certificate', `more than ${CERTIFICATE_MAX_BYTES} bytes`)
  return certificate
}

/**
 * Decode and verify.
 * @param certificate at most 4096 bytes
 * @param now milliseconds: the instant at which the certificate must be valid, ± 120 s
 * @throws ProtocolError Serialization (form, bounds), UnsupportedVersion, InvalidPeerId, InvalidSignature (signature, link
 *   of the succession, or a fleet id of another key), ExpiredSignature (not yet or no longer valid)
 * @see docs/spec/identity.md §2
 */
export function readCertificate(certificate: Uint8Array, now: number): ReadCertificate {
  const { payload, signature } = outer(decode(certificate, { maxBytes: CERTIFICATE_MAX_BYTES, maxItems: 8 }), 'certificate')
  const value = decode(payload, { maxBytes: CERTIFICATE_MAX_BYTES, maxItems: PAYLOAD_ITEMS })
  const version = (value as { v?: unknown } | null)?.v
  if (typeof version === 'number' && version !== 1) throw new ProtocolError('UnsupportedVersion', `certificate version ${version}`)
  const fields = checked(value)
  checkSuccession(fields)
  if (!verify(fields.signKey, payload, signature)) throw new ProtocolError('InvalidSignature', 'certificate: signature does not verify')
  if (now < fields.notBefore - CLOCK_SKEW_MS) throw new ProtocolError('ExpiredSignature', 'certificate: not yet valid')
  if (now > fields.notAfter + CLOCK_SKEW_MS) throw new ProtocolError('ExpiredSignature', 'certificate: no longer valid')
  return { ...fields, digest: certificateDigest(certificate) }
}

/** SHA-256 of the certificate bytes. */
export function certificateDigest(certificate: Uint8Array): Uint8Array {
  return sha256(certificate)
}

/** Origin of a fleet's audit log: the key name in its checkpoints. @see docs/spec/audit-log.md §4 */
export function logOrigin(fleetId: string): string {
  return `tallystick/${fleetId}`
}

/** Verifier key of the fleet's audit log, for C2SP tools. */
export function logVkey(certificate: Pick<FleetCertificate, 'fleetId' | 'logKey'>): string {
  return encodeVkey(verifierKey(logOrigin(certificate.fleetId), certificate.logKey))
}

/** True when `key` is one of the root keys that this certificate says to have replaced. */
export function succeeds(certificate: Pick<FleetCertificate, 'succession'>, key: Uint8Array): boolean {
  return certificate.succession?.some((link) => equalConstantTime(link.key, key)) ?? false
}

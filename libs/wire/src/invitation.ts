/**
 * The invitation: what one operator pastes to another to pin a fleet. One line of lower-case base32, so that mail and
 * chat cannot break it and a QR code stays small.
 *
 * Only the certificate inside is signed. The addresses are hints: each names, at its end, a PeerId that the
 * certificate lists, so that a false address can only fail to connect. The checksum finds typing errors, nothing more.
 * @see docs/spec/identity.md §4
 */
import { concat, equalConstantTime, fromBase32Lower, toBase32Lower, utf8 } from '@tallystick/primitives/bytes'
import { ProtocolError } from '@tallystick/primitives/errors'
import { sha256 } from '@tallystick/primitives/hash'
import { decode, encode } from './cbor.js'
import { CERTIFICATE_MAX_BYTES, CLOCK_SKEW_MS, type ReadCertificate, readCertificate } from './certificate.js'
import { bytes, epochMs, list, oneOf, optional, record, refuse, text } from './shape.js'

const PREFIX = 'tally1'
const CHECKSUM_LABEL = utf8('tallystick/invitation/v1')
const CHECKSUM_BYTES = 4
export const INVITATION_MAX_CHARS = 16_384
const MAX_BYTES = 10_000

const shape = record({
  v: oneOf(1),
  certificate: bytes(CERTIFICATE_MAX_BYTES),
  multiaddrs: list(text(300, /^(\/[\x21-\x2e\x30-\x7e]+)+$/), 0, 16),
  expiresAt: optional(epochMs),
})

export interface Invitation {
  /** As signed; goes to `session.v1.pinPeer` unchanged. */
  readonly certificate: Uint8Array
  /** 0 to 16, each ending in `/p2p/<PeerId of the certificate>`. */
  readonly multiaddrs: string[]
  /** Milliseconds; absent: good until the certificate ends. */
  readonly expiresAt?: number
}

function checksum(payload: Uint8Array): Uint8Array {
  return sha256(CHECKSUM_LABEL, payload).slice(0, CHECKSUM_BYTES)
}

/** @throws ProtocolError Serialization */
export function encodeInvitation(invitation: Invitation): string {
  const { certificate, multiaddrs, expiresAt } = invitation
  const value = { v: 1, certificate, multiaddrs, ...(expiresAt === undefined ? {} : { expiresAt }) }
  shape(value, 'invitation')
  for (const address of multiaddrs)
    if (!/\/p2p\/[^/]+$/.test(address)) refuse('invitation.multiaddrs', 'an address does not end in /p2p/<PeerId>')
  const payload = encode(value)
  return PREFIX + toBase32Lower(concat(payload, checksum(payload)))
}

/**
 * White space anywhere and upper case are forgiven.
 * @param now milliseconds
 * @returns the invitation and the verified certificate in it as `fleet`
 * @throws ProtocolError Serialization (not an invitation, typing error), UnsupportedVersion, ExpiredSignature,
 *   InvalidSignature, InvalidPeerId (an address that leads to a PeerId the certificate does not list)
 * @see docs/spec/identity.md §4
 */
export function decodeInvitation(line: string, now: number): Invitation & { readonly fleet: ReadCertificate } {
  if (line.length > INVITATION_MAX_CHARS) refuse('invitation', `longer than ${INVITATION_MAX_CHARS} characters`)
  const compact = line.replaceAll(/\s+/g, '').toLowerCase()
  if (!compact.startsWith('tally')) refuse('invitation', `does not begin with ${PREFIX}`)
  if (!compact.startsWith(PREFIX)) throw new ProtocolError('UnsupportedVersion', 'invitation of another version')
  const raw = fromBase32Lower(compact.slice(PREFIX.length))
  const payload = raw.subarray(0, Math.max(0, raw.length - CHECKSUM_BYTES))
  if (!equalConstantTime(raw.subarray(payload.length), checksum(payload)))
    refuse('invitation', 'checksum does not match: mistyped or cut off')
  const { certificate, multiaddrs, expiresAt } = shape(decode(payload, { maxBytes: MAX_BYTES, maxItems: 64 }), 'invitation')
  if (expiresAt !== undefined && now > expiresAt + CLOCK_SKEW_MS) throw new ProtocolError('ExpiredSignature', 'invitation has expired')
  const fleet = readCertificate(certificate, now)
  for (const address of multiaddrs) {
    const peerId = /\/p2p\/([^/]+)$/.exec(address)?.[1]
    if (peerId === undefined || !fleet.peerIds.includes(peerId))
      throw new ProtocolError('InvalidPeerId', 'invitation: an address does not end in a PeerId of the certificate')
  }
  return { certificate, multiaddrs, ...(expiresAt === undefined ? {} : { expiresAt }), fleet }
}

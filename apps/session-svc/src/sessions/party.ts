/** Certificates into the two identities of a handshake. A fleet with several relays is named by the first PeerId of its certificate. */
import type { LocalIdentity, RemoteIdentity } from '@tallystick/ratchet/pqxdh'
import { readCertificate } from '@tallystick/wire/certificate'
import type { OwnCertificate } from '../identity/certificates.js'
import type { Identity } from '../identity/identity.js'

export function localParty(identity: Identity, certificate: OwnCertificate): LocalIdentity {
  return {
    dhSecret: identity.dhSecret,
    dhPublic: identity.dhKey,
    certificateDigest: certificate.digest,
    peerId: certificate.peerIds[0]!,
    fleetId: identity.fleetId,
  }
}

/**
 * @param certificate bytes of a certificate that is or was pinned
 * @throws ProtocolError ExpiredSignature when it is not valid now
 */
export function remoteParty(certificate: Uint8Array, now: number): RemoteIdentity {
  const { signKey, dhKey, digest, peerIds, fleetId } = readCertificate(certificate, now)
  return { signKey, dhPublic: dhKey, certificateDigest: digest, peerId: peerIds[0]!, fleetId }
}

// Two fleets that talk through libs/ratchet as session-svc does, without its database: sealed, encoded, decoded, opened,
// both states replaced at every message. Where states are kept is the caller's: in the arena, or sealed in a vault.
import { generateSigningKey, sign } from '@tallystick/primitives/ed25519'
import { generateKeyPair as generateKemKeyPair } from '@tallystick/primitives/mlkem1024'
import { systemRandom } from '@tallystick/primitives/random'
import { generateKeyPair } from '@tallystick/primitives/x25519'
import { decrypt, encrypt } from '@tallystick/ratchet/double-ratchet'
import { pqMessage, spkMessage } from '@tallystick/ratchet/labels'
import { initiate, respond } from '@tallystick/ratchet/pqxdh'
import { certificateDigest, fleetIdOf, issueCertificate, peerIdFromKey } from '@tallystick/wire/certificate'
import { decodeEnvelope } from '@tallystick/wire/envelope'

const SPK_ID = 1
const PQ_ID = 2
const OPK_ID = 3
const YEAR = 365 * 24 * 3_600_000

export function fleet(arena, name, now = Date.now()) {
  const signing = generateSigningKey(arena)
  const dh = generateKeyPair(arena)
  const peerId = peerIdFromKey(signing.publicKey)
  const certificate = issueCertificate(
    {
      displayName: name,
      signKey: signing.publicKey,
      dhKey: dh.publicKey,
      peerIds: [peerId],
      logKey: signing.publicKey,
      suites: ['TS1'],
      notBefore: now - 1,
      notAfter: now + YEAR,
      sequence: 1,
    },
    (message) => sign(signing.secret, message),
  )
  const fleetId = fleetIdOf(signing.publicKey)
  const identity = { dhPublic: dh.publicKey, certificateDigest: certificateDigest(certificate), peerId, fleetId }
  const spk = generateKeyPair(arena)
  const opk = generateKeyPair(arena)
  const pq = generateKemKeyPair(arena)
  return {
    self: { ...identity, dhSecret: dh.secret },
    remote: { ...identity, signKey: signing.publicKey },
    prekeys: { spk: spk.secret, spkPublic: spk.publicKey, pq: pq.secret, pqPublic: pq.publicKey, opk: opk.secret },
    /** What a peer is given to start a session with. */
    bundle: {
      certificate,
      spk: { id: SPK_ID, key: spk.publicKey, signature: sign(signing.secret, spkMessage(SPK_ID, spk.publicKey)) },
      opk: { id: OPK_ID, key: opk.publicKey },
      pq: {
        id: PQ_ID,
        key: pq.publicKey,
        signature: sign(signing.secret, pqMessage('one-time', PQ_ID, pq.publicKey)),
        kind: 'one-time',
      },
    },
  }
}

/** PQXDH, the first message and the answer. @returns both ends of a session past its first reply */
export function establish(arena, acme, globex, plaintext) {
  const { state, handshake } = initiate({
    arena,
    random: systemRandom,
    self: acme.self,
    peer: globex.remote,
    bundle: globex.bundle,
    epoch: 1,
  })
  const a = { arena, state }
  const b = accept(arena, globex, acme.remote, decodeEnvelope(seal(a, plaintext, handshake)))
  open(a, seal(b, plaintext))
  return { a, b }
}

/** @param {object} remote the initiator; @param {object} first its first envelope, decoded; @returns the responder's end */
export function accept(arena, { self, prekeys }, remote, first) {
  const { handshake, header } = first
  const end = { arena, ...respond({ arena, self, peer: remote, handshake, prekeys, epoch: header.epoch }) }
  openDecoded(end, first)
  return end
}

export function seal(end, plaintext, handshake) {
  const { state, envelope } = encrypt({
    arena: end.arena,
    random: systemRandom,
    state: end.state,
    plaintext,
    ...(handshake && { handshake }),
  })
  end.state.destroy()
  end.state = state
  return envelope
}

export function open(end, envelope) {
  return openDecoded(end, decodeEnvelope(envelope))
}

function openDecoded(end, envelope) {
  const { state, plaintext } = decrypt({ arena: end.arena, state: end.state, envelope, now: Date.now() })
  end.state.destroy()
  end.state = state
  return plaintext
}

/** One message from one end to the other. */
export function pass(from, to, plaintext) {
  return open(to, seal(from, plaintext))
}

/** The same, each end read from its vault before and written to it after. */
export function passThroughVaults(from, to, plaintext) {
  return throughVault(to, (receiver) =>
    open(
      receiver,
      throughVault(from, (sender) => seal(sender, plaintext)),
    ),
  )
}

/** @param {{ arena: unknown, vault: { readSecret(name: string): unknown, writeSecret(name: string, secret: unknown): void } }} end */
function throughVault({ arena, vault }, use) {
  const end = { arena, state: vault.readSecret('session') }
  try {
    const result = use(end)
    vault.writeSecret('session', end.state)
    return result
  } finally {
    end.state.destroy()
  }
}

// Seal and open of one message: the ratchet against a sealed box. Two conversations of the ratchet are measured, since
// they cost differently: a stream of messages one way (chain steps only), and turns (each message a step of the DH ratchet).
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { concat, utf8 } from '@tallystick/primitives/bytes'
import { generateSigningKey, sign } from '@tallystick/primitives/ed25519'
import { blake3Keyed, sha256 } from '@tallystick/primitives/hash'
import { generateKeyPair as generateKemKeyPair } from '@tallystick/primitives/mlkem1024'
import { systemRandom } from '@tallystick/primitives/random'
import { generateKeyPair } from '@tallystick/primitives/x25519'
import { decrypt, encrypt } from '@tallystick/ratchet/double-ratchet'
import { pqMessage, spkMessage } from '@tallystick/ratchet/labels'
import { initiate, respond } from '@tallystick/ratchet/pqxdh'
import { SecretArena } from '@tallystick/secret-bytes/arena'
import { decodeEnvelope } from '@tallystick/wire/envelope'
import { compare } from './interleave.mjs'
import { nobleSealedBox, sodiumSealedBox } from './sealed-box.mjs'

const SIZES = [
  ['2 KiB', 2 * 1024],
  ['256 KiB', 256 * 1024],
]

function fleet(arena, name) {
  const signing = generateSigningKey(arena)
  const dh = generateKeyPair(arena, systemRandom)
  const certificate = concat(utf8(`certificate of ${name} `), signing.publicKey, dh.publicKey)
  const identity = { dhPublic: dh.publicKey, certificateDigest: sha256(certificate), peerId: `peer-${name}`, fleetId: `fleet-${name}` }
  return {
    certificate,
    signing,
    self: { ...identity, dhSecret: dh.secret },
    remote: { ...identity, signKey: signing.publicKey },
    spk: generateKeyPair(arena, systemRandom),
    pq: generateKemKeyPair(arena),
  }
}

/** A session past its first reply: no message carries a handshake any more. */
function session(arena) {
  const acme = fleet(arena, 'acme')
  const globex = fleet(arena, 'globex')
  const bundle = {
    certificate: globex.certificate,
    spk: { id: 1, key: globex.spk.publicKey, signature: sign(globex.signing.secret, spkMessage(1, globex.spk.publicKey)) },
    pq: {
      id: 2,
      key: globex.pq.publicKey,
      signature: sign(globex.signing.secret, pqMessage('one-time', 2, globex.pq.publicKey)),
      kind: 'one-time',
    },
  }
  const { state, handshake } = initiate({ arena, random: systemRandom, self: acme.self, peer: globex.remote, bundle, epoch: 1 })
  const prekeys = { spk: globex.spk.secret, spkPublic: globex.spk.publicKey, pq: globex.pq.secret, pqPublic: globex.pq.publicKey }
  const answer = respond({ arena, self: globex.self, peer: acme.remote, handshake, prekeys, epoch: 1 })
  const a = { arena, state, handshake }
  const b = { arena, state: answer.state }
  pass(a, b, utf8('hello'))
  pass(b, a, utf8('hello'))
  delete a.handshake
  return { a, b }
}

/** One message: sealed, encoded, decoded, opened; both states replaced, as session-svc does (without its database). */
function pass(from, to, plaintext) {
  const { state: sent, envelope } = encrypt({
    arena: from.arena,
    random: systemRandom,
    state: from.state,
    plaintext,
    ...(from.handshake && { handshake: from.handshake }),
  })
  from.state.destroy()
  from.state = sent
  const opened = decrypt({ arena: to.arena, state: to.state, envelope: decodeEnvelope(envelope), now: Date.now() })
  to.state.destroy()
  to.state = opened.state
  return opened.plaintext
}

export function benchRatchet() {
  const arena = SecretArena.open(1024 * 1024, { allowUnlocked: true })
  for (const [name, size] of SIZES) {
    const payload = new Uint8Array(randomBytes(size))
    const stream = session(arena)
    const turns = session(arena)
    const native = sodiumSealedBox()
    const script = nobleSealedBox()
    const contenders = {
      'ratchet, one way': () => pass(stream.a, stream.b, payload),
      'ratchet, in turns': () => {
        const opened = pass(turns.a, turns.b, payload)
        ;[turns.a, turns.b] = [turns.b, turns.a]
        return opened
      },
      'sealed box, libsodium': () => native.open(native.seal(payload)),
      'sealed box, noble': () => script.open(script.seal(payload)),
    }
    for (const [who, call] of Object.entries(contenders)) assert.deepEqual(Buffer.from(call()), Buffer.from(payload), who)
    // Every message has its commitment made and checked: BLAKE3 is JavaScript, all else that grows with size is libsodium.
    const key = new Uint8Array(randomBytes(32))
    const commitment = () => [blake3Keyed(key, payload), blake3Keyed(key, payload)]
    compare(`seal and open, ${name}`, { ...contenders, 'keyed BLAKE3, twice': commitment }, { bytes: size })
  }
  arena.close()
}

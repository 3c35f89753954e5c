/** Two fleets with keys from a seed, and what tests do with them. Test support only. */
import { concat, u32be, utf8 } from '@tallystick/primitives/bytes'
import { generateSigningKey, sign } from '@tallystick/primitives/ed25519'
import { sha256 } from '@tallystick/primitives/hash'
import * as kem from '@tallystick/primitives/mlkem1024'
import type { RandomSource } from '@tallystick/primitives/random'
import * as x25519 from '@tallystick/primitives/x25519'
import { SecretArena, type SecretBytes, secretFrom, withSecret } from '@tallystick/secret-bytes/arena'
import type { Bundle } from '@tallystick/wire/bundle'
import { decodeEnvelope, type Handshake, type PrekeyKind } from '@tallystick/wire/envelope'
import { decrypt, type Decrypted, encrypt } from '../src/double-ratchet.js'
import { pqMessage, spkMessage } from '../src/labels.js'
import { initiate, type Initiated, type LocalIdentity, type RemoteIdentity, respond } from '../src/pqxdh.js'

/** SHA-256 in counter mode over a name: the fixed randomness of vectors and property tests. */
export function seededRandom(name: string): RandomSource {
  let counter = 0
  return (length) => {
    const blocks: Uint8Array[] = []
    for (let have = 0; have < length; have += 32) blocks.push(sha256(utf8(name), u32be(counter++)))
    return concat(...blocks).slice(0, length)
  }
}

/** 1 MiB: hundreds of states with a full store of kept keys would not fit, and none of these tests needs them at once. */
export function openArena(): SecretArena {
  return SecretArena.open(1024 * 1024, { allowUnlocked: true })
}

export function hexOf(secret: SecretBytes): string {
  return withSecret(secret, (bytes) => Buffer.from(bytes).toString('hex'))
}

export interface Fleet {
  readonly name: string
  readonly signSecret: SecretBytes
  readonly signKey: Uint8Array
  readonly certificate: Uint8Array
  readonly self: LocalIdentity
  readonly remote: RemoteIdentity
  readonly spk: x25519.KeyPair
  readonly pq: kem.KemKeyPair
  readonly opk: x25519.KeyPair
}

export function makeFleet(arena: SecretArena, name: string, seed = name): Fleet {
  const random = seededRandom(`fleet ${seed}`)
  const signing = generateSigningKey(arena, random(32))
  const dh = x25519.generateKeyPair(arena, random)
  // The ratchet only hashes the certificate; its form is the business of another library.
  const certificate = concat(utf8(`certificate of ${name} `), signing.publicKey, dh.publicKey)
  const identity = { dhPublic: dh.publicKey, certificateDigest: sha256(certificate), peerId: `peer-${name}`, fleetId: `fleet-${name}` }
  return {
    name,
    signSecret: signing.secret,
    signKey: signing.publicKey,
    certificate,
    self: { ...identity, dhSecret: dh.secret },
    remote: { ...identity, signKey: signing.publicKey },
    spk: x25519.generateKeyPair(arena, random),
    pq: kem.generateKeyPair(arena, random),
    opk: x25519.generateKeyPair(arena, random),
  }
}

export interface BundleOptions {
  readonly opk?: boolean
  readonly kind?: PrekeyKind
  readonly spkKey?: Uint8Array
  readonly opkKey?: Uint8Array
}

export const SPK_ID = 7
export const PQ_ID = 9
export const OPK_ID = 11

export function bundleOf(fleet: Fleet, options: BundleOptions = {}): Bundle {
  const kind = options.kind ?? 'one-time'
  const spkKey = options.spkKey ?? fleet.spk.publicKey
  return {
    certificate: fleet.certificate,
    spk: { id: SPK_ID, key: spkKey, signature: sign(fleet.signSecret, spkMessage(SPK_ID, spkKey)) },
    pq: { id: PQ_ID, key: fleet.pq.publicKey, signature: sign(fleet.signSecret, pqMessage(kind, PQ_ID, fleet.pq.publicKey)), kind },
    ...(options.opk === false ? {} : { opk: { id: OPK_ID, key: options.opkKey ?? fleet.opk.publicKey } }),
  }
}

export function start(
  arena: SecretArena,
  from: Fleet,
  to: Fleet,
  random: RandomSource,
  options: BundleOptions & { epoch?: number; salt?: SecretBytes; reset?: boolean } = {},
): Initiated {
  return initiate({
    arena,
    random,
    self: from.self,
    peer: to.remote,
    bundle: bundleOf(to, options),
    epoch: options.epoch ?? 0,
    encapsulation: (a, key) => kem.encapsulateWithCoins(a, key, random(32)),
    ...(options.salt === undefined ? {} : { salt: options.salt }),
    ...(options.reset === undefined ? {} : { reset: options.reset }),
  })
}

export function answer(
  arena: SecretArena,
  at: Fleet,
  from: Fleet,
  handshake: Handshake,
  options: { epoch?: number; salt?: SecretBytes } = {},
): { state: SecretBytes; sid: Uint8Array } {
  return respond({
    arena,
    self: at.self,
    peer: from.remote,
    handshake,
    epoch: options.epoch ?? 0,
    prekeys: {
      spk: at.spk.secret,
      spkPublic: at.spk.publicKey,
      pq: at.pq.secret,
      pqPublic: at.pq.publicKey,
      ...(handshake.opkId === undefined ? {} : { opk: at.opk.secret }),
    },
    ...(options.salt === undefined ? {} : { salt: options.salt }),
  })
}

/** One side of a session that replaces its state as the shell does: on success only. */
export class Side {
  readonly arena: SecretArena
  readonly random: RandomSource
  state: SecretBytes
  handshake: Handshake | undefined
  now = 1_700_000_000_000

  constructor(arena: SecretArena, random: RandomSource, state: SecretBytes, handshake?: Handshake) {
    this.arena = arena
    this.random = random
    this.state = state
    this.handshake = handshake
  }

  send(plaintext: Uint8Array): Uint8Array {
    const { arena, random, state, handshake } = this
    const result = encrypt({ arena, random, state, plaintext, ...(handshake === undefined ? {} : { handshake }) })
    this.replace(result.state)
    return result.envelope
  }

  receive(envelope: Uint8Array): Decrypted {
    const result = decrypt({ arena: this.arena, state: this.state, envelope: decodeEnvelope(envelope), now: this.now })
    this.replace(result.state)
    return result
  }

  /** What a restart does: the bytes go out of the arena and come back into it. */
  restart(): void {
    this.replace(
      secretFrom(
        this.arena,
        withSecret(this.state, (bytes) => bytes.slice()),
      ),
    )
  }

  replace(state: SecretBytes): void {
    this.state.destroy()
    this.state = state
  }
}

/** A session of which nothing has been sent yet: the initiator, and the responder as its handshake makes it. */
export function startPair(arena: SecretArena, seed = 'pair', options: BundleOptions = {}): { alice: Side; bob: Side; a: Fleet; b: Fleet } {
  const a = makeFleet(arena, 'acme')
  const b = makeFleet(arena, 'globex')
  const random = seededRandom(seed)
  const { state, handshake } = start(arena, a, b, random, options)
  const responder = answer(arena, b, a, handshake)
  return { a, b, alice: new Side(arena, random, state, handshake), bob: new Side(arena, random, responder.state) }
}

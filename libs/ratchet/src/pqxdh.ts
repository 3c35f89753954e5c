/**
 * PQXDH: the handshake that starts a session, or a new epoch when salted with the old one's exporter.
 * Written from Signal's PQXDH specification (revision 3); the differences are listed in docs/spec/session.md §3.5.
 * @see docs/spec/session.md §3, §4
 */
import { concat, u32be } from '@tallystick/primitives/bytes'
import { verify } from '@tallystick/primitives/ed25519'
import { ProtocolError } from '@tallystick/primitives/errors'
import { sha256 } from '@tallystick/primitives/hash'
import { hkdfSha256Into } from '@tallystick/primitives/kdf'
import { decapsulate, encapsulate, type Encapsulation } from '@tallystick/primitives/mlkem1024'
import type { RandomSource } from '@tallystick/primitives/random'
import { agreeInto, generateKeyPair, isCanonicalU, publicKeyOf } from '@tallystick/primitives/x25519'
import { type SecretArena, type SecretBytes, withSecret } from '@tallystick/secret-bytes/arena'
import type { Bundle } from '@tallystick/wire/bundle'
import { encodeHandshake, type Handshake, SID_BYTES } from '@tallystick/wire/envelope'
import { kdfRoot, nameExporter, withScratch } from './chains.js'
import { encodeEC, encodeKEM, encodeText, info, kindByte, label, pqMessage, spkMessage, suiteBytes } from './labels.js'
import { samePublic, stateLength, StateView } from './state.js'

export interface LocalIdentity {
  /** IK_dh, 32 bytes. */
  readonly dhSecret: SecretBytes
  readonly dhPublic: Uint8Array
  /** SHA-256 of this fleet's certificate. */
  readonly certificateDigest: Uint8Array
  readonly peerId: string
  readonly fleetId: string
}

/** From the pinned certificate, never from a message. */
export interface RemoteIdentity {
  readonly signKey: Uint8Array
  readonly dhPublic: Uint8Array
  readonly certificateDigest: Uint8Array
  readonly peerId: string
  readonly fleetId: string
}

export interface InitiateArgs {
  readonly arena: SecretArena
  readonly random: RandomSource
  readonly self: LocalIdentity
  readonly peer: RemoteIdentity
  readonly bundle: Bundle
  readonly epoch: number
  /** Exporter of the old session at a rotation; absent in a first session and in a reset. */
  readonly salt?: SecretBytes
  /** Starts over, whatever sessions there were. @see docs/spec/session.md §7.2 */
  readonly reset?: boolean
  /** Replaces the KEM's own randomness, for reproducible vectors. */
  readonly encapsulation?: (arena: SecretArena, publicKey: Uint8Array) => Encapsulation
}

export interface Initiated {
  /** Owned by the caller. */
  readonly state: SecretBytes
  readonly sid: Uint8Array
  /** To be repeated in front of each message until the first reply decrypts. */
  readonly handshake: Handshake
}

export interface RespondArgs {
  readonly arena: SecretArena
  readonly self: LocalIdentity
  readonly peer: RemoteIdentity
  readonly handshake: Handshake
  /** The private halves that the handshake names by id. */
  readonly prekeys: {
    readonly spk: SecretBytes
    readonly spkPublic: Uint8Array
    readonly pq: SecretBytes
    readonly pqPublic: Uint8Array
    readonly opk?: SecretBytes
  }
  readonly epoch: number
  readonly salt?: SecretBytes
}

/**
 * Starts a session from a peer's bundle.
 *
 * @throws ProtocolError IdentityChanged when the bundle's certificate is not the pinned one
 * @throws ProtocolError InvalidSignature when a prekey is not signed by the pinned key
 * @throws ProtocolError InvalidPublicKey for a non-canonical or low-order key of the bundle
 * @throws ProtocolError UnauthorizedPeer when the peer is this fleet itself
 * @throws ProtocolError Encryption for a reset with a salt: one of the two is a mistake
 * @see docs/spec/session.md §3.2
 */
export function initiate(args: InitiateArgs): Initiated {
  const { arena, random, self, peer, bundle } = args
  checkBundle(self, peer, bundle)
  if (args.reset === true && args.salt !== undefined) throw new ProtocolError('Encryption', 'a session that starts over continues nothing')
  const { spk, pq, opk } = bundle
  // Each of these may throw when the arena is full, and must then leave none of the others behind.
  const owned: SecretBytes[] = []
  try {
    const ephemeral = keep(owned, generateKeyPair(arena, random))
    const ratchet = keep(owned, generateKeyPair(arena, random))
    const kem = (args.encapsulation ?? encapsulate)(arena, pq.key)
    owned.push(kem.sharedSecret)
    const handshake: Handshake = {
      ek: ephemeral.publicKey,
      spkId: spk.id,
      pqId: pq.id,
      pqKind: pq.kind,
      ...(opk === undefined ? {} : { opkId: opk.id }),
      kemCiphertext: kem.ciphertext,
      certificateDigest: self.certificateDigest,
      ...(args.salt === undefined ? {} : { continuity: exporterName(args.salt) }),
      ...(args.reset === true ? { reset: true } : {}),
    }
    const transcript = transcriptOf({
      initiator: self,
      responder: peer,
      handshake,
      epoch: args.epoch,
      spkPublic: spk.key,
      pqPublic: pq.key,
      opkPublic: opk?.key,
    })
    const { sharedSecret } = kem
    const state = deriveState(
      args,
      handshake,
      transcript,
      (ikm) => {
        withSecret(self.dhSecret, (ik) => agreeInto(ikm.dh1, ik, spk.key))
        withSecret(ephemeral.secret, (ek) => {
          agreeInto(ikm.dh2, ek, peer.dhPublic)
          agreeInto(ikm.dh3, ek, spk.key)
          if (opk !== undefined) agreeInto(ikm.dh4!, ek, opk.key)
        })
        withSecret(sharedSecret, (ss) => ikm.ss.set(ss))
      },
      (view) => {
        view.set('initiator', true)
        view.set('ownKey', true)
        view.set('remoteKey', true)
        view.set('sending', true)
        withSecret(ratchet.secret, (key) => view.ownSecret.set(key))
        view.ownPublic.set(ratchet.publicKey)
        view.remote.set(spk.key)
        withScratch(arena, 64, (scratch) => {
          const exporter = scratch.subarray(32)
          agreeInto(scratch.subarray(0, 32), view.ownSecret, spk.key)
          kdfRoot(arena, view.root, scratch.subarray(0, 32), view.sendingChain, exporter)
          view.pushExporter('sent', exporter)
        })
      },
    )
    return { state, sid: sidOf(transcript), handshake }
  } finally {
    for (const secret of owned) secret.destroy()
  }
}

function keep<T extends { readonly secret: SecretBytes }>(owned: SecretBytes[], pair: T): T {
  owned.push(pair.secret)
  return pair
}

/**
 * Answers a handshake. The state is worth keeping only when the message that came with it decrypts.
 *
 * @throws ProtocolError Decryption for anything wrong with the handshake
 * @throws ProtocolError ContinuityBroken when it names an exporter that is not `salt`, or `salt` is given and it names none
 * @see docs/spec/session.md §3.3
 */
export function respond(args: RespondArgs): { state: SecretBytes; sid: Uint8Array } {
  const { arena, self, peer, handshake, prekeys } = args
  checkContinuity(handshake, args.salt)
  if (
    !samePublic(handshake.certificateDigest, peer.certificateDigest) ||
    (handshake.opkId === undefined) !== (prekeys.opk === undefined) ||
    samePublic(self.dhPublic, peer.dhPublic)
  ) {
    throw new ProtocolError('Decryption', 'cannot be decrypted')
  }
  const { opk } = prekeys
  let sharedSecret: SecretBytes | undefined
  try {
    const transcript = transcriptOf({
      initiator: peer,
      responder: self,
      handshake,
      epoch: args.epoch,
      spkPublic: prekeys.spkPublic,
      pqPublic: prekeys.pqPublic,
      opkPublic: opk === undefined ? undefined : publicKeyOf(opk),
    })
    const ss = (sharedSecret = decapsulate(arena, prekeys.pq, handshake.kemCiphertext))
    const state = deriveState(
      args,
      handshake,
      transcript,
      (ikm) => {
        withSecret(prekeys.spk, (spk) => {
          agreeInto(ikm.dh1, spk, peer.dhPublic)
          agreeInto(ikm.dh3, spk, handshake.ek)
        })
        withSecret(self.dhSecret, (ik) => agreeInto(ikm.dh2, ik, handshake.ek))
        if (opk !== undefined) withSecret(opk, (key) => agreeInto(ikm.dh4!, key, handshake.ek))
        withSecret(ss, (bytes) => ikm.ss.set(bytes))
      },
      (view) => {
        view.set('ownKey', true)
        withSecret(prekeys.spk, (key) => view.ownSecret.set(key))
        view.ownPublic.set(prekeys.spkPublic)
      },
    )
    return { state, sid: sidOf(transcript) }
  } catch (error) {
    if (error instanceof ProtocolError && error.code === 'InvalidPublicKey')
      throw new ProtocolError('Decryption', 'cannot be decrypted', { cause: error })
    throw error
  } finally {
    sharedSecret?.destroy()
  }
}

/**
 * Which of two handshakes that crossed each other both sides send on: the one with the lower EK. The other session
 * stays able to receive, so nothing that was sent on it is lost.
 * @returns true when `ours` wins
 * @see docs/spec/session.md §7
 */
export function winsOver(ours: Handshake, theirs: Handshake): boolean {
  for (let i = 0; i < 32; i++) if (ours.ek[i] !== theirs.ek[i]) return ours.ek[i]! < theirs.ek[i]!
  return false
}

/** Public name of an exporter: what a handshake carries instead of it. 32 bytes. @see docs/spec/session.md §7 */
export function exporterName(exporter: SecretBytes): Uint8Array {
  return withSecret(exporter, nameExporter)
}

interface KeyMaterial {
  readonly dh1: Uint8Array
  readonly dh2: Uint8Array
  readonly dh3: Uint8Array
  readonly dh4: Uint8Array | undefined
  readonly ss: Uint8Array
}

interface Transcript {
  readonly initiator: Pick<RemoteIdentity, 'dhPublic' | 'certificateDigest' | 'peerId' | 'fleetId'>
  readonly responder: Pick<RemoteIdentity, 'dhPublic' | 'certificateDigest' | 'peerId' | 'fleetId'>
  readonly handshake: Handshake
  readonly epoch: number
  readonly spkPublic: Uint8Array
  readonly pqPublic: Uint8Array
  readonly opkPublic: Uint8Array | undefined
}

/** AD of the handshake. @see docs/spec/session.md §3.4 */
function associatedData(t: Transcript): Uint8Array {
  return concat(
    encodeEC(t.initiator.dhPublic),
    encodeEC(t.responder.dhPublic),
    encodeKEM(t.pqPublic),
    t.initiator.certificateDigest,
    t.responder.certificateDigest,
    encodeText(t.initiator.fleetId),
    encodeText(t.responder.fleetId),
    encodeText(t.initiator.peerId),
    encodeText(t.responder.peerId),
    suiteBytes(),
  )
}

function transcriptOf(t: Transcript): Uint8Array {
  const { handshake: h } = t
  return sha256(
    label('handshake-transcript'),
    associatedData(t),
    u32be(t.epoch),
    encodeEC(h.ek),
    u32be(h.spkId),
    encodeEC(t.spkPublic),
    Uint8Array.of(kindByte(h.pqKind)),
    u32be(h.pqId),
    h.opkId === undefined || t.opkPublic === undefined ? Uint8Array.of(0) : concat(Uint8Array.of(1), u32be(h.opkId), encodeEC(t.opkPublic)),
    h.kemCiphertext,
    continuityPart(h),
  )
}

/** First session, continued session, or one that starts over: three different transcripts. */
function continuityPart({ continuity, reset }: Handshake): Uint8Array {
  if (reset === true) return Uint8Array.of(2)
  return continuity === undefined ? Uint8Array.of(0) : concat(Uint8Array.of(1), continuity)
}

function sidOf(transcript: Uint8Array): Uint8Array {
  return sha256(label('session-id'), transcript).slice(0, SID_BYTES)
}

/** SK into a new state's root; `finish` adds what differs between the two sides. Nothing is left behind on a throw. */
function deriveState(
  args: { arena: SecretArena; epoch: number; salt?: SecretBytes },
  handshake: Handshake,
  transcript: Uint8Array,
  fill: (ikm: KeyMaterial) => void,
  finish: (view: StateView) => void,
): SecretBytes {
  const { arena } = args
  const withOpk = handshake.opkId !== undefined
  const state = arena.allocate(stateLength(0))
  try {
    withSecret(state, (bytes) => {
      const view = StateView.blank(bytes)
      withScratch(arena, withOpk ? 192 : 160, (ikm) => {
        const part = (index: number): Uint8Array => ikm.subarray(32 * index, 32 * (index + 1))
        part(0).fill(0xff)
        fill({ dh1: part(1), dh2: part(2), dh3: part(3), dh4: withOpk ? part(4) : undefined, ss: part(withOpk ? 5 : 4) })
        const derive = (salt: Uint8Array): void => hkdfSha256Into(view.root, ikm, salt, info('pqxdh', transcript))
        if (args.salt === undefined) derive(new Uint8Array(32))
        else withSecret(args.salt, derive)
      })
      view.epoch = args.epoch
      view.sid.set(sidOf(transcript))
      view.transcript.set(transcript)
      view.handshakeDigest.set(sha256(encodeHandshake(handshake)))
      finish(view)
    })
    return state
  } catch (error) {
    state.destroy()
    throw error
  }
}

function checkBundle(self: LocalIdentity, peer: RemoteIdentity, bundle: Bundle): void {
  const { spk, pq, opk } = bundle
  if (samePublic(self.dhPublic, peer.dhPublic)) throw new ProtocolError('UnauthorizedPeer', 'a fleet has no session with itself')
  if (!samePublic(sha256(bundle.certificate), peer.certificateDigest))
    throw new ProtocolError('IdentityChanged', 'the bundle comes with another certificate than the pinned one')
  if (!verify(peer.signKey, spkMessage(spk.id, spk.key), spk.signature))
    throw new ProtocolError('InvalidSignature', 'signed prekey: the signature does not verify')
  if (!verify(peer.signKey, pqMessage(pq.kind, pq.id, pq.key), pq.signature))
    throw new ProtocolError('InvalidSignature', 'KEM prekey: the signature does not verify')
  for (const key of [peer.dhPublic, spk.key, ...(opk === undefined ? [] : [opk.key])]) {
    if (!isCanonicalU(key)) throw new ProtocolError('InvalidPublicKey', 'not a canonical X25519 public key')
  }
}

function checkContinuity(handshake: Handshake, salt: SecretBytes | undefined): void {
  const { continuity } = handshake
  if (
    (continuity === undefined) !== (salt === undefined) ||
    (salt !== undefined && continuity !== undefined && !samePublic(continuity, exporterName(salt)))
  ) {
    throw new ProtocolError('ContinuityBroken', 'the handshake does not continue the session at hand')
  }
}

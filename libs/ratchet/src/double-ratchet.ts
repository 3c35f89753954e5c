/**
 * The Double Ratchet as a functional core: a state goes in, a new state comes out, the old one is never touched.
 * Written from Signal's Double Ratchet specification, with deferred generation of ratchet keys (its §6.5): a reply's
 * key pair is made when the reply is sent, so decryption needs no randomness.
 * @see docs/spec/session.md §5, §6, §8
 */
import { concat } from '@tallystick/primitives/bytes'
import { ProtocolError } from '@tallystick/primitives/errors'
import { sha256 } from '@tallystick/primitives/hash'
import type { RandomSource } from '@tallystick/primitives/random'
import { agreeInto, generateKeyPair } from '@tallystick/primitives/x25519'
import { type SecretArena, type SecretBytes, withSecret } from '@tallystick/secret-bytes/arena'
import { encodeHandshake, type Envelope, type Handshake, type Header, SALT_BYTES, SUITE } from '@tallystick/wire/envelope'
import { layOutEnvelope } from '@tallystick/wire/envelope-layout'
import { kdfChain, kdfRoot, nameExporter, openMessage, sealedLength, sealMessageInto, withScratch } from './chains.js'
import { MAX_JUMP, MAX_MESSAGE_NUMBER, MAX_SKIPPED, MAX_SKIPPED_AGE_MS } from './limits.js'
import { samePublic, stateLength, StateView } from './state.js'

export interface EncryptArgs {
  readonly arena: SecretArena
  readonly random: RandomSource
  readonly state: SecretBytes
  /** Required of an initiator until the first reply has decrypted; ignored afterwards. */
  readonly handshake?: Handshake
  /** At most 4 MiB. */
  readonly plaintext: Uint8Array
}

export interface Encrypted {
  /** The advanced state, owned by the caller: durable before the envelope leaves the process. */
  readonly state: SecretBytes
  readonly envelope: Uint8Array
}

export interface DecryptArgs {
  readonly arena: SecretArena
  readonly state: SecretBytes
  readonly envelope: Envelope
  /** Milliseconds since 1970; dates kept keys and ages them out. */
  readonly now: number
}

export interface Decrypted {
  /** The advanced state, owned by the caller: committed together with the effect of the plaintext. */
  readonly state: SecretBytes
  /** Owned by the caller. */
  readonly plaintext: Uint8Array
  /** For metrics and audit: counts only. */
  readonly usedKeys: {
    /** A new ratchet key of the peer was taken in. */
    readonly dhStep: boolean
    /** Message keys put aside for messages that are still on their way. */
    readonly stored: number
    /** Kept keys that were evicted or aged out. */
    readonly dropped: number
    /** The key had been put aside earlier. */
    readonly fromStore: boolean
  }
}

export interface SessionDescription {
  readonly epoch: number
  readonly sid: Uint8Array
  readonly initiator: boolean
  /** A message of the peer has decrypted: the handshake need not be repeated any more. */
  readonly confirmed: boolean
  readonly sent: number
  readonly received: number
  /** Kept message keys. */
  readonly skipped: number
  /** False for a responder that has received nothing yet. */
  readonly canSend: boolean
  /** Name of the newest exporter that both sides have, or null. */
  readonly exporterHash: Uint8Array | null
}

/**
 * Encrypts one message. On a throw nothing has changed and nothing is left in the arena.
 *
 * @throws ProtocolError Encryption: nothing received yet by a responder, a missing or foreign handshake, more than 4 MiB
 * @throws ProtocolError EpochExpired when the chain has no message number left
 * @see docs/spec/session.md §5.3
 */
export function encrypt(args: EncryptArgs): Encrypted {
  const { arena, random, plaintext } = args
  const copy = arena.allocate(args.state.length)
  try {
    const envelope = withSecret(args.state, (old) =>
      withSecret(copy, (bytes) => {
        bytes.set(old)
        const view = new StateView(bytes)
        const handshakeBytes = handshakeFor(view, args.handshake)
        if (!view.has('sending')) startSendingChain(arena, random, view)
        if (view.ns >= MAX_MESSAGE_NUMBER) throw new ProtocolError('EpochExpired', 'the sending chain is used up')
        const header: Header = {
          v: 1,
          suite: SUITE,
          sid: view.sid.slice(),
          epoch: view.epoch,
          dh: view.ownPublic.slice(),
          pn: view.pn,
          n: view.ns,
          salt: random(SALT_BYTES),
        }
        const out = layOutEnvelope(header, handshakeBytes, sealedLength(plaintext))
        withScratch(arena, 32, (messageKey) => {
          kdfChain(view.sendingChain, messageKey)
          sealMessageInto(out, arena, messageKey, header.salt, messageAad(view, out.headerBytes, handshakeBytes), plaintext)
        })
        view.ns += 1
        view.sent += 1
        return out.bytes
      }),
    )
    return { state: copy, envelope }
  } catch (error) {
    copy.destroy()
    throw error
  }
}

/**
 * Decrypts one message on a copy. Keys are stored, and the state advanced, only in the state that is returned, and
 * that exists only after tag, padding and commitment fit; on a throw nothing has changed.
 *
 * @throws ProtocolError Decryption: whatever does not decrypt here, without saying why
 * @throws ProtocolError VerificationFailed: it decrypts and its commitment does not fit
 * @throws ProtocolError DuplicateMessage: this number of the current chain was received before
 * @throws ProtocolError TooManySkipped: a jump above 1000, refused before anything is derived
 * @see docs/spec/session.md §5.4
 */
export function decrypt(args: DecryptArgs): Decrypted {
  const { arena, envelope, now } = args
  return withSecret(args.state, (bytes) => {
    const old = new StateView(bytes)
    const plan = planFor(old, envelope)
    return withScratch(arena, WORK.bytes + 32 * (plan.old.count + plan.current.count), (scratch) => {
      const work = workspace(scratch)
      derive(arena, old, plan, envelope.header, work)
      const { header, headerBytes, handshakeBytes } = envelope
      const plaintext = openMessage(arena, work.messageKey, header.salt, messageAad(old, headerBytes, handshakeBytes), envelope)
      return { plaintext, ...advance(arena, old, plan, envelope.header, work, now) }
    })
  })
}

/** Public counters of a state. @throws ProtocolError KeyStorage(storeFailed) when the bytes are no state */
export function describe(state: SecretBytes): SessionDescription {
  return withSecret(state, (bytes) => {
    const view = new StateView(bytes)
    return {
      epoch: view.epoch,
      sid: view.sid.slice(),
      initiator: view.has('initiator'),
      confirmed: view.has('confirmed'),
      sent: view.sent,
      received: view.received,
      skipped: view.skippedCount,
      canSend: view.has('sending') || view.has('remoteKey'),
      exporterHash: acknowledgedExporterName(view),
    }
  })
}

/**
 * The newest exporter that the peer is known to have: the one of the last DH step that was received.
 * @returns 32 bytes in the arena, owned by the caller; the salt of the next epoch's handshake
 * @throws ProtocolError ContinuityBroken when nothing was received yet
 * @see docs/spec/session.md §7
 */
export function exporter(state: SecretBytes, arena: SecretArena): SecretBytes {
  const found = withSecret(state, (bytes) => acknowledgedExporterName(new StateView(bytes)))
  if (found === null) throw new ProtocolError('ContinuityBroken', 'this session has no exporter that the peer has, too')
  return exporterByName(state, arena, found)
}

/**
 * The exporter that a peer's handshake names.
 * @param name 32 bytes, `continuity` of the handshake
 * @throws ProtocolError ContinuityBroken when this session does not have it (any more)
 */
export function exporterByName(state: SecretBytes, arena: SecretArena, name: Uint8Array): SecretBytes {
  return withSecret(state, (bytes) => {
    for (const entry of new StateView(bytes).exporters()) {
      if (!samePublic(nameExporter(entry.exporter), name)) continue
      const copy = arena.allocate(32)
      withSecret(copy, (to) => to.set(entry.exporter))
      return copy
    }
    throw new ProtocolError('ContinuityBroken', 'the named exporter is not one of this session')
  })
}

function acknowledgedExporterName(view: StateView): Uint8Array | null {
  for (const { role, exporter: value } of view.exporters()) if (role === 'received') return nameExporter(value)
  return null
}

/** For the associated data of one message at a time, which is public: the transcript, a header, perhaps a handshake. */
const TRANSCRIPT_BYTES = 32
const aad = new Uint8Array(TRANSCRIPT_BYTES + 256 + 2048)

/** T ‖ header ‖ handshake: the transcript hash stands for AD. Valid until the next call. @see docs/spec/session.md §6.2 */
function messageAad(view: StateView, headerBytes: Uint8Array, handshakeBytes: Uint8Array): Uint8Array {
  const end = TRANSCRIPT_BYTES + headerBytes.length + handshakeBytes.length
  if (end > aad.length) return concat(view.transcript, headerBytes, handshakeBytes)
  aad.set(view.transcript)
  aad.set(headerBytes, TRANSCRIPT_BYTES)
  aad.set(handshakeBytes, TRANSCRIPT_BYTES + headerBytes.length)
  return aad.subarray(0, end)
}

function handshakeFor(view: StateView, handshake: Handshake | undefined): Uint8Array {
  if (!view.has('initiator') || view.has('confirmed')) return new Uint8Array(0)
  if (handshake === undefined) throw new ProtocolError('Encryption', 'the handshake must be repeated until the first reply')
  const bytes = encodeHandshake(handshake)
  if (!samePublic(sha256(bytes), view.handshakeDigest))
    throw new ProtocolError('Encryption', 'the handshake is not the one of this session')
  return bytes
}

/** The sending half of a DH step. @see docs/spec/session.md §5.3 */
function startSendingChain(arena: SecretArena, random: RandomSource, view: StateView): void {
  if (!view.has('remoteKey')) throw new ProtocolError('Encryption', 'nothing was received in this session yet')
  const pair = generateKeyPair(arena, random)
  try {
    withSecret(pair.secret, (key) => view.ownSecret.set(key))
    view.ownPublic.set(pair.publicKey)
    withScratch(arena, 64, (scratch) => {
      const shared = scratch.subarray(0, 32)
      const fresh = scratch.subarray(32)
      agreeInto(shared, view.ownSecret, view.remote)
      kdfRoot(arena, view.root, shared, view.sendingChain, fresh)
      view.pushExporter('sent', fresh)
    })
  } finally {
    pair.secret.destroy()
  }
  view.set('ownKey', true)
  view.set('sending', true)
  view.ns = 0
}

interface Run {
  /** Number of the first key to put aside. */
  readonly from: number
  readonly count: number
}
const NO_RUN: Run = { from: 0, count: 0 }

/** What a header asks for, decided from public values alone. */
interface Plan {
  readonly kind: 'stored' | 'chain' | 'step'
  /** Index of the kept key, for 'stored'. */
  readonly index: number
  /** Keys of the receiving chain that a DH step closes. */
  readonly old: Run
  /** Keys before this message in its own chain. */
  readonly current: Run
}

/** @see docs/spec/session.md §5.4, steps 1–4 */
function planFor(view: StateView, envelope: Envelope): Plan {
  const { header } = envelope
  if (!samePublic(header.sid, view.sid) || header.epoch !== view.epoch || header.n >= MAX_MESSAGE_NUMBER || !handshakeFits(view, envelope))
    return refuse()
  const index = view.findSkipped(header.dh, header.n)
  if (index >= 0) return { kind: 'stored', index, old: NO_RUN, current: NO_RUN }
  if (view.has('remoteKey') && samePublic(header.dh, view.remote)) {
    if (!view.has('receiving')) return refuse()
    if (header.n < view.nr) throw new ProtocolError('DuplicateMessage', 'this message was received before')
    return within({ kind: 'chain', index: -1, old: NO_RUN, current: { from: view.nr, count: header.n - view.nr } })
  }
  // Without an own ratchet key the peer cannot have answered one: there is no step to take.
  if (!view.has('ownKey')) return refuse()
  const received = view.has('receiving') ? view.nr : 0
  if (header.pn < received || (!view.has('receiving') && header.pn !== 0)) return refuse()
  return within({ kind: 'step', index: -1, old: { from: received, count: header.pn - received }, current: { from: 0, count: header.n } })
}

function within(plan: Plan): Plan {
  if (plan.old.count + plan.current.count > MAX_JUMP) throw new ProtocolError('TooManySkipped', `a jump above ${MAX_JUMP} messages`)
  return plan
}

/** Only a responder is sent handshakes, and only the one that its session began with. */
function handshakeFits(view: StateView, envelope: Envelope): boolean {
  if (envelope.handshakeBytes.length === 0) return true
  return !view.has('initiator') && samePublic(sha256(envelope.handshakeBytes), view.handshakeDigest)
}

function refuse(cause?: unknown): never {
  throw new ProtocolError('Decryption', 'cannot be decrypted', { cause })
}

/** Derived values on the way, all in one piece of the arena. */
const WORK = { bytes: 5 * 32 } as const
interface Workspace {
  readonly messageKey: Uint8Array
  readonly root: Uint8Array
  readonly chain: Uint8Array
  readonly exporter: Uint8Array
  readonly shared: Uint8Array
  /** Message keys to put aside: first those of the old chain, then those of the current one. */
  readonly skipped: Uint8Array
}

function workspace(bytes: Uint8Array): Workspace {
  const part = (index: number): Uint8Array => bytes.subarray(32 * index, 32 * (index + 1))
  return { messageKey: part(0), root: part(1), chain: part(2), exporter: part(3), shared: part(4), skipped: bytes.subarray(WORK.bytes) }
}

/** Everything up to the message key, without touching `old`. */
function derive(arena: SecretArena, old: StateView, plan: Plan, header: Header, work: Workspace): void {
  if (plan.kind === 'stored') {
    work.messageKey.set(old.skipped(plan.index).messageKey)
    return
  }
  let written = 0
  const putAside = (count: number): void => {
    for (let i = 0; i < count; i++, written++) kdfChain(work.chain, work.skipped.subarray(32 * written, 32 * (written + 1)))
  }
  work.root.set(old.root)
  if (old.has('receiving')) work.chain.set(old.receivingChain)
  if (plan.kind === 'step') {
    putAside(plan.old.count)
    try {
      agreeInto(work.shared, old.ownSecret, header.dh)
    } catch (error) {
      if (error instanceof ProtocolError && error.code === 'InvalidPublicKey') refuse(error)
      throw error
    }
    kdfRoot(arena, work.root, work.shared, work.chain, work.exporter)
  }
  putAside(plan.current.count)
  kdfChain(work.chain, work.messageKey)
}

/** Builds the next state. Called only after the message has been verified. */
function advance(
  arena: SecretArena,
  old: StateView,
  plan: Plan,
  header: Header,
  work: Workspace,
  now: number,
): Omit<Decrypted, 'plaintext'> {
  const kept: number[] = []
  for (let i = 0; i < old.skippedCount; i++) {
    if (i !== plan.index && now - old.skipped(i).storedAt <= MAX_SKIPPED_AGE_MS) kept.push(i)
  }
  const stored = plan.old.count + plan.current.count
  const evicted = Math.max(0, kept.length + stored - MAX_SKIPPED)
  const dropped = old.skippedCount - (plan.kind === 'stored' ? 1 : 0) - kept.length + evicted
  kept.splice(0, evicted)
  const storedAt = Math.max(0, Math.floor(now))

  const state = arena.allocate(stateLength(kept.length + stored))
  withSecret(state, (bytes) => {
    const view = StateView.successor(bytes, old, kept.length + stored)
    kept.forEach((from, to) => view.writeSkipped(to, old.skipped(from)))
    let at = kept.length
    const putAside = (dh: Uint8Array, run: Run, offset: number): void => {
      for (let i = 0; i < run.count; i++, at++) {
        view.writeSkipped(at, {
          dh,
          n: run.from + i,
          storedAt,
          messageKey: work.skipped.subarray(32 * (offset + i), 32 * (offset + i + 1)),
        })
      }
    }
    putAside(old.remote, plan.old, 0)
    putAside(header.dh, plan.current, plan.old.count)
    if (plan.kind === 'step') takeStep(view, header, work)
    if (plan.kind !== 'stored') {
      view.receivingChain.set(work.chain)
      view.nr = header.n + 1
    }
    view.set('confirmed', true)
    view.received += 1
  })
  return { state, usedKeys: { dhStep: plan.kind === 'step', stored, dropped, fromStore: plan.kind === 'stored' } }
}

/** The receiving half of a DH step: the own ratchet key has done its work and goes. @see docs/spec/session.md §5.4 */
function takeStep(view: StateView, header: Header, work: Workspace): void {
  view.root.set(work.root)
  view.remote.set(header.dh)
  view.pushExporter('received', work.exporter)
  view.pn = view.ns
  view.ns = 0
  view.sendingChain.fill(0)
  view.ownSecret.fill(0)
  view.ownPublic.fill(0)
  view.set('ownKey', false)
  view.set('sending', false)
  view.set('remoteKey', true)
  view.set('receiving', true)
}

/** Builds docs/spec/vectors/rotation.json from fixed randomness. @see docs/spec/session.md §7, §11 */
import { toHex, utf8 } from '@tallystick/primitives/bytes'
import * as kem from '@tallystick/primitives/mlkem1024'
import type { RandomSource } from '@tallystick/primitives/random'
import { type SecretArena, type SecretBytes, secretFrom, withSecret } from '@tallystick/secret-bytes/arena'
import { encodeBundle } from '@tallystick/wire/bundle'
import { decodeEnvelope, encodeEnvelope, encodeHandshake, encodeHeader, type Handshake } from '@tallystick/wire/envelope'
import { exporter } from '../src/double-ratchet.js'
import { initiate, winsOver } from '../src/pqxdh.js'
import { answer, bundleOf, type Fleet, makeFleet, seededRandom, Side } from './fixtures.js'
import * as oracle from './oracle.js'
import { type Base, describeResponder, type PqxdhCase, queueRandom, type RatchetStep, type VectorFile } from './vector-cases.js'

type Party = PqxdhCase['responder']

/** A session that `self` has when the case begins. */
export interface EarlierSession {
  readonly epoch: number
  /** Who sent its handshake. */
  readonly began: 'self' | 'peer'
  readonly givenUp: boolean
  readonly handshake: string
  /** For `began: "self"`: what `self` began it from. */
  readonly bundle?: string
  readonly ekSecret?: string
  readonly ratchetSecret?: string
  readonly coins?: string
  /** As `self` sees them. */
  readonly steps: readonly RatchetStep[]
}

export interface RotationCase extends Base {
  readonly do: 'answer' | 'begin' | 'cross'
  /** Names of `earlier`, in the order of their epochs. */
  readonly sessions: readonly string[]
  /** answer: first message of a new epoch, with its handshake. */
  readonly envelope?: string
  readonly now?: number
  readonly plaintext?: string
  /** begin: what the handshake is made from. */
  readonly reset?: boolean
  readonly bundle?: string
  readonly ekSecret?: string
  readonly ratchetSecret?: string
  readonly coins?: string
  /** Results of answer and begin. */
  readonly epoch?: number
  readonly handshake?: string
  readonly exporter?: string | null
  readonly transcript?: string
  readonly sid?: string
  readonly sk?: string
  /** cross: two handshakes of one epoch, or of two resets; the side to send on. */
  readonly ours?: { readonly epoch: number; readonly handshake: string }
  readonly theirs?: { readonly epoch: number; readonly handshake: string }
  readonly winner?: 'ours' | 'theirs'
}

export interface RotationFile extends VectorFile<RotationCase> {
  readonly self: Party
  readonly peer: Party
  readonly earlier: Readonly<Record<string, EarlierSession>>
}

const NOW = 1_700_000_000_000

/** An earlier session, played from both ends and written down from `self`'s. */
class Talk {
  readonly self: Side
  readonly peer: Side
  readonly steps: RatchetStep[] = []
  /** Exporters as the second implementation derives them, oldest first. */
  readonly exporters: Uint8Array[] = []
  readonly name: string
  readonly epoch: number
  readonly began: 'self' | 'peer'
  givenUp = false
  readonly #handshake: Handshake
  readonly #material: Partial<EarlierSession>
  readonly #random: RandomSource
  #root: Uint8Array
  /** Ratchet keys of the newest step: the private one, and the public one of the other side. */
  #newest: { readonly by: 'self' | 'peer'; readonly secret: Uint8Array }

  constructor(arena: SecretArena, self: Fleet, peer: Fleet, name: string, epoch: number, began: 'self' | 'peer') {
    this.#random = seededRandom(`rotation ${name}`)
    this.name = name
    this.epoch = epoch
    this.began = began
    const [from, to] = began === 'self' ? [self, peer] : [peer, self]
    const [ek, ratchet, coins] = [this.#random(32), this.#random(32), this.#random(32)]
    const bundle = bundleOf(to)
    const { state, handshake } = initiate({
      arena,
      random: queueRandom(ek, ratchet),
      self: from.self,
      peer: to.remote,
      bundle,
      epoch,
      encapsulation: (at, key) => kem.encapsulateWithCoins(at, key, coins),
    })
    const initiator = new Side(arena, this.#random, state, handshake)
    const responder = new Side(arena, this.#random, answer(arena, to, from, handshake, { epoch }).state)
    ;[this.self, this.peer] = began === 'self' ? [initiator, responder] : [responder, initiator]
    this.#handshake = handshake
    this.#material =
      began === 'peer'
        ? {}
        : { bundle: toHex(encodeBundle(bundle)), ekSecret: toHex(ek), ratchetSecret: toHex(ratchet), coins: toHex(coins) }
    this.#root = sessionOf(from, to, handshake, epoch).sk
    this.#newest = { by: began === 'self' ? 'peer' : 'self', secret: secretBytes(to.spk.secret) }
    this.#step(began, ratchet)
  }

  /** One message in each direction or the other; `self`'s part of it becomes a step. */
  say(by: 'self' | 'peer', text: string): this {
    const turns = this.#newest.by !== by
    const values = turns ? [this.#random(32), this.#random(32)] : [this.#random(32)]
    if (turns) this.#step(by, values[0]!)
    const plaintext = toHex(utf8(text))
    const from = this[by]
    const sender = new Side(from.arena, queueRandom(...values), from.state, from.handshake)
    const envelope = sender.send(utf8(text))
    from.state = sender.state
    const common = { comment: text, expect: 'ok', envelope: toHex(envelope), plaintext }
    this.steps.push(by === 'self' ? { do: 'seal', ...common, random: values.map(toHex) } : { do: 'open', ...common, now: NOW })
    const to = by === 'self' ? this.peer : this.self
    to.receive(envelope)
    return this
  }

  asSession(): EarlierSession {
    const { epoch, began, givenUp, steps } = this
    return { epoch, began, givenUp, handshake: toHex(encodeHandshake(this.#handshake)), ...this.#material, steps }
  }

  #step(by: 'self' | 'peer', secret: Uint8Array): void {
    const next = oracle.kdfRoot(this.#root, oracle.x25519.getSharedSecret(secret, oracle.x25519.getPublicKey(this.#newest.secret)))
    this.#root = next.root
    this.exporters.push(next.exporter)
    this.#newest = { by, secret }
  }
}

const secretBytes = (secret: SecretBytes): Uint8Array => withSecret(secret, (view) => view.slice())

/** T, sid and SK of a handshake, by the second implementation. */
function sessionOf(
  from: Fleet,
  to: Fleet,
  handshake: Handshake,
  epoch: number,
  salt?: Uint8Array,
): { transcript: Uint8Array; sid: Uint8Array; sk: Uint8Array } {
  const transcript = oracle.transcript({
    initiator: { ...from.self, ikPublic: from.self.dhPublic },
    responder: { ...to.self, ikPublic: to.self.dhPublic },
    handshake,
    epoch,
    spkPublic: to.spk.publicKey,
    pqPublic: to.pq.publicKey,
    opkPublic: handshake.opkId === undefined ? undefined : to.opk.publicKey,
  })
  const keys = { ikSecret: secretBytes(to.self.dhSecret), spkSecret: secretBytes(to.spk.secret), pqSeed: secretBytes(to.pq.secret) }
  const withOpk = handshake.opkId === undefined ? keys : { ...keys, opkSecret: secretBytes(to.opk.secret) }
  return { transcript, sid: oracle.sid(transcript), sk: oracle.sessionKey(transcript, withOpk, from.self.dhPublic, handshake, salt) }
}

interface NewEpoch {
  readonly epoch: number
  readonly salt?: Uint8Array
  readonly reset?: boolean
  /** Changes the first envelope after it was made. */
  readonly change?: (envelope: Uint8Array) => Uint8Array
}

export function rotationVectors(arena: SecretArena): RotationFile {
  const [self, peer] = [makeFleet(arena, 'acme', 'vectors acme'), makeFleet(arena, 'globex', 'vectors globex')]
  const cases: RotationCase[] = []
  const earlier: Record<string, EarlierSession> = {}
  const named = (talks: readonly Talk[]): string[] =>
    talks.map((one) => {
      earlier[one.name] = one.asSession()
      return one.name
    })
  const talk = (name: string, epoch = 1, began: 'self' | 'peer' = 'peer'): Talk => new Talk(arena, self, peer, name, epoch, began)
  const random = seededRandom('rotation')

  const begin = (from: Fleet, to: Fleet, options: NewEpoch, coins = random(32)): ReturnType<typeof initiate> => {
    const salt = options.salt === undefined ? undefined : secretFrom(arena, options.salt.slice())
    try {
      return initiate({
        arena,
        random,
        self: from.self,
        peer: to.remote,
        bundle: bundleOf(to),
        epoch: options.epoch,
        encapsulation: (at, key) => kem.encapsulateWithCoins(at, key, coins),
        ...(salt === undefined ? {} : { salt }),
        ...(options.reset ? { reset: true } : {}),
      })
    } finally {
      salt?.destroy()
    }
  }
  /** The peer begins an epoch; `self` answers or refuses. */
  const answered = (id: string, comment: string, expect: string, talks: readonly Talk[], options: NewEpoch): void => {
    const { state, handshake } = begin(peer, self, options)
    const side = new Side(arena, random, state, handshake)
    const made = side.send(utf8(comment))
    side.state.destroy()
    const envelope = options.change === undefined ? made : options.change(made)
    const input = { id, comment, do: 'answer', expect, sessions: named(talks), envelope: toHex(envelope), now: NOW } as const
    if (expect !== 'ok') return void cases.push(input)
    const { transcript, sid, sk } = sessionOf(peer, self, handshake, options.epoch, options.salt)
    cases.push({
      ...input,
      plaintext: toHex(utf8(comment)),
      epoch: options.epoch,
      handshake: toHex(encodeHandshake(handshake)),
      exporter: options.salt === undefined ? null : toHex(options.salt),
      transcript: toHex(transcript),
      sid: toHex(sid),
      sk: toHex(sk),
    })
  }
  const withHandshake = (change: (handshake: Handshake) => Handshake) => (envelope: Uint8Array) => {
    const decoded = decodeEnvelope(envelope)
    return encodeEnvelope({ ...decoded, handshakeBytes: encodeHandshake(change(decoded.handshake!)) })
  }

  const both = talk('both').say('peer', 'first').say('self', 'answer').say('peer', 'more')
  const newest = both.exporters[1]!
  answered('continued', 'the newest exporter that the peer received', 'ok', [both], { epoch: 2, salt: newest })
  answered('own', 'the exporter of the peer’s own last step', 'ok', [both], { epoch: 2, salt: both.exporters[2]! })
  const began = talk('began', 6, 'self').say('self', 'first').say('peer', 'answer')
  answered('began-by-self', 'continues a session whose handshake came from this side', 'ok', [began], {
    epoch: 7,
    salt: began.exporters[0]!,
  })
  const long = talk('long').say('peer', 'a').say('self', 'b').say('peer', 'c').say('self', 'd').say('peer', 'e')
  answered('fourth-exporter', 'the oldest exporter that is still kept', 'ok', [long], { epoch: 2, salt: long.exporters[1]! })
  answered('fifth-exporter', 'an exporter that is kept no longer', 'ContinuityBroken', [long], { epoch: 2, salt: long.exporters[0]! })
  answered('unknown-exporter', 'an exporter of no session at hand', 'ContinuityBroken', [both], { epoch: 2, salt: random(32) })
  answered('no-continuity', 'names none although this side has sent', 'ContinuityBroken', [both], { epoch: 2 })
  const silent = talk('silent').say('peer', 'first').say('peer', 'second')
  answered('silent', 'names none, and this side has sent nothing', 'ok', [silent], { epoch: 2 })
  const lost = talk('lost').say('peer', 'first')
  lost.givenUp = true
  answered('silent-given-up', 'the same, but the session was given up', 'ContinuityBroken', [lost], { epoch: 2 })
  answered('first', 'a first session', 'ok', [], { epoch: 1 })
  answered('first-again', 'a second first session of the same peer', 'ContinuityBroken', [silent], { epoch: 1 })
  const unanswered = talk('unanswered', 1, 'self')
  answered('crossed-first', 'a first session that crosses one of this side', 'ok', [unanswered], { epoch: 1 })
  answered('nothing-expected', 'names an exporter where there is no session', 'ContinuityBroken', [], { epoch: 1, salt: newest })
  answered('no-state', 'an epoch whose predecessor has no state here', 'ContinuityBroken', [began], { epoch: 6, salt: newest })
  answered('skipped-epoch', 'an epoch too far', 'NotReady', [both], { epoch: 3, salt: newest })
  answered('old-epoch', 'an epoch that is over', 'ContinuityBroken', [both, talk('next', 2).say('peer', 'two')], { epoch: 1 })
  answered('continuity-bit', 'one bit of the name changed', 'ContinuityBroken', [both], {
    epoch: 2,
    salt: newest,
    change: withHandshake((h) => ({ ...h, continuity: h.continuity!.map((byte, i) => (i === 31 ? byte ^ 1 : byte)) })),
  })
  answered('continuity-swapped', 'the name of another exporter that is kept', 'Decryption', [both], {
    epoch: 2,
    salt: newest,
    change: withHandshake((h) => ({ ...h, continuity: oracle.exporterName(both.exporters[2]!) })),
  })
  answered('continuity-removed', 'a rotation without its name, to a side that has sent nothing', 'Decryption', [silent], {
    epoch: 2,
    salt: silent.exporters[0]!,
    change: withHandshake(({ continuity: _, ...h }) => h),
  })
  answered('swapped-epoch', 'made for epoch 3, sent as epoch 2', 'Decryption', [both], {
    epoch: 3,
    salt: newest,
    change: (envelope) => {
      const decoded = decodeEnvelope(envelope)
      return encodeEnvelope({ ...decoded, headerBytes: encodeHeader({ ...decoded.header, epoch: 2 }) })
    },
  })

  answered('reset', 'starts over after two epochs', 'ok', [both], { epoch: 3, reset: true })
  answered('reset-next', 'starts over in the next epoch', 'ok', [both], { epoch: 2, reset: true })
  answered('reset-no-state', 'starts over where nothing is left', 'ok', [], { epoch: 9, reset: true })
  answered('reset-farthest', 'the farthest epoch', 'ok', [both], { epoch: 2 ** 20 + 2, reset: true })
  answered('reset-too-far', 'one epoch farther', 'ContinuityBroken', [both], { epoch: 2 ** 20 + 3, reset: true })
  answered('reset-crossed', 'crosses a rotation of this side', 'ok', [both, talk('ahead', 2, 'self')], { epoch: 2, reset: true })
  answered('reset-same-epoch', 'an epoch that both sides have', 'ContinuityBroken', [both], { epoch: 1, reset: true })
  answered('reset-old-epoch', 'an epoch before that', 'ContinuityBroken', [began], { epoch: 5, reset: true })
  answered('reset-removed', 'the field taken away, to a side that has sent nothing', 'Decryption', [silent], {
    epoch: 2,
    reset: true,
    change: withHandshake(({ reset: _, ...h }) => h),
  })
  answered('reset-added', 'the field added to a handshake that continues nothing', 'Decryption', [silent], {
    epoch: 2,
    change: withHandshake((h) => ({ ...h, reset: true })),
  })
  answered('reset-for-continuity', 'the field in place of the name', 'Decryption', [both], {
    epoch: 2,
    salt: newest,
    change: withHandshake(({ continuity: _, ...h }) => ({ ...h, reset: true })),
  })

  /** `self` begins an epoch from the newest of its sessions. */
  const begun = (id: string, comment: string, expect: string, talks: readonly Talk[], hint?: number): void => {
    const reset = hint !== undefined
    const [ekSecret, ratchetSecret, coins] = [random(32), random(32), random(32)]
    const bundle = { ...bundleOf(peer), ...(hint === undefined || hint === 0 ? {} : { epoch: hint }) }
    const material = {
      bundle: toHex(encodeBundle(bundle)),
      ekSecret: toHex(ekSecret),
      ratchetSecret: toHex(ratchetSecret),
      coins: toHex(coins),
    }
    const input = { id, comment, do: 'begin', expect, sessions: named(talks), reset, ...material } as const
    if (expect !== 'ok') return void cases.push(input)
    const own = Math.max(0, ...talks.map(({ epoch }) => epoch))
    const epoch = Math.max(own, hint ?? 0) + 1
    const salt = reset ? undefined : exporter(talks.at(-1)!.self.state, arena)
    const { state, handshake } = initiate({
      arena,
      random: queueRandom(ekSecret, ratchetSecret),
      self: self.self,
      peer: peer.remote,
      bundle,
      epoch,
      encapsulation: (at, key) => kem.encapsulateWithCoins(at, key, coins),
      ...(salt === undefined ? { reset: true } : { salt }),
    })
    state.destroy()
    salt?.destroy()
    // By the second implementation: the exporter of the last step that came from the peer.
    const value = reset ? undefined : lastReceived(talks.at(-1)!)
    if (value !== undefined && toHex(handshake.continuity!) !== toHex(oracle.exporterName(value)))
      throw new Error(`${id}: another exporter`)
    const { transcript, sid, sk } = sessionOf(self, peer, handshake, epoch, value)
    cases.push({
      ...input,
      epoch,
      handshake: toHex(encodeHandshake(handshake)),
      exporter: value === undefined ? null : toHex(value),
      transcript: toHex(transcript),
      sid: toHex(sid),
      sk: toHex(sk),
    })
  }
  begun('begin', 'with the exporter of the peer’s last step', 'ok', [both])
  begun('begin-from-own', 'from a session that this side began', 'ok', [began])
  begun('begin-unanswered', 'nothing of the peer has come in the session', 'ContinuityBroken', [unanswered])
  begun('begin-reset', 'starts over, no epoch in the bundle', 'ok', [both], 0)
  begun('begin-reset-hint', 'starts over above the epoch in the bundle', 'ok', [both], 41)
  begun('begin-reset-low-hint', 'the own epochs are higher than that of the bundle', 'ok', [began], 2)
  begun('begin-reset-farthest', 'the farthest epoch that a bundle may name', 'ok', [both], 2 ** 20 + 1)
  begun('begin-reset-too-far', 'one epoch farther', 'VerificationFailed', [both], 2 ** 20 + 2)

  const cross = (id: string, comment: string, ours: NewEpoch, theirs: NewEpoch, lower: 'ours' | 'theirs'): void => {
    let pair = [begin(self, peer, ours), begin(peer, self, theirs)] as const
    while (winsOver(pair[0].handshake, pair[1].handshake) !== (lower === 'ours')) {
      for (const { state } of pair) state.destroy()
      pair = [begin(self, peer, ours), begin(peer, self, theirs)]
    }
    for (const { state } of pair) state.destroy()
    const [a, b] = pair.map(({ handshake }, i) => ({ epoch: [ours, theirs][i]!.epoch, handshake: toHex(encodeHandshake(handshake)) }))
    const winner = ours.epoch === theirs.epoch ? lower : ours.epoch > theirs.epoch ? 'ours' : 'theirs'
    cases.push({ id, comment, do: 'cross', expect: 'ok', sessions: [], ours: a!, theirs: b!, winner })
  }
  cross(
    'cross-lower',
    'rotations of both sides, the lower EK is this side’s',
    { epoch: 2, salt: newest },
    { epoch: 2, salt: newest },
    'ours',
  )
  cross('cross-higher', 'the lower EK is the peer’s', { epoch: 2, salt: newest }, { epoch: 2, salt: newest }, 'theirs')
  cross(
    'cross-resets',
    'resets of different epochs, the lower EK is the peer’s',
    { epoch: 5, reset: true },
    { epoch: 4, reset: true },
    'theirs',
  )

  const parties = { self: describeResponder(self), peer: describeResponder(peer) }
  return { format: 'tallystick/vectors/rotation/v1', suite: 'TS1', ...parties, earlier, cases }
}

/** Steps alternate between the sides, and the first is the initiator's. */
function lastReceived(of: Talk): Uint8Array {
  const last = of.exporters.length - 1
  const mine = (index: number): boolean => (of.began === 'self') === (index % 2 === 0)
  return of.exporters[mine(last) ? last - 1 : last]!
}

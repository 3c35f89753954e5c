/** Builds the vectors of docs/spec/vectors from fixed randomness. @see docs/spec/session.md §11 */
import { concat, fromHex, toHex, u32be, utf8 } from '@tallystick/primitives/bytes'
import * as kem from '@tallystick/primitives/mlkem1024'
import type { RandomSource } from '@tallystick/primitives/random'
import { type SecretArena, type SecretBytes, secretFrom, withSecret } from '@tallystick/secret-bytes/arena'
import { type Bundle, encodeBundle } from '@tallystick/wire/bundle'
import { encode } from '@tallystick/wire/cbor'
import { decodeEnvelope, encodeEnvelope, encodeHandshake, encodeHeader, type Handshake, type Header } from '@tallystick/wire/envelope'
import { initiate } from '../src/pqxdh.js'
import { answer, bundleOf, type Fleet, makeFleet, seededRandom, Side } from './fixtures.js'
import * as oracle from './oracle.js'

export interface VectorFile<C> {
  readonly format: string
  readonly suite: 'TS1'
  readonly cases: readonly C[]
}
export interface Base {
  readonly id: string
  readonly comment: string
  readonly expect: string
}

export interface PqxdhCase extends Base {
  readonly side: 'both' | 'initiator' | 'responder'
  readonly initiator: Record<'ikSecret' | 'ikPublic' | 'certificateDigest' | 'peerId' | 'fleetId', string>
  readonly responder: Record<
    'ikSecret' | 'ikPublic' | 'certificateDigest' | 'peerId' | 'fleetId' | 'signKey' | 'spkSecret' | 'pqSeed' | 'opkSecret',
    string
  >
  readonly epoch: number
  readonly exporter: string | null
  /** The handshake starts over. */
  readonly reset?: boolean
  readonly bundle?: string
  readonly ekSecret?: string
  readonly ratchetSecret?: string
  readonly coins?: string
  readonly handshake?: string
  readonly transcript?: string
  readonly sid?: string
  readonly sk?: string
}

export interface RatchetStep {
  readonly do: 'open' | 'seal'
  readonly comment: string
  readonly expect: string
  readonly envelope: string
  readonly now?: number
  readonly plaintext?: string
  /** For `seal`: what the random source gives, in order (a ratchet key when a new chain begins, then the salt). */
  readonly random?: string[]
}
export interface RatchetCase extends Base {
  readonly initiator: PqxdhCase['initiator']
  readonly responder: PqxdhCase['responder']
  readonly epoch: number
  readonly handshake: string
  readonly steps: readonly RatchetStep[]
}
export interface EnvelopeCase extends Base {
  readonly kind: 'envelope' | 'bundle'
  readonly bytes: string
}
export interface PrimitiveCase extends Base {
  readonly op: 'kdfRoot' | 'kdfChain' | 'sealMessage' | 'openMessage'
  readonly input: Record<string, string>
  readonly output?: Record<string, string>
}

const hexSecret = (secret: SecretBytes): string => withSecret(secret, toHex)

function describeInitiator(fleet: Fleet): PqxdhCase['initiator'] {
  const { dhSecret, dhPublic, certificateDigest, peerId, fleetId } = fleet.self
  return { ikSecret: hexSecret(dhSecret), ikPublic: toHex(dhPublic), certificateDigest: toHex(certificateDigest), peerId, fleetId }
}
export function describeResponder(fleet: Fleet): PqxdhCase['responder'] {
  return {
    ...describeInitiator(fleet),
    signKey: toHex(fleet.signKey),
    spkSecret: hexSecret(fleet.spk.secret),
    pqSeed: hexSecret(fleet.pq.secret),
    opkSecret: hexSecret(fleet.opk.secret),
  }
}

/** Gives what it is told, in order, and remembers nothing else. */
export function queueRandom(...values: Uint8Array[]): RandomSource {
  return (length) => {
    const next = values.shift()
    if (next?.length !== length) throw new Error('the vector has no such random value')
    return next.slice()
  }
}

const ZERO_U = new Uint8Array(32)
const NON_CANONICAL_U = concat(Uint8Array.of(0xf6), new Uint8Array(30).fill(0xff), Uint8Array.of(0x7f))

export function pqxdhVectors(arena: SecretArena): VectorFile<PqxdhCase> {
  const [a, b] = [makeFleet(arena, 'acme', 'vectors acme'), makeFleet(arena, 'globex', 'vectors globex')]
  const cases: PqxdhCase[] = []
  const parties = { initiator: describeInitiator(a), responder: describeResponder(b) }

  function success(
    id: string,
    comment: string,
    options: { opk: boolean; kind: 'one-time' | 'last-resort'; epoch: number; exporter?: Uint8Array; reset?: true },
  ): Handshake {
    const random = seededRandom(`pqxdh ${id}`)
    const [ek, ratchet, coins] = [random(32), random(32), random(32)]
    const bundle = bundleOf(b, options)
    const salt = options.exporter === undefined ? undefined : secretFrom(arena, options.exporter.slice())
    const { state, handshake } = initiate({
      arena,
      random: queueRandom(ek, ratchet),
      self: a.self,
      peer: b.remote,
      bundle,
      epoch: options.epoch,
      encapsulation: (at, key) => kem.encapsulateWithCoins(at, key, coins),
      ...(salt === undefined ? {} : { salt }),
      ...(options.reset === undefined ? {} : { reset: options.reset }),
    })
    state.destroy()
    const transcript = oracle.transcript({
      initiator: { ...a.self, ikPublic: a.self.dhPublic },
      responder: { ...b.self, ikPublic: b.self.dhPublic },
      handshake,
      epoch: options.epoch,
      spkPublic: bundle.spk.key,
      pqPublic: bundle.pq.key,
      opkPublic: bundle.opk?.key,
    })
    const bytes = (secret: SecretBytes): Uint8Array => withSecret(secret, (view) => view.slice())
    const sk = oracle.sessionKey(
      transcript,
      {
        ikSecret: bytes(b.self.dhSecret),
        spkSecret: bytes(b.spk.secret),
        pqSeed: bytes(b.pq.secret),
        ...(options.opk ? { opkSecret: bytes(b.opk.secret) } : {}),
      },
      a.self.dhPublic,
      handshake,
      options.exporter,
    )
    cases.push({
      id,
      comment,
      side: 'both',
      expect: 'ok',
      ...parties,
      epoch: options.epoch,
      exporter: options.exporter === undefined ? null : toHex(options.exporter),
      ...(options.reset === undefined ? {} : { reset: true }),
      bundle: toHex(encodeBundle(bundle)),
      ekSecret: toHex(ek),
      ratchetSecret: toHex(ratchet),
      coins: toHex(coins),
      handshake: toHex(encodeHandshake(handshake)),
      transcript: toHex(transcript),
      sid: toHex(oracle.sid(transcript)),
      sk: toHex(sk),
    })
    return handshake
  }
  const exporter = seededRandom('exporter')(32)
  const whole = success('one-time', 'both one-time prekeys', { opk: true, kind: 'one-time', epoch: 0 })
  success('no-opk', 'no one-time X25519 prekey', { opk: false, kind: 'one-time', epoch: 0 })
  success('last-resort', 'last-resort KEM prekey, no one-time prekey', { opk: false, kind: 'last-resort', epoch: 0 })
  success('opk-last-resort', 'last-resort KEM prekey with a one-time X25519 prekey', {
    opk: true,
    kind: 'last-resort',
    epoch: 4_294_967_295,
  })
  const rotated = success('rotation', 'salted with an exporter of the epoch before', { opk: true, kind: 'one-time', epoch: 1, exporter })

  success('reset', 'starts over: the transcript ends with another byte', { opk: true, kind: 'one-time', epoch: 3, reset: true })

  const good = bundleOf(b)
  const badBundles: [string, string, string, Bundle][] = [
    [
      'spk-signature',
      'SPK signature with one bit changed',
      'InvalidSignature',
      { ...good, spk: { ...good.spk, signature: good.spk.signature.map((byte, i) => (i === 0 ? byte ^ 1 : byte)) } },
    ],
    ['spk-id', 'SPK under another id than was signed', 'InvalidSignature', { ...good, spk: { ...good.spk, id: 8 } }],
    [
      'pq-kind',
      'last-resort key served as one-time',
      'InvalidSignature',
      { ...good, pq: { ...bundleOf(b, { kind: 'last-resort' }).pq, kind: 'one-time' } },
    ],
    [
      'pq-signature',
      'KEM prekey with the signature of the SPK',
      'InvalidSignature',
      { ...good, pq: { ...good.pq, signature: good.spk.signature } },
    ],
    ['certificate', 'another certificate than the pinned one', 'IdentityChanged', { ...good, certificate: a.certificate }],
    ['spk-zero', 'signed SPK of small order', 'InvalidPublicKey', bundleOf(b, { spkKey: ZERO_U })],
    ['opk-zero', 'OPK of small order', 'InvalidPublicKey', bundleOf(b, { opkKey: ZERO_U })],
    ['opk-non-canonical', 'OPK with u = p + 9', 'InvalidPublicKey', bundleOf(b, { opkKey: NON_CANONICAL_U })],
  ]
  for (const [id, comment, expect, bundle] of badBundles) {
    cases.push({ id, comment, side: 'initiator', expect, ...parties, epoch: 0, exporter: null, bundle: toHex(encodeBundle(bundle)) })
  }
  const { opkId: _, ...withoutOpk } = whole
  const badHandshakes: [string, string, string, Handshake | typeof withoutOpk, Uint8Array | null][] = [
    ['ek-zero', 'EK of small order', 'Decryption', { ...whole, ek: ZERO_U }, null],
    ['ek-non-canonical', 'EK with u = p + 9', 'Decryption', { ...whole, ek: NON_CANONICAL_U }, null],
    [
      'initiator-certificate',
      'names another certificate than the pinned one',
      'Decryption',
      { ...whole, certificateDigest: new Uint8Array(32) },
      null,
    ],
    ['continuity-unexpected', 'names an exporter where there is no session', 'ContinuityBroken', rotated, null],
    ['continuity-missing', 'names none where one is expected', 'ContinuityBroken', whole, exporter],
    ['continuity-other', 'names another exporter', 'ContinuityBroken', { ...rotated, continuity: new Uint8Array(32) }, exporter],
  ]
  for (const [id, comment, expect, handshake, salt] of badHandshakes) {
    cases.push({
      id,
      comment,
      side: 'responder',
      expect,
      ...parties,
      epoch: salt === null ? 0 : 1,
      exporter: salt === null ? null : toHex(salt),
      handshake: toHex(encodeHandshake(handshake)),
    })
  }
  return { format: 'tallystick/vectors/pqxdh/v1', suite: 'TS1', cases }
}

export function ratchetVectors(arena: SecretArena): VectorFile<RatchetCase> {
  const [a, b] = [makeFleet(arena, 'acme', 'vectors acme'), makeFleet(arena, 'globex', 'vectors globex')]
  const random = seededRandom('messages')
  const { state, handshake } = initiate({
    arena,
    random,
    self: a.self,
    peer: b.remote,
    bundle: bundleOf(b),
    epoch: 0,
    encapsulation: (at, key) => kem.encapsulateWithCoins(at, key, random(32)),
  })
  const alice = new Side(arena, random, state, handshake)
  const bob = new Side(arena, random, answer(arena, b, a, handshake).state)
  const steps: RatchetStep[] = []

  const open = (comment: string, envelope: Uint8Array): void => {
    const plaintext = toHex(bob.receive(envelope).plaintext)
    steps.push({ do: 'open', comment, expect: 'ok', envelope: toHex(envelope), now: bob.now, plaintext })
  }
  const refuse = (comment: string, expect: string, envelope: Uint8Array): void => {
    steps.push({ do: 'open', comment, expect, envelope: toHex(envelope), now: bob.now })
  }
  const seal = (comment: string, text: string, newChain: boolean): Uint8Array => {
    const values = newChain ? [random(32), random(32)] : [random(32)]
    const side = new Side(arena, queueRandom(...values), bob.state)
    const envelope = side.send(utf8(text))
    bob.state = side.state
    steps.push({ do: 'seal', comment, expect: 'ok', envelope: toHex(envelope), plaintext: toHex(utf8(text)), random: values.map(toHex) })
    return envelope
  }
  const changed = (envelope: Uint8Array, change: Partial<Header>): Uint8Array => {
    const decoded = decodeEnvelope(envelope)
    return encodeEnvelope({ ...decoded, headerBytes: encodeHeader({ ...decoded.header, ...change }) })
  }
  const flipped = (envelope: Uint8Array, part: 'commit' | 'ciphertext', at: number): Uint8Array => {
    const decoded = decodeEnvelope(envelope)
    const bytes = decoded[part].slice()
    bytes.set([bytes.at(at)! ^ 1], at < 0 ? bytes.length + at : at)
    return encodeEnvelope({ ...decoded, [part]: bytes })
  }

  const m = ['zero', 'one', 'two', 'three'].map((text) => alice.send(utf8(text)))
  refuse('first message with its commitment changed', 'VerificationFailed', flipped(m[0]!, 'commit', 0))
  refuse('first message with its tag changed', 'Decryption', flipped(m[0]!, 'ciphertext', -1))
  refuse('first message with its padding changed', 'Decryption', flipped(m[0]!, 'ciphertext', 900))
  refuse(
    'first message without its handshake',
    'Decryption',
    encodeEnvelope({ ...decodeEnvelope(m[0]!), handshakeBytes: new Uint8Array(0) }),
  )
  refuse('first message with another salt', 'Decryption', changed(m[0]!, { salt: new Uint8Array(32) }))
  refuse('another sid', 'Decryption', changed(m[0]!, { sid: new Uint8Array(16) }))
  refuse('another epoch', 'Decryption', changed(m[0]!, { epoch: 1 }))
  refuse('ratchet key of small order', 'Decryption', changed(m[0]!, { dh: ZERO_U }))
  refuse('ratchet key with u = p + 9', 'Decryption', changed(m[0]!, { dh: NON_CANONICAL_U }))
  refuse('previous chain in a first message', 'Decryption', changed(m[0]!, { pn: 1 }))
  refuse('a jump of 1001', 'TooManySkipped', changed(m[0]!, { n: 1001 }))
  open('first message', m[0]!)
  refuse('first message again', 'DuplicateMessage', m[0]!)
  open('the message after the next', m[2]!)
  refuse('that message again', 'DuplicateMessage', m[2]!)
  refuse('the message in between, its commitment changed', 'VerificationFailed', flipped(m[1]!, 'commit', 31))
  open('the message in between', m[1]!)
  const reply = seal('the first reply begins a chain', 'reply', true)
  seal('the second reply continues it', 'reply again', false)
  alice.receive(reply)
  const later = [alice.send(utf8('new chain, lost')), alice.send(utf8('new chain'))]
  refuse('new chain that claims a previous one shorter than was received', 'Decryption', changed(later[1]!, { pn: 2 }))
  refuse('new chain with a jump of 1001 in both chains together', 'TooManySkipped', changed(later[1]!, { pn: 504, n: 500 }))
  open('second message of a new chain, with one of the old chain and one of the new one missing', later[1]!)
  open('the missing one of the old chain', m[3]!)
  open('the missing one of the new chain', later[0]!)
  refuse(
    'a third ratchet key without a reply in between',
    'Decryption',
    changed(later[0]!, { dh: Uint8Array.of(9, ...new Uint8Array(31)), n: 0, pn: 2 }),
  )
  const empty = alice.send(new Uint8Array(0))
  open('an empty message', empty)

  return {
    format: 'tallystick/vectors/ratchet/v1',
    suite: 'TS1',
    cases: [
      {
        id: 'responder',
        comment: 'one session as its responder sees it',
        expect: 'ok',
        initiator: describeInitiator(a),
        responder: describeResponder(b),
        epoch: 0,
        handshake: toHex(encodeHandshake(handshake)),
        steps,
      },
    ],
  }
}

/** `n` as 19 00 in place of 18 61: with the next byte, which is the first of the next key, it reads as the same number. */
function overlapping(header: Uint8Array): Uint8Array {
  const changed = header.slice()
  if (toHex(changed.slice(1, 6)) !== '616e186161') throw new Error('the header is laid out in another way')
  changed.set([0x19, 0x00], 3)
  return changed
}

export function envelopeVectors(arena: SecretArena): VectorFile<EnvelopeCase> {
  const b = makeFleet(arena, 'globex', 'vectors globex')
  const random = seededRandom('envelopes')
  const header: Header = { v: 1, suite: 'TS1', sid: random(16), epoch: 2, dh: random(32), pn: 3, n: 70_000, salt: random(32) }
  const handshake: Handshake = {
    ek: random(32),
    spkId: 1,
    pqId: 2,
    pqKind: 'last-resort',
    kemCiphertext: random(1568),
    certificateDigest: random(32),
  }
  const parts = { header: encodeHeader(header), commit: random(32), ciphertext: random(1040) }
  const withHandshake = { ...parts, handshake: encodeHandshake(handshake) }
  const good = encode(parts)
  const bundle = bundleOf(b)
  const wire = { v: 1, certificate: bundle.certificate, spk: { ...bundle.spk }, pq: { ...bundle.pq }, opk: { ...bundle.opk! } }
  const one = (kind: 'envelope' | 'bundle', id: string, comment: string, expect: string, bytes: Uint8Array): EnvelopeCase => ({
    id,
    comment,
    kind,
    expect,
    bytes: toHex(bytes),
  })
  const cases = [
    one('envelope', 'plain', 'no handshake', 'ok', good),
    one('envelope', 'handshake', 'with a handshake', 'ok', encode(withHandshake)),
    one(
      'envelope',
      'continuity',
      'with the handshake of a rotation',
      'ok',
      encode({ ...withHandshake, handshake: encodeHandshake({ ...handshake, opkId: 0, continuity: random(32) }) }),
    ),
    one(
      'envelope',
      'reset',
      'with a handshake that starts over',
      'ok',
      encode({ ...withHandshake, handshake: encodeHandshake({ ...handshake, reset: true }) }),
    ),
    one(
      'envelope',
      'reset-false',
      'a second spelling of a handshake without reset',
      'Serialization',
      encode({ ...parts, handshake: encode({ ...handshake, reset: false }) }),
    ),
    one(
      'envelope',
      'reset-number',
      'reset as a number',
      'Serialization',
      encode({ ...parts, handshake: encode({ ...handshake, reset: 1 }) }),
    ),
    one(
      'envelope',
      'reset-continuity',
      'starts over and continues',
      'Serialization',
      encode({ ...parts, handshake: encode({ ...handshake, reset: true, continuity: random(32) }) }),
    ),
    one(
      'envelope',
      'unknown-header-field',
      'a header with one field too many',
      'Serialization',
      encode({ ...parts, header: encode({ ...header, more: 1 }) }),
    ),
    one(
      'envelope',
      'overlapping-integer',
      'n in two bytes, of which the second is the key that follows',
      'Serialization',
      encode({ ...parts, header: overlapping(encodeHeader({ ...header, n: 0x61 })) }),
    ),
    one(
      'envelope',
      'long-integer',
      'n not in its shortest form',
      'Serialization',
      encode({ ...parts, header: concat(parts.header.slice(0, 3), fromHex('1a00000005'), encodeHeader({ ...header, n: 0 }).slice(4)) }),
    ),
    one('envelope', 'trailing', 'one byte too many', 'Serialization', concat(good, Uint8Array.of(0))),
    one('envelope', 'truncated', 'one byte too few', 'Serialization', good.slice(0, -1)),
    one('envelope', 'empty', 'nothing', 'Serialization', new Uint8Array(0)),
    one(
      'envelope',
      'indefinite',
      'a map of indefinite length',
      'Serialization',
      concat(Uint8Array.of(0xbf), good.slice(1), Uint8Array.of(0xff)),
    ),
    one(
      'envelope',
      'long-length',
      'the number of fields not in its shortest form',
      'Serialization',
      concat(Uint8Array.of(0xb8, 3), good.slice(1)),
    ),
    one('envelope', 'tagged', 'a tag in front', 'Serialization', concat(Uint8Array.of(0xd9, 0xd9, 0xf7), good)),
    one('envelope', 'unknown-field', 'one field too many', 'Serialization', encode({ ...parts, more: 1 })),
    one('envelope', 'no-commit', 'a field missing', 'Serialization', encode({ header: parts.header, ciphertext: parts.ciphertext })),
    one(
      'envelope',
      'short-ciphertext',
      'ciphertext below the smallest bucket',
      'Serialization',
      encode({ ...parts, ciphertext: new Uint8Array(1039) }),
    ),
    one(
      'envelope',
      'no-dh',
      'header without a ratchet key',
      'Serialization',
      encode({ ...parts, header: encode({ ...header, dh: new Uint8Array(0) }) }),
    ),
    one('envelope', 'version', 'version 2', 'UnsupportedVersion', encode({ ...parts, header: encode({ ...header, v: 2 }) })),
    one(
      'envelope',
      'version-fields',
      'version 2 with other fields, in a header that stands in an envelope with other fields',
      'UnsupportedVersion',
      encode({ header: encode({ v: 2, suite: 'TS1', key: random(32) }), ciphertext: 'text' }),
    ),
    one(
      'envelope',
      'version-large',
      'a version beyond 32 bits',
      'Serialization',
      encode({ ...parts, header: encode({ ...header, v: 2 ** 32 }) }),
    ),
    one('envelope', 'no-suite', 'version 2 without a suite', 'Serialization', encode({ ...parts, header: encode({ v: 2 }) })),
    one(
      'envelope',
      'five-fields',
      'version 2 in an envelope of five fields',
      'Serialization',
      encode({ ...withHandshake, header: encode({ ...header, v: 2 }), more: 1 }),
    ),
    one('envelope', 'suite', 'another suite', 'UnsupportedVersion', encode({ ...parts, header: encode({ ...header, suite: 'TS2' }) })),
    one(
      'envelope',
      'bad-handshake',
      'handshake that is no handshake',
      'Serialization',
      encode({ ...parts, handshake: encode({ ek: handshake.ek }) }),
    ),
    one('bundle', 'bundle', 'with a one-time prekey', 'ok', encodeBundle(bundle)),
    one('bundle', 'bundle-last-resort', 'without one', 'ok', encodeBundle(bundleOf(b, { opk: false, kind: 'last-resort' }))),
    one('bundle', 'bundle-epoch', 'with an epoch', 'ok', encodeBundle({ ...bundle, epoch: 4_294_967_295 })),
    one('bundle', 'bundle-epoch-large', 'an epoch beyond 32 bits', 'Serialization', encode({ ...wire, epoch: 2 ** 32 })),
    one('bundle', 'bundle-epoch-null', 'an epoch that is no number', 'Serialization', encode({ ...wire, epoch: null })),
    one('bundle', 'bundle-unknown-field', 'a field too many', 'Serialization', encode({ ...wire, more: 1 })),
    one('bundle', 'bundle-version', 'version 2', 'UnsupportedVersion', encode({ ...wire, v: 2 })),
    one('bundle', 'bundle-version-fields', 'version 2 with other fields', 'UnsupportedVersion', encode({ v: 2, keys: [] })),
    one('bundle', 'bundle-kind', 'unknown kind', 'Serialization', encode({ ...wire, pq: { ...wire.pq, kind: 'other' } })),
    one(
      'bundle',
      'bundle-short-key',
      'KEM key one byte short',
      'Serialization',
      encode({ ...wire, pq: { ...wire.pq, key: bundle.pq.key.slice(1) } }),
    ),
    one('bundle', 'bundle-id', 'id beyond 32 bits', 'Serialization', encode({ ...wire, spk: { ...wire.spk, id: 2 ** 32 } })),
  ]
  return { format: 'tallystick/vectors/envelope/v1', suite: 'TS1', cases }
}

export function primitiveVectors(): VectorFile<PrimitiveCase> {
  const random = seededRandom('primitives')
  const cases: PrimitiveCase[] = []
  for (let i = 0; i < 4; i++) {
    const [root, dh, chain] = [random(32), random(32), random(32)]
    const step = oracle.kdfRoot(root, dh)
    cases.push({
      id: `root-${i}`,
      comment: 'KDF_RK',
      expect: 'ok',
      op: 'kdfRoot',
      input: { root: toHex(root), dh: toHex(dh) },
      output: { root: toHex(step.root), chain: toHex(step.chain), exporter: toHex(step.exporter) },
    })
    const next = oracle.kdfChain(chain)
    cases.push({
      id: `chain-${i}`,
      comment: 'KDF_CK',
      expect: 'ok',
      op: 'kdfChain',
      input: { chain: toHex(chain) },
      output: { chain: toHex(next.chain), messageKey: toHex(next.messageKey) },
    })
    const plaintext = random([0, 1, 1020, 1021][i]!)
    const input = { messageKey: random(32), salt: random(32), aad: random(40 * i) }
    const sealed = oracle.sealMessage(input.messageKey, input.salt, input.aad, plaintext)
    const hex = (extra: Record<string, Uint8Array>): Record<string, string> =>
      Object.fromEntries(Object.entries({ ...input, ...extra }).map(([key, value]) => [key, toHex(value)]))
    cases.push({
      id: `message-${i}`,
      comment: 'one message',
      expect: 'ok',
      op: 'sealMessage',
      input: hex({ plaintext }),
      output: { ciphertext: toHex(sealed.ciphertext), commit: toHex(sealed.commit) },
    })
    const flip = (bytes: Uint8Array, at: number): Uint8Array => bytes.map((byte, j) => (j === at ? byte ^ 0x80 : byte))
    const bad: [string, string, Record<string, Uint8Array>][] = [
      ['commit', 'VerificationFailed', { ...sealed, commit: flip(sealed.commit, 7 * i) }],
      ['tag', 'Decryption', { ...sealed, ciphertext: flip(sealed.ciphertext, sealed.ciphertext.length - 1 - i) }],
      ['salt', 'Decryption', { ...sealed, salt: flip(input.salt, i) }],
      ['aad', 'Decryption', { ...sealed, aad: concat(input.aad, u32be(i)) }],
    ]
    for (const [what, expect, extra] of bad)
      cases.push({ id: `message-${i}-${what}`, comment: `changed ${what}`, expect, op: 'openMessage', input: hex(extra) })
  }
  return { format: 'tallystick/vectors/primitives/v1', suite: 'TS1', cases }
}

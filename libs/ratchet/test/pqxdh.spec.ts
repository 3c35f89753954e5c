import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { fromHex, toHex, utf8 } from '@tallystick/primitives/bytes'
import { sign } from '@tallystick/primitives/ed25519'
import type { SecretArena } from '@tallystick/secret-bytes/arena'
import { secretFrom } from '@tallystick/secret-bytes/arena'
import type { Bundle } from '@tallystick/wire/bundle'
import { decodeEnvelope, decodeHandshake, encodeEnvelope, encodeHandshake, encodeHeader, type Handshake } from '@tallystick/wire/envelope'
import { wycheproof } from '../../primitives/test/corpora.js'
import { decrypt, describe as describeState, exporter, exporterByName } from '../src/double-ratchet.js'
import { pqMessage, spkMessage } from '../src/labels.js'
import { exporterName, initiate, respond, winsOver } from '../src/pqxdh.js'
import {
  answer,
  bundleOf,
  type Fleet,
  hexOf,
  makeFleet,
  openArena,
  PQ_ID,
  seededRandom,
  Side,
  SPK_ID,
  start,
  startPair,
} from './fixtures.js'

let arena: SecretArena
let a: Fleet
let b: Fleet
let used: number
beforeEach(() => {
  arena = openArena()
  a = makeFleet(arena, 'acme')
  b = makeFleet(arena, 'globex')
  used = arena.usedBytes
})
afterEach(() => arena.close())

const withCode = (code: string): unknown => expect.objectContaining({ code })
const random = seededRandom('pqxdh')
const initiateWith = (bundle: Bundle, peer = b.remote, self = a.self): unknown => initiate({ arena, random, self, peer, bundle, epoch: 0 })
const respondWith = (handshake: Handshake, change: Partial<Parameters<typeof respond>[0]> = {}): ReturnType<typeof respond> =>
  respond({
    arena,
    self: b.self,
    peer: a.remote,
    handshake,
    epoch: 0,
    prekeys: {
      spk: b.spk.secret,
      spkPublic: b.spk.publicKey,
      pq: b.pq.secret,
      pqPublic: b.pq.publicKey,
      ...(handshake.opkId === undefined ? {} : { opk: b.opk.secret }),
    },
    ...change,
  })

describe('agreement', () => {
  test.each([
    { opk: true, kind: 'one-time' as const },
    { opk: false, kind: 'last-resort' as const },
  ])('both sides have the same session with %o', (options) => {
    const { state, sid, handshake } = start(arena, a, b, random, options)
    expect(handshake.opkId === undefined).toBe(!options.opk)
    expect(handshake.pqKind).toBe(options.kind)
    const responder = answer(arena, b, a, decodeHandshake(encodeHandshake(handshake)))
    expect(responder.sid).toEqual(sid)
    const alice = new Side(arena, random, state, handshake)
    const bob = new Side(arena, random, responder.state)
    expect(bob.receive(alice.send(utf8('first'))).plaintext).toEqual(utf8('first'))
    expect(describeState(bob.state)).toMatchObject({ epoch: 0, sid, initiator: false, confirmed: true, received: 1, canSend: true })
    alice.state.destroy()
    bob.state.destroy()
    expect(arena.usedBytes).toBe(used)
  })

  test('ephemeral keys differ from session to session, and so do sids', () => {
    const seen = new Set(
      Array.from({ length: 20 }, () => {
        const { state, sid, handshake } = start(arena, a, b, random)
        state.destroy()
        return `${toHex(sid)} ${toHex(handshake.ek)}`
      }),
    )
    expect(seen.size).toBe(20)
  })

  test('whatever the two sides disagree on gives different keys', () => {
    const { state, sid, handshake } = start(arena, a, b, random)
    const envelope = decodeEnvelope(new Side(arena, random, state, handshake).send(utf8('x')))
    const swapped: Partial<Parameters<typeof respond>[0]>[] = [
      { self: { ...b.self, peerId: 'peer-acme' } },
      { self: { ...b.self, fleetId: 'fleet-acme' } },
      { self: { ...b.self, certificateDigest: new Uint8Array(32) } },
      { peer: { ...a.remote, peerId: 'peer-globex' } },
      { peer: { ...a.remote, fleetId: 'fleet-globex' } },
      { peer: { ...a.remote, dhPublic: b.spk.publicKey } },
      { self: { ...b.self, dhPublic: b.spk.publicKey } },
      { epoch: 1 },
      { prekeys: { spk: b.spk.secret, spkPublic: b.spk.publicKey, pq: a.pq.secret, pqPublic: b.pq.publicKey, opk: b.opk.secret } },
      { prekeys: { spk: b.spk.secret, spkPublic: b.spk.publicKey, pq: b.pq.secret, pqPublic: b.pq.publicKey, opk: a.opk.secret } },
      { prekeys: { spk: a.spk.secret, spkPublic: b.spk.publicKey, pq: b.pq.secret, pqPublic: b.pq.publicKey, opk: b.opk.secret } },
      { self: { ...b.self, dhSecret: a.self.dhSecret } },
    ]
    for (const [index, change] of swapped.entries()) {
      const responder = respondWith(handshake, change)
      // Even a header that names the responder's own sid does not help: the keys differ.
      const headerBytes = encodeHeader({ ...envelope.header, sid: responder.sid, epoch: change.epoch ?? 0 })
      const forged = decodeEnvelope(encodeEnvelope({ ...envelope, headerBytes }))
      expect(() => decrypt({ arena, state: responder.state, envelope: forged, now: 0 }), `change ${index}`).toThrow(withCode('Decryption'))
      // The last two differ in a private key only, which the transcript does not show.
      if (index < 8) expect(toHex(responder.sid), `change ${index}`).not.toBe(toHex(sid))
      responder.state.destroy()
    }
  })

  test('a thousand swapped pairs of ids: not one session in common', () => {
    const sids = new Set<string>()
    const { handshake, state } = start(arena, a, b, random)
    state.destroy()
    for (let i = 0; i < 1000; i++) {
      const { sid, state: other } = respondWith(handshake, {
        self: { ...b.self, peerId: `peer-${i}` },
        peer: { ...a.remote, peerId: `peer-${i + 1}` },
      })
      sids.add(toHex(sid))
      other.destroy()
    }
    expect(sids.size).toBe(1000)
  })
})

describe('what an initiator refuses', () => {
  test("signatures that are not the pinned key's, over this key, id and kind", () => {
    const bundle = bundleOf(b)
    const bad: Bundle[] = [
      { ...bundle, spk: { ...bundle.spk, id: SPK_ID + 1 } },
      { ...bundle, spk: { ...bundle.spk, key: a.spk.publicKey } },
      { ...bundle, spk: { ...bundle.spk, signature: sign(a.signSecret, spkMessage(SPK_ID, bundle.spk.key)) } },
      { ...bundle, pq: { ...bundle.pq, id: PQ_ID + 1 } },
      { ...bundle, pq: { ...bundle.pq, kind: 'last-resort' } },
      { ...bundle, pq: { ...bundle.pq, key: a.pq.publicKey } },
      { ...bundle, pq: { ...bundle.pq, signature: bundle.spk.signature } },
      { ...bundle, pq: { ...bundle.pq, signature: sign(a.signSecret, pqMessage('one-time', PQ_ID, bundle.pq.key)) } },
    ]
    for (const [index, one] of bad.entries()) expect(() => initiateWith(one), `bundle ${index}`).toThrow(withCode('InvalidSignature'))
    expect(arena.usedBytes).toBe(used)
  })

  test('another certificate than the pinned one, and itself', () => {
    expect(() => initiateWith({ ...bundleOf(b), certificate: a.certificate })).toThrow(withCode('IdentityChanged'))
    expect(() => initiateWith(bundleOf(a), a.remote)).toThrow(withCode('UnauthorizedPeer'))
  })

  test('a KEM key that is none', () => {
    const key = new Uint8Array(1568).fill(0xff)
    const pq = { id: PQ_ID, key, kind: 'one-time' as const, signature: sign(b.signSecret, pqMessage('one-time', PQ_ID, key)) }
    expect(() => initiateWith({ ...bundleOf(b), pq })).toThrow(withCode('InvalidPublicKey'))
    expect(arena.usedBytes).toBe(used)
  })
})

describe('what a responder refuses', () => {
  test('a handshake of another certificate, a missing or superfluous one-time prekey, itself', () => {
    const { handshake } = start(arena, a, b, random)
    const after = arena.usedBytes
    expect(() => respondWith({ ...handshake, certificateDigest: new Uint8Array(32) })).toThrow(withCode('Decryption'))
    const { opkId: _, ...withoutOpk } = handshake
    expect(() =>
      respondWith(withoutOpk, {
        prekeys: { spk: b.spk.secret, spkPublic: b.spk.publicKey, pq: b.pq.secret, pqPublic: b.pq.publicKey, opk: b.opk.secret },
      }),
    ).toThrow(withCode('Decryption'))
    expect(() =>
      respondWith(handshake, { prekeys: { spk: b.spk.secret, spkPublic: b.spk.publicKey, pq: b.pq.secret, pqPublic: b.pq.publicKey } }),
    ).toThrow(withCode('Decryption'))
    expect(() => respondWith({ ...handshake, certificateDigest: b.remote.certificateDigest }, { peer: b.remote })).toThrow(
      withCode('Decryption'),
    )
    expect(() => respondWith({ ...handshake, kemCiphertext: new Uint8Array(10) })).toThrow(withCode('Decryption'))
    expect(arena.usedBytes).toBe(after)
  })
})

test('keys that give zero, or are not canonical, are refused in each place a peer can put one', (context) => {
  const P = 2n ** 255n - 19n
  const keys = wycheproof<{ public: string; shared: string }>(context, 'x25519_test.json')
    .flatMap((group) => group.tests)
    .filter((t) => /^0*$/.test(t.shared) || BigInt(`0x${toHex(fromHex(t.public).reverse())}`) >= P)
  expect(keys.filter((t) => /^0*$/.test(t.shared))).toHaveLength(31)
  const { state, handshake } = start(arena, a, b, random)
  const genuine = decodeEnvelope(new Side(arena, random, state, handshake).send(utf8('x')))
  const { state: responder } = answer(arena, b, a, handshake)
  const before = hexOf(responder)
  const after = arena.usedBytes
  for (const { public: hex, tcId } of keys) {
    const key = fromHex(hex)
    const place = (name: string, code: string, act: () => unknown): void => expect(act, `${name}, tcId ${tcId}`).toThrow(withCode(code))
    place('SPK of the bundle', 'InvalidPublicKey', () => initiateWith(bundleOf(b, { spkKey: key })))
    place('OPK of the bundle', 'InvalidPublicKey', () => initiateWith(bundleOf(b, { opkKey: key })))
    place('IK of the responder', 'InvalidPublicKey', () => initiateWith(bundleOf(b), { ...b.remote, dhPublic: key }))
    place('EK of the handshake', 'Decryption', () => respondWith({ ...handshake, ek: key }))
    place('IK of the initiator', 'Decryption', () => respondWith(handshake, { peer: { ...a.remote, dhPublic: key } }))
    const forged = decodeEnvelope(encodeEnvelope({ ...genuine, headerBytes: encodeHeader({ ...genuine.header, dh: key }) }))
    place('ratchet key of the header', 'Decryption', () => decrypt({ arena, state: responder, envelope: forged, now: 0 }))
  }
  expect(hexOf(responder)).toBe(before)
  expect(arena.usedBytes).toBe(after)
})

describe('continuity at a rotation', () => {
  /** A session with a round trip behind it: both sides have exporters. */
  function talked(): { alice: Side; bob: Side } {
    const { alice, bob } = startPair(arena, 'continuity')
    bob.receive(alice.send(utf8('1')))
    alice.receive(bob.send(utf8('2')))
    return { alice, bob }
  }

  test('the newest exporter that both have salts the next epoch', () => {
    const { alice, bob } = talked()
    const salt = exporter(alice.state, arena)
    expect(describeState(alice.state).exporterHash).toEqual(exporterName(salt))
    const next = start(arena, a, b, random, { epoch: 1, salt })
    expect(next.handshake.continuity).toEqual(exporterName(salt))
    const found = exporterByName(bob.state, arena, next.handshake.continuity!)
    const responder = answer(arena, b, a, next.handshake, { epoch: 1, salt: found })
    expect(responder.sid).toEqual(next.sid)
    const [newAlice, newBob] = [new Side(arena, random, next.state, next.handshake), new Side(arena, random, responder.state)]
    expect(newBob.receive(newAlice.send(utf8('epoch 1'))).plaintext).toEqual(utf8('epoch 1'))
    expect(describeState(newBob.state).epoch).toBe(1)
  })

  test('messages that cross the rotation do not lose the exporter it names', () => {
    const { alice, bob } = talked()
    const salt = exporter(alice.state, arena)
    const name = exporterName(salt)
    bob.receive(alice.send(utf8('3')))
    bob.send(utf8('4'))
    expect(hexOf(exporterByName(bob.state, arena, name))).toBe(hexOf(salt))
  })

  test('identity keys without the session, or the session without its exporter, cannot rotate', () => {
    const { alice, bob } = talked()
    const salt = exporter(alice.state, arena)
    const wrong = secretFrom(arena, new Uint8Array(32).fill(1))
    const fresh = start(arena, a, b, random, { epoch: 1 })
    const salted = start(arena, a, b, random, { epoch: 1, salt })
    expect(() => answer(arena, b, a, fresh.handshake, { epoch: 1, salt })).toThrow(withCode('ContinuityBroken'))
    expect(() => answer(arena, b, a, salted.handshake, { epoch: 1 })).toThrow(withCode('ContinuityBroken'))
    expect(() => answer(arena, b, a, salted.handshake, { epoch: 1, salt: wrong })).toThrow(withCode('ContinuityBroken'))
    expect(() => exporterByName(bob.state, arena, exporterName(wrong))).toThrow(withCode('ContinuityBroken'))
    // Whoever names the right exporter without having it ends with other keys.
    const forged = start(arena, a, b, random, { epoch: 1, salt: wrong })
    const handshake = { ...forged.handshake, continuity: exporterName(salt) }
    const responder = answer(arena, b, a, handshake, { epoch: 1, salt })
    const envelope = decodeEnvelope(new Side(arena, random, forged.state, forged.handshake).send(utf8('x')))
    expect(() => decrypt({ arena, state: responder.state, envelope, now: 0 })).toThrow(withCode('Decryption'))
  })

  test('nothing was received yet: no exporter', () => {
    const { alice } = startPair(arena, 'fresh')
    expect(() => exporter(alice.state, arena)).toThrow(withCode('ContinuityBroken'))
    expect(describeState(alice.state).exporterHash).toBeNull()
  })
})

test('crossing handshakes: exactly one wins, the same on both sides', () => {
  for (let i = 0; i < 50; i++) {
    const ours = start(arena, a, b, random)
    const theirs = start(arena, b, a, random)
    expect(winsOver(ours.handshake, theirs.handshake)).toBe(!winsOver(theirs.handshake, ours.handshake))
    ours.state.destroy()
    theirs.state.destroy()
  }
})

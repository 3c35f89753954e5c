/**
 * Refusals that the tag would give too, but later or not to an insider: what public values can tell is refused before
 * anything is derived, and what would hand out a key that others know is refused even when it is sealed as it should be.
 * Each of these tests is there because a change of the source survived the others (mutation/README.md).
 * @see docs/spec/session.md §5.4
 */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { concat, fromHex, toHex, utf8 } from '@tallystick/primitives/bytes'
import { type SecretArena, secretFrom, withSecret } from '@tallystick/secret-bytes/arena'
import { decodeEnvelope, encodeEnvelope, encodeHandshake, encodeHeader, type Handshake, type Header } from '@tallystick/wire/envelope'
import { describe as describeState, encrypt } from '../src/double-ratchet.js'
import { MAX_SKIPPED, MAX_SKIPPED_AGE_MS } from '../src/limits.js'
import { bucketFor, unpad } from '../src/padding.js'
import { initiate, winsOver } from '../src/pqxdh.js'
import { samePublic, stateLength, StateView } from '../src/state.js'
import { bundleOf, hexOf, openArena, seededRandom, type Side, startPair } from './fixtures.js'
import * as oracle from './oracle.js'

let arena: SecretArena
let pair: ReturnType<typeof startPair>
let alice: Side
let bob: Side
beforeEach(() => {
  arena = openArena()
  pair = startPair(arena)
  ;({ alice, bob } = pair)
})
afterEach(() => arena.close())

const ZERO = new Uint8Array(32)
/** More than may be skipped: whoever looks at the numbers first says TooManySkipped. */
const FAR = 5000
const withCode = (code: string): unknown => expect.objectContaining({ code })
const inState = (side: Side, from: number, to: number): Uint8Array => withSecret(side.state, (bytes) => bytes.slice(from, to))

function refuses(side: Side, envelope: Uint8Array, code = 'Decryption'): void {
  const [state, used] = [hexOf(side.state), arena.usedBytes]
  expect(() => side.receive(envelope)).toThrow(withCode(code))
  expect(hexOf(side.state)).toBe(state)
  expect(arena.usedBytes).toBe(used)
}

function changed(envelope: Uint8Array, change: Partial<Header>, handshake?: Handshake): Uint8Array {
  const decoded = decodeEnvelope(envelope)
  const headerBytes = encodeHeader({ ...decoded.header, ...change })
  return encodeEnvelope({ ...decoded, headerBytes, ...(handshake === undefined ? {} : { handshakeBytes: encodeHandshake(handshake) }) })
}

/** What somebody makes who knows the chain key, T being public. */
function forged(to: Side, chain: Uint8Array, header: Partial<Header>, from: Uint8Array): Uint8Array {
  const salt = new Uint8Array(32).fill(3)
  const headerBytes = encodeHeader({ ...decodeEnvelope(from).header, n: 0, pn: 0, ...header, salt })
  const { messageKey } = oracle.kdfChain(chain)
  const message = oracle.sealMessage(messageKey, salt, concat(inState(to, 56, 88), headerBytes), utf8('forged'))
  return encodeEnvelope({ headerBytes, handshakeBytes: new Uint8Array(0), ...message })
}

describe('before anything is derived', () => {
  test('another sid or epoch, however far the number is', () => {
    const envelope = alice.send(utf8('x'))
    refuses(bob, changed(envelope, { sid: new Uint8Array(16), n: FAR }))
    refuses(bob, changed(envelope, { epoch: 1, n: FAR }))
    refuses(bob, changed(envelope, { n: FAR }), 'TooManySkipped')
  })

  test('a handshake that is not the one of the session, or that comes to its initiator', () => {
    const envelope = alice.send(utf8('x'))
    const { handshake } = decodeEnvelope(envelope)
    refuses(bob, changed(envelope, { n: FAR }, { ...handshake!, ek: ZERO }))
    bob.receive(envelope)
    const reply = bob.send(utf8('r'))
    refuses(alice, changed(reply, { n: FAR }, handshake))
    refuses(alice, changed(reply, { n: FAR }), 'TooManySkipped')
  })

  test('a ratchet key where none of ours is out', () => {
    bob.receive(alice.send(utf8('1')))
    const envelope = alice.send(utf8('2'))
    refuses(bob, changed(envelope, { dh: new Uint8Array(32).fill(9), pn: 1, n: FAR }))
    expect(inState(bob, 152, 216)).toEqual(new Uint8Array(64))
  })

  test('a previous chain in the first message', () => {
    const envelope = alice.send(utf8('x'))
    refuses(bob, changed(envelope, { pn: FAR }))
    refuses(bob, changed(envelope, { pn: FAR, n: FAR }))
  })

  test('the key that an initiator began with', () => {
    bob.receive(alice.send(utf8('x')))
    const spk = pair.b.spk.publicKey
    expect(inState(alice, 216, 248)).toEqual(spk)
    refuses(alice, changed(bob.send(utf8('r')), { dh: spk, n: FAR }))
  })
})

describe('sealed as it should be', () => {
  test('a message of a chain that is not there: its key would be known to everybody', () => {
    const sent = alice.send(utf8('x'))
    bob.receive(sent)
    const reply = bob.send(utf8('r'))
    refuses(alice, forged(alice, ZERO, { dh: pair.b.spk.publicKey }, reply))
    // The forgery is right in everything else: with the key of a chain that is there it opens.
    const chain = inState(bob, 248, 280)
    expect(alice.receive(forged(alice, chain, { n: 1 }, reply)).plaintext).toEqual(utf8('forged'))
  })

  test('a ratchet key of small order, from a peer that knows the root', () => {
    const sent = alice.send(utf8('x'))
    bob.receive(sent)
    bob.send(utf8('so that a step is possible'))
    const { chain } = oracle.kdfRoot(inState(bob, 120, 152), ZERO)
    refuses(bob, forged(bob, chain, { dh: ZERO, pn: 1 }, sent))
    const secret = new Uint8Array(32).fill(7)
    const step = oracle.kdfRoot(inState(bob, 120, 152), oracle.x25519.getSharedSecret(secret, inState(bob, 184, 216)))
    const genuine = forged(bob, step.chain, { dh: oracle.x25519.getPublicKey(secret), pn: 1 }, sent)
    expect(bob.receive(genuine).plaintext).toEqual(utf8('forged'))
  })
})

describe('what is counted and kept', () => {
  test('a step drops no kept key, and says what it did', () => {
    const lost = [0, 1, 2, 3].map((i) => alice.send(utf8(`${i}`)))
    expect(bob.receive(lost[3]!).usedKeys).toEqual({ dhStep: true, stored: 3, dropped: 0, fromStore: false })
    alice.receive(bob.send(utf8('r')))
    expect(bob.receive(alice.send(utf8('next'))).usedKeys).toEqual({ dhStep: true, stored: 0, dropped: 0, fromStore: false })
    expect(bob.receive(alice.send(utf8('and on'))).usedKeys).toEqual({ dhStep: false, stored: 0, dropped: 0, fromStore: false })
    for (const [i, envelope] of lost.slice(0, 3).entries()) {
      const { plaintext, usedKeys } = bob.receive(envelope)
      expect([plaintext, usedKeys]).toEqual([utf8(`${i}`), { dhStep: false, stored: 0, dropped: 0, fromStore: true }])
    }
  })

  test('keys that aged out or made room are counted as dropped', () => {
    const [first, , last] = [alice.send(utf8('0')), alice.send(utf8('1')), alice.send(utf8('2'))]
    bob.receive(last!)
    bob.now += MAX_SKIPPED_AGE_MS + 1
    expect(bob.receive(first!).usedKeys).toEqual({ dhStep: false, stored: 0, dropped: 1, fromStore: true })
    expect(MAX_SKIPPED_AGE_MS).toBe(1_209_600_000)
  })

  test('a step leaves nothing of the sending chain and of the own ratchet key', () => {
    bob.receive(alice.send(utf8('x')))
    alice.receive(bob.send(utf8('r')))
    expect(inState(alice, 152, 216)).toEqual(new Uint8Array(64))
    expect(inState(alice, 248, 280)).toEqual(ZERO)
  })

  test('a refused encryption or handshake leaves nothing in the arena', () => {
    const used = arena.usedBytes
    const { random, state } = alice
    expect(() => encrypt({ arena, random, state, plaintext: utf8('x') })).toThrow(withCode('Encryption'))
    expect(() => bob.send(utf8('x'))).toThrow(withCode('Encryption'))
    const peer = { ...pair.b.remote, dhPublic: ZERO }
    expect(() => initiate({ arena, random: seededRandom('x'), self: pair.a.self, peer, bundle: bundleOf(pair.b), epoch: 0 })).toThrow(
      withCode('InvalidPublicKey'),
    )
    expect(arena.usedBytes).toBe(used)
  })
})

describe('states and public values', () => {
  test('too short for its own numbers, or with more kept keys than there may be', () => {
    const bad = [10, 39, 41, 443].map((length) => Uint8Array.from({ length }, (_, i) => (i === 0 ? 1 : 0)))
    const tooMany = new Uint8Array(stateLength(MAX_SKIPPED + 1))
    tooMany[0] = 1
    new DataView(tooMany.buffer).setUint32(36, MAX_SKIPPED + 1)
    for (const bytes of [...bad, tooMany]) {
      const state = secretFrom(arena, bytes)
      expect(() => describeState(state)).toThrow(expect.objectContaining({ code: 'KeyStorage', reason: 'storeFailed' }))
      state.destroy()
    }
    const most = new Uint8Array(stateLength(MAX_SKIPPED))
    most[0] = 1
    new DataView(most.buffer).setUint32(36, MAX_SKIPPED)
    expect(new StateView(most).skippedCount).toBe(MAX_SKIPPED)
  })

  test('four exporters are four, whatever stands behind them', () => {
    const bytes = new Uint8Array(stateLength(1))
    bytes[0] = 1
    bytes[39] = 1
    const view = new StateView(bytes)
    for (const role of ['sent', 'received', 'sent', 'received', 'sent'] as const)
      view.pushExporter(role, new Uint8Array(32).fill(role.length))
    view.writeSkipped(0, { dh: new Uint8Array(32).fill(2), n: 1, storedAt: 1, messageKey: ZERO })
    expect([...view.exporters()].map(({ role }) => role)).toEqual(['sent', 'received', 'sent', 'received'])
  })

  test('public values of another length are not the same', () => {
    expect(samePublic(Uint8Array.of(1), Uint8Array.of(1, 2))).toBe(false)
    expect(samePublic(Uint8Array.of(1, 2), Uint8Array.of(1))).toBe(false)
    expect(samePublic(fromHex('0102'), fromHex('0102'))).toBe(true)
  })

  test('of two handshakes that cross, the first byte that differs decides', () => {
    const { handshake } = alice
    const withEk = (...bytes: number[]): Handshake => ({ ...handshake!, ek: Uint8Array.from({ length: 32 }, (_, i) => bytes[i] ?? 0) })
    expect(winsOver(withEk(5, 1, 9), withEk(5, 2, 1))).toBe(true)
    expect(winsOver(withEk(5, 2, 1), withEk(5, 1, 9))).toBe(false)
    expect(winsOver(withEk(5), withEk(5))).toBe(false)
  })

  test('a padded message longer than any plaintext may be', () => {
    const length = 4 * 1024 * 1024 + 1
    const padded = new Uint8Array(bucketFor(length))
    new DataView(padded.buffer).setUint32(0, length)
    expect(() => unpad(padded)).toThrow(withCode('Decryption'))
    new DataView(padded.buffer).setUint32(0, length - 1)
    expect(toHex(unpad(padded).subarray(0, 2))).toBe('0000')
  })
})

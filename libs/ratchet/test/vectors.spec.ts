/**
 * The published vectors: made again from their fixed randomness they must come out the same, and the product must give
 * their values. `TALLYSTICK_WRITE_VECTORS=1` writes them, after a change of the specification.
 * @see docs/spec/session.md §11
 */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { fromHex, toHex } from '@tallystick/primitives/bytes'
import * as kem from '@tallystick/primitives/mlkem1024'
import type { SecretArena, SecretBytes } from '@tallystick/secret-bytes/arena'
import { decodeBundle, encodeBundle } from '@tallystick/wire/bundle'
import { decodeEnvelope, encodeEnvelope, encodeHandshake } from '@tallystick/wire/envelope'
import { kdfChain, kdfRoot, openMessage, sealMessage, withScratch } from '../src/chains.js'
import { decrypt, encrypt } from '../src/double-ratchet.js'
import { initiate, type LocalIdentity, type RemoteIdentity } from '../src/pqxdh.js'
import { hexOf, openArena } from './fixtures.js'
import * as oracle from './oracle.js'
import { envelopeVectors, type PqxdhCase, pqxdhVectors, primitiveVectors, queueRandom, ratchetVectors } from './vector-cases.js'
import { codeOf, expectEnoughFailures, load, playersAt, rootIn, transcriptIn } from './vector-support.js'

let arena: SecretArena
let secret: (hex: string) => SecretBytes
let local: (party: PqxdhCase['initiator']) => LocalIdentity
let remote: (party: PqxdhCase['initiator'], signKey?: string) => RemoteIdentity
let respondTo: ReturnType<typeof playersAt>['respondTo']
beforeEach(() => {
  arena = openArena()
  ;({ secret, local, remote, respondTo } = playersAt(arena))
})
afterEach(() => arena.close())

test('pqxdh.json', () => {
  const { cases } = load('pqxdh', pqxdhVectors(arena))
  for (const c of cases) {
    if (c.side === 'responder') {
      expect(
        codeOf(() => respondTo(c, c.handshake!, c.exporter)),
        c.id,
      ).toBe(c.expect)
      continue
    }
    const start = (): ReturnType<typeof initiate> =>
      initiate({
        arena,
        self: local(c.initiator),
        peer: remote(c.responder, c.responder.signKey),
        bundle: decodeBundle(fromHex(c.bundle!)),
        epoch: c.epoch,
        random:
          c.expect === 'ok' ? queueRandom(fromHex(c.ekSecret!), fromHex(c.ratchetSecret!)) : (length) => new Uint8Array(length).fill(1),
        ...(c.coins === undefined ? {} : { encapsulation: (at, key) => kem.encapsulateWithCoins(at, key, fromHex(c.coins!)) }),
        ...(c.exporter === null ? {} : { salt: secret(c.exporter) }),
        ...(c.reset === undefined ? {} : { reset: c.reset }),
      })
    if (c.expect !== 'ok') {
      expect(codeOf(start), c.id).toBe(c.expect)
      continue
    }
    const { state, sid, handshake } = start()
    expect(toHex(encodeHandshake(handshake)), c.id).toBe(c.handshake)
    expect([toHex(sid), transcriptIn(state)], c.id).toEqual([c.sid, c.transcript])
    const responder = respondTo(c, c.handshake!, c.exporter)
    expect([toHex(responder.sid), transcriptIn(responder.state), rootIn(responder.state)], c.id).toEqual([c.sid, c.transcript, c.sk])
    // SK is the responder's first root; the initiator has taken one step from it.
    const spkPublic = decodeBundle(fromHex(c.bundle!)).spk.key
    const first = oracle.kdfRoot(fromHex(c.sk!), oracle.x25519.getSharedSecret(fromHex(c.ratchetSecret!), spkPublic))
    expect(rootIn(state), c.id).toBe(toHex(first.root))
  }
  expectEnoughFailures(cases)
})

test('ratchet.json', () => {
  const { cases } = load('ratchet', ratchetVectors(arena))
  for (const c of cases) {
    let { state } = respondTo(c, c.handshake, null)
    for (const [index, step] of c.steps.entries()) {
      const name = `step ${index}: ${step.comment}`
      const before = hexOf(state)
      if (step.do === 'seal') {
        const sealed = encrypt({ arena, random: queueRandom(...step.random!.map(fromHex)), state, plaintext: fromHex(step.plaintext!) })
        expect(toHex(sealed.envelope) === step.envelope, name).toBe(true)
        state = sealed.state
        continue
      }
      const act = (): ReturnType<typeof decrypt> =>
        decrypt({ arena, state, envelope: decodeEnvelope(fromHex(step.envelope)), now: step.now! })
      if (step.expect === 'ok') {
        const opened = act()
        expect(toHex(opened.plaintext), name).toBe(step.plaintext)
        state = opened.state
      } else {
        expect(codeOf(act), name).toBe(step.expect)
        expect(hexOf(state), name).toBe(before)
      }
    }
    expectEnoughFailures(c.steps)
  }
})

test('envelope.json', () => {
  const { cases } = load('envelope', envelopeVectors(arena))
  for (const c of cases) {
    const bytes = fromHex(c.bytes)
    expect(
      codeOf(() => (c.kind === 'envelope' ? decodeEnvelope(bytes) : decodeBundle(bytes))),
      c.id,
    ).toBe(c.expect)
    if (c.expect !== 'ok') continue
    expect(c.kind === 'envelope' ? encodeEnvelope(decodeEnvelope(bytes)) : encodeBundle(decodeBundle(bytes)), c.id).toEqual(bytes)
  }
  expectEnoughFailures(cases)
})

test('primitives.json', () => {
  const { cases } = load('primitives', primitiveVectors())
  for (const c of cases) {
    const at = (key: string): Uint8Array => fromHex(c.input[key]!)
    withScratch(arena, 128, (bytes) => {
      const part = (index: number): Uint8Array => bytes.subarray(32 * index, 32 * (index + 1))
      if (c.op === 'kdfRoot') {
        part(0).set(at('root'))
        kdfRoot(arena, part(0), at('dh'), part(1), part(2))
        expect({ root: toHex(part(0)), chain: toHex(part(1)), exporter: toHex(part(2)) }, c.id).toEqual(c.output)
      } else if (c.op === 'kdfChain') {
        part(0).set(at('chain'))
        kdfChain(part(0), part(1))
        expect({ chain: toHex(part(0)), messageKey: toHex(part(1)) }, c.id).toEqual(c.output)
      } else if (c.op === 'sealMessage') {
        const sealed = sealMessage(arena, at('messageKey'), at('salt'), at('aad'), at('plaintext'))
        expect({ ciphertext: toHex(sealed.ciphertext), commit: toHex(sealed.commit) }, c.id).toEqual(c.output)
        expect(openMessage(arena, at('messageKey'), at('salt'), at('aad'), sealed), c.id).toEqual(at('plaintext'))
      } else {
        expect(
          codeOf(() => openMessage(arena, at('messageKey'), at('salt'), at('aad'), { ciphertext: at('ciphertext'), commit: at('commit') })),
          c.id,
        ).toBe(c.expect)
      }
    })
  }
  expectEnoughFailures(cases)
})

describe('the second implementation', () => {
  test('seals the first message of a session to the same bytes', () => {
    const c = pqxdhVectors(arena).cases[0]!
    const bundle = decodeBundle(fromHex(c.bundle!))
    const salt = new Uint8Array(32).fill(5)
    const { state, handshake } = initiate({
      arena,
      self: local(c.initiator),
      peer: remote(c.responder, c.responder.signKey),
      bundle,
      epoch: c.epoch,
      random: queueRandom(fromHex(c.ekSecret!), fromHex(c.ratchetSecret!)),
      encapsulation: (at, key) => kem.encapsulateWithCoins(at, key, fromHex(c.coins!)),
    })
    const plaintext = fromHex('c0ffee')
    const ours = decodeEnvelope(encrypt({ arena, random: queueRandom(salt), state, handshake, plaintext }).envelope)
    const aad = Buffer.concat([fromHex(c.transcript!), ours.headerBytes, fromHex(c.handshake!)])
    const theirs = oracle.firstMessage(fromHex(c.sk!), fromHex(c.ratchetSecret!), bundle.spk.key, salt, aad, plaintext)
    expect({ ciphertext: ours.ciphertext, commit: ours.commit }).toEqual(theirs)
  })
})

import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { utf8 } from '@tallystick/primitives/bytes'
import type { RandomSource } from '@tallystick/primitives/random'
import { type SecretArena, secretFrom } from '@tallystick/secret-bytes/arena'
import { decodeEnvelope, type Handshake } from '@tallystick/wire/envelope'
import { decrypt } from '../src/double-ratchet.js'
import { initiate } from '../src/pqxdh.js'
import { answer, bundleOf, type Fleet, makeFleet, openArena, seededRandom, Side, start } from './fixtures.js'

let arena: SecretArena
let a: Fleet
let b: Fleet
beforeEach(() => {
  arena = openArena()
  a = makeFleet(arena, 'acme')
  b = makeFleet(arena, 'globex')
})
afterEach(() => arena.close())

const random = seededRandom('reset')
const withCode = (code: string): unknown => expect.objectContaining({ code })

describe('reset', () => {
  test('starts a session that says so in its handshake', () => {
    const { state, handshake } = start(arena, a, b, random, { epoch: 4, reset: true })
    expect(handshake).toMatchObject({ reset: true })
    expect(handshake.continuity).toBeUndefined()
    const responder = answer(arena, b, a, handshake, { epoch: 4 })
    const [alice, bob] = [new Side(arena, random, state, handshake), new Side(arena, random, responder.state)]
    expect(bob.receive(alice.send(utf8('anew'))).plaintext).toEqual(utf8('anew'))
  })

  test('cannot be made of a first handshake, nor taken for one: the transcripts differ', () => {
    for (const reset of [true, false]) {
      const { state, sid, handshake } = start(arena, a, b, random, { reset })
      const { reset: _, ...plain } = handshake
      const changed: Handshake = reset ? plain : { ...plain, reset: true }
      const responder = answer(arena, b, a, changed)
      expect(responder.sid).not.toEqual(sid)
      const envelope = decodeEnvelope(new Side(arena, random, state, handshake).send(utf8('x')))
      expect(() => decrypt({ arena, state: responder.state, envelope, now: 0 })).toThrow(withCode('Decryption'))
    }
  })

  test('continues nothing: not together with a salt, on either side', () => {
    const salt = secretFrom(arena, new Uint8Array(32).fill(1))
    const before = arena.usedBytes
    expect(() => start(arena, a, b, random, { reset: true, salt })).toThrow(withCode('Encryption'))
    expect(arena.usedBytes).toBe(before)
    const { handshake } = start(arena, a, b, random, { reset: true })
    expect(() => answer(arena, b, a, handshake, { salt })).toThrow(withCode('ContinuityBroken'))
  })
})

test('an initiator that fails at any step leaves no key in the arena', () => {
  // Ephemeral key, ratchet key; then what the KEM takes and what the derivation takes.
  const failing = (at: number): RandomSource => {
    let calls = 0
    return (length) => {
      if (++calls === at) throw new Error('out of randomness')
      return random(length)
    }
  }
  const bundle = bundleOf(b)
  const args = { arena, self: a.self, peer: b.remote, bundle, epoch: 1 }
  const before = arena.usedBytes
  for (const at of [1, 2]) {
    expect(() => initiate({ ...args, random: failing(at) })).toThrow('out of randomness')
    expect(arena.usedBytes).toBe(before)
  }
  const noKem = () => {
    throw new Error('no encapsulation')
  }
  expect(() => initiate({ ...args, random, encapsulation: noKem })).toThrow('no encapsulation')
  expect(arena.usedBytes).toBe(before)
  const destroyed = secretFrom(arena, new Uint8Array(32))
  destroyed.destroy()
  expect(() => initiate({ ...args, random, salt: destroyed })).toThrow()
  expect(arena.usedBytes).toBe(before)
})

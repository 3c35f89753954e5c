/** What a thief can do with what it has copied: a session state, or the identity keys of the responder. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { utf8 } from '@tallystick/primitives/bytes'
import * as x25519 from '@tallystick/primitives/x25519'
import { type SecretArena, type SecretBytes, secretFrom, withSecret } from '@tallystick/secret-bytes/arena'
import { decodeEnvelope } from '@tallystick/wire/envelope'
import { decrypt } from '../src/double-ratchet.js'
import { initiate } from '../src/pqxdh.js'
import { answer, bundleOf, makeFleet, openArena, seededRandom, Side, startPair } from './fixtures.js'

let arena: SecretArena
beforeEach(() => {
  arena = openArena()
})
afterEach(() => arena.close())

const withCode = (code: string): unknown => expect.objectContaining({ code })

/** Has a copy of a side's state and the recorded traffic, and only listens. */
class Thief {
  #state: SecretBytes
  readonly #now: number

  constructor(victim: Side) {
    this.#now = victim.now
    this.#state = secretFrom(
      arena,
      withSecret(victim.state, (bytes) => bytes.slice()),
    )
  }

  /** Goes on from each message that it can read, as the victim does. */
  read(envelope: Uint8Array): Uint8Array {
    const { state, plaintext } = decrypt({ arena, state: this.#state, envelope: decodeEnvelope(envelope), now: this.#now })
    this.#state.destroy()
    this.#state = state
    return plaintext
  }
}

describe('a copied session state', () => {
  /** A conversation in progress, and one of its messages on record. */
  function conversation(): { alice: Side; bob: Side; recorded: Uint8Array } {
    const { alice, bob } = startPair(arena)
    const recorded = alice.send(utf8('before'))
    bob.receive(recorded)
    alice.receive(bob.send(utf8('reply')))
    bob.receive(alice.send(utf8('a turn later')))
    return { alice, bob, recorded }
  }

  test('reads on until one full round trip has healed the session, and nothing from before', () => {
    const { alice, bob, recorded } = conversation()
    const thief = new Thief(bob)
    expect(() => thief.read(recorded)).toThrow(withCode('Decryption'))

    const sameChain = alice.send(utf8('same chain'))
    expect(thief.read(sameChain)).toEqual(utf8('same chain'))
    bob.receive(sameChain)

    alice.receive(bob.send(utf8('with a new key of bob')))
    const healed = alice.send(utf8('with a new key of alice'))
    expect(() => thief.read(healed)).toThrow(withCode('Decryption'))
    expect(bob.receive(healed).plaintext).toEqual(utf8('with a new key of alice'))
    // It stays out: nothing later opens to it either.
    alice.receive(bob.send(utf8('and again')))
    const later = alice.send(utf8('later'))
    expect(() => thief.read(later)).toThrow(withCode('Decryption'))
    expect(bob.receive(later).plaintext).toEqual(utf8('later'))
  })

  test('heals from both sides: the state of whoever sends next is of no use either', () => {
    const { alice, bob } = conversation()
    const thief = new Thief(alice)
    const known = bob.send(utf8('to the copied key'))
    expect(thief.read(known)).toEqual(utf8('to the copied key'))
    alice.receive(known)
    // The reply brings a key of alice that the thief has never seen.
    bob.receive(alice.send(utf8('reply')))
    const healed = bob.send(utf8('to the new key'))
    expect(() => thief.read(healed)).toThrow(withCode('Decryption'))
    expect(alice.receive(healed).plaintext).toEqual(utf8('to the new key'))
  })
})

describe('stolen identity keys of a responder', () => {
  test('do not let the thief speak to it as somebody else', () => {
    const alice = makeFleet(arena, 'acme')
    const bob = makeFleet(arena, 'globex')
    const random = seededRandom('thief')
    /** A first message in alice's name: all that is public about her, and a private key that the thief tries for hers. */
    const speaksAsAlice = (dhSecret: SecretBytes): { text: Uint8Array } => {
      const { state, handshake, sid } = initiate({
        arena,
        random,
        self: { ...alice.remote, dhSecret },
        peer: bob.remote,
        bundle: bundleOf(bob),
        epoch: 0,
      })
      const envelope = new Side(arena, random, state, handshake).send(utf8('pay this account instead'))
      const responder = answer(arena, bob, alice, handshake)
      // All that is compared in the clear agrees: only the keys can tell.
      expect(responder.sid).toEqual(sid)
      return { text: new Side(arena, random, responder.state).receive(envelope).plaintext }
    }
    // With bob's identity key the thief computes DH2, as with its ephemeral key; DH1 takes alice's key or bob's prekey.
    expect(() => speaksAsAlice(bob.self.dhSecret)).toThrow(withCode('Decryption'))
    expect(() => speaksAsAlice(x25519.generateKeyPair(arena, random).secret)).toThrow(withCode('Decryption'))
    // Nothing but the private key is wrong with these messages.
    expect(speaksAsAlice(alice.self.dhSecret).text).toEqual(utf8('pay this account instead'))
  })
})

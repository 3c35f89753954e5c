import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { toHex, utf8 } from '@tallystick/primitives/bytes'
import { type SecretArena, SecretArena as Arena, secretFrom, withSecret } from '@tallystick/secret-bytes/arena'
import { decodeEnvelope, encodeEnvelope, encodeHandshake, encodeHeader, type Header } from '@tallystick/wire/envelope'
import { decrypt, describe as describeState, encrypt } from '../src/double-ratchet.js'
import { MAX_JUMP, MAX_SKIPPED, MAX_SKIPPED_AGE_MS } from '../src/limits.js'
import { hexOf, openArena, seededRandom, type Side, start, startPair } from './fixtures.js'

let arena: SecretArena
let alice: Side
let bob: Side
beforeEach(() => {
  arena = openArena()
  ;({ alice, bob } = startPair(arena))
})
afterEach(() => arena.close())

const withCode = (code: string): unknown => expect.objectContaining({ code })

/** The receiver refuses with this code, and neither its state nor the arena has changed. */
function refuses(side: Side, envelope: Uint8Array, code: string): void {
  const [state, used] = [hexOf(side.state), arena.usedBytes]
  expect(() => side.receive(envelope)).toThrow(withCode(code))
  expect(hexOf(side.state)).toBe(state)
  expect(arena.usedBytes).toBe(used)
}

function withHeader(envelope: Uint8Array, change: Partial<Header>): Uint8Array {
  const decoded = decodeEnvelope(envelope)
  return encodeEnvelope({ ...decoded, headerBytes: encodeHeader({ ...decoded.header, ...change }) })
}

function opens(side: Side, envelope: Uint8Array, text: string): void {
  expect(side.receive(envelope).plaintext).toEqual(utf8(text))
}

describe('conversation', () => {
  test('many turns; every ratchet key and every salt is new', () => {
    const seen = new Set<string>()
    for (let turn = 0; turn < 10; turn++) {
      for (const [from, to] of [
        [alice, bob],
        [bob, alice],
      ] as const) {
        const before = seen.size
        for (let i = 0; i < 3; i++) {
          const envelope = from.send(utf8(`turn ${turn} message ${i}`))
          const { header } = decodeEnvelope(envelope)
          seen.add(`dh ${toHex(header.dh)}`)
          seen.add(`salt ${toHex(header.salt)}`)
          opens(to, envelope, `turn ${turn} message ${i}`)
        }
        expect(seen.size - before).toBe(4)
      }
    }
    expect(describeState(alice.state)).toMatchObject({ sent: 30, received: 30, skipped: 0, confirmed: true, initiator: true })
  })

  test('the functional core leaves the state it was given alone, also on success', () => {
    const before = hexOf(alice.state)
    const handshake = alice.handshake!
    const result = encrypt({ arena, random: alice.random, state: alice.state, handshake, plaintext: utf8('x') })
    expect(hexOf(alice.state)).toBe(before)
    const bobBefore = hexOf(bob.state)
    decrypt({ arena, state: bob.state, envelope: decodeEnvelope(result.envelope), now: 0 })
    expect(hexOf(bob.state)).toBe(bobBefore)
  })

  test('empty and 4 MiB', () => {
    opens(bob, alice.send(new Uint8Array(0)), '')
    const large = new Uint8Array(4 * 1024 * 1024).fill(0x5a)
    expect(Buffer.compare(bob.receive(alice.send(large)).plaintext, large)).toBe(0)
    const before = hexOf(alice.state)
    expect(() => alice.send(new Uint8Array(large.length + 1))).toThrow(withCode('Encryption'))
    expect(hexOf(alice.state)).toBe(before)
  })

  test('envelopes of one bucket have one length', () => {
    expect(alice.send(utf8('a')).length).toBe(alice.send(new Uint8Array(1000)).length)
  })
})

describe('handshake', () => {
  test('goes in front of each message until the first reply, and not afterwards', () => {
    const envelopes = [alice.send(utf8('1')), alice.send(utf8('2'))]
    for (const envelope of envelopes) expect(decodeEnvelope(envelope).handshake).toEqual(alice.handshake)
    opens(bob, envelopes[1]!, '2')
    const reply = bob.send(utf8('r'))
    expect(decodeEnvelope(reply).handshake).toBeUndefined()
    opens(alice, reply, 'r')
    expect(decodeEnvelope(alice.send(utf8('3'))).handshake).toBeUndefined()
    opens(bob, envelopes[0]!, '1')
  })

  test('an initiator that leaves it out, or takes another one, is stopped', () => {
    const { arena: a, random, state } = alice
    expect(() => encrypt({ arena: a, random, state, plaintext: utf8('x') })).toThrow(withCode('Encryption'))
    const other = { ...alice.handshake!, spkId: 99 }
    expect(() => encrypt({ arena: a, random, state, handshake: other, plaintext: utf8('x') })).toThrow(withCode('Encryption'))
  })

  test('a changed, removed or added handshake does not decrypt', () => {
    const envelope = decodeEnvelope(alice.send(utf8('1')))
    refuses(bob, encodeEnvelope({ ...envelope, handshakeBytes: new Uint8Array(0) }), 'Decryption')
    refuses(bob, encodeEnvelope({ ...envelope, handshakeBytes: encodeHandshake({ ...envelope.handshake!, pqId: 77 }) }), 'Decryption')
    bob.receive(encodeEnvelope(envelope))
    const reply = decodeEnvelope(bob.send(utf8('r')))
    refuses(alice, encodeEnvelope({ ...reply, handshakeBytes: encodeHandshake(alice.handshake!) }), 'Decryption')
    opens(alice, encodeEnvelope(reply), 'r')
  })

  test('a responder cannot send before it has received', () => {
    expect(describeState(bob.state).canSend).toBe(false)
    expect(() => bob.send(utf8('x'))).toThrow(withCode('Encryption'))
  })
})

describe('refusals before anything is derived', () => {
  test('a header without a ratchet key does not even decode', () => {
    const { header } = decodeEnvelope(alice.send(utf8('x')))
    expect(() => encodeHeader({ ...header, dh: new Uint8Array(0) })).toThrow(withCode('Serialization'))
  })

  test('no receiving chain and no DH step', () => {
    // The peer's ratchet key that an initiator starts with is the signed prekey: nobody can send under it.
    const foreign = alice.send(utf8('x'))
    bob.receive(foreign)
    const reply = bob.send(utf8('r'))
    const spk = withSecret(alice.state, (bytes) => bytes.slice(216, 248))
    refuses(alice, withHeader(reply, { dh: spk }), 'Decryption')
    refuses(alice, withHeader(reply, { dh: spk, n: 5 }), 'Decryption')
    opens(alice, reply, 'r')
  })

  test('the last number of a chain', () => {
    withSecret(alice.state, (bytes) => bytes.fill(0xff, 24, 28))
    expect(() => alice.send(utf8('x'))).toThrow(withCode('EpochExpired'))
    withSecret(alice.state, (bytes) => bytes.fill(0, 24, 28))
    const envelope = alice.send(utf8('x'))
    withSecret(bob.state, (bytes) => bytes.set([0xff, 0xff, 0xff, 0xfe], 28))
    refuses(bob, withHeader(envelope, { n: 0xffff_ffff }), 'Decryption')
  })

  test('another sid or epoch', () => {
    const envelope = alice.send(utf8('x'))
    refuses(bob, withHeader(envelope, { sid: new Uint8Array(16) }), 'Decryption')
    refuses(bob, withHeader(envelope, { epoch: 1 }), 'Decryption')
    opens(bob, envelope, 'x')
  })

  test('a step that was not asked for: two new ratchet keys without a reply in between', () => {
    opens(bob, alice.send(utf8('1')), '1')
    const envelope = alice.send(utf8('2'))
    refuses(bob, withHeader(envelope, { dh: new Uint8Array(32).fill(9), n: 0 }), 'Decryption')
    opens(bob, envelope, '2')
  })

  test('a previous chain shorter than what was received of it', () => {
    opens(bob, alice.send(utf8('1')), '1')
    opens(bob, alice.send(utf8('2')), '2')
    opens(alice, bob.send(utf8('r')), 'r')
    // Bob must have a ratchet key out, or the step itself would be refused.
    bob.send(utf8('lost'))
    const envelope = alice.send(utf8('3'))
    expect(decodeEnvelope(envelope).header.pn).toBe(2)
    refuses(bob, withHeader(envelope, { pn: 1 }), 'Decryption')
    refuses(bob, withHeader(envelope, { pn: 3 }), 'Decryption')
    opens(bob, envelope, '3')
  })

  test('a jump of 1000 is followed, one of 1001 is not, and costs nothing', () => {
    const envelopes = Array.from({ length: MAX_JUMP + 2 }, (_, i) => alice.send(utf8(String(i))))
    const began = performance.now()
    refuses(bob, envelopes[MAX_JUMP + 1]!, 'TooManySkipped')
    refuses(bob, withHeader(envelopes[0]!, { n: 0x8000_0000 }), 'TooManySkipped')
    expect(performance.now() - began).toBeLessThan(20)
    opens(bob, envelopes[MAX_JUMP]!, String(MAX_JUMP))
    expect(describeState(bob.state).skipped).toBe(MAX_JUMP)
    opens(bob, envelopes[MAX_JUMP + 1]!, String(MAX_JUMP + 1))
    opens(bob, envelopes[0]!, '0')
    opens(bob, envelopes[500]!, '500')
    expect(describeState(bob.state).skipped).toBe(MAX_JUMP - 2)
  })

  test('both chains of a step count together', () => {
    opens(bob, alice.send(utf8('first')), 'first')
    const lost = Array.from({ length: 600 }, (_, i) => alice.send(utf8(`old ${i}`)))
    opens(alice, bob.send(utf8('r')), 'r')
    const later = Array.from({ length: 402 }, (_, i) => alice.send(utf8(`new ${i}`)))
    refuses(bob, later[401]!, 'TooManySkipped')
    opens(bob, later[400]!, 'new 400')
    expect(describeState(bob.state).skipped).toBe(1000)
    opens(bob, lost[599]!, 'old 599')
    opens(bob, later[0]!, 'new 0')
  })
})

describe('kept keys', () => {
  test('the oldest are evicted beyond 1000', () => {
    const first = Array.from({ length: 901 }, (_, i) => alice.send(utf8(`a${i}`)))
    opens(bob, first[900]!, 'a900')
    const second = Array.from({ length: 201 }, (_, i) => alice.send(utf8(`b${i}`)))
    expect(bob.receive(second[200]!).usedKeys).toEqual({ dhStep: false, stored: 200, dropped: 100, fromStore: false })
    expect(describeState(bob.state).skipped).toBe(MAX_SKIPPED)
    refuses(bob, first[99]!, 'DuplicateMessage')
    opens(bob, first[100]!, 'a100')
    opens(bob, second[199]!, 'b199')
  })

  test('they age out after 14 days, and not before', () => {
    const envelopes = Array.from({ length: 4 }, (_, i) => alice.send(utf8(`m${i}`)))
    opens(bob, envelopes[2]!, 'm2')
    bob.now += MAX_SKIPPED_AGE_MS
    opens(bob, envelopes[0]!, 'm0')
    bob.now += 1
    expect(bob.receive(envelopes[3]!).usedKeys.dropped).toBe(1)
    refuses(bob, envelopes[1]!, 'DuplicateMessage')
  })

  test('a clock set back ages nothing', () => {
    const envelopes = Array.from({ length: 3 }, (_, i) => alice.send(utf8(`m${i}`)))
    opens(bob, envelopes[1]!, 'm1')
    bob.now = 5
    opens(bob, envelopes[2]!, 'm2')
    opens(bob, envelopes[0]!, 'm0')
  })

  test('a key is used once', () => {
    const envelopes = [alice.send(utf8('0')), alice.send(utf8('1'))]
    opens(bob, envelopes[1]!, '1')
    expect(bob.receive(envelopes[0]!).usedKeys.fromStore).toBe(true)
    refuses(bob, envelopes[0]!, 'DuplicateMessage')
    refuses(bob, envelopes[1]!, 'DuplicateMessage')
  })
})

describe('verify, then commit', () => {
  test('a changed commitment is VerificationFailed and does not burn the key of the genuine message', () => {
    for (const prepare of [
      () => alice.send(utf8('m')),
      () => {
        alice.send(utf8('skipped'))
        return alice.send(utf8('m'))
      },
    ]) {
      const envelope = prepare()
      const { commit, ...rest } = decodeEnvelope(envelope)
      for (const at of [0, 15, 31]) {
        const changed = commit.slice()
        changed[at]! ^= 1
        refuses(bob, encodeEnvelope({ ...rest, commit: changed }), 'VerificationFailed')
      }
      opens(bob, envelope, 'm')
    }
  })

  test('a commitment from another message does not fit either', () => {
    const [first, second] = [decodeEnvelope(alice.send(utf8('same'))), decodeEnvelope(alice.send(utf8('same')))]
    expect(toHex(first.commit)).not.toBe(toHex(second.commit))
    refuses(bob, encodeEnvelope({ ...first, commit: second.commit }), 'VerificationFailed')
  })

  test('each byte of an envelope changed, one after the other: nothing decrypts, nothing changes', () => {
    alice.send(utf8('lost'))
    const envelope = alice.send(utf8('genuine'))
    const [state, used] = [hexOf(bob.state), arena.usedBytes]
    const codes = new Map<string, number>()
    for (let i = 0; i < envelope.length; i++) {
      const changed = envelope.slice()
      changed[i]! ^= 1 << (i % 8)
      let code = 'it decrypted'
      try {
        bob.receive(changed)
      } catch (error) {
        code = (error as { code: string }).code
      }
      codes.set(code, (codes.get(code) ?? 0) + 1)
    }
    expect([...codes.keys()].sort()).toEqual(
      ['Decryption', 'Serialization', 'TooManySkipped', 'UnsupportedVersion', 'VerificationFailed'].filter((code) => codes.has(code)),
    )
    expect(codes.get('VerificationFailed')).toBe(32)
    expect(hexOf(bob.state)).toBe(state)
    expect(arena.usedBytes).toBe(used)
    opens(bob, envelope, 'genuine')
  })

  test('every reason of a failed decryption reads the same', () => {
    const envelope = alice.send(utf8('x'))
    const tampered = decodeEnvelope(envelope)
    tampered.ciphertext[0]! ^= 1
    const messages = new Set(
      [
        withHeader(envelope, { epoch: 3 }),
        withHeader(envelope, { dh: new Uint8Array(32) }),
        withHeader(envelope, { salt: new Uint8Array(32) }),
        encodeEnvelope(tampered),
      ].map((bytes) => {
        try {
          bob.receive(bytes)
        } catch (error) {
          return `${(error as { code: string }).code}: ${(error as Error).message}`
        }
        return 'it decrypted'
      }),
    )
    expect([...messages]).toEqual(['Decryption: cannot be decrypted'])
  })

  test('a full arena is a fault of its own and changes nothing', () => {
    const envelopes = Array.from({ length: 200 }, (_, i) => alice.send(utf8(String(i))))
    const free = arena.size - arena.usedBytes
    const filler = arena.allocate(free - 8 * 1024)
    refuses(bob, envelopes[199]!, 'KeyStorage')
    filler.destroy()
    opens(bob, envelopes[199]!, '199')
  })
})

describe('a restored state (rollback)', () => {
  test('repeats a message key, but neither AEAD key nor nonce', () => {
    const { random, handshake } = alice
    const [pt1, pt2] = [new Uint8Array(900).fill(1), new Uint8Array(900).fill(2)]
    const once = decodeEnvelope(encrypt({ arena, random, state: alice.state, handshake: handshake!, plaintext: pt1 }).envelope)
    const again = decodeEnvelope(encrypt({ arena, random, state: alice.state, handshake: handshake!, plaintext: pt2 }).envelope)
    expect([again.header.dh, again.header.n]).toEqual([once.header.dh, once.header.n])
    const xor = once.ciphertext.slice(4, 904).map((byte, i) => byte ^ again.ciphertext[4 + i]!)
    // Under one key stream every byte would be 1 ⊕ 2.
    expect(xor.filter((byte) => byte === 3).length).toBeLessThan(100)
  })
})

describe('state bytes', () => {
  test('survive leaving and entering another arena', () => {
    opens(bob, alice.send(utf8('1')), '1')
    const lost = alice.send(utf8('2'))
    opens(bob, alice.send(utf8('3')), '3')
    const sealed = withSecret(bob.state, (bytes) => bytes.slice())
    const elsewhere = Arena.open(16 * 1024, { allowUnlocked: true })
    const restored = secretFrom(elsewhere, sealed)
    expect(decrypt({ arena: elsewhere, state: restored, envelope: decodeEnvelope(lost), now: 0 }).plaintext).toEqual(utf8('2'))
    elsewhere.close()
  })

  test('what is no state is KeyStorage(storeFailed)', () => {
    const good = withSecret(alice.state, (bytes) => bytes.slice())
    const bad = [new Uint8Array(0), new Uint8Array(10), good.slice(1), good.slice(0, -1), new Uint8Array([...good, 0])]
    const version = good.slice()
    version[0] = 2
    const count = good.slice()
    count[39] = 1
    for (const bytes of [...bad, version, count]) {
      const state = secretFrom(arena, bytes)
      expect(() => describeState(state)).toThrow(expect.objectContaining({ code: 'KeyStorage', reason: 'storeFailed' }))
      expect(() => encrypt({ arena, random: alice.random, state, plaintext: utf8('x') })).toThrow(withCode('KeyStorage'))
    }
  })

  test('a secret that was used is not in the next state', () => {
    const ratchetSecret = withSecret(alice.state, (bytes) => toHex(bytes.slice(152, 184)))
    const chain = withSecret(alice.state, (bytes) => toHex(bytes.slice(248, 280)))
    opens(bob, alice.send(utf8('1')), '1')
    expect(hexOf(alice.state)).not.toContain(chain)
    expect(hexOf(alice.state)).toContain(ratchetSecret)
    opens(alice, bob.send(utf8('r')), 'r')
    expect(hexOf(alice.state)).not.toContain(ratchetSecret)
    expect(withSecret(alice.state, (bytes) => toHex(bytes.slice(152, 184)))).toBe('00'.repeat(32))
  })

  test('no operation leaves anything in the arena but the state it returns', () => {
    const used = arena.usedBytes
    for (let i = 0; i < 20; i++) {
      opens(bob, alice.send(utf8('a')), 'a')
      opens(alice, bob.send(utf8('b')), 'b')
    }
    expect(arena.usedBytes).toBe(used)
  })
})

test("sessions of other pairs do not open each other's messages", () => {
  const other = startPair(arena, 'another')
  const envelope = other.alice.send(utf8('x'))
  refuses(bob, envelope, 'Decryption')
  refuses(bob, withHeader(envelope, { sid: describeState(bob.state).sid }), 'Decryption')
  start(arena, other.a, other.b, seededRandom('unused')).state.destroy()
})

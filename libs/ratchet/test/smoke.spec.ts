import { expect, test } from 'vitest'
import { utf8 } from '@tallystick/primitives/bytes'
import { openArena, startPair } from './fixtures.js'
test('talk', () => {
  const arena = openArena()
  const { alice, bob } = startPair(arena)
  const used = arena.usedBytes
  for (let i = 0; i < 5; i++) {
    expect(bob.receive(alice.send(utf8('hello ' + i))).plaintext).toEqual(utf8('hello ' + i))
    expect(bob.receive(alice.send(utf8('hello ' + i))).plaintext).toEqual(utf8('hello ' + i))
    expect(alice.receive(bob.send(utf8('yo ' + i))).plaintext).toEqual(utf8('yo ' + i))
  }
  expect(arena.usedBytes).toBe(used)
})

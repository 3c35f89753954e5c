/** rotation.json: made again it comes out the same, and the product gives its values. @see docs/spec/session.md §7, §11 */
import { afterEach, beforeEach, expect, test } from 'vitest'
import { fromHex, toHex } from '@tallystick/primitives/bytes'
import type { SecretArena, SecretBytes } from '@tallystick/secret-bytes/arena'
import { decodeBundle } from '@tallystick/wire/bundle'
import { decodeEnvelope, decodeHandshake, encodeHandshake } from '@tallystick/wire/envelope'
import { decrypt, exporter } from '../src/double-ratchet.js'
import { type Initiated, winsOver } from '../src/pqxdh.js'
import { hexOf, openArena } from './fixtures.js'
import { type RotationCase, type RotationFile, rotationVectors } from './rotation-cases.js'
import { begin, playEarlier } from './rotation-players.js'
import { type KnownSession, resetEpoch, saltFor } from './rotation-rule.js'
import { codeOf, expectEnoughFailures, load, playersAt, rootIn, transcriptIn } from './vector-support.js'

let arena: SecretArena
let c: RotationFile & RotationCase
beforeEach(() => {
  arena = openArena()
})
afterEach(() => arena.close())

const results = (state: SecretBytes): object => ({ transcript: transcriptIn(state), sk: rootIn(state) })

function answer(sessions: readonly KnownSession[]): void {
  const envelope = decodeEnvelope(fromHex(c.envelope!))
  const { epoch } = envelope.header
  const act = (): { state: SecretBytes; plaintext: Uint8Array } => {
    const salt = saltFor(arena, sessions, envelope.handshake!, epoch)
    const parties = { initiator: c.peer, responder: c.self, epoch }
    const { state } = playersAt(arena).respondTo(parties, toHex(envelope.handshakeBytes), salt === null ? null : hexOf(salt))
    if (c.expect === 'ok') {
      expect(salt === null ? null : hexOf(salt), c.id).toBe(c.exporter)
      expect(results(state), c.id).toEqual({ transcript: c.transcript, sk: c.sk })
    }
    return { state, plaintext: decrypt({ arena, state, envelope, now: c.now! }).plaintext }
  }
  const before = sessions.map(({ state }) => hexOf(state))
  if (c.expect === 'ok') {
    expect([toHex(act().plaintext), toHex(envelope.header.sid), epoch], c.id).toEqual([c.plaintext, c.sid, c.epoch])
    expect(toHex(envelope.handshakeBytes), c.id).toBe(c.handshake)
  } else {
    expect(codeOf(act), c.id).toBe(c.expect)
  }
  expect(
    sessions.map(({ state }) => hexOf(state)),
    c.id,
  ).toEqual(before)
}

function start(sessions: readonly KnownSession[]): void {
  const newest = sessions.at(-1)!
  const act = (): Initiated & { epoch: number; salt: SecretBytes | null } => {
    const salt = c.reset ? null : exporter(newest.state, arena)
    const epoch = c.reset ? resetEpoch(newest.epoch, decodeBundle(fromHex(c.bundle!)).epoch ?? 0) : newest.epoch + 1
    return { epoch, salt, ...begin(arena, c, c, epoch, { reset: c.reset!, ...(salt === null ? {} : { salt }) }) }
  }
  if (c.expect !== 'ok') return expect(codeOf(act), c.id).toBe(c.expect)
  const { epoch, salt, state, sid, handshake } = act()
  expect([epoch, salt === null ? null : hexOf(salt)], c.id).toEqual([c.epoch, c.exporter])
  expect([toHex(encodeHandshake(handshake)), transcriptIn(state), toHex(sid)], c.id).toEqual([c.handshake, c.transcript, c.sid])
}

function cross(): void {
  const { id, ours, theirs, winner } = c
  const wins = ours!.epoch > theirs!.epoch || (ours!.epoch === theirs!.epoch && winsOver(...both(ours!.handshake, theirs!.handshake)))
  expect(wins ? 'ours' : 'theirs', id).toBe(winner)
}
const both = (a: string, b: string): [ReturnType<typeof decodeHandshake>, ReturnType<typeof decodeHandshake>] => [
  decodeHandshake(fromHex(a)),
  decodeHandshake(fromHex(b)),
]

test('rotation.json', () => {
  const file = load('rotation', rotationVectors(arena))
  const { cases } = file
  for (const one of cases) {
    c = { ...file, ...one }
    const sessions = c.sessions.map((name) => playEarlier(arena, c, c.earlier[name]!))
    if (c.do === 'answer') answer(sessions)
    else if (c.do === 'begin') start(sessions)
    else cross()
    for (const { state } of sessions) state.destroy()
  }
  expectEnoughFailures(cases)
}, 60_000)

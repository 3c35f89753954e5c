/** Plays what rotation.json describes with the product's ratchet. @see docs/spec/session.md §11 */
import { fromHex, toHex } from '@tallystick/primitives/bytes'
import * as kem from '@tallystick/primitives/mlkem1024'
import type { SecretArena, SecretBytes } from '@tallystick/secret-bytes/arena'
import { decodeBundle } from '@tallystick/wire/bundle'
import { decodeEnvelope, decodeHandshake } from '@tallystick/wire/envelope'
import { decrypt, encrypt } from '../src/double-ratchet.js'
import { initiate, type Initiated } from '../src/pqxdh.js'
import type { EarlierSession, RotationFile } from './rotation-cases.js'
import type { KnownSession } from './rotation-rule.js'
import { queueRandom } from './vector-cases.js'
import { playersAt } from './vector-support.js'

export type Material = Pick<EarlierSession, 'bundle' | 'ekSecret' | 'ratchetSecret' | 'coins'>
type Parties = Pick<RotationFile, 'self' | 'peer'>

/** `self` begins a session. */
export function begin(
  arena: SecretArena,
  { self, peer }: Parties,
  material: Material,
  epoch: number,
  options: { salt?: SecretBytes; reset?: boolean } = {},
): Initiated {
  const { local, remote } = playersAt(arena)
  return initiate({
    arena,
    self: local(self),
    peer: remote(peer, peer.signKey),
    bundle: decodeBundle(fromHex(material.bundle!)),
    epoch,
    random: queueRandom(fromHex(material.ekSecret!), fromHex(material.ratchetSecret!)),
    encapsulation: (at, key) => kem.encapsulateWithCoins(at, key, fromHex(material.coins!)),
    ...options,
  })
}

/** A session that `self` has when a case begins. Throws when a step does not come out as it is written down. */
export function playEarlier(arena: SecretArena, parties: Parties, session: EarlierSession): KnownSession {
  const { epoch, began, givenUp, handshake } = session
  const roles = { initiator: parties.peer, responder: parties.self, epoch }
  let { state } = began === 'self' ? begin(arena, parties, session, epoch) : playersAt(arena).respondTo(roles, handshake, null)
  for (const { do: what, envelope, plaintext, now, random, comment } of session.steps) {
    const is = (made: Uint8Array, expected: string): void => {
      if (toHex(made) !== expected) throw new Error(`step "${comment}" gives something else`)
    }
    if (what === 'open') {
      const opened = decrypt({ arena, state, envelope: decodeEnvelope(fromHex(envelope)), now: now! })
      is(opened.plaintext, plaintext!)
      state = opened.state
    } else {
      const source = queueRandom(...random!.map(fromHex))
      const sealed = encrypt({
        arena,
        random: source,
        state,
        handshake: decodeHandshake(fromHex(handshake)),
        plaintext: fromHex(plaintext!),
      })
      is(sealed.envelope, envelope)
      state = sealed.state
    }
  }
  return { epoch, ours: began === 'self', lost: givenUp, state }
}

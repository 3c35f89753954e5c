/**
 * A model of two fleets with a hostile network between them: any interleaving of sending, losing, delivering twice or
 * out of order, changing bytes and restarting, both sides free to start first. What must hold is checked after
 * each event, so a run that ends is a run that kept every rule.
 */
import * as fc from 'fast-check'
import { toHex, utf8 } from '@tallystick/primitives/bytes'
import { ProtocolError } from '@tallystick/primitives/errors'
import { SecretArena } from '@tallystick/secret-bytes/arena'
import { decodeEnvelope, type Envelope, type Handshake } from '@tallystick/wire/envelope'
import { winsOver } from '../src/pqxdh.js'
import { answer, type Fleet, hexOf, makeFleet, seededRandom, Side, start } from './fixtures.js'

export type Event =
  | { readonly do: 'send'; readonly by: 0 | 1; readonly size: number }
  | { readonly do: 'deliver' | 'again' | 'lose'; readonly which: number }
  | { readonly do: 'change'; readonly which: number; readonly at: number; readonly bit: number }
  | { readonly do: 'restart'; readonly by: 0 | 1 }

const by = fc.constantFrom<0 | 1>(0, 1)
const event: fc.Arbitrary<Event> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('send' as const), by, size: fc.integer({ min: 0, max: 1500 }) }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('deliver' as const), which: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('again' as const, 'lose' as const), which: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('change' as const), which: fc.nat(), at: fc.nat(), bit: fc.nat({ max: 7 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('restart' as const), by }) },
)
export const program = (most: number): fc.Arbitrary<Event[]> => fc.array(event, { minLength: 1, maxLength: most })

interface Message {
  readonly to: 0 | 1
  readonly text: string
  readonly bytes: Uint8Array
}

interface Session {
  readonly side: Side
  readonly handshake: Handshake
  readonly ours: boolean
}

/** What a session-holding service does, without a database. */
class Party {
  readonly sessions = new Map<string, Session>()
  readonly world: World
  readonly me: Fleet
  readonly peer: Fleet

  constructor(world: World, me: Fleet, peer: Fleet) {
    this.world = world
    this.me = me
    this.peer = peer
  }

  send(text: string): Uint8Array {
    return this.preferred().side.send(utf8(text))
  }

  /** The session whose handshake has the lowest EK of those known here; a new one when none is. */
  preferred(): Session {
    let best: Session | undefined
    for (const session of this.sessions.values()) if (best === undefined || winsOver(session.handshake, best.handshake)) best = session
    if (best !== undefined) return best
    const { arena, random, SideClass } = this.world
    const { state, sid, handshake } = start(arena, this.me, this.peer, random)
    const session = { side: new SideClass(arena, random, state, handshake), handshake, ours: true }
    this.sessions.set(toHex(sid), session)
    return session
  }

  /** @returns the plaintext; throws ProtocolError when it does not open, and then keeps nothing new */
  receive(bytes: Uint8Array): Uint8Array {
    const envelope: Envelope = decodeEnvelope(bytes)
    const known = this.sessions.get(toHex(envelope.header.sid))
    if (known !== undefined) return known.side.receive(bytes).plaintext
    if (envelope.handshake === undefined) throw new ProtocolError('Decryption', 'cannot be decrypted')
    const { arena, random, SideClass } = this.world
    const { state, sid } = answer(arena, this.me, this.peer, envelope.handshake)
    const side = new SideClass(arena, random, state)
    try {
      const { plaintext } = side.receive(bytes)
      this.sessions.set(toHex(sid), { side, handshake: envelope.handshake, ours: false })
      return plaintext
    } catch (error) {
      side.state.destroy()
      throw error
    }
  }

  fingerprint(): string {
    return [...this.sessions].map(([sid, { side }]) => `${sid} ${hexOf(side.state)}`).join('\n')
  }
}

export class World {
  readonly arena: SecretArena
  readonly random = seededRandom('world')
  readonly SideClass: typeof Side
  readonly parties: readonly [Party, Party]
  readonly flying: Message[] = []
  readonly opened: Message[] = []
  /** (sid, ratchet key, number) of each envelope that was sent. */
  readonly #names = new Set<string>()
  #counter = 0

  constructor(arena: SecretArena, fleets: readonly [Fleet, Fleet], SideClass: typeof Side = Side) {
    this.arena = arena
    this.SideClass = SideClass
    this.parties = [new Party(this, fleets[0], fleets[1]), new Party(this, fleets[1], fleets[0])]
  }

  run(events: readonly Event[]): void {
    for (const one of events) this.step(one)
    // What is still on its way arrives, newest first, and everything opens: nothing was lost by losing the rest.
    while (this.flying.length > 0) this.deliver(this.flying.length - 1)
  }

  step(one: Event): void {
    switch (one.do) {
      case 'send':
        return this.send(one.by, one.size)
      case 'restart':
        return this.parties[one.by].sessions.forEach(({ side }) => side.restart())
      case 'deliver':
        return this.flying.length === 0 ? undefined : this.deliver(one.which % this.flying.length)
      case 'lose':
        return void (this.flying.length > 0 && this.flying.splice(one.which % this.flying.length, 1))
      case 'again':
        return this.opened.length === 0 ? undefined : this.mustFail(this.opened[one.which % this.opened.length]!, undefined)
      case 'change': {
        if (this.flying.length === 0) return
        const message = this.flying[one.which % this.flying.length]!
        const bytes = message.bytes.slice()
        bytes[one.at % bytes.length]! ^= 1 << one.bit
        return this.mustFail({ ...message, bytes }, message)
      }
    }
  }

  send(from: 0 | 1, size: number): void {
    const text = `${this.#counter++} `.padEnd(size, '.')
    const bytes = this.parties[from].send(text)
    const { sid, dh, n } = decodeEnvelope(bytes).header
    const name = `${toHex(sid)} ${toHex(dh)} ${n}`
    if (this.#names.has(name)) throw new Error('a message key was handed out twice')
    this.#names.add(name)
    this.flying.push({ to: from === 0 ? 1 : 0, text, bytes })
  }

  deliver(index: number): void {
    const [message] = this.flying.splice(index, 1)
    const plaintext = this.parties[message!.to].receive(message!.bytes)
    if (Buffer.compare(plaintext, utf8(message!.text)) !== 0) throw new Error('another plaintext than was sent')
    this.opened.push(message!)
  }

  /** @param genuine of which `message` is a changed copy; absent for a repetition */
  mustFail(message: Message, genuine: Message | undefined): void {
    const party = this.parties[message.to]
    const [before, used] = [party.fingerprint(), this.arena.usedBytes]
    try {
      party.receive(message.bytes)
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error
      const changedCommit = genuine !== undefined && onlyCommitDiffers(message.bytes, genuine.bytes)
      if (changedCommit !== (error.code === 'VerificationFailed')) throw new Error(`${error.code}, commitment changed: ${changedCommit}`)
      if (party.fingerprint() !== before) throw new Error('a failed decryption changed the state')
      if (this.arena.usedBytes !== used) throw new Error('a failed decryption left secrets in the arena')
      return
    }
    throw new Error(genuine === undefined ? 'a repetition decrypted' : 'a changed envelope decrypted')
  }

  close(): void {
    for (const party of this.parties) for (const { side } of party.sessions.values()) side.state.destroy()
  }
}

function onlyCommitDiffers(changed: Uint8Array, genuine: Uint8Array): boolean {
  try {
    return toHex(decodeEnvelope(changed).commit) !== toHex(decodeEnvelope(genuine).commit)
  } catch {
    return false
  }
}

/** Two fleets and an arena for many worlds; a world starts without sessions. */
export function stage(): { arena: SecretArena; fleets: readonly [Fleet, Fleet] } {
  const arena = SecretArena.open(1024 * 1024, { allowUnlocked: true })
  return { arena, fleets: [makeFleet(arena, 'acme'), makeFleet(arena, 'globex')] }
}

/** Runs one program in a world of its own; throws when a rule is broken. */
export function runProgram(at: ReturnType<typeof stage>, events: readonly Event[], SideClass: typeof Side = Side): void {
  const world = new World(at.arena, at.fleets, SideClass)
  try {
    world.run(events)
  } finally {
    world.close()
  }
}

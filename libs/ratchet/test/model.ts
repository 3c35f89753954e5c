/**
 * A model of two fleets with a hostile network between them: any interleaving of sending, losing, delivering twice or
 * out of order, changing bytes, rotating, ending in the middle, restarting, and being put back to an old copy, both
 * sides free to start first. What must hold is checked after each event, so a run that ends is a run that kept every
 * rule.
 */
import * as fc from 'fast-check'
import { toHex, utf8 } from '@tallystick/primitives/bytes'
import type { ProtocolError } from '@tallystick/primitives/errors'
import { SecretArena } from '@tallystick/secret-bytes/arena'
import { decodeEnvelope } from '@tallystick/wire/envelope'
import { type Fleet, makeFleet, seededRandom, Side } from './fixtures.js'
import { Party, type Surroundings } from './model-party.js'
import { isRefusal, type NotReady } from './rotation-rule.js'

export type Event =
  | { readonly do: 'send'; readonly by: 0 | 1; readonly size: number }
  | { readonly do: 'deliver' | 'again' | 'lose'; readonly which: number }
  | { readonly do: 'change'; readonly which: number; readonly at: number; readonly bit: number }
  | { readonly do: 'restart' | 'rotate' | 'abort' | 'snapshot' | 'restore'; readonly by: 0 | 1 }

const by = fc.constantFrom<0 | 1>(0, 1)
const event: fc.Arbitrary<Event> = fc.oneof(
  { weight: 12, arbitrary: fc.record({ do: fc.constant('send' as const), by, size: fc.integer({ min: 0, max: 1500 }) }) },
  // Any message that is on its way: the network puts them into any order.
  { weight: 12, arbitrary: fc.record({ do: fc.constant('deliver' as const), which: fc.nat() }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constantFrom('again' as const, 'lose' as const), which: fc.nat() }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('change' as const), which: fc.nat(), at: fc.nat(), bit: fc.nat({ max: 7 }) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('rotate' as const), by }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('restart' as const, 'abort' as const), by }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constantFrom('snapshot' as const, 'restore' as const), by }) },
)
export const program = (most: number): fc.Arbitrary<Event[]> => fc.array(event, { minLength: 1, maxLength: most, size: 'max' })

/** Two sides that lost a state must find together again within this many. */
const ROUND_TRIPS = 10

interface Message {
  readonly to: 0 | 1
  readonly text: string
  readonly bytes: Uint8Array
  readonly sid: string
}
interface Opened extends Message {
  /** Number of the event that opened it. */
  readonly at: number
}

/** What many worlds did, for the line that a test prints. */
export class Tally {
  programs = 0
  events = 0
  mismatches = 0
  opened = 0
  /** Most exchanges in which something was still lost after a restore. */
  slowest = 0
  /** Failed decryptions, each of which left every state as it was, byte for byte. */
  failed = 0
  /** What happened, by name: events that came to nothing (nothing to rotate yet, no copy to restore) are not in it. */
  readonly done = new Map<string, number>()

  count(what: string): void {
    this.done.set(what, (this.done.get(what) ?? 0) + 1)
  }

  details(): string {
    return [['messages opened', this.opened] as const, ['round trips to heal, at most', this.slowest] as const, ...this.done]
      .map(([what, count]) => `${what}: ${count}`)
      .join(', ')
  }

  line(): string {
    return `${this.programs} programs, ${this.events} events, ${this.mismatches} mismatches, ${this.failed} failed decrypts left the state unchanged`
  }
}

export interface WorldOptions {
  readonly SideClass?: typeof Side
  readonly trustRestored?: boolean
  readonly tally?: Tally
}

export class World implements Surroundings {
  readonly arena: SecretArena
  readonly random = seededRandom('world')
  readonly SideClass: typeof Side
  readonly trustRestored: boolean
  readonly tally: Tally
  readonly prekeysOf = new Map<string, number>()
  readonly parties: readonly [Party, Party]
  readonly flying: Message[] = []
  opened: Opened[] = []
  /** (sid, ratchet key, number) of each envelope that was sent. */
  readonly #names = new Set<string>()
  /** How often each party had been restored when a session began, or the session whose exporter salts it. */
  readonly #births = new Map<string, readonly [number, number]>()
  #tick = 0

  constructor(arena: SecretArena, fleets: readonly [Fleet, Fleet], options: WorldOptions = {}) {
    this.arena = arena
    this.SideClass = options.SideClass ?? Side
    this.trustRestored = options.trustRestored ?? false
    this.tally = options.tally ?? new Tally()
    const [a, b] = [new Party(this, fleets[0], fleets[1]), new Party(this, fleets[1], fleets[0])]
    a.other = b
    b.other = a
    this.parties = [a, b]
  }

  run(events: readonly Event[]): void {
    this.tally.programs++
    for (const one of events) this.step(one)
    // What is still on its way arrives, newest first, and everything opens: nothing was lost by losing the rest.
    while (this.flying.length > 0) this.deliver(this.flying.length - 1)
    this.settle()
  }

  /** Whatever came before: within ten exchanges without loss both sides send on one session, and all that is sent opens. */
  settle(): void {
    for (let round = 1; round <= ROUND_TRIPS; round++) {
      const before = this.tally.opened
      for (const who of [0, 1] as const) {
        this.send(who, 10)
        this.deliver(0)
      }
      if (this.tally.opened !== before + 2) this.tally.slowest = Math.max(this.tally.slowest, round)
      if (round === ROUND_TRIPS && this.tally.opened !== before + 2) throw new Error('the two sides do not find together again')
    }
    const [a, b] = this.parties.map((party) => party.preferred()![0])
    if (a !== b) throw new Error('the two sides send on different sessions')
  }

  step(one: Event): void {
    this.#tick++
    this.tally.events++
    switch (one.do) {
      case 'send':
        return this.send(one.by, one.size)
      case 'restart':
        return this.parties[one.by].sessions.forEach(({ side }) => side.restart())
      case 'rotate':
        return this.rotate(one.by)
      case 'abort':
        return this.parties[one.by].abort('never leaves')
      case 'snapshot':
        return this.parties[one.by].takeSnapshot(this.#tick)
      case 'restore':
        return this.restore(one.by)
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
    const text = `${this.#names.size} `.padEnd(size, '.')
    const { bytes, sid } = this.parties[from].send(text)
    const { dh, n } = decodeEnvelope(bytes).header
    const name = `${sid} ${toHex(dh)} ${n}`
    if (this.#names.has(name)) throw new Error('a message key was handed out twice')
    this.#names.add(name)
    if (!this.#births.has(sid)) {
      this.#births.set(sid, [this.parties[0].restores, this.parties[1].restores])
      this.tally.count(this.parties[from].sessions.get(sid)!.handshake.reset ? 'resets' : 'first sessions')
    }
    this.flying.push({ to: from === 0 ? 1 : 0, text, bytes, sid })
  }

  rotate(who: 0 | 1): void {
    const begun = this.parties[who].rotate()
    if (begun === undefined) return
    this.#births.set(begun.sid, this.#births.get(begun.base)!)
    this.tally.count('rotations')
  }

  /** What the party opened since the copy, it has never seen. */
  restore(who: 0 | 1): void {
    const { snapshot } = this.parties[who]
    if (snapshot === undefined) return
    this.parties[who].restore()
    this.tally.count('restores')
    this.opened = this.opened.filter(({ to, at }) => to !== who || at <= snapshot.tick)
  }

  deliver(index: number): void {
    const [message] = this.flying.splice(index, 1)
    if (!this.mustOpen(message!)) return this.mayOpen(message!)
    this.#compare(message!, this.parties[message!.to].receive(message!.bytes))
  }

  /**
   * Whether a message that was not changed has to open: the receiver has the session, or can answer its handshake.
   * It cannot when it was restored since, or when a newer session was agreed on before this one's handshake came.
   */
  mustOpen({ to, bytes, sid }: Message): boolean {
    const party = this.parties[to]
    if (party.sessions.has(sid) && this.#births.get(sid)![to] === party.restores) return true
    const { handshake, header } = decodeEnvelope(bytes)
    if (handshake !== undefined && party.isPast(handshake, header.epoch)) return false
    return this.#births.get(sid)![to] === party.restores
  }

  mayOpen(message: Message): void {
    const plaintext = this.#attempt(message)
    if (plaintext instanceof Uint8Array) this.#compare(message, plaintext)
    else this.tally.count('messages lost with a restored state')
  }

  /** @param genuine of which `message` is a changed copy; absent for a repetition */
  mustFail(message: Message, genuine: Message | undefined): void {
    const certain = genuine === undefined || this.mustOpen(genuine)
    const error = this.#attempt(message)
    if (error instanceof Uint8Array) throw new Error(genuine === undefined ? 'a repetition decrypted' : 'a changed envelope decrypted')
    const changedCommit = genuine !== undefined && onlyCommitDiffers(message.bytes, genuine.bytes)
    if (certain && changedCommit !== (error.code === 'VerificationFailed'))
      throw new Error(`${error.code}, commitment changed: ${changedCommit}`)
  }

  /** @returns the plaintext, or the refusal; nothing may have changed by it */
  #attempt(message: Message): Uint8Array | ProtocolError | NotReady {
    const party = this.parties[message.to]
    const [earlier, used] = [party.fingerprint(), this.arena.usedBytes]
    try {
      return party.receive(message.bytes)
    } catch (error) {
      if (!isRefusal(error)) throw error
      party.failed()
      if (party.fingerprint() !== earlier) throw new Error('a failed decryption changed the state')
      if (this.arena.usedBytes !== used) throw new Error('a failed decryption left secrets in the arena')
      this.tally.failed++
      return error
    }
  }

  #compare(message: Message, plaintext: Uint8Array): void {
    if (Buffer.compare(plaintext, utf8(message.text)) !== 0) {
      this.tally.mismatches++
      throw new Error('another plaintext than was sent')
    }
    this.tally.opened++
    this.opened.push({ ...message, at: this.#tick })
  }

  close(): void {
    for (const party of this.parties) party.close()
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
export function runProgram(at: ReturnType<typeof stage>, events: readonly Event[], options: WorldOptions = {}): void {
  const world = new World(at.arena, at.fleets, options)
  try {
    world.run(events)
  } finally {
    world.close()
  }
}

/** One fleet of the model: what a session-holding service does, without a database. @see docs/spec/session.md §7 */
import { toHex, utf8 } from '@tallystick/primitives/bytes'
import { ProtocolError } from '@tallystick/primitives/errors'
import type { RandomSource } from '@tallystick/primitives/random'
import { type SecretArena, type SecretBytes, secretFrom, withSecret } from '@tallystick/secret-bytes/arena'
import { decodeEnvelope, type Handshake } from '@tallystick/wire/envelope'
import { describe, exporter } from '../src/double-ratchet.js'
import { winsOver } from '../src/pqxdh.js'
import { answer, type Fleet, hexOf, type Side, start } from './fixtures.js'
import { horizon, type KnownSession, resetEpoch, saltFor } from './rotation-rule.js'

export interface Session {
  readonly side: Side
  readonly handshake: Handshake
  readonly ours: boolean
  readonly epoch: number
  /** Receive-only: a reset has taken its place, or it was put back from a copy. */
  lost: boolean
}

/** Failures without a success in between. */
const SUSPECT_FAILURES = 3

interface Snapshot {
  readonly tick: number
  readonly sessions: readonly (readonly [string, Omit<Session, 'side'> & { readonly state: Uint8Array }])[]
}

/** What a party needs of the world around it. */
export interface Surroundings {
  readonly arena: SecretArena
  readonly random: RandomSource
  readonly SideClass: typeof Side
  /** A restored party goes on as if nothing had happened: the mistake that a test must see caught. */
  readonly trustRestored: boolean
  /** Number of the party's prekeys, by handshake: a restored party has destroyed those it had. */
  readonly prekeysOf: Map<string, number>
}

export class Party {
  sessions = new Map<string, Session>()
  /** How often this party was put back to a copy. */
  restores = 0
  snapshot: Snapshot | undefined
  #mustReset = false
  #failures = 0
  readonly #world: Surroundings
  readonly #me: Fleet
  readonly #peer: Fleet
  /** The other party: its bundles are fetched from it directly. */
  other!: Party

  constructor(world: Surroundings, me: Fleet, peer: Fleet) {
    this.#world = world
    this.#me = me
    this.#peer = peer
  }

  send(text: string): { readonly bytes: Uint8Array; readonly sid: string } {
    const [sid, session] = (this.#mustReset ? undefined : this.preferred()) ?? this.#begin()
    return { bytes: session.side.send(utf8(text)), sid }
  }

  /** What is left when the process ends between the ratchet and the commit: nothing, and nothing has left. */
  abort(text: string): void {
    const found = this.preferred()
    if (found === undefined) return
    const { side } = found[1]
    const before = withSecret(side.state, (bytes) => bytes.slice())
    side.send(utf8(text))
    side.replace(secretFrom(this.#world.arena, before))
  }

  /** The newest epoch's session; of two that crossed, the one with the lower EK. */
  preferred(): [string, Session] | undefined {
    let best: [string, Session] | undefined
    for (const entry of this.sessions) if (!entry[1].lost && (best === undefined || before(entry[1], best[1]))) best = entry
    return best
  }

  /** @returns the sid of a new epoch; undefined while the peer is not known to have an exporter */
  rotate(): { readonly sid: string; readonly base: string } | undefined {
    const found = this.#mustReset ? undefined : this.preferred()
    if (found === undefined || describe(found[1].side.state).exporterHash === null) return undefined
    const salt = exporter(found[1].side.state, this.#world.arena)
    try {
      return { sid: this.#start({ epoch: found[1].epoch + 1, salt })[0], base: found[0] }
    } finally {
      salt.destroy()
    }
  }

  /** @returns the plaintext; throws ProtocolError when it does not open, and then keeps nothing new */
  receive(bytes: Uint8Array): Uint8Array {
    const { header, handshake } = decodeEnvelope(bytes)
    const known = this.sessions.get(toHex(header.sid))
    if (known !== undefined) {
      const { plaintext } = known.side.receive(bytes)
      this.#failures = 0
      return plaintext
    }
    if (handshake === undefined) throw new ProtocolError('ResyncRequired', 'a session that is not known here')
    const { arena, random, SideClass, prekeysOf } = this.#world
    if ((prekeysOf.get(toHex(handshake.ek)) ?? this.restores) !== this.restores)
      throw new ProtocolError('Decryption', 'the prekeys are no longer there')
    const salt = saltFor(arena, this.#known(), handshake, header.epoch)
    const options = { epoch: header.epoch, ...(salt === null ? {} : { salt }) }
    let side: Side
    try {
      side = new SideClass(arena, random, answer(arena, this.#me, this.#peer, handshake, options).state)
    } finally {
      salt?.destroy()
    }
    try {
      const { plaintext } = side.receive(bytes)
      this.#failures = 0
      if (handshake.reset) this.#supersede(header.epoch)
      this.sessions.set(toHex(header.sid), { side, handshake, ours: false, epoch: header.epoch, lost: false })
      return plaintext
    } catch (error) {
      side.state.destroy()
      throw error
    }
  }

  /** Something did not decrypt: the third time in a row the party starts over. @see docs/spec/custody.md §7 */
  failed(): void {
    if (++this.#failures < SUSPECT_FAILURES) return
    this.#failures = 0
    this.#mustReset = true
  }

  /** Whether a handshake comes too late: a session that is newer has been agreed on since. */
  isPast(handshake: Handshake, epoch: number): boolean {
    const { h } = horizon(this.#known())
    const answered = [...this.sessions.values()].some((session) => session.epoch === h && !session.ours)
    return handshake.reset || answered ? epoch <= h : epoch < h
  }

  takeSnapshot(tick: number): void {
    const copy = (secret: SecretBytes): Uint8Array => withSecret(secret, (bytes) => bytes.slice())
    const sessions = [...this.sessions].map(([sid, { side, ...rest }]) => [sid, { ...rest, state: copy(side.state) }] as const)
    this.snapshot = { tick, sessions }
  }

  /** Back to the copy. A service notices (docs/spec/custody.md §7): it sends nothing on what it finds, and its prekeys go. */
  restore(): void {
    const { arena, random, SideClass, trustRestored } = this.#world
    this.close()
    this.sessions = new Map(
      this.snapshot!.sessions.map(([sid, { state, ...rest }]) => {
        const side = new SideClass(arena, random, secretFrom(arena, state.slice()), rest.ours ? rest.handshake : undefined)
        return [sid, { ...rest, lost: rest.lost || !trustRestored, side }]
      }),
    )
    this.#mustReset = !trustRestored
    this.restores++
  }

  fingerprint(): string {
    return [...this.sessions].map(([sid, { side, lost }]) => `${sid} ${lost} ${hexOf(side.state)}`).join('\n')
  }

  close(): void {
    for (const { side } of this.sessions.values()) side.state.destroy()
  }

  highestEpoch(): number {
    return Math.max(0, ...[...this.sessions.values()].map(({ epoch }) => epoch))
  }

  #known(): KnownSession[] {
    return [...this.sessions.values()].map(({ epoch, ours, lost, side }) => ({ epoch, ours, lost, state: side.state }))
  }

  #begin(): [string, Session] {
    if (!this.#mustReset) return this.#start({ epoch: 1 })
    const epoch = resetEpoch(this.highestEpoch(), this.other.highestEpoch())
    this.#supersede(epoch)
    return this.#start({ epoch, reset: true })
  }

  #start(options: { epoch: number; salt?: SecretBytes; reset?: true }): [string, Session] {
    const { arena, random, SideClass, prekeysOf } = this.#world
    const { state, sid, handshake } = start(arena, this.#me, this.#peer, random, options)
    prekeysOf.set(toHex(handshake.ek), this.other.restores)
    const session = { side: new SideClass(arena, random, state, handshake), handshake, ours: true, epoch: options.epoch, lost: false }
    this.sessions.set(toHex(sid), session)
    return [toHex(sid), session]
  }

  /** A reset of this epoch is the session from now on. */
  #supersede(epoch: number): void {
    this.#mustReset = false
    for (const session of this.sessions.values()) if (session.epoch < epoch) session.lost = true
  }
}

function before(a: Session, b: Session): boolean {
  if (a.epoch !== b.epoch) return a.epoch > b.epoch
  return winsOver(a.handshake, b.handshake)
}

/**
 * The bytes of a session state: one flat record in the arena, so that copying, sealing at rest and wiping a session
 * each is one operation, and "nothing changed" can be checked byte for byte.
 * @see docs/spec/session.md §8
 */
import { ProtocolError } from '@tallystick/primitives/errors'
import { MAX_EXPORTERS, MAX_SKIPPED } from './limits.js'

export const STATE_VERSION = 1

const FLAG = { initiator: 0x01, confirmed: 0x02, sending: 0x04, receiving: 0x08, ownKey: 0x10, remoteKey: 0x20 } as const
type FlagName = keyof typeof FLAG

const AT = {
  version: 0,
  flags: 1,
  epoch: 4,
  sent: 8,
  received: 16,
  ns: 24,
  nr: 28,
  pn: 32,
  skippedCount: 36,
  sid: 40,
  transcript: 56,
  handshakeDigest: 88,
  root: 120,
  ownSecret: 152,
  ownPublic: 184,
  remote: 216,
  sendingChain: 248,
  receivingChain: 280,
  exporters: 312,
} as const

const EXPORTER_SLOT = 33
/** Bytes before the first kept message key. */
export const FIXED_BYTES = AT.exporters + MAX_EXPORTERS * EXPORTER_SLOT
/** dh (32) ‖ n (4) ‖ stored at, ms (8) ‖ message key (32). */
export const SKIPPED_BYTES = 76

/** Which of the two sides made the DH step that an exporter came from. */
export type ExporterRole = 'sent' | 'received'
const ROLE_BYTE: Record<ExporterRole, number> = { sent: 1, received: 2 }

export interface SkippedEntry {
  readonly dh: Uint8Array
  readonly n: number
  readonly storedAt: number
  readonly messageKey: Uint8Array
}

/** Length in bytes of a state with `skipped` kept keys. */
export function stateLength(skipped: number): number {
  return FIXED_BYTES + skipped * SKIPPED_BYTES
}

/**
 * A view of a state's bytes, in the arena. Setters write through: callers use them on a copy of their own only.
 * Accessors of byte fields give views, not copies.
 */
export class StateView {
  readonly bytes: Uint8Array
  readonly #data: DataView

  /** @throws ProtocolError KeyStorage(storeFailed) when the bytes are no state of this version */
  constructor(bytes: Uint8Array) {
    this.bytes = bytes
    this.#data = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    if (
      bytes.length < FIXED_BYTES ||
      bytes[AT.version] !== STATE_VERSION ||
      this.skippedCount > MAX_SKIPPED ||
      bytes.length !== stateLength(this.skippedCount)
    ) {
      throw new ProtocolError('KeyStorage', 'not a session state', { reason: 'storeFailed' })
    }
  }

  /** Turns zeroed bytes of `stateLength(0)` into an empty state. */
  static blank(bytes: Uint8Array): StateView {
    bytes.fill(0)
    bytes[AT.version] = STATE_VERSION
    return new StateView(bytes)
  }

  /** Turns zeroed bytes of `stateLength(skipped)` into a copy of `old` with room for that many kept keys. */
  static successor(bytes: Uint8Array, old: StateView, skipped: number): StateView {
    bytes.set(old.bytes.subarray(0, FIXED_BYTES))
    new DataView(bytes.buffer, bytes.byteOffset).setUint32(AT.skippedCount, skipped)
    return new StateView(bytes)
  }

  has(flag: FlagName): boolean {
    return (this.bytes[AT.flags]! & FLAG[flag]) !== 0
  }

  set(flag: FlagName, on: boolean): void {
    const flags = this.bytes[AT.flags]!
    this.bytes[AT.flags] = on ? flags | FLAG[flag] : flags & ~FLAG[flag]
  }

  get epoch(): number {
    return this.#data.getUint32(AT.epoch)
  }
  set epoch(value: number) {
    this.#data.setUint32(AT.epoch, value)
  }
  /** Messages sent in this session, over all chains. */
  get sent(): number {
    return Number(this.#data.getBigUint64(AT.sent))
  }
  set sent(value: number) {
    this.#data.setBigUint64(AT.sent, BigInt(value))
  }
  /** Messages decrypted in this session, over all chains. */
  get received(): number {
    return Number(this.#data.getBigUint64(AT.received))
  }
  set received(value: number) {
    this.#data.setBigUint64(AT.received, BigInt(value))
  }
  get ns(): number {
    return this.#data.getUint32(AT.ns)
  }
  set ns(value: number) {
    this.#data.setUint32(AT.ns, value)
  }
  get nr(): number {
    return this.#data.getUint32(AT.nr)
  }
  set nr(value: number) {
    this.#data.setUint32(AT.nr, value)
  }
  get pn(): number {
    return this.#data.getUint32(AT.pn)
  }
  set pn(value: number) {
    this.#data.setUint32(AT.pn, value)
  }
  get skippedCount(): number {
    return this.#data.getUint32(AT.skippedCount)
  }

  get sid(): Uint8Array {
    return this.#at(AT.sid, 16)
  }
  get transcript(): Uint8Array {
    return this.#at(AT.transcript)
  }
  get handshakeDigest(): Uint8Array {
    return this.#at(AT.handshakeDigest)
  }
  get root(): Uint8Array {
    return this.#at(AT.root)
  }
  get ownSecret(): Uint8Array {
    return this.#at(AT.ownSecret)
  }
  get ownPublic(): Uint8Array {
    return this.#at(AT.ownPublic)
  }
  get remote(): Uint8Array {
    return this.#at(AT.remote)
  }
  get sendingChain(): Uint8Array {
    return this.#at(AT.sendingChain)
  }
  get receivingChain(): Uint8Array {
    return this.#at(AT.receivingChain)
  }

  /** Puts the exporter of a DH step in front; the oldest falls off the end. */
  pushExporter(role: ExporterRole, exporter: Uint8Array): void {
    const end = AT.exporters + MAX_EXPORTERS * EXPORTER_SLOT
    this.bytes.copyWithin(AT.exporters + EXPORTER_SLOT, AT.exporters, end - EXPORTER_SLOT)
    this.bytes[AT.exporters] = ROLE_BYTE[role]
    this.#at(AT.exporters + 1).set(exporter)
  }

  /** Newest first. */
  *exporters(): Generator<{ role: ExporterRole; exporter: Uint8Array }> {
    for (let i = 0; i < MAX_EXPORTERS; i++) {
      const offset = AT.exporters + i * EXPORTER_SLOT
      const role = this.bytes[offset]
      if (role === 0) return
      yield { role: role === ROLE_BYTE.sent ? 'sent' : 'received', exporter: this.#at(offset + 1) }
    }
  }

  /** @param index 0 is the oldest */
  skipped(index: number): SkippedEntry {
    const offset = FIXED_BYTES + index * SKIPPED_BYTES
    return {
      dh: this.#at(offset),
      n: this.#data.getUint32(offset + 32),
      storedAt: Number(this.#data.getBigUint64(offset + 36)),
      messageKey: this.#at(offset + 44),
    }
  }

  writeSkipped(index: number, entry: SkippedEntry): void {
    const offset = FIXED_BYTES + index * SKIPPED_BYTES
    this.#at(offset).set(entry.dh)
    this.#data.setUint32(offset + 32, entry.n)
    this.#data.setBigUint64(offset + 36, BigInt(entry.storedAt))
    this.#at(offset + 44).set(entry.messageKey)
  }

  /** Index of the kept key for this message, or -1. Message numbers and ratchet keys are public: no secret is compared. */
  findSkipped(dh: Uint8Array, n: number): number {
    for (let i = 0; i < this.skippedCount; i++) {
      const offset = FIXED_BYTES + i * SKIPPED_BYTES
      if (this.#data.getUint32(offset + 32) === n && samePublic(this.#at(offset), dh)) return i
    }
    return -1
  }

  #at(offset: number, length = 32): Uint8Array {
    return this.bytes.subarray(offset, offset + length)
  }
}

/** Equality of public values; not constant time. */
export function samePublic(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}

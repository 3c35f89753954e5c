/**
 * Which handshakes a side answers, written from the text for tests of the ratchet alone: the product's own decision is
 * made beside its database.
 * @see docs/spec/session.md §7.1, §7.2
 */
import { ProtocolError } from '@tallystick/primitives/errors'
import type { SecretArena, SecretBytes } from '@tallystick/secret-bytes/arena'
import type { Handshake } from '@tallystick/wire/envelope'
import { describe, exporterByName } from '../src/double-ratchet.js'

/** Not a refusal of the protocol but of a service, which asks to be called again. */
export class NotReady extends Error {
  readonly code = 'NotReady'
}

export const isRefusal = (error: unknown): error is ProtocolError | NotReady => error instanceof ProtocolError || error instanceof NotReady

export interface KnownSession {
  readonly epoch: number
  readonly ours: boolean
  /** Given up: never sent on again. */
  readonly lost: boolean
  readonly state: SecretBytes
}

/** Furthest that a reset may be ahead of every epoch known here. */
export const MAX_RESET_JUMP = 2 ** 20

/** `h` and `a` of the text. */
export function horizon(sessions: readonly KnownSession[]): { h: number; a: number } {
  const settled = sessions.filter(({ ours, state }) => !ours || describe(state).confirmed)
  return { h: Math.max(0, ...settled.map(({ epoch }) => epoch)), a: Math.max(0, ...sessions.map(({ epoch }) => epoch)) }
}

/**
 * @returns the exporter that salts the answer, owned by the caller; null for zeros
 * @throws ProtocolError ContinuityBroken, NotReady
 */
export function saltFor(arena: SecretArena, sessions: readonly KnownSession[], handshake: Handshake, epoch: number): SecretBytes | null {
  const { h, a } = horizon(sessions)
  const broken = (): never => {
    throw new ProtocolError('ContinuityBroken', 'the handshake does not continue the session at hand')
  }
  if (handshake.reset) return epoch > h && epoch <= a + MAX_RESET_JUMP + 1 ? null : broken()
  if (epoch < h || (epoch === h && sessions.some((session) => session.epoch === h && !session.ours))) return broken()
  if (epoch > a + 1) throw new NotReady('an earlier handshake has not come yet')
  const previous = sessions.filter((session) => session.epoch === epoch - 1)
  if (handshake.continuity !== undefined) {
    for (const { state } of previous) {
      try {
        return exporterByName(state, arena, handshake.continuity)
      } catch (error) {
        if (!(error instanceof ProtocolError && error.code === 'ContinuityBroken')) throw error
      }
    }
    return broken()
  }
  const silent = previous.some(({ lost }) => !lost) && previous.every(({ lost, state }) => lost || describe(state).sent === 0)
  return epoch === 1 || silent ? null : broken()
}

/** Epoch of a reset by this side. @throws ProtocolError VerificationFailed for a hint that is out of reach */
export function resetEpoch(own: number, hint: number): number {
  if (hint > own + MAX_RESET_JUMP) throw new ProtocolError('VerificationFailed', 'the epoch of the bundle is out of reach')
  return Math.max(own, hint) + 1
}

/**
 * Seam for checks from outside: one JSON line per envelope released or opened, digests only, so that a checker can see
 * that no (ratchet key, n) ever carries two ciphertexts.
 */
import { appendFileSync } from 'node:fs'
import { concat, toHex, u32be } from '@tallystick/primitives/bytes'
import { sha256 } from '@tallystick/primitives/hash'
import type { Envelope } from '@tallystick/wire/envelope'

export interface WireTap {
  /**
   * @param peer fleet id of the other side
   * @param envelope called only when there is a tap
   */
  message(at: number, direction: 'out' | 'in', peer: string, envelope: () => Envelope): void
}

export const noTap: WireTap = { message: () => undefined }

/** @param file appended to synchronously: a line is on disk before the envelope leaves */
export function fileTap(file: string): WireTap {
  return {
    message(at, direction, peer, decoded) {
      const envelope = decoded()
      const line = {
        at,
        service: 'session-svc',
        direction,
        peer,
        epoch: envelope.header.epoch,
        chain: toHex(sha256(concat(envelope.header.dh, u32be(envelope.header.n)))),
        ct: toHex(sha256(envelope.ciphertext)),
      }
      appendFileSync(file, `${JSON.stringify(line)}\n`)
    },
  }
}

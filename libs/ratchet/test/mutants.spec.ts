/**
 * Versions of the ratchet that are wrong on purpose: the model must catch each of them. A property test that a
 * mistake passes would prove nothing.
 */
import * as fc from 'fast-check'
import { afterAll, expect, test } from 'vitest'
import { toHex } from '@tallystick/primitives/bytes'
import { ProtocolError } from '@tallystick/primitives/errors'
import { decodeEnvelope } from '@tallystick/wire/envelope'
import { decrypt, type Decrypted, encrypt } from '../src/double-ratchet.js'
import { Side } from './fixtures.js'
import { program, runProgram, stage } from './model.js'

const at = stage()
afterAll(() => at.arena.close())

/** @returns what the model said of the first program that the mutant failed */
function caught(Mutant: typeof Side): string {
  const result = fc.check(
    fc.property(program(40), (events) => runProgram(at, events, { SideClass: Mutant })),
    { numRuns: 200, seed: 1, endOnFailure: true },
  )
  return result.failed ? (result.errorInstance as Error).message : 'not caught'
}

/** Genuine envelopes by header: what a mutant that trusts a message before checking it would go by. */
const genuine = new Map<string, Uint8Array>()
class Recording extends Side {
  override send(plaintext: Uint8Array): Uint8Array {
    const envelope = super.send(plaintext)
    genuine.set(toHex(decodeEnvelope(envelope).headerBytes), envelope)
    return envelope
  }
}

test('the class that the mutants start from passes', () => {
  expect(caught(Recording)).toBe('not caught')
})

test('commit before verify: the state advances although the message fails', () => {
  class CommitsFirst extends Recording {
    override receive(envelope: Uint8Array): Decrypted {
      const decoded = decodeEnvelope(envelope)
      const original = genuine.get(toHex(decoded.headerBytes))
      let advanced: Decrypted | undefined
      if (original !== undefined) {
        try {
          advanced = decrypt({ arena: this.arena, state: this.state, envelope: decodeEnvelope(original), now: this.now })
        } catch (error) {
          if (!(error instanceof ProtocolError)) throw error
        }
      }
      try {
        return super.receive(envelope)
      } catch (error) {
        if (advanced !== undefined) this.replace(advanced.state)
        throw error
      } finally {
        if (advanced !== undefined && this.state !== advanced.state) advanced.state.destroy()
      }
    }
  }
  expect(caught(CommitsFirst)).toBe('a failed decryption changed the state')
})

test('the commitment is not compared', () => {
  class IgnoresCommitment extends Recording {
    override receive(envelope: Uint8Array): Decrypted {
      const decoded = decodeEnvelope(envelope)
      const original = genuine.get(toHex(decoded.headerBytes))
      const repaired = original !== undefined && toHex(decodeEnvelope(original).ciphertext) === toHex(decoded.ciphertext)
      return super.receive(repaired ? original : envelope)
    }
  }
  expect(caught(IgnoresCommitment)).toMatch(/changed envelope decrypted|commitment changed/)
})

test('two writers: a message is encrypted from a state that was used already', () => {
  class ForgetsState extends Recording {
    #sent = 0
    override send(plaintext: Uint8Array): Uint8Array {
      if (this.#sent++ % 2 === 0) return super.send(plaintext)
      const { arena, random, state, handshake } = this
      const result = encrypt({ arena, random, state, plaintext, ...(handshake === undefined ? {} : { handshake }) })
      result.state.destroy()
      return result.envelope
    }
  }
  expect(caught(ForgetsState)).toBe('a message key was handed out twice')
})

test('the receiver keeps its old state: the same message opens twice', () => {
  class NeverAdvances extends Recording {
    override receive(envelope: Uint8Array): Decrypted {
      const result = decrypt({ arena: this.arena, state: this.state, envelope: decodeEnvelope(envelope), now: this.now })
      if (decodeEnvelope(envelope).header.n > 0) result.state.destroy()
      else this.replace(result.state)
      return result
    }
  }
  expect(caught(NeverAdvances)).toBe('a repetition decrypted')
})

test('a restored copy is trusted: what was sent since is sent again under the same keys', () => {
  const [by, size] = [0, 10] as const
  const send = { do: 'send', by, size } as const
  const events = [send, { do: 'snapshot', by }, send, { do: 'restore', by }, send] as const
  expect(() => runProgram(at, events, { trustRestored: true })).toThrow('a message key was handed out twice')
  expect(() => runProgram(at, events)).not.toThrow()
})

/** What the tests of the vectors share: reading the files, and the parties that a case describes. */
import { readFileSync, writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { expect } from 'vitest'
import { fromHex, toHex } from '@tallystick/primitives/bytes'
import * as kem from '@tallystick/primitives/mlkem1024'
import { publicKeyOf } from '@tallystick/primitives/x25519'
import { type SecretArena, type SecretBytes, secretFrom, withSecret } from '@tallystick/secret-bytes/arena'
import { decodeHandshake } from '@tallystick/wire/envelope'
import { type LocalIdentity, type RemoteIdentity, respond } from '../src/pqxdh.js'
import { isRefusal } from './rotation-rule.js'
import type { PqxdhCase, VectorFile } from './vector-cases.js'

const FOLDER = resolve(import.meta.dirname, '../../../docs/spec/vectors')

/** The stored file, which must be what the generator makes. `TALLYSTICK_WRITE_VECTORS=1` writes it first. */
export function load<F extends VectorFile<unknown>>(name: string, made: F): F {
  const path = resolve(FOLDER, `${name}.json`)
  const text = `${JSON.stringify(made, null, 2)}\n`
  if (process.env['TALLYSTICK_WRITE_VECTORS'] === '1') writeFileSync(path, text)
  const stored = JSON.parse(readFileSync(path, 'utf8')) as F
  expect(stored, `${name}.json is what the generator makes`).toEqual(JSON.parse(text))
  return stored
}

/** `ok`, or the code of the refusal. */
export function codeOf(fn: () => unknown): string {
  try {
    fn()
  } catch (error) {
    if (isRefusal(error)) return error.code
    throw error
  }
  return 'ok'
}

export function expectEnoughFailures(cases: readonly { readonly expect: string }[]): void {
  const ok = cases.filter((c) => c.expect === 'ok').length
  expect(cases.length - ok).toBeGreaterThanOrEqual(ok)
}

/** Offsets of docs/spec/session.md §8 that the tests look at. */
export const transcriptIn = (state: SecretBytes): string => withSecret(state, (bytes) => toHex(bytes.slice(56, 88)))
export const rootIn = (state: SecretBytes): string => withSecret(state, (bytes) => toHex(bytes.slice(120, 152)))

interface Players {
  secret(hex: string): SecretBytes
  local(party: PqxdhCase['initiator']): LocalIdentity
  remote(party: PqxdhCase['initiator'], signKey?: string): RemoteIdentity
  respondTo(c: Pick<PqxdhCase, 'initiator' | 'responder' | 'epoch'>, handshake: string, exporter: string | null): ReturnType<typeof respond>
}

/** The parties of a case, with their keys in the arena. */
export function playersAt(arena: SecretArena): Players {
  const secret = (hex: string): SecretBytes => secretFrom(arena, fromHex(hex))
  const local: Players['local'] = (party) => ({
    dhSecret: secret(party.ikSecret),
    dhPublic: fromHex(party.ikPublic),
    certificateDigest: fromHex(party.certificateDigest),
    peerId: party.peerId,
    fleetId: party.fleetId,
  })
  const remote: Players['remote'] = (party, signKey = '') => ({ ...local(party), signKey: fromHex(signKey) })
  const respondTo: Players['respondTo'] = (c, handshakeHex, exporter) => {
    const handshake = decodeHandshake(fromHex(handshakeHex))
    const spk = secret(c.responder.spkSecret)
    const pq = kem.generateKeyPair(arena, () => fromHex(c.responder.pqSeed))
    return respond({
      arena,
      self: local(c.responder),
      peer: remote(c.initiator),
      handshake,
      epoch: c.epoch,
      prekeys: {
        spk,
        spkPublic: publicKeyOf(spk),
        pq: pq.secret,
        pqPublic: pq.publicKey,
        ...(handshake.opkId === undefined ? {} : { opk: secret(c.responder.opkSecret) }),
      },
      ...(exporter === null ? {} : { salt: secret(exporter) }),
    })
  }
  return { secret, local, remote, respondTo }
}

/** Deterministic fleets for tests: keys from fixed seeds, no clock. */
import { generateSigningKey, sign } from '@tallystick/primitives/ed25519'
import { sha256 } from '@tallystick/primitives/hash'
import { utf8 } from '@tallystick/primitives/bytes'
import { SecretArena } from '@tallystick/secret-bytes/arena'
import { type FleetCertificate, issueCertificate } from '../src/certificate.js'
import { fleetIdOf, peerIdFromKey } from '../src/keys.js'

const arena = SecretArena.open(64 * 1024)
export const NOW = Date.UTC(2026, 0, 15)
export const DAY = 24 * 3_600_000

export interface TestKey {
  readonly publicKey: Uint8Array
  sign(message: Uint8Array): Uint8Array
}

export function testKey(name: string): TestKey {
  const { secret, publicKey } = generateSigningKey(arena, sha256(utf8(name)))
  return { publicKey, sign: (message) => sign(secret, message) }
}

export interface TestFleet {
  readonly root: TestKey
  readonly log: TestKey
  readonly fields: Omit<FleetCertificate, 'fleetId'>
  readonly fleetId: string
  readonly certificate: Uint8Array
}

export function testFleet(name: string, change: Partial<Omit<FleetCertificate, 'fleetId'>> = {}): TestFleet {
  const root = testKey(`${name}/root`)
  const log = testKey(`${name}/log`)
  const fields = {
    displayName: `${name} GmbH`,
    signKey: root.publicKey,
    dhKey: sha256(utf8(`${name}/dh`)),
    peerIds: [peerIdFromKey(testKey(`${name}/transport`).publicKey)],
    logKey: log.publicKey,
    suites: ['TS1'],
    notBefore: NOW - DAY,
    notAfter: NOW + 365 * DAY,
    sequence: 1,
    ...change,
  }
  return { root, log, fields, fleetId: fleetIdOf(root.publicKey), certificate: issueCertificate(fields, root.sign) }
}

/**
 * What is fuzzed: every decoder that reads what a peer, a person or a disk has written. Only a ProtocolError may leave
 * a decoder, and what it accepts encodes to the same bytes again.
 * @see docs/spec/payload.md §1, docs/spec/envelope.md, docs/spec/session.md §8
 */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { concat, fromHex, utf8 } from '@tallystick/primitives/bytes'
import { generateSigningKey, sign } from '@tallystick/primitives/ed25519'
import { ProtocolError } from '@tallystick/primitives/errors'
import { sha256 } from '@tallystick/primitives/hash'
import { decrypt, describe, encrypt, exporter } from '@tallystick/ratchet/double-ratchet'
import { FIXED_BYTES, StateView, stateLength } from '@tallystick/ratchet/state'
import { SecretArena, secretFrom, withSecret } from '@tallystick/secret-bytes/arena'
import { decodeBundle, encodeBundle } from '@tallystick/wire/bundle'
import { decode, encode } from '@tallystick/wire/cbor'
import { issueCertificate, readCertificate, successionMessage } from '@tallystick/wire/certificate'
import {
  decodeEnvelope,
  decodeHandshake,
  decodeHeader,
  encodeEnvelope,
  encodeHandshake,
  encodeHeader,
  SALT_BYTES,
} from '@tallystick/wire/envelope'
import { decodeInvitation, encodeInvitation } from '@tallystick/wire/invitation'
import { fleetIdOf, peerIdFromKey } from '@tallystick/wire/keys'
import { decodeLogProof, decodeReceipt, decodeVerdict, encodeLogProof, encodeReceipt, encodeVerdict } from '@tallystick/wire/messages'
import { contentDigest, decodePayload, encodePayload, type Payload } from '@tallystick/wire/payload'
import { isLegacyRecord } from '@tallystick/wire/payload-v0'

export interface Target {
  readonly name: string
  /** Longest input, bytes. */
  readonly most: number
  /** Inputs are CBOR: changes are made to the tree, too. */
  readonly structured: boolean
  seeds(): Uint8Array[]
  /** Throws when a rule is broken. */
  run(input: Uint8Array): void
}

const NOW = Date.UTC(2026, 0, 15)
const DAY = 24 * 3_600_000
const arena = SecretArena.open(512 * 1024, { allowUnlocked: true })

function vectors(name: string): Record<string, string>[] {
  const file = path.join(import.meta.dirname, '..', 'docs', 'spec', 'vectors', `${name}.json`)
  return (JSON.parse(readFileSync(file, 'utf8')) as { cases: Record<string, string>[] }).cases
}
const bytesOf = (kind: string): Uint8Array[] =>
  vectors('envelope')
    .filter((one) => one['kind'] === kind)
    .map((one) => fromHex(one['bytes']!))
const handshakes = (): Uint8Array[] =>
  [...vectors('pqxdh'), ...vectors('rotation')].flatMap(({ handshake }) => (handshake === undefined ? [] : [fromHex(handshake)]))

/** @returns what was decoded, undefined when it was refused; any other error is a finding */
function attempt<T>(fn: () => T): T | undefined {
  try {
    return fn()
  } catch (error) {
    if (error instanceof ProtocolError) return undefined
    throw error
  }
}

function same(what: string, encoded: Uint8Array, input: Uint8Array): void {
  if (Buffer.compare(encoded, input) !== 0) throw new Error(`${what}: what was accepted encodes to other bytes`)
}

function decoder<T>(
  name: string,
  most: number,
  seeds: () => Uint8Array[],
  read: (input: Uint8Array) => T,
  write: (value: T) => Uint8Array,
): Target {
  return {
    name,
    most,
    structured: true,
    seeds,
    run(input) {
      const value = attempt(() => read(input))
      if (value !== undefined) same(name, write(value), input)
    },
  }
}

// Certificates and what holds them: inputs are also taken as the part that is signed, so that a change gets past the
// signature.
const keyOf = (name: string): { publicKey: Uint8Array; sign(message: Uint8Array): Uint8Array } => {
  const { secret, publicKey } = generateSigningKey(arena, sha256(utf8(name)))
  return { publicKey, sign: (message) => sign(secret, message) }
}
const roots = [keyOf('first'), keyOf('second')] as const
const fields = (renewed: boolean): Parameters<typeof issueCertificate>[0] => ({
  displayName: 'Acme GmbH',
  signKey: roots[renewed ? 1 : 0].publicKey,
  dhKey: sha256(utf8('dh')),
  logKey: keyOf('log').publicKey,
  peerIds: [peerIdFromKey(keyOf('transport').publicKey), peerIdFromKey(keyOf('transport 2').publicKey)],
  suites: ['TS1'],
  notBefore: NOW - DAY,
  notAfter: NOW + DAY,
  sequence: 2,
  ...(renewed
    ? {
        succession: [
          { key: roots[0].publicKey, signature: roots[0].sign(successionMessage(roots[1].publicKey, fleetIdOf(roots[0].publicKey))) },
        ],
      }
    : {}),
})
const certificates = (): Uint8Array[] => [issueCertificate(fields(false), roots[0].sign), issueCertificate(fields(true), roots[1].sign)]
const payloadOf = (certificate: Uint8Array): Uint8Array => (decode(certificate) as { payload: Uint8Array }).payload

function checkCertificate(certificate: Uint8Array): void {
  const read = attempt(() => readCertificate(certificate, NOW))
  if (read === undefined) return
  const { signature } = decode(certificate) as { signature: Uint8Array }
  same(
    'certificate',
    issueCertificate(read, () => signature),
    certificate,
  )
}

const certificate: Target = {
  name: 'certificate',
  most: 4096,
  structured: true,
  seeds: () => [...certificates(), ...certificates().map(payloadOf)],
  run(input) {
    checkCertificate(input)
    if (input.length <= 3900) for (const root of roots) checkCertificate(encode({ payload: input, signature: root.sign(input) }))
  },
}

const invitation: Target = {
  name: 'invitation',
  most: 4096,
  structured: true,
  seeds: () => {
    const [plain, renewed] = certificates()
    const addresses = fields(false).peerIds.map((peerId, i) => `/ip4/192.0.2.${i}/tcp/4001/p2p/${peerId}`)
    return [
      encode({ v: 1, certificate: plain, multiaddrs: addresses }),
      encode({ v: 1, certificate: renewed, multiaddrs: addresses.slice(1), expiresAt: NOW + DAY }),
      utf8(encodeInvitation({ certificate: plain!, multiaddrs: addresses })),
    ]
  },
  run(input) {
    attempt(() => decodeInvitation(Buffer.from(input).toString('latin1'), NOW))
    const checksum = sha256(utf8('tallystick/invitation/v1'), input).slice(0, 4)
    const line = `tally1${base32(concat(input, checksum))}`
    const read = attempt(() => decodeInvitation(line, NOW))
    if (read !== undefined) same('invitation', utf8(encodeInvitation(read)), utf8(line))
  },
}

function base32(bytes: Uint8Array): string {
  let [out, bits, value] = ['', 0, 0]
  for (const byte of bytes) {
    value = ((value << 8) | byte) & 0xfff
    for (bits += 8; bits >= 5; bits -= 5) out += 'abcdefghijklmnopqrstuvwxyz234567'[(value >> (bits - 5)) & 31]
  }
  return bits === 0 ? out : out + 'abcdefghijklmnopqrstuvwxyz234567'[(value << (5 - bits)) & 31]
}

const MESSAGE_ID = '0190a1b2-0000-7000-8000-000000000001'
const digest = sha256(utf8('content'))
const bodies = (): Uint8Array[] => [
  encodeReceipt({ items: [{ messageId: MESSAGE_ID, contentDigest: digest, status: 'stored', at: NOW }], checkpoint: 'note' }),
  encodeReceipt({
    items: [],
    received: {
      seq: 4,
      hash: digest,
      ranges: [
        { from: 6, to: 7, hash: digest },
        { from: 9, to: 12 },
      ],
      refused: [[2, 3]],
    },
    void: [
      [1, 1],
      [5, 9],
    ],
  }),
  encodeVerdict({ documentId: MESSAGE_ID, contentDigest: digest, verdict: 'rejected', code: 'OTH', note: 'Betrag\nfalsch', at: NOW }),
  encodeLogProof({
    documentId: MESSAGE_ID,
    entries: [{ leaf: encode({ i: 1 }), index: 0, size: 2, proof: [digest], note: 'note', salt: digest }],
    vkey: 'tallystick/x+00000000+AQ==',
  }),
]

const payload: Target = {
  name: 'payload',
  most: 4096,
  structured: true,
  seeds: () => [
    ...bodies().map((body, i) => {
      const kind = (['receipt', 'receipt', 'verdict', 'log-proof'] as const)[i]!
      return encodePayload({
        v: 1,
        kind,
        id: MESSAGE_ID,
        seq: i,
        prevHash: digest,
        issuedAt: NOW,
        contentDigest: contentDigest(body),
        body,
      })
    }),
    // Version 0: a flat map with a floating-point amount.
    fromHex(`a2626964782430313930613162322d303030302d373030302d383030302d30303030303030303030303166616d6f756e74fb405dc00000000000`),
  ],
  run(input) {
    checkPayload(input)
    // The digest of a changed body, so that the change is looked at.
    const value = attempt(() => decode(input)) as Partial<Payload> | null | undefined
    if (value?.body instanceof Uint8Array && value.contentDigest instanceof Uint8Array)
      checkPayload(encode({ ...value, contentDigest: contentDigest(value.body) }))
  },
}

function checkPayload(input: Uint8Array): void {
  const read = attempt(() => decodePayload(input))
  if (read === undefined) return
  const encoded = encodePayload(read)
  if (!isLegacyRecord(input)) same('payload', encoded, input)
}

const MESSAGES = [
  [decodeReceipt, encodeReceipt],
  [decodeVerdict, encodeVerdict],
  [decodeLogProof, encodeLogProof],
] as unknown as readonly (readonly [(input: Uint8Array) => object, (value: object) => Uint8Array])[]

const message: Target = {
  name: 'message',
  most: 4096,
  structured: true,
  seeds: bodies,
  run(input) {
    for (const [read, write] of MESSAGES) {
      const value = attempt(() => read(input))
      if (value !== undefined) same('message', write(value), input)
    }
  },
}

/** A stored state: read, described, and used for both directions, without being changed. */
const state: Target = {
  name: 'state',
  most: stateLength(20),
  structured: false,
  seeds: () => {
    const blank = new Uint8Array(stateLength(0))
    blank[0] = 1
    const full = Uint8Array.from({ length: stateLength(3) }, (_, i) => (i < 40 ? 0 : (i * 7) & 0x7f))
    full.set([1, 0x3f], 0)
    full[39] = 3
    const initiator = Uint8Array.from(blank)
    initiator[1] = 0x3e
    return [blank, full, initiator, full.slice(0, FIXED_BYTES)]
  },
  run(input) {
    const used = arena.usedBytes
    const secret = secretFrom(arena, Uint8Array.from(input))
    try {
      if (attempt(() => describe(secret)) !== undefined) useState(secret)
      withSecret(secret, (bytes) => same('state', bytes, input))
    } finally {
      secret.destroy()
    }
    if (arena.usedBytes !== used) throw new Error('state: secrets are left in the arena')
  },
}

function useState(secret: ReturnType<typeof secretFrom>): void {
  const random = (length: number): Uint8Array => new Uint8Array(length).fill(9)
  attempt(() => exporter(secret, arena))?.destroy()
  attempt(() => encrypt({ arena, random, state: secret, plaintext: utf8('text') }))?.state.destroy()
  const names = withSecret(secret, (bytes) => {
    const view = new StateView(bytes)
    const kept = view.skippedCount > 0 ? [view.skipped(0)].map(({ dh, n }) => ({ dh: dh.slice(), n })) : []
    return {
      sid: view.sid.slice(),
      epoch: view.epoch,
      pn: view.nr,
      of: [{ dh: view.remote.slice(), n: view.nr }, { dh: random(32), n: 2 }, ...kept],
    }
  })
  for (const { dh, n } of names.of) {
    attempt(() => {
      const header = {
        v: 1 as const,
        suite: 'TS1' as const,
        sid: names.sid,
        epoch: names.epoch,
        dh,
        pn: names.pn,
        n,
        salt: random(SALT_BYTES),
      }
      const parts = {
        headerBytes: encodeHeader(header),
        commit: random(32),
        handshakeBytes: new Uint8Array(0),
        ciphertext: new Uint8Array(1040),
      }
      decrypt({ arena, state: secret, envelope: decodeEnvelope(encodeEnvelope(parts)), now: NOW }).state.destroy()
    })
  }
}

export const TARGETS: readonly Target[] = [
  decoder('cbor', 2048, () => [...bytesOf('envelope').slice(0, 2), ...bodies()], decode, encode),
  decoder(
    'envelope',
    4096,
    () => bytesOf('envelope'),
    decodeEnvelope,
    (read) => {
      same('header', encodeHeader(read.header), read.headerBytes)
      if (read.handshake !== undefined) same('handshake', encodeHandshake(read.handshake), read.handshakeBytes)
      return encodeEnvelope(read)
    },
  ),
  decoder(
    'header',
    256,
    () => bytesOf('envelope').flatMap((one) => attempt(() => [decodeEnvelope(one).headerBytes]) ?? []),
    decodeHeader,
    encodeHeader,
  ),
  decoder('handshake', 2048, handshakes, decodeHandshake, encodeHandshake),
  decoder('bundle', 4096, () => bytesOf('bundle'), decodeBundle, encodeBundle),
  certificate,
  invitation,
  payload,
  message,
  state,
]

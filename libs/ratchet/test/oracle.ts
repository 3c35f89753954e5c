/**
 * The key derivations of docs/spec/session.md written a second time, from the text, on @noble alone: what the vectors'
 * values come from. Shares no code with src/ but the CBOR codec. Public inputs only, nothing is wiped: tests.
 */
import { chacha20poly1305 } from '@noble/ciphers/chacha.js'
import { x25519 } from '@noble/curves/ed25519.js'
import { blake3 } from '@noble/hashes/blake3.js'
import { hkdf } from '@noble/hashes/hkdf.js'
import { hmac } from '@noble/hashes/hmac.js'
import { sha256 } from '@noble/hashes/sha2.js'
import { concatBytes } from '@noble/hashes/utils.js'
import { ml_kem1024 } from '@noble/post-quantum/ml-kem.js'
import type { Handshake } from '@tallystick/wire/envelope'

export { x25519 }

const text = (t: string): Uint8Array => new TextEncoder().encode(t)
const label = (purpose: string): Uint8Array => text(`tallystick/${purpose}/v1`)
const info = (purpose: string, ...more: Uint8Array[]): Uint8Array => concatBytes(label(purpose), text('TS1'), ...more)
const ec = (key: Uint8Array): Uint8Array => concatBytes(Uint8Array.of(5), key)
const u32 = (n: number): Uint8Array => Uint8Array.of(n >>> 24, n >>> 16, n >>> 8, n)
const encodeText = (t: string): Uint8Array => concatBytes(u32(text(t).length), text(t))

export interface OracleParty {
  readonly ikPublic: Uint8Array
  readonly certificateDigest: Uint8Array
  readonly peerId: string
  readonly fleetId: string
}

export interface OracleHandshake {
  readonly initiator: OracleParty
  readonly responder: OracleParty
  readonly handshake: Handshake
  readonly epoch: number
  readonly spkPublic: Uint8Array
  readonly pqPublic: Uint8Array
  readonly opkPublic: Uint8Array | undefined
}

/** §3.4 */
export function transcript(h: OracleHandshake): Uint8Array {
  const { initiator: a, responder: b, handshake: hs } = h
  const ad = concatBytes(
    ec(a.ikPublic),
    ec(b.ikPublic),
    Uint8Array.of(10),
    h.pqPublic,
    a.certificateDigest,
    b.certificateDigest,
    encodeText(a.fleetId),
    encodeText(b.fleetId),
    encodeText(a.peerId),
    encodeText(b.peerId),
    text('TS1'),
  )
  return sha256(
    concatBytes(
      label('handshake-transcript'),
      ad,
      u32(h.epoch),
      ec(hs.ek),
      u32(hs.spkId),
      ec(h.spkPublic),
      Uint8Array.of(hs.pqKind === 'one-time' ? 1 : 2),
      u32(hs.pqId),
      hs.opkId === undefined ? Uint8Array.of(0) : concatBytes(Uint8Array.of(1), u32(hs.opkId), ec(h.opkPublic!)),
      hs.kemCiphertext,
      hs.reset ? Uint8Array.of(2) : hs.continuity === undefined ? Uint8Array.of(0) : concatBytes(Uint8Array.of(1), hs.continuity),
    ),
  )
}

export function sid(t: Uint8Array): Uint8Array {
  return sha256(concatBytes(label('session-id'), t)).slice(0, 16)
}

/** §4, from the responder's side. */
export function sessionKey(
  t: Uint8Array,
  keys: { ikSecret: Uint8Array; spkSecret: Uint8Array; opkSecret?: Uint8Array; pqSeed: Uint8Array },
  initiatorIk: Uint8Array,
  handshake: Handshake,
  salt?: Uint8Array,
): Uint8Array {
  const ss = ml_kem1024.decapsulate(handshake.kemCiphertext, ml_kem1024.keygen(keys.pqSeed).secretKey)
  const ikm = concatBytes(
    new Uint8Array(32).fill(0xff),
    x25519.getSharedSecret(keys.spkSecret, initiatorIk),
    x25519.getSharedSecret(keys.ikSecret, handshake.ek),
    x25519.getSharedSecret(keys.spkSecret, handshake.ek),
    ...(keys.opkSecret === undefined ? [] : [x25519.getSharedSecret(keys.opkSecret, handshake.ek)]),
    ss,
  )
  return hkdf(sha256, ikm, salt ?? new Uint8Array(32), info('pqxdh', t), 32)
}

/** §5.1 */
export function kdfRoot(root: Uint8Array, dh: Uint8Array): { root: Uint8Array; chain: Uint8Array; exporter: Uint8Array } {
  const out = hkdf(sha256, dh, root, info('root'), 96)
  return { root: out.slice(0, 32), chain: out.slice(32, 64), exporter: out.slice(64) }
}

/** §7.1 */
export function exporterName(exporter: Uint8Array): Uint8Array {
  return sha256(concatBytes(label('exporter-name'), exporter))
}

/** §5.2 */
export function kdfChain(chain: Uint8Array): { chain: Uint8Array; messageKey: Uint8Array } {
  return { messageKey: hmac(sha256, chain, Uint8Array.of(1)), chain: hmac(sha256, chain, Uint8Array.of(2)) }
}

/** §6, envelope.md §4 */
export function sealMessage(
  messageKey: Uint8Array,
  salt: Uint8Array,
  aad: Uint8Array,
  plaintext: Uint8Array,
): { ciphertext: Uint8Array; commit: Uint8Array } {
  const keyNonce = hkdf(sha256, messageKey, salt, info('message'), 44)
  const commitmentKey = hkdf(sha256, messageKey, salt, info('commitment'), 32)
  const sizes = [1024, 2048, 4096, 8192, 16384, 32768]
  const need = plaintext.length + 4
  const padded = new Uint8Array(sizes.find((size) => size >= need) ?? Math.ceil(need / 32768) * 32768)
  padded.set(concatBytes(u32(plaintext.length), plaintext))
  return {
    ciphertext: chacha20poly1305(keyNonce.slice(0, 32), keyNonce.slice(32), aad).encrypt(padded),
    commit: blake3(plaintext, { key: commitmentKey }),
  }
}

/** First message of an initiator: everything from SK to the ciphertext. */
export function firstMessage(
  sk: Uint8Array,
  ratchetSecret: Uint8Array,
  spkPublic: Uint8Array,
  salt: Uint8Array,
  aad: Uint8Array,
  plaintext: Uint8Array,
): { ciphertext: Uint8Array; commit: Uint8Array } {
  const { chain } = kdfRoot(sk, x25519.getSharedSecret(ratchetSecret, spkPublic))
  return sealMessage(kdfChain(chain).messageKey, salt, aad, plaintext)
}

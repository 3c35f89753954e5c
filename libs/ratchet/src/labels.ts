/**
 * Encodings and labels: every byte string that enters a key derivation, a hash or a signature of the session protocol
 * begins with its own label, so that none can stand in for another.
 * @see docs/spec/session.md §2
 */
import { concat, u32be, utf8 } from '@tallystick/primitives/bytes'
import { type PrekeyKind, SUITE } from '@tallystick/wire/envelope'

const SUITE_BYTES = utf8(SUITE)

export type Purpose =
  'prekey-signature' | 'handshake-transcript' | 'session-id' | 'pqxdh' | 'root' | 'message' | 'commitment' | 'exporter-name'

/** `tallystick/<purpose>/v1`. */
export function label(purpose: Purpose): Uint8Array {
  return utf8(`tallystick/${purpose}/v1`)
}

/** HKDF info: label ‖ suite ‖ parameters. */
export function info(purpose: Purpose, ...parameters: readonly Uint8Array[]): Uint8Array {
  return concat(label(purpose), SUITE_BYTES, ...parameters)
}

/** `EncodeEC(pk)`: 0x05 ‖ u, 33 bytes. */
export function encodeEC(publicKey: Uint8Array): Uint8Array {
  return concat(Uint8Array.of(0x05), publicKey)
}

/** `EncodeKEM(pk)`: 0x0a ‖ pk, 1569 bytes. */
export function encodeKEM(publicKey: Uint8Array): Uint8Array {
  return concat(Uint8Array.of(0x0a), publicKey)
}

/** A length in four bytes, then the text in UTF-8. */
export function encodeText(text: string): Uint8Array {
  const bytes = utf8(text)
  return concat(u32be(bytes.length), bytes)
}

/** The suite string, as the last part of the associated data. */
export function suiteBytes(): Uint8Array {
  return SUITE_BYTES
}

/** Bytes that IK_sign signs for a signed X25519 prekey. @see docs/spec/session.md §3.1 */
export function spkMessage(id: number, publicKey: Uint8Array): Uint8Array {
  return concat(label('prekey-signature'), utf8('spk'), u32be(id), encodeEC(publicKey))
}

/** Bytes that IK_sign signs for a KEM prekey; the kind is inside, so a last-resort key cannot pose as one-time. */
export function pqMessage(kind: PrekeyKind, id: number, publicKey: Uint8Array): Uint8Array {
  return concat(label('prekey-signature'), Uint8Array.of(kindByte(kind)), u32be(id), encodeKEM(publicKey))
}

export function kindByte(kind: PrekeyKind): number {
  return kind === 'one-time' ? 0x01 : 0x02
}

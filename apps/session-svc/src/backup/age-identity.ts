/**
 * An age secret key from a file, without a string in between: the text is bech32 (BIP 173), 32 bytes with a checksum,
 * and goes from the buffer into a key object outside V8's heap.
 */
import { webcrypto } from 'node:crypto'
import { ProtocolError } from '@tallystick/primitives/errors'
import { wipe } from '@tallystick/secret-bytes/arena'

const PREFIX = Buffer.from('AGE-SECRET-KEY-')
const CHARSET = Buffer.from('QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L')
const CHECKSUM = 6
const SCALAR_BYTES = 32
/** 32 bytes in groups of five bits, and the checksum. */
const DATA = 52 + CHECKSUM
/** SEQUENCE { 0, X25519, OCTET STRING { OCTET STRING scalar } } without the scalar. */
const PKCS8 = Buffer.from('302e020100300506032b656e04220420', 'hex')

/**
 * @param content an identity file: lines that begin with `#`, and one `AGE-SECRET-KEY-1…`; wiped here
 * @throws ProtocolError KeyStorage(accessControlFailed) for anything else, post-quantum identities included
 */
export async function readAgeIdentity(content: Uint8Array): Promise<webcrypto.CryptoKey> {
  const scalar = new Uint8Array(new ArrayBuffer(SCALAR_BYTES + PKCS8.length))
  try {
    scalar.set(PKCS8)
    if (!decodeInto(scalar.subarray(PKCS8.length), lineOf(content))) {
      throw new ProtocolError('KeyStorage', 'the secret "restore.identity" must hold one X25519 identity of age (AGE-SECRET-KEY-1…)', {
        reason: 'accessControlFailed',
      })
    }
    return await webcrypto.subtle.importKey('pkcs8', scalar, { name: 'X25519' }, false, ['deriveBits'])
  } finally {
    wipe(content)
    wipe(scalar)
  }
}

/** The first line that is no comment. */
function lineOf(content: Uint8Array): Uint8Array {
  let start = 0
  while (start < content.length) {
    let end = content.indexOf(0x0a, start)
    if (end < 0) end = content.length
    if (content[start] !== 0x23 && end > start + 1) {
      if (content[end - 1] === 0x0d) end -= 1
      return content.subarray(start, end)
    }
    start = end + 1
  }
  return content.subarray(0, 0)
}

function decodeInto(out: Uint8Array, line: Uint8Array): boolean {
  if (line.length !== PREFIX.length + 1 + DATA || !PREFIX.every((byte, i) => line[i] === byte) || line[PREFIX.length] !== 0x31) return false
  const values = new Uint8Array(DATA)
  try {
    for (let i = 0; i < DATA; i++) {
      const value = CHARSET.indexOf(line[PREFIX.length + 1 + i]!)
      if (value < 0) return false
      values[i] = value
    }
    if (checksum(values) !== 1) return false
    let bits = 0
    let pending = 0
    let at = 0
    for (const value of values.subarray(0, DATA - CHECKSUM)) {
      pending = ((pending << 5) | value) & 0xfff
      bits += 5
      if (bits >= 8) {
        bits -= 8
        out[at++] = (pending >>> bits) & 0xff
      }
    }
    return at === SCALAR_BYTES && (pending & ((1 << bits) - 1)) === 0
  } finally {
    wipe(values)
  }
}

/** BIP 173's polymod over the expanded prefix and the data: 1 when the checksum fits. */
function checksum(values: Uint8Array): number {
  let c = 1
  const step = (value: number) => {
    const top = c >>> 25
    c = ((c & 0x1ffffff) << 5) ^ value
    for (const [i, generator] of [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3].entries()) if ((top >>> i) & 1) c ^= generator
  }
  // In lower case, as the checksum is defined.
  const prefix = PREFIX.map((byte) => (byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte))
  for (const byte of prefix) step(byte >>> 5)
  step(0)
  for (const byte of prefix) step(byte & 31)
  for (const value of values) step(value)
  return c >>> 0
}

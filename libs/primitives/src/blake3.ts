/**
 * BLAKE3, hash and keyed mode, 32 bytes of output: the one primitive over whole messages that libsodium lacks. Written
 * from the BLAKE3 specification, four times as fast as @noble/hashes, which is the oracle of the differential test.
 *
 * All state (key, chaining values, message words) lies in one piece of memory outside V8's heap, wiped after each call.
 * @see docs/spec/session.md §1, §6.3
 */
import { native } from './sodium.js'

const CHUNK = 1024
const BLOCK = 64
const CHUNK_START = 1
const CHUNK_END = 2
const PARENT = 4
const ROOT = 8
const KEYED = 16

/** Levels of the tree: enough for 2^42 bytes. */
const MAX_DEPTH = 32
const IV = Int32Array.of(0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19)

// In words of 32 bits: message block (16), key (8), chaining value on the way (8), stack of finished subtrees (8 each).
const KEY = 16
const CV = 24
const STACK = 32
const WORDS = STACK + 8 * MAX_DEPTH
const region = native.sodium_malloc(WORDS * 4)
const memory = new Uint8Array(region.buffer, region.byteOffset, WORDS * 4)
const words = new Int32Array(region.buffer, region.byteOffset, WORDS)
const data = new DataView(region.buffer, region.byteOffset, WORDS * 4)

/**
 * @param key 32 bytes for the keyed mode
 * @returns 32 bytes
 */
export function blake3Hash(bytes: Uint8Array, key?: Uint8Array): Uint8Array {
  const mode = key === undefined ? 0 : KEYED
  try {
    if (key === undefined) words.set(IV, KEY)
    else memory.set(key, KEY * 4)
    if (key !== undefined) toWords(KEY, 8)
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const last = bytes.length === 0 ? 0 : Math.ceil(bytes.length / CHUNK) - 1
    let depth = 0
    for (let chunk = 0; chunk < last; chunk++) {
      hashChunk(bytes, view, chunk, mode, 0)
      // Each one bit that the count of chunks loses is a subtree that is complete now.
      for (let count = chunk + 1; (count & 1) === 0; count >>>= 1) join(--depth, mode)
      words.copyWithin(STACK + 8 * depth++, CV, CV + 8)
    }
    hashChunk(bytes, view, last, mode, depth === 0 ? ROOT : 0)
    while (depth > 0) join(--depth, depth === 0 ? mode | ROOT : mode)
    const out = new Uint8Array(32)
    const result = new DataView(out.buffer)
    for (let i = 0; i < 8; i++) result.setInt32(4 * i, words[CV + i]!, true)
    return out
  } finally {
    native.sodium_memzero(memory)
  }
}

/** Bytes that were copied in become words, whatever the machine's order of bytes. */
function toWords(at: number, count: number): void {
  for (let i = at; i < at + count; i++) words[i] = data.getInt32(4 * i, true)
}

/** The chaining value of one chunk, into CV. @param root ROOT when it is the whole tree */
function hashChunk(bytes: Uint8Array, view: DataView, chunk: number, mode: number, root: number): void {
  const end = Math.min(bytes.length, (chunk + 1) * CHUNK)
  let at = chunk * CHUNK
  let flags = mode | CHUNK_START
  words.copyWithin(CV, KEY, KEY + 8)
  for (; end - at > BLOCK; at += BLOCK) {
    for (let i = 0; i < 16; i++) words[i] = view.getInt32(at + 4 * i, true)
    compress(chunk, BLOCK, flags)
    flags = mode
  }
  words.fill(0, 0, 16)
  memory.set(bytes.subarray(at, end))
  toWords(0, 16)
  compress(chunk, end - at, flags | CHUNK_END | root)
}

/** The parent of the subtree on the stack at `depth` and of CV, into CV. */
function join(depth: number, mode: number): void {
  words.copyWithin(0, STACK + 8 * depth, STACK + 8 * depth + 8)
  words.copyWithin(8, CV, CV + 8)
  words.copyWithin(CV, KEY, KEY + 8)
  compress(0, BLOCK, mode | PARENT)
}

/** The compression function over the message block and CV, its first eight words into CV. @param counter below 2^32 */
// prettier-ignore
function compress(counter: number, length: number, flags: number): void {
  let m0 = words[0]!, m1 = words[1]!, m2 = words[2]!, m3 = words[3]!
  let m4 = words[4]!, m5 = words[5]!, m6 = words[6]!, m7 = words[7]!
  let m8 = words[8]!, m9 = words[9]!, m10 = words[10]!, m11 = words[11]!
  let m12 = words[12]!, m13 = words[13]!, m14 = words[14]!, m15 = words[15]!
  let a0 = words[CV]!, a1 = words[CV + 1]!, a2 = words[CV + 2]!, a3 = words[CV + 3]!
  let b0 = words[CV + 4]!, b1 = words[CV + 5]!, b2 = words[CV + 6]!, b3 = words[CV + 7]!
  let c0 = 0x6a09e667, c1 = 0xbb67ae85 | 0, c2 = 0x3c6ef372, c3 = 0xa54ff53a | 0
  let d0 = counter | 0, d1 = 0, d2 = length, d3 = flags
  for (let round = 0; ; round++) {
    a0 = (a0 + b0 + m0) | 0; d0 ^= a0; d0 = (d0 >>> 16) | (d0 << 16); c0 = (c0 + d0) | 0; b0 ^= c0; b0 = (b0 >>> 12) | (b0 << 20)
    a1 = (a1 + b1 + m2) | 0; d1 ^= a1; d1 = (d1 >>> 16) | (d1 << 16); c1 = (c1 + d1) | 0; b1 ^= c1; b1 = (b1 >>> 12) | (b1 << 20)
    a2 = (a2 + b2 + m4) | 0; d2 ^= a2; d2 = (d2 >>> 16) | (d2 << 16); c2 = (c2 + d2) | 0; b2 ^= c2; b2 = (b2 >>> 12) | (b2 << 20)
    a3 = (a3 + b3 + m6) | 0; d3 ^= a3; d3 = (d3 >>> 16) | (d3 << 16); c3 = (c3 + d3) | 0; b3 ^= c3; b3 = (b3 >>> 12) | (b3 << 20)
    a0 = (a0 + b0 + m1) | 0; d0 ^= a0; d0 = (d0 >>> 8) | (d0 << 24); c0 = (c0 + d0) | 0; b0 ^= c0; b0 = (b0 >>> 7) | (b0 << 25)
    a1 = (a1 + b1 + m3) | 0; d1 ^= a1; d1 = (d1 >>> 8) | (d1 << 24); c1 = (c1 + d1) | 0; b1 ^= c1; b1 = (b1 >>> 7) | (b1 << 25)
    a2 = (a2 + b2 + m5) | 0; d2 ^= a2; d2 = (d2 >>> 8) | (d2 << 24); c2 = (c2 + d2) | 0; b2 ^= c2; b2 = (b2 >>> 7) | (b2 << 25)
    a3 = (a3 + b3 + m7) | 0; d3 ^= a3; d3 = (d3 >>> 8) | (d3 << 24); c3 = (c3 + d3) | 0; b3 ^= c3; b3 = (b3 >>> 7) | (b3 << 25)
    a0 = (a0 + b1 + m8) | 0; d3 ^= a0; d3 = (d3 >>> 16) | (d3 << 16); c2 = (c2 + d3) | 0; b1 ^= c2; b1 = (b1 >>> 12) | (b1 << 20)
    a1 = (a1 + b2 + m10) | 0; d0 ^= a1; d0 = (d0 >>> 16) | (d0 << 16); c3 = (c3 + d0) | 0; b2 ^= c3; b2 = (b2 >>> 12) | (b2 << 20)
    a2 = (a2 + b3 + m12) | 0; d1 ^= a2; d1 = (d1 >>> 16) | (d1 << 16); c0 = (c0 + d1) | 0; b3 ^= c0; b3 = (b3 >>> 12) | (b3 << 20)
    a3 = (a3 + b0 + m14) | 0; d2 ^= a3; d2 = (d2 >>> 16) | (d2 << 16); c1 = (c1 + d2) | 0; b0 ^= c1; b0 = (b0 >>> 12) | (b0 << 20)
    a0 = (a0 + b1 + m9) | 0; d3 ^= a0; d3 = (d3 >>> 8) | (d3 << 24); c2 = (c2 + d3) | 0; b1 ^= c2; b1 = (b1 >>> 7) | (b1 << 25)
    a1 = (a1 + b2 + m11) | 0; d0 ^= a1; d0 = (d0 >>> 8) | (d0 << 24); c3 = (c3 + d0) | 0; b2 ^= c3; b2 = (b2 >>> 7) | (b2 << 25)
    a2 = (a2 + b3 + m13) | 0; d1 ^= a2; d1 = (d1 >>> 8) | (d1 << 24); c0 = (c0 + d1) | 0; b3 ^= c0; b3 = (b3 >>> 7) | (b3 << 25)
    a3 = (a3 + b0 + m15) | 0; d2 ^= a3; d2 = (d2 >>> 8) | (d2 << 24); c1 = (c1 + d2) | 0; b0 ^= c1; b0 = (b0 >>> 7) | (b0 << 25)
    if (round === 6) break
    // The message words of the next round: 2 6 3 10 7 0 4 13 1 11 12 5 9 14 15 8.
    const t0 = m0, t1 = m1, t5 = m5, t8 = m8
    m0 = m2; m2 = m3; m3 = m10; m10 = m12; m12 = m9; m9 = m11; m11 = t5; m5 = t0
    m1 = m6; m6 = m4; m4 = m7; m7 = m13; m13 = m14; m14 = m15; m15 = t8; m8 = t1
  }
  words[CV] = a0 ^ c0
  words[CV + 1] = a1 ^ c1
  words[CV + 2] = a2 ^ c2
  words[CV + 3] = a3 ^ c3
  words[CV + 4] = b0 ^ d0
  words[CV + 5] = b1 ^ d1
  words[CV + 6] = b2 ^ d2
  words[CV + 7] = b3 ^ d3
}

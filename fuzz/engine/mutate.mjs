/** Changes an input: bytes anywhere, or a node of what is deterministic CBOR, nested byte strings included. */
import { changeTree } from './cbor-tree.mjs'

/** xorshift128: a run is repeated by its seed. */
export class Random {
  #state

  constructor(seed) {
    this.#state = new Uint32Array([seed | 1, 0x9e3779b9, 0x7f4a7c15, 0xf39cc060])
    for (let i = 0; i < 20; i++) this.below(2)
  }

  /** 0 … n − 1 */
  below(n) {
    const s = this.#state
    let t = s[3]
    t ^= t << 11
    t ^= t >>> 8
    s[3] = s[2]
    s[2] = s[1]
    s[1] = s[0]
    s[0] = t ^ s[1] ^ (s[1] >>> 19)
    return s[0] % n
  }

  pick(list) {
    return list[this.below(list.length)]
  }
}

const INTERESTING = [
  0,
  1,
  16,
  23,
  24,
  31,
  32,
  64,
  127,
  128,
  255,
  256,
  1000,
  65535,
  65536,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32,
  2 ** 53 - 1,
  2 ** 53,
]

/**
 * @param {Uint8Array} input not modified
 * @param {{ random: Random, others: Uint8Array[], dictionary: Uint8Array[], numbers: number[], most: number, structured: boolean }} tools
 * @returns {Uint8Array} at most `most` bytes
 */
export function mutate(input, tools) {
  const { random, most, structured } = tools
  let bytes = Uint8Array.from(input)
  for (let rounds = 1 + random.below(5); rounds > 0; rounds--) {
    bytes = structured && random.below(2) === 0 ? (changeTree(bytes, tools) ?? changeBytes(bytes, tools)) : changeBytes(bytes, tools)
  }
  return bytes.length > most ? bytes.slice(0, most) : bytes
}

function changeBytes(bytes, { random, others, dictionary, numbers }) {
  const at = random.below(bytes.length + 1)
  const inside = bytes.length === 0 ? 0 : random.below(bytes.length)
  switch (random.below(10)) {
    case 0:
      if (bytes.length > 0) bytes[inside] ^= 1 << random.below(8)
      return bytes
    case 1:
      if (bytes.length > 0) bytes[inside] = random.below(256)
      return bytes
    case 2:
      if (bytes.length > 0) bytes[inside] += random.below(2) === 0 ? 1 + random.below(16) : 256 - 1 - random.below(16)
      return bytes
    case 3:
      return splice(
        bytes,
        at,
        0,
        Uint8Array.from({ length: 1 + random.below(8) }, () => random.below(256)),
      )
    case 4:
      return splice(bytes, inside, 1 + random.below(Math.max(1, Math.min(32, bytes.length - inside))))
    case 5: {
      const from = random.below(bytes.length + 1)
      return splice(bytes, at, random.below(2) * 4, bytes.slice(from, from + 1 + random.below(32)))
    }
    case 6:
      return dictionary.length === 0 ? bytes : put(bytes, at, random.pick(dictionary), random)
    case 7:
      return put(
        bytes,
        at,
        integer(random.below(2) === 0 || numbers.length === 0 ? random.pick(INTERESTING) : random.pick(numbers), random),
        random,
      )
    case 8: {
      const other = random.pick(others)
      const from = random.below(other.length + 1)
      return splice(bytes, at, random.below(bytes.length - at + 1), other.slice(from, from + random.below(other.length - from + 1)))
    }
    default:
      return bytes.slice(0, at)
  }
}

const put = (bytes, at, what, random) => splice(bytes, at, random.below(2) === 0 ? what.length : 0, what)

export function splice(bytes, at, remove, insert = new Uint8Array(0)) {
  const end = Math.min(bytes.length, at + remove)
  const out = new Uint8Array(at + insert.length + bytes.length - end)
  out.set(bytes.subarray(0, at))
  out.set(insert, at)
  out.set(bytes.subarray(end), at + insert.length)
  return out
}

function integer(value, random) {
  const width = random.pick([1, 2, 4, 8])
  const view = new DataView(new ArrayBuffer(8))
  view.setBigUint64(0, BigInt.asUintN(64, BigInt(value)))
  return new Uint8Array(view.buffer.slice(8 - width))
}

/** A lenient tree of CBOR for changes that keep the lengths right: a changed field deep inside still gets read. */
import { splice } from './mutate.mjs'

const UINT = 0
const NEGATIVE = 1
const BYTES = 2
const TEXT = 3
const ARRAY = 4
const MAP = 5

/** @returns a tree, or undefined when the bytes are no CBOR of the kinds used here */
export function parse(bytes, nested = 0) {
  let at = 0
  let nodes = 0
  const node = (depth) => {
    if (at >= bytes.length || depth > 6 || ++nodes > 400) return undefined
    const initial = bytes[at++]
    const major = initial >> 5
    const info = initial & 31
    if (major === 7) return info < 24 ? { major, value: initial } : undefined
    if (major === 6 || info > 27) return undefined
    let argument = BigInt(info)
    if (info >= 24) {
      const width = 1 << (info - 24)
      if (at + width > bytes.length) return undefined
      argument = 0n
      for (let i = 0; i < width; i++) argument = (argument << 8n) | BigInt(bytes[at++])
    }
    if (major <= NEGATIVE) return { major, value: argument }
    const length = Number(argument)
    if (major <= TEXT) {
      if (at + length > bytes.length) return undefined
      const value = bytes.slice(at, at + length)
      at += length
      const inner = major === BYTES && length > 1 && nested < 3 ? parse(value, nested + 1) : undefined
      return { major, value, inner: inner?.major >= BYTES ? inner : undefined }
    }
    const children = []
    for (let i = 0; i < length * (major === MAP ? 2 : 1); i++) {
      const child = node(depth + 1)
      if (child === undefined) return undefined
      children.push(child)
    }
    return { major, children }
  }
  const root = node(0)
  return root !== undefined && at === bytes.length ? root : undefined
}

export function print(node) {
  const out = []
  write(node, out)
  return Uint8Array.from(out)
}

function write(node, out) {
  const { major } = node
  if (major === 7) return void out.push(node.value)
  if (major <= NEGATIVE) return head(major, node.value, out)
  if (major <= TEXT) {
    const value = node.inner === undefined ? node.value : print(node.inner)
    head(major, BigInt(value.length), out)
    for (const byte of value) out.push(byte)
    return
  }
  head(major, BigInt(major === MAP ? node.children.length >> 1 : node.children.length), out)
  for (const child of node.children) write(child, out)
}

function head(major, argument, out) {
  if (argument < 24n) return void out.push((major << 5) | Number(argument))
  const width = argument < 1n << 8n ? 1 : argument < 1n << 16n ? 2 : argument < 1n << 32n ? 4 : 8
  out.push((major << 5) | (24 + Math.log2(width)))
  for (let i = width - 1; i >= 0; i--) out.push(Number((argument >> BigInt(8 * i)) & 255n))
}

function all(node, found = []) {
  found.push(node)
  for (const child of node.children ?? (node.inner === undefined ? [] : [node.inner])) all(child, found)
  return found
}

const COUNTS = [0n, 1n, 23n, 24n, 255n, 256n, 65_535n, 65_536n, (1n << 32n) - 1n, 1n << 32n, (1n << 53n) - 1n, 1n << 53n, (1n << 64n) - 1n]

/** One change at one node. @returns {Uint8Array | undefined} undefined when the input has no tree */
export function changeTree(bytes, { random, others, dictionary, numbers }) {
  const root = parse(bytes)
  if (root === undefined) return undefined
  const nodes = all(root)
  const node = random.pick(nodes)
  if (random.below(8) === 0) {
    const donor = parse(random.pick(others))
    if (donor !== undefined) {
      const { major, value, inner, children } = random.pick(all(donor))
      Object.assign(node, { major, value, inner, children })
    }
  } else if (node.children !== undefined) changeContainer(node, random, nodes)
  else if (node.major <= NEGATIVE) {
    if (random.below(8) === 0) node.major ^= 1
    else if (random.below(2) === 0) node.value = BigInt.asUintN(64, node.value + BigInt(random.below(33) - 16))
    else node.value = numbers.length > 0 && random.below(2) === 0 ? BigInt.asUintN(64, BigInt(random.pick(numbers))) : random.pick(COUNTS)
  } else if (node.major === 7) node.value = random.pick([0xf4, 0xf5, 0xf6, 0xf7, 0xe0])
  else changeString(node, random, dictionary)
  return print(root)
}

/** Keys are put back into order most of the time: what is out of order is refused before anything else is looked at. */
function changeContainer(node, random, nodes) {
  const { children } = node
  const unit = node.major === MAP ? 2 : 1
  const entries = []
  for (let i = 0; i < children.length; i += unit) entries.push(children.slice(i, i + unit))
  const at = random.below(entries.length + 1)
  switch (random.below(4)) {
    case 0:
      entries.splice(at, 1)
      break
    case 1:
      if (entries.length > 0) entries.splice(at, 0, entries[random.below(entries.length)].map(copy))
      break
    case 2:
      if (entries.length > 0) entries[random.below(entries.length)][unit - 1] = copy(random.pick(nodes))
      break
    default:
      if (entries.length > 1) entries.push(entries.shift())
  }
  if (node.major === MAP && random.below(8) !== 0)
    entries.sort(([a], [b]) => bytesOf(a).length - bytesOf(b).length || Buffer.compare(bytesOf(a), bytesOf(b)))
  node.children = entries.flat()
}

const bytesOf = ({ value }) => (value instanceof Uint8Array ? value : new Uint8Array(0))

function changeString(node, random, dictionary) {
  const { value } = node
  const at = random.below(value.length + 1)
  node.inner = undefined
  switch (random.below(6)) {
    case 0:
      node.value = value.slice(0, at)
      break
    case 1:
      node.value = splice(value, at, 0, value.slice(0, 1 + random.below(value.length + 1)))
      break
    case 2:
      node.value = Uint8Array.from(value)
      if (value.length > 0) node.value[random.below(value.length)] = random.below(256)
      break
    case 3:
      if (dictionary.length > 0) node.value = random.pick(dictionary)
      break
    case 4:
      if (dictionary.length > 0) node.value = splice(value, at, 0, random.pick(dictionary))
      break
    default:
      node.major ^= BYTES ^ TEXT
  }
}

/** Down to the leaves, so that a node never contains itself. */
function copy(node) {
  return {
    ...node,
    ...(node.children === undefined ? {} : { children: node.children.map(copy) }),
    ...(node.inner === undefined ? {} : { inner: copy(node.inner) }),
  }
}

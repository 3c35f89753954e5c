/**
 * Keys live in one locked region outside V8's heap: guard pages on both sides, never swapped, absent from core dumps.
 * V8 moves small arrays about and leaves copies behind, and thousands of single locked allocations abort the process
 * at the kernel's limit of memory maps, so there is one region per process and this file hands out pieces of it.
 *
 * @see docs/spec/session.md §12
 */
import { ProtocolError } from './errors.js'
import { memory, type Region } from './native.js'

/** Pieces start at multiples of this many bytes: keeps the free list short and every piece aligned for native code. */
const GRAIN = 32

/** Only `withSecret` calls this, so a SecretBytes by itself gives nobody its bytes. */
let viewOf: (secret: SecretBytes) => Uint8Array | undefined
const INSPECT = Symbol.for('nodejs.util.inspect.custom')

/** A handle on secret bytes in an arena. Printing, serialising or inspecting it shows only its length. */
export class SecretBytes {
  readonly length: number
  #view: Uint8Array | undefined
  #release: (() => void) | undefined

  static {
    viewOf = (secret) => secret.#view
  }

  /** @internal Made by {@link SecretArena.allocate} only. */
  constructor(view: Uint8Array, release: () => void) {
    this.length = view.length
    this.#release = release
    this.#view = view
  }

  get destroyed(): boolean {
    return this.#release === undefined
  }

  /** Wipes the bytes and returns the space to the arena. A second call does nothing. */
  destroy(): void {
    const release = this.#release
    if (release === undefined) return
    this.#release = undefined
    this.#view = undefined
    release()
  }

  toString(): string {
    return `[secret ${this.length} bytes]`
  }

  toJSON(): string {
    return this.toString()
  }

  [INSPECT](): string {
    return this.toString()
  }

  [Symbol.toPrimitive](): string {
    return this.toString()
  }
}

export interface ArenaOptions {
  /** Carry on when the kernel refuses to lock the region. For test machines; a service must not set it. */
  readonly allowUnlocked?: boolean
}

interface Gap {
  offset: number
  length: number
}

/** One locked region, sub-allocated first fit. Not shared between threads. */
export class SecretArena {
  readonly size: number
  /** False only when opened with `allowUnlocked` on a system that refused the lock. */
  readonly locked: boolean
  #region: Region | undefined
  #used = 0
  readonly #gaps: Gap[]
  readonly #live = new Set<SecretBytes>()

  private constructor(region: Region, locked: boolean) {
    this.#region = region
    this.size = region.length
    this.locked = locked
    this.#gaps = [{ offset: 0, length: region.length }]
  }

  /**
   * @param size bytes, rounded up to a multiple of 32; must fit the process's memlock limit
   * @throws ProtocolError KeyStorage(locked) when the kernel refuses to lock that much memory
   */
  static open(size: number, options: ArenaOptions = {}): SecretArena {
    if (!Number.isSafeInteger(size) || size <= 0) throw new RangeError('size must be a positive integer')
    const region = memory.sodium_malloc(roundUp(size))
    if (region.length !== roundUp(size))
      throw new ProtocolError('KeyStorage', `cannot allocate ${size} bytes of guarded memory`, { reason: 'locked' })
    // sodium_malloc reports success even when mlock failed, so the lock is asked for once more, by name.
    let locked = true
    try {
      memory.sodium_mlock(region)
    } catch (cause) {
      locked = false
      if (options.allowUnlocked !== true) {
        memory.sodium_free(region)
        throw new ProtocolError('KeyStorage', `cannot lock ${size} bytes of memory: raise the memlock limit`, { reason: 'locked', cause })
      }
    }
    memory.sodium_memzero(region)
    return new SecretArena(region, locked)
  }

  /** Bytes handed out and not yet destroyed, rounding included. */
  get usedBytes(): number {
    return this.#used
  }

  /**
   * @param length bytes; zero is allowed
   * @returns zeroed bytes, owned by the caller until `destroy()`
   * @throws ProtocolError KeyStorage(locked) when the arena is full or closed
   */
  allocate(length: number): SecretBytes {
    if (!Number.isSafeInteger(length) || length < 0) throw new RangeError('length must be a non-negative integer')
    const region = this.#region
    if (region === undefined) throw new ProtocolError('KeyStorage', 'the secret arena is closed', { reason: 'locked' })
    const space = Math.max(GRAIN, roundUp(length))
    const offset = this.#take(space)
    const secret: SecretBytes = new SecretBytes(new Uint8Array(region.buffer, region.byteOffset + offset, length), () => {
      this.#live.delete(secret)
      if (this.#region === undefined) return
      memory.sodium_memzero(new Uint8Array(region.buffer, region.byteOffset + offset, space))
      this.#give(offset, space)
    })
    this.#live.add(secret)
    return secret
  }

  /**
   * Destroys every secret that is still alive, wipes the region and detaches it; the system gets its pages back when
   * the collector finalises it.
   */
  close(): void {
    const region = this.#region
    if (region === undefined) return
    for (const secret of [...this.#live]) secret.destroy()
    this.#region = undefined
    memory.sodium_memzero(region)
    memory.sodium_free(region)
  }

  #take(space: number): number {
    for (let i = 0; i < this.#gaps.length; i++) {
      const gap = this.#gaps[i]!
      if (gap.length < space) continue
      const { offset } = gap
      gap.offset += space
      gap.length -= space
      if (gap.length === 0) this.#gaps.splice(i, 1)
      this.#used += space
      return offset
    }
    throw new ProtocolError('KeyStorage', `the secret arena of ${this.size} bytes is full`, { reason: 'locked' })
  }

  #give(offset: number, space: number): void {
    this.#used -= space
    // Binary search for the first gap behind the piece, then merge with both neighbours.
    let low = 0
    let high = this.#gaps.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#gaps[middle]!.offset < offset) low = middle + 1
      else high = middle
    }
    const before = this.#gaps[low - 1]
    const after = this.#gaps[low]
    const joinsBefore = before !== undefined && before.offset + before.length === offset
    const joinsAfter = after !== undefined && offset + space === after.offset
    if (joinsBefore && joinsAfter) {
      before.length += space + after.length
      this.#gaps.splice(low, 1)
    } else if (joinsBefore) {
      before.length += space
    } else if (joinsAfter) {
      after.offset = offset
      after.length += space
    } else {
      this.#gaps.splice(low, 0, { offset, length: space })
    }
  }
}

/**
 * The only way to the bytes of a secret.
 *
 * @param fn must be synchronous and must not let the view escape: the space is reused after `destroy()`
 * @throws ProtocolError KeyStorage(accessControlFailed) when the secret was destroyed
 */
export function withSecret<T>(secret: SecretBytes, fn: (bytes: Uint8Array) => T): T {
  const view = viewOf(secret)
  if (view === undefined) throw new ProtocolError('KeyStorage', 'this secret was destroyed', { reason: 'accessControlFailed' })
  const result = fn(view)
  if (result instanceof Promise) throw new TypeError('withSecret takes a synchronous function')
  return result
}

/** Copies `source` into the arena and wipes `source`. */
export function secretFrom(arena: SecretArena, source: Uint8Array): SecretBytes {
  try {
    const secret = arena.allocate(source.length)
    withSecret(secret, (bytes) => bytes.set(source))
    return secret
  } finally {
    wipe(source) // also when the arena is full: the bytes must not stay behind in the clear
  }
}

/**
 * Overwrites bytes with zeros in a way that the compiler cannot leave out. Arrays of up to 64 bytes lie on V8's heap
 * until native code asks for their address and gets a copy elsewhere: they are filled where they are first.
 */
export function wipe(bytes: Uint8Array): void {
  if (bytes.length === 0) return
  bytes.fill(0)
  memory.sodium_memzero(bytes)
}

function roundUp(length: number): number {
  return Math.ceil(length / GRAIN) * GRAIN
}

/**
 * The part of sodium-native that manages memory. Its published types ask for `Buffer`; the binding itself takes any
 * typed array, and this project passes plain `Uint8Array` views into the arena.
 */
import sodium from 'sodium-native'

/** A whole allocation of `sodium_malloc`, the only thing `sodium_free` accepts. */
export type Region = Uint8Array & { readonly secure: boolean }

interface NativeMemory {
  sodium_malloc(size: number): Region
  sodium_free(region: Region): void
  sodium_memzero(bytes: Uint8Array): void
  /** Throws when the kernel refuses, unlike `sodium_malloc`, which carries on with unlocked memory. */
  sodium_mlock(bytes: Uint8Array): void
}

export const memory = sodium as unknown as NativeMemory

/** Randomness is an argument everywhere in protocol code; this is the one that services pass. */
import { native } from './sodium.js'

/** @returns `length` bytes that nobody can predict, owned by the caller */
export type RandomSource = (length: number) => Uint8Array

/** The operating system's generator, through libsodium. */
export const systemRandom: RandomSource = (length) => {
  const out = new Uint8Array(length)
  if (length > 0) native.randombytes_buf(out)
  return out
}

/** Fills bytes where they are, so that a fresh secret never exists outside the arena. */
export function fillRandom(out: Uint8Array): void {
  if (out.length > 0) native.randombytes_buf(out)
}

/** The key that signs checkpoints, and nothing else: from the mounted seed into locked memory. */
import { generateSigningKey, sign } from '@tallystick/primitives/ed25519'
import { SecretArena } from '@tallystick/secret-bytes/arena'
import { LOG_ARENA_BYTES } from './limits.js'

export interface LogKey {
  /** Ed25519, 32 bytes. */
  readonly publicKey: Uint8Array
  sign(message: Uint8Array): Uint8Array
  close(): void
}

/** @param seed 32 bytes; wiped here */
export function openLogKey(seed: Uint8Array): LogKey {
  const arena = SecretArena.open(LOG_ARENA_BYTES)
  try {
    const { secret, publicKey } = generateSigningKey(arena, seed)
    return { publicKey, sign: (message) => sign(secret, message), close: () => arena.close() }
  } finally {
    seed.fill(0)
  }
}

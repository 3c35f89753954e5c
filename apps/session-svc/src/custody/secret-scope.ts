/** Secrets that live for one operation: whatever way it ends, they are wiped. */
import type { SecretBytes } from '@tallystick/secret-bytes/arena'

export class SecretScope {
  readonly #owned = new Set<SecretBytes>()

  /** Takes ownership; returns the same handle. */
  own<T extends SecretBytes | undefined>(secret: T): T {
    if (secret !== undefined) this.#owned.add(secret)
    return secret
  }

  /** Wipes one secret now, before the operation ends. */
  drop(secret: SecretBytes): void {
    this.#owned.delete(secret)
    secret.destroy()
  }

  close(): void {
    for (const secret of this.#owned) secret.destroy()
    this.#owned.clear()
  }

  /** Runs `fn` with a scope of its own; everything owned is wiped afterwards. */
  static async run<T>(fn: (scope: SecretScope) => Promise<T>): Promise<T> {
    const scope = new SecretScope()
    try {
      return await fn(scope)
    } finally {
      scope.close()
    }
  }
}

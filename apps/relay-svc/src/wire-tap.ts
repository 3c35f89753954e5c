/**
 * Seam for checks from outside: one JSON line with a digest for each envelope that is on the wire. No bytes, no keys.
 * `epoch` and `chain` belong to session-svc's lines; the relay knows neither.
 */
import { createWriteStream, type WriteStream } from 'node:fs'

export class WireTap {
  readonly #out: WriteStream | undefined

  /** @param file undefined switches the tap off */
  constructor(file: string | undefined, onError: (error: Error) => void) {
    if (file === undefined || file === '') return
    this.#out = createWriteStream(file, { flags: 'a', mode: 0o600 })
    this.#out.on('error', onError)
  }

  record(direction: 'out' | 'in', peer: string, digest: Uint8Array, at: number): void {
    this.#out?.write(
      `${JSON.stringify({ at, service: 'relay-svc', direction, peer, epoch: null, chain: null, ct: Buffer.from(digest).toString('hex') })}\n`,
    )
  }

  async close(): Promise<void> {
    const out = this.#out
    if (out !== undefined) await new Promise<void>((resolve) => out.end(resolve))
  }
}

// Session states at rest: sealed under a data key as session-svc seals its rows, kept as bytes, opened at each read.
// Both sides of a comparison go through the same calls.
import { DataKey } from '../apps/session-svc/dist/custody/data-key.js'

export class Vault {
  #custody
  #rows = new Map()

  constructor(arena) {
    this.#custody = DataKey.generate(arena)
  }

  writeSecret(name, secret) {
    this.#put(name, (binding) => this.#custody.sealSecret(secret, binding))
  }

  readSecret(name) {
    const row = this.#rows.get(name)
    return this.#custody.openSecret(row.value, row.binding)
  }

  write(name, bytes) {
    this.#put(name, (binding) => this.#custody.sealBytes(bytes, binding))
  }

  read(name) {
    const row = this.#rows.get(name)
    return row && this.#custody.openBytes(row.value, row.binding)
  }

  close() {
    this.#custody.destroy()
  }

  #put(name, seal) {
    const binding = { table: 'session', row: name, version: (this.#rows.get(name)?.binding.version ?? 0) + 1 }
    const { sealed, kekId } = seal(binding)
    this.#rows.set(name, { value: { sealed: sealed.slice(), kekId }, binding })
  }
}

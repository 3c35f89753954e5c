/** A custody whose key-encryption key and identity key are in a PKCS#11 token. */
import type { SecretArena } from '@tallystick/secret-bytes/arena'
import { Custody } from './custody.js'
import type { KeyFileContents } from './file-custody.js'
import { KeyFile } from './key-file.js'
import type { ConnectedKeks, KekProvider } from './key-encryption-key.js'
import { TokenKek, TokenSigning } from './token-keys.js'
import { type TokenAccess, TokenSession } from './token-session.js'

export interface TokenOptions extends TokenAccess {
  /** Label of the key-encryption key; made in the token at the first start. */
  readonly keyLabel: string
  /** Label of the key that takes over at the next rotation; made when the rotation begins. */
  readonly nextLabel?: string | undefined
  /** A key file that data keys may still be wrapped by. */
  readonly former?: KeyFileContents | undefined
}

/** @throws ProtocolError KeyStorage(accessControlFailed) when pkcs11js is missing or a former key file does not open */
export function tokenCustody(arena: SecretArena, options: TokenOptions): Custody {
  const token = new TokenSession(arena, options)
  try {
    const former = options.former && KeyFile.open(arena, 'the key file "kek"', options.former.kek, options.former.passphrase)
    return new Custody(arena, new TokenKeks(arena, token, options, former))
  } catch (error) {
    token.close()
    throw error
  }
}

class TokenKeks implements KekProvider {
  readonly provider = 'pkcs11'
  readonly #arena: SecretArena
  readonly #token: TokenSession
  readonly #options: Pick<TokenOptions, 'keyLabel' | 'nextLabel' | 'token'>
  readonly #former: KeyFile | undefined

  constructor(arena: SecretArena, token: TokenSession, { keyLabel, nextLabel, token: name }: TokenOptions, former?: KeyFile) {
    this.#arena = arena
    this.#token = token
    this.#options = { keyLabel, nextLabel, token: name }
    this.#former = former
  }

  connect(): ConnectedKeks {
    const { keyLabel, nextLabel, token } = this.#options
    const former = this.#former
    const find = (label: string) => TokenKek.find(this.#arena, this.#token, label)
    const findOrMake = (label: string) => find(label) ?? TokenKek.create(this.#arena, this.#token, label)
    const nextName = nextLabel === keyLabel ? undefined : nextLabel
    let primary = find(keyLabel)
    let next: TokenKek | undefined
    return {
      signing: new TokenSigning(this.#token),
      primary: () => (primary ??= findOrMake(keyLabel)),
      next: () => (nextName === undefined ? undefined : (next ??= findOrMake(nextName))),
      get all() {
        // Looked for again while missing: another replica may have made it meanwhile.
        primary ??= find(keyLabel)
        if (nextName !== undefined) next ??= find(nextName)
        return [primary, next, former].filter((kek) => kek !== undefined)
      },
      get found() {
        const here = this.all.map(({ id, label }) => `${label} is ${id}`)
        return [...here, ...(primary ? [] : [`the token "${token}" has no key with the label "${keyLabel}"`])].join(', ')
      },
    }
  }

  close(): void {
    this.#token.close()
    this.#former?.close()
  }
}

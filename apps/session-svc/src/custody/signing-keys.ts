/**
 * Ed25519 keys of this fleet. A row holds either the sealed key itself (64 bytes, as libsodium keeps it) or, sealed the
 * same way, the name of a key in a token. So a fleet that moves to a token keeps signing with the key it has, and its
 * next identity is made in the token.
 * @see docs/spec/custody.md §2
 */
import { equalConstantTime, utf8 } from '@tallystick/primitives/bytes'
import { generateSigningKey, sign } from '@tallystick/primitives/ed25519'
import { ProtocolError } from '@tallystick/primitives/errors'
import { type SecretArena, type SecretBytes, withSecret } from '@tallystick/secret-bytes/arena'
import type { KeyCustody, NewSigningKey, SealBinding, SealedValue, SigningKey } from './key-custody.js'
import type { SigningKeySource } from './key-encryption-key.js'

const SECRET_BYTES = 64
/** Followed by the token's reference; together never 64 bytes. */
const REFERENCE = utf8('tallystick/token-key/v1 ')

type Seals = Pick<KeyCustody, 'sealSecret' | 'openSecret' | 'sealBytes' | 'openBytes'>

export class SigningKeys {
  readonly #arena: SecretArena
  readonly #seals: Seals
  readonly #token: () => SigningKeySource | undefined

  constructor(arena: SecretArena, seals: Seals, token: () => SigningKeySource | undefined) {
    this.#arena = arena
    this.#seals = seals
    this.#token = token
  }

  create(binding: SealBinding): NewSigningKey {
    const token = this.#token()
    if (token) {
      const { key, reference } = token.create()
      const name = new Uint8Array(REFERENCE.length + reference.length)
      name.set(REFERENCE)
      name.set(reference, REFERENCE.length)
      return { key, stored: this.#seals.sealBytes(name, binding) }
    }
    const { secret, publicKey } = generateSigningKey(this.#arena)
    try {
      return { key: sealedKey(secret, publicKey), stored: this.#seals.sealSecret(secret, binding) }
    } catch (error) {
      secret.destroy()
      throw error
    }
  }

  open(stored: SealedValue, publicKey: Uint8Array, binding: SealBinding): SigningKey {
    const reference = this.#referenceIn(stored, binding)
    const key = reference ? this.#mustHaveToken().find(reference) : this.#sealed(stored, binding)
    // A public key changed in the database would sign certificates that nobody can use, or worse: somebody else's.
    if (equalConstantTime(key.publicKey, publicKey)) return key
    key.destroy()
    throw new ProtocolError('KeyStorage', 'an identity key does not belong to its public key in the database', {
      reason: 'accessControlFailed',
    })
  }

  locationOf(stored: SealedValue, binding: SealBinding): SigningKey['location'] {
    return this.#referenceIn(stored, binding) ? 'in-token' : 'sealed'
  }

  erase(stored: SealedValue, binding: SealBinding): void {
    const reference = this.#referenceIn(stored, binding)
    if (reference) this.#mustHaveToken().erase(reference)
  }

  #sealed(stored: SealedValue, binding: SealBinding): SigningKey {
    const secret = this.#seals.openSecret(stored, binding)
    return sealedKey(
      secret,
      withSecret(secret, (bytes) => bytes.slice(32)),
    )
  }

  #referenceIn(stored: SealedValue, binding: SealBinding): Uint8Array | undefined {
    const secret = this.#seals.openSecret(stored, binding)
    try {
      if (secret.length === SECRET_BYTES) return undefined
      return withSecret(secret, (bytes) => {
        if (!REFERENCE.every((byte, i) => bytes[i] === byte))
          throw new ProtocolError('KeyStorage', 'a signing key in the database is neither a key nor the name of one', {
            reason: 'accessControlFailed',
          })
        return bytes.slice(REFERENCE.length)
      })
    } finally {
      secret.destroy()
    }
  }

  #mustHaveToken(): SigningKeySource {
    const token = this.#token()
    if (token) return token
    throw new ProtocolError('KeyStorage', 'the identity key is in a token: start with TALLYSTICK_CUSTODY=pkcs11', {
      reason: 'accessControlFailed',
    })
  }
}

function sealedKey(secret: SecretBytes, publicKey: Uint8Array): SigningKey {
  return {
    publicKey,
    location: 'sealed',
    sign: (message) => sign(secret, message),
    destroy: () => secret.destroy(),
  }
}

/**
 * Keys inside a token: an AES-256 key that wraps data keys by AES-GCM, and Ed25519 keys that sign. Both are made there,
 * marked sensitive and not extractable, and every use happens in the token.
 * @see docs/spec/custody.md §2
 */
import { randomBytes } from 'node:crypto'
import { toHex } from '@tallystick/primitives/bytes'
import { verify } from '@tallystick/primitives/ed25519'
import { ProtocolError } from '@tallystick/primitives/errors'
import { type SecretArena, type SecretBytes, secretFrom } from '@tallystick/secret-bytes/arena'
import type { SigningKey } from './key-custody.js'
import { type KeyEncryptionKey, type SigningKeySource, type WrapBinding, wrapAssociatedData } from './key-encryption-key.js'
import { type Attribute, codeOf, type Handle, type Mechanism, type Pkcs11, type Pkcs11Library } from './pkcs11.js'
import type { TokenSession } from './token-session.js'

const NONCE = 12
const TAG = 16
const ID_BYTES = 16
/** PKCS#11 3.0; pkcs11js names 2.40 only. */
const CKM_EC_EDWARDS_KEY_PAIR_GEN = 0x1055
const CKM_EDDSA = 0x1057
const CKK_EC_EDWARDS = 0x40
/** CKA_EC_PARAMS: the object identifier 1.3.101.112. */
const ED25519 = Buffer.from('06032b6570', 'hex')
/** What tokens say to a ciphertext whose tag does not fit: CKR_ENCRYPTED_DATA_INVALID, …_LEN_RANGE, CKR_GENERAL_ERROR (SoftHSM), CKR_FUNCTION_FAILED. */
const BAD_TAG = new Set([0x40, 0x41, 0x5, 0x6])

export class TokenKek implements KeyEncryptionKey {
  readonly id: string
  readonly label: string
  readonly #arena: SecretArena
  readonly #token: TokenSession
  readonly #objectId: Uint8Array

  private constructor(arena: SecretArena, token: TokenSession, keyLabel: string, objectId: Uint8Array) {
    this.#arena = arena
    this.#token = token
    this.#objectId = objectId
    this.id = toHex(objectId)
    this.label = `the token key "${keyLabel}"`
  }

  /** @returns undefined when the token has no key with that label */
  static find(arena: SecretArena, token: TokenSession, keyLabel: string): TokenKek | undefined {
    return token.use((p11, session, lib) => {
      const found = search(p11, session, [
        { type: lib.CKA_CLASS, value: lib.CKO_SECRET_KEY },
        { type: lib.CKA_LABEL, value: keyLabel },
      ])
      if (found.length === 0) return undefined
      if (found.length > 1) throw refused(`the token holds ${found.length} keys with the label "${keyLabel}": which one is meant?`)
      const handle = found[0]!
      const [id, extractable, sensitive] = p11.C_GetAttributeValue(session, handle, [
        { type: lib.CKA_ID },
        { type: lib.CKA_EXTRACTABLE },
        { type: lib.CKA_SENSITIVE },
      ]) as [Value, Value, Value]
      if (id.value.length === 0 || id.value.length > 32) throw refused(`the token key "${keyLabel}" needs a CKA_ID of 1 to 32 bytes`)
      if (extractable.value[0] !== 0 || sensitive.value[0] !== 1)
        throw refused(`the token key "${keyLabel}" can be read out of the token: make one that is sensitive and not extractable`)
      return new TokenKek(arena, token, keyLabel, new Uint8Array(id.value))
    })
  }

  /** Made inside the token; it never leaves. */
  static create(arena: SecretArena, token: TokenSession, keyLabel: string): TokenKek {
    const id = randomBytes(8)
    token.use((p11, session, lib) =>
      p11.C_GenerateKey(session, { mechanism: lib.CKM_AES_KEY_GEN }, [
        { type: lib.CKA_CLASS, value: lib.CKO_SECRET_KEY },
        { type: lib.CKA_KEY_TYPE, value: lib.CKK_AES },
        { type: lib.CKA_VALUE_LEN, value: 32 },
        { type: lib.CKA_LABEL, value: keyLabel },
        { type: lib.CKA_ID, value: id },
        { type: lib.CKA_TOKEN, value: true },
        ...kept(lib),
        { type: lib.CKA_ENCRYPT, value: true },
        { type: lib.CKA_DECRYPT, value: true },
        { type: lib.CKA_WRAP, value: false },
        { type: lib.CKA_UNWRAP, value: false },
      ]),
    )
    return new TokenKek(arena, token, keyLabel, new Uint8Array(id))
  }

  wrap(key: Uint8Array, binding: WrapBinding): Uint8Array {
    return this.#token.use((p11, session, lib) => {
      const nonce = randomBytes(NONCE)
      p11.C_EncryptInit(session, this.#gcm(lib, nonce, binding), this.#handle(p11, session, lib))
      const sealed = p11.C_Encrypt(session, asBuffer(key), Buffer.alloc(key.length + TAG))
      const wrapped = new Uint8Array(NONCE + sealed.length)
      wrapped.set(nonce)
      wrapped.set(sealed, NONCE)
      return wrapped
    })
  }

  unwrap(wrapped: Uint8Array, binding: WrapBinding): SecretBytes {
    if (wrapped.length < NONCE + TAG) throw damaged(binding)
    return this.#token.use((p11, session, lib) => {
      const plain = Buffer.alloc(wrapped.length)
      try {
        p11.C_DecryptInit(session, this.#gcm(lib, Buffer.from(wrapped.subarray(0, NONCE)), binding), this.#handle(p11, session, lib))
        const key = p11.C_Decrypt(session, Buffer.from(wrapped.subarray(NONCE)), plain)
        return secretFrom(this.#arena, key)
      } catch (error) {
        throw BAD_TAG.has(codeOf(error) ?? 0) ? damaged(binding, error) : error
      } finally {
        plain.fill(0)
      }
    })
  }

  close(): void {
    // The session belongs to the provider.
  }

  /** Looked for at each use: a handle is worth nothing after a reconnection, and this happens at the start only. */
  #handle(p11: Pkcs11, session: Handle, lib: Pkcs11Library): Handle {
    return only(
      search(p11, session, [
        { type: lib.CKA_CLASS, value: lib.CKO_SECRET_KEY },
        { type: lib.CKA_ID, value: asBuffer(this.#objectId) },
      ]),
      this.label,
    )
  }

  #gcm(lib: Pkcs11Library, iv: Buffer, binding: WrapBinding): Mechanism {
    const aad = asBuffer(wrapAssociatedData(binding, this.id))
    return { mechanism: lib.CKM_AES_GCM, parameter: { type: lib.CK_PARAMS_AES_GCM_v240, iv, ivBits: 8 * NONCE, aad, tagBits: 8 * TAG } }
  }
}

type Value = { type: number; value: Buffer }

/** Ed25519 keys of the fleet's identity, named by a random CKA_ID. */
export class TokenSigning implements SigningKeySource {
  readonly #token: TokenSession

  constructor(token: TokenSession) {
    this.#token = token
  }

  create(): { key: SigningKey; reference: Uint8Array } {
    const reference = randomBytes(ID_BYTES)
    this.#token.use((p11, session, lib) => {
      const both = [
        { type: lib.CKA_KEY_TYPE, value: CKK_EC_EDWARDS },
        { type: lib.CKA_LABEL, value: 'tallystick-identity' },
        { type: lib.CKA_ID, value: reference },
        { type: lib.CKA_TOKEN, value: true },
      ]
      p11.C_GenerateKeyPair(
        session,
        { mechanism: CKM_EC_EDWARDS_KEY_PAIR_GEN },
        [
          ...both,
          { type: lib.CKA_CLASS, value: lib.CKO_PUBLIC_KEY },
          { type: lib.CKA_EC_PARAMS, value: ED25519 },
          { type: lib.CKA_VERIFY, value: true },
        ],
        [...both, { type: lib.CKA_CLASS, value: lib.CKO_PRIVATE_KEY }, ...kept(lib), { type: lib.CKA_SIGN, value: true }],
      )
    })
    return { key: this.find(reference), reference: new Uint8Array(reference) }
  }

  find(reference: Uint8Array): SigningKey {
    const publicKey = this.#token.use((p11, session, lib) => {
      const handle = only(search(p11, session, named(lib, lib.CKO_PUBLIC_KEY, reference)), 'the identity key')
      const [point] = p11.C_GetAttributeValue(session, handle, [{ type: lib.CKA_EC_POINT }]) as [Value]
      return pointOf(point.value)
    })
    let handleOf: { session: Handle; handle: Handle } | undefined
    return {
      publicKey,
      location: 'in-token',
      sign: (message) =>
        this.#token.use((p11, session, lib) => {
          if (handleOf?.session !== session)
            handleOf = { session, handle: only(search(p11, session, named(lib, lib.CKO_PRIVATE_KEY, reference)), 'the identity key') }
          p11.C_SignInit(session, { mechanism: CKM_EDDSA }, handleOf.handle)
          const signature = new Uint8Array(p11.C_Sign(session, asBuffer(message), Buffer.alloc(64)))
          // A peer would refuse it anyway; better here, and with the token's name in the log.
          if (!verify(publicKey, message, signature)) throw refused('the token gave a signature that does not verify')
          return signature
        }),
      destroy: () => undefined,
    }
  }

  erase(reference: Uint8Array): void {
    this.#token.use((p11, session, lib) => {
      for (const kind of [lib.CKO_PRIVATE_KEY, lib.CKO_PUBLIC_KEY])
        for (const handle of search(p11, session, named(lib, kind, reference))) p11.C_DestroyObject(session, handle)
    })
  }
}

/** Private, and never in the clear outside the token. */
function kept(lib: Pkcs11Library): Attribute[] {
  return [
    { type: lib.CKA_PRIVATE, value: true },
    { type: lib.CKA_SENSITIVE, value: true },
    { type: lib.CKA_EXTRACTABLE, value: false },
  ]
}

function named(lib: Pkcs11Library, kind: number, reference: Uint8Array): Attribute[] {
  return [
    { type: lib.CKA_CLASS, value: kind },
    { type: lib.CKA_ID, value: asBuffer(reference) },
  ]
}

function search(p11: Pkcs11, session: Handle, template: Attribute[]): Handle[] {
  p11.C_FindObjectsInit(session, template)
  try {
    return p11.C_FindObjects(session, 4)
  } finally {
    p11.C_FindObjectsFinal(session)
  }
}

function only(found: Handle[], what: string): Handle {
  if (found.length === 1) return found[0]!
  throw refused(found.length === 0 ? `${what} is not in the token any more` : `${what} is in the token more than once`)
}

/** The standard wraps the point in a DER OCTET STRING; some tokens leave it bare. */
function pointOf(value: Buffer): Uint8Array {
  if (value.length === 32) return new Uint8Array(value)
  if (value.length === 34 && value[0] === 0x04 && value[1] === 32) return new Uint8Array(value.subarray(2))
  throw refused('the token gives a public key that is none of Ed25519')
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
}

function refused(message: string): ProtocolError {
  return new ProtocolError('KeyStorage', message, { reason: 'accessControlFailed' })
}

function damaged(binding: WrapBinding, cause?: unknown): ProtocolError {
  return new ProtocolError('KeyStorage', `data key ${binding.id} does not open: its row was changed`, {
    reason: 'accessControlFailed',
    cause,
  })
}

/**
 * The fleet's own keys as the rest of the service holds them: IK_sign (Ed25519, its root) and IK_dh (X25519). Made by
 * whichever replica comes first, under an advisory lock; in the arena for as long as they are the present ones. A
 * renewal replaces what is behind this object, so that nobody keeps keys that are no longer the fleet's.
 * @see docs/spec/identity.md §1, §5
 */
import { ProtocolError } from '@tallystick/primitives/errors'
import type { SecretBytes } from '@tallystick/secret-bytes/arena'
import type { SuccessionLink } from '@tallystick/wire/certificate'
import type { Context } from '../context.js'
import type { Tx } from '../db.js'
import { FIRST_VERSION, firstOfAll, type IdentityKeys, lockIdentity, makeKeys, presentVersion, readKeys } from './identity-keys.js'

/** What signs and agrees for this fleet at the moment. */
export type Signer = Pick<IdentityKeys, 'fleetId' | 'signKey' | 'dhKey' | 'succession' | 'sign'>

export class Identity implements Signer {
  readonly #context: Context
  #keys: IdentityKeys

  constructor(context: Context, keys: IdentityKeys) {
    this.#context = context
    this.#keys = keys
  }

  get version(): number {
    return this.#keys.version
  }

  get fleetId(): string {
    return this.#keys.fleetId
  }

  /** IK_sign, 32 bytes. */
  get signKey(): Uint8Array {
    return this.#keys.signKey
  }

  /** IK_dh, 32 bytes. */
  get dhKey(): Uint8Array {
    return this.#keys.dhKey
  }

  /** In the arena until the next renewal: to be used at once, never kept across an await. */
  get dhSecret(): SecretBytes {
    return this.#keys.dhSecret
  }

  /** Root keys before the present one, oldest first. */
  get succession(): readonly SuccessionLink[] {
    return this.#keys.succession
  }

  /** Ed25519 with IK_sign, 64 bytes. The secret itself does not leave identity and custody. */
  sign(message: Uint8Array): Uint8Array {
    return this.#keys.sign(message)
  }

  /**
   * Takes up the keys of the database when they are of another version. To be called before every signature and
   * agreement, under a lock that a renewal needs too, or directly before it.
   * @param version as read with the lock of a peer (`own_identity`); looked up when absent
   * @throws ProtocolError KeyStorage as at the start
   */
  async follow(tx: Tx, version?: number): Promise<void> {
    if ((version ?? (await presentVersion(tx))) === this.#keys.version) return
    const keys = await readKeys(this.#context, tx)
    if (!keys) throw new ProtocolError('KeyStorage', 'the identity keys are gone from the database', { reason: 'storeFailed' })
    this.become(keys)
  }

  /** Owns `keys` from now on; the ones before are wiped. */
  become(keys: IdentityKeys): void {
    // Another call of this process was faster: what it took up may be in use.
    if (keys.version === this.#keys.version) return keys.destroy()
    this.#keys.destroy()
    this.#keys = keys
  }
}

/**
 * @returns the keys of this fleet, made now if it has none
 * @throws ProtocolError KeyStorage(accessControlFailed) when the key at hand does not open them
 */
export async function loadIdentity(context: Context): Promise<Identity> {
  const existing = await readKeys(context, context.db)
  if (existing) return new Identity(context, existing)
  let keys: IdentityKeys | undefined
  try {
    await context.db.$transaction(async (tx) => {
      await lockIdentity(tx)
      keys = (await readKeys(context, tx)) ?? (await makeKeys(context, tx, FIRST_VERSION, firstOfAll))
    })
  } catch (error) {
    keys?.destroy()
    throw error
  }
  context.audit.committed()
  return new Identity(context, keys!)
}

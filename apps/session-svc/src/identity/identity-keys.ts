/**
 * The rows behind the identity: one present pair of keys, sealed or in a token, and of every earlier one the public
 * half and its signature of the next.
 * @see docs/spec/identity.md §5, docs/spec/custody.md §1
 */
import { equalConstantTime } from '@tallystick/primitives/bytes'
import { ProtocolError } from '@tallystick/primitives/errors'
import { generateKeyPair, publicKeyOf } from '@tallystick/primitives/x25519'
import type { SecretBytes } from '@tallystick/secret-bytes/arena'
import { fleetIdOf, type SuccessionLink } from '@tallystick/wire/certificate'
import type { Context } from '../context.js'
import type { SealBinding, SealedValue, SigningKey } from '../custody/key-custody.js'
import type { Tx } from '../db.js'
import type { IdentityKey } from '../gen/client.js'
import { plainBytes } from '../plain-bytes.js'

export const FIRST_VERSION = 1
const TABLE = 'identity_key'
type KeyKind = 'sign' | 'agreement'

/** One version of the fleet's keys. */
export interface IdentityKeys {
  /** From 1, grows with every renewal. */
  readonly version: number
  readonly fleetId: string
  /** IK_sign, 32 bytes. */
  readonly signKey: Uint8Array
  /** IK_dh, 32 bytes. */
  readonly dhKey: Uint8Array
  /** In the arena, owned by these keys. */
  readonly dhSecret: SecretBytes
  /** Root keys before this one, oldest first. */
  readonly succession: readonly SuccessionLink[]
  /** Ed25519 with IK_sign, 64 bytes. */
  sign(message: Uint8Array): Uint8Array
  /** Wipes what is in memory. */
  destroy(): void
}

/** Holds the version until the transaction ends: nobody else makes or replaces keys. Comes before every other lock. */
export async function lockIdentity(tx: Tx): Promise<void> {
  await tx.$executeRaw`SELECT pg_advisory_xact_lock(hashtextextended('tallystick/session/identity', 0))`
}

/** @returns the version of the present keys, undefined before the first */
export async function presentVersion(tx: Tx): Promise<number | undefined> {
  const row = await tx.identityKey.findFirst({ where: { kind: 'sign', retiredAt: null }, select: { version: true } })
  return row?.version
}

/**
 * @returns the present keys, owned by the caller; undefined when none were ever made
 * @throws ProtocolError KeyStorage(storeFailed) when one of the two is missing, KeyStorage(accessControlFailed) when one
 *   does not open, or does not belong to its public key
 */
export async function readKeys(context: Context, tx: Tx): Promise<IdentityKeys | undefined> {
  const { custody } = context
  const rows = await tx.identityKey.findMany({ orderBy: { version: 'asc' } })
  if (rows.length === 0) return undefined
  const sign = present(rows, 'sign')
  const agreement = present(rows, 'agreement')
  if (sign.version !== agreement.version) throw missing('agreement')
  const succession = rows
    .filter(({ kind, retiredAt }) => kind === 'sign' && retiredAt !== null)
    .map(({ publicKey, succession: signature }) => ({ key: publicKey, signature: signature! }))
  const signing = custody.openSigningKey(stored(sign), sign.publicKey, bindingOf('sign', sign.version))
  try {
    const dhSecret = custody.openSecret(stored(agreement), bindingOf('agreement', agreement.version))
    // A public key changed in the database would make certificates that nobody can use, or worse: somebody else's.
    if (!belongs(dhSecret, agreement.publicKey)) {
      dhSecret.destroy()
      throw new ProtocolError('KeyStorage', 'an identity key does not belong to its public key in the database', {
        reason: 'accessControlFailed',
      })
    }
    return keysOf(sign.version, signing, { secret: dhSecret, publicKey: agreement.publicKey }, succession)
  } catch (error) {
    signing.destroy()
    throw error
  }
}

/**
 * Makes keys and their rows. The caller owns them, and destroys them when the transaction does not commit. A key that
 * was made in a token stays there unused then: after a commit whose answer was lost it would be the only one.
 * @param succession of the new keys
 */
export async function makeKeys(context: Context, tx: Tx, version: number, succession: Successors): Promise<IdentityKeys> {
  const { custody, arena, clock, audit } = context
  const signing = custody.createSigningKey(bindingOf('sign', version))
  let secret: SecretBytes | undefined
  try {
    const agreement = generateKeyPair(arena)
    secret = agreement.secret
    const links = succession(signing.key.publicKey)
    const createdAt = new Date(clock.now())
    const row = (kind: KeyKind, publicKey: Uint8Array, { sealed, kekId }: SealedValue) => {
      return { kind, version, publicKey: plainBytes(publicKey), sealed: plainBytes(sealed), kekId, createdAt }
    }
    if (links.length > 0) await retire(tx, version - 1, links.at(-1)!.signature, createdAt)
    await tx.identityKey.createMany({
      data: [
        row('sign', signing.key.publicKey, signing.stored),
        row('agreement', agreement.publicKey, custody.sealSecret(secret, bindingOf('agreement', version))),
      ],
    })
    await audit.record(tx, 'KeyStored', { keyKind: 'identity', count: 1 })
    await audit.record(tx, 'KeyStored', { keyKind: 'agreement', count: 1 })
    return keysOf(version, signing.key, agreement, links)
  } catch (error) {
    signing.key.destroy()
    secret?.destroy()
    throw error
  }
}

/** The links that lead to a new root key; signed by the one it replaces. */
export type Successors = (next: Uint8Array) => readonly SuccessionLink[]
export const firstOfAll: Successors = () => []

/** What a token needs to find the present signing key, for when it is to be erased there. */
export async function storedSigningKey(tx: Tx, version: number): Promise<{ value: SealedValue; binding: SealBinding } | undefined> {
  const row = await tx.identityKey.findUnique({ where: { kind_version: { kind: 'sign', version } } })
  return row?.sealed ? { value: stored(row), binding: bindingOf('sign', version) } : undefined
}

/** The secrets go, the public halves stay: they are what the succession is made of. */
async function retire(tx: Tx, version: number, signature: Uint8Array, retiredAt: Date): Promise<void> {
  await tx.identityKey.updateMany({
    where: { kind: 'sign', version },
    data: { sealed: null, retiredAt, succession: plainBytes(signature) },
  })
  await tx.identityKey.updateMany({ where: { kind: 'agreement', version }, data: { sealed: null, retiredAt } })
}

function keysOf(
  version: number,
  signing: SigningKey,
  agreement: { secret: SecretBytes; publicKey: Uint8Array },
  succession: readonly SuccessionLink[],
): IdentityKeys {
  return {
    version,
    fleetId: fleetIdOf(succession[0]?.key ?? signing.publicKey),
    signKey: signing.publicKey,
    dhKey: agreement.publicKey,
    dhSecret: agreement.secret,
    succession,
    sign: (message) => signing.sign(message),
    destroy: () => {
      signing.destroy()
      agreement.secret.destroy()
    },
  }
}

function belongs(secret: SecretBytes, publicKey: Uint8Array): boolean {
  try {
    return equalConstantTime(publicKeyOf(secret), publicKey)
  } catch (error) {
    secret.destroy()
    throw error
  }
}

function present(rows: readonly IdentityKey[], kind: KeyKind): IdentityKey {
  const row = rows.find((candidate) => candidate.kind === kind && candidate.retiredAt === null)
  if (!row) throw missing(kind)
  return row
}

function missing(kind: KeyKind): ProtocolError {
  return new ProtocolError('KeyStorage', `the identity key "${kind}" is missing from the database`, { reason: 'storeFailed' })
}

function stored({ sealed, kekId }: IdentityKey): SealedValue {
  return { sealed: sealed!, kekId }
}

/** The version enters the binding: keys of an earlier identity do not open as the present ones. */
function bindingOf(kind: KeyKind, version: number): SealBinding {
  return { table: TABLE, row: kind, version }
}

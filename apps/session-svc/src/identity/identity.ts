/**
 * The fleet's own keys: IK_sign (Ed25519, its root) and IK_dh (X25519). Made by whichever replica comes first, under an
 * advisory lock; sealed in the database, and in the arena for as long as the process runs.
 * @see docs/spec/identity.md §1
 */
import { generateSigningKey, sign } from '@tallystick/primitives/ed25519'
import { equalConstantTime } from '@tallystick/primitives/bytes'
import { ProtocolError } from '@tallystick/primitives/errors'
import { generateKeyPair, publicKeyOf } from '@tallystick/primitives/x25519'
import { type SecretBytes, withSecret } from '@tallystick/secret-bytes/arena'
import { fleetIdOf } from '@tallystick/wire/certificate'
import type { Context } from '../context.js'
import type { Tx } from '../db.js'
import { plainBytes } from '../plain-bytes.js'

export interface Identity {
  readonly fleetId: string
  /** IK_sign, 32 bytes. */
  readonly signKey: Uint8Array
  /** IK_dh, 32 bytes. */
  readonly dhKey: Uint8Array
  /** In the arena until the process ends. */
  readonly dhSecret: SecretBytes
  /** Ed25519 with IK_sign, 64 bytes. The secret itself does not leave this file. */
  sign(message: Uint8Array): Uint8Array
}

type KeyKind = 'sign' | 'agreement'
const TABLE = 'identity_key'
const VERSION = 1

/**
 * @returns the keys of this fleet, made now if it has none
 * @throws ProtocolError KeyStorage(accessControlFailed) when the key file does not open them
 */
export async function loadIdentity(context: Context): Promise<Identity> {
  const { db } = context
  const existing = await readKeys(context, db)
  if (existing) return existing
  const made = await db.$transaction(async (tx) => {
    await tx.$executeRaw`SELECT pg_advisory_xact_lock(hashtextextended('tallystick/session/identity', 0))`
    const other = await readKeys(context, tx)
    return other ?? (await createKeys(context, tx))
  })
  context.audit.committed()
  return made
}

async function readKeys(context: Context, tx: Tx): Promise<Identity | undefined> {
  const rows = await tx.identityKey.findMany()
  const open = (kind: KeyKind) => {
    const row = rows.find((candidate) => candidate.kind === kind)
    if (!row) throw new ProtocolError('KeyStorage', `the identity key "${kind}" is missing from the database`, { reason: 'storeFailed' })
    return { publicKey: row.publicKey, secret: context.custody.openSecret(row, { table: TABLE, row: kind, version: row.version }) }
  }
  if (rows.length === 0) return undefined
  const signing = open('sign')
  const agreement = open('agreement')
  // A public key changed in the database would sign certificates that nobody can use, or worse: somebody else's.
  const derived = withSecret(signing.secret, (bytes) => bytes.slice(32))
  if (!equalConstantTime(derived, signing.publicKey) || !equalConstantTime(publicKeyOf(agreement.secret), agreement.publicKey)) {
    throw new ProtocolError('KeyStorage', 'an identity key does not belong to its public key in the database', {
      reason: 'accessControlFailed',
    })
  }
  return identity(signing, agreement)
}

async function createKeys(context: Context, tx: Tx): Promise<Identity> {
  const { arena, custody, clock, audit } = context
  const signing = generateSigningKey(arena)
  const agreement = generateKeyPair(arena)
  const row = (kind: KeyKind, pair: { secret: SecretBytes; publicKey: Uint8Array }) => {
    const value = custody.sealSecret(pair.secret, { table: TABLE, row: kind, version: VERSION })
    return {
      kind,
      publicKey: plainBytes(pair.publicKey),
      sealed: plainBytes(value.sealed),
      kekId: value.kekId,
      version: VERSION,
      createdAt: new Date(clock.now()),
    }
  }
  await tx.identityKey.createMany({ data: [row('sign', signing), row('agreement', agreement)] })
  await audit.record(tx, 'KeyStored', { keyKind: 'identity', count: 1 })
  await audit.record(tx, 'KeyStored', { keyKind: 'agreement', count: 1 })
  return identity(signing, agreement)
}

function identity(
  signing: { secret: SecretBytes; publicKey: Uint8Array },
  agreement: { secret: SecretBytes; publicKey: Uint8Array },
): Identity {
  return {
    fleetId: fleetIdOf(signing.publicKey),
    signKey: signing.publicKey,
    dhKey: agreement.publicKey,
    dhSecret: agreement.secret,
    sign: (message) => sign(signing.secret, message),
  }
}

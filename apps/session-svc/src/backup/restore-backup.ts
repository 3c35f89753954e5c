/**
 * Identity keys from a backup into an empty database, once, at the start. Everything else begins anew: prekeys, data
 * keys, sessions; peers are pinned again.
 * @see docs/spec/custody.md §2
 */
import { randomInt } from 'node:crypto'
import { equalConstantTime } from '@tallystick/primitives/bytes'
import { generateSigningKey, sign } from '@tallystick/primitives/ed25519'
import { ProtocolError } from '@tallystick/primitives/errors'
import { publicKeyOf } from '@tallystick/primitives/x25519'
import { type SecretBytes, secretFrom, wipe } from '@tallystick/secret-bytes/arena'
import { certificateDigest, issueCertificate, readCertificate } from '@tallystick/wire/certificate'
import { Decrypter } from 'age-encryption'
import type { Context } from '../context.js'
import type { Tx } from '../db.js'
import { plainBytes } from '../plain-bytes.js'
import { readAgeIdentity } from './age-identity.js'
import { type BackupContent, type BackupKey, decodeBackup } from './backup-file.js'

/** Certificates issued after the backup was written have higher numbers than it knows; peers take higher ones only. */
const SEQUENCE_JUMP = 1_000
/** Ids of prekeys made by this installation must not be those of the one that was lost. */
const PREKEY_ID_FLOOR = 100_000
const PREKEY_ID_RANGE = 1_000_000_000

export interface RestoreFiles {
  /** The age file. */
  readonly backup: Uint8Array
  /** An age identity file; wiped here. */
  readonly identity: Uint8Array
}

/**
 * @returns restored: the keys are in the database now; already-there: they were before, and the files can be removed
 * @throws ProtocolError KeyStorage(accessControlFailed) when the database has another identity, the identity does not open the
 *   backup, or the backup is none
 */
export async function restoreBackup(context: Context, files: RestoreFiles): Promise<'restored' | 'already-there'> {
  const { db, audit, custody } = context
  await custody.open(context)
  const content = await openBackup(files)
  try {
    const outcome = await db.$transaction(async (tx) => {
      await tx.$executeRaw`SELECT pg_advisory_xact_lock(hashtextextended('tallystick/session/identity', 0))`
      const present = await tx.identityKey.findFirst({ where: { kind: 'sign' }, orderBy: { version: 'asc' } })
      const first = content.keys.find(({ kind }) => kind === 'sign')
      if (present) {
        if (first && equalConstantTime(present.publicKey, first.publicKey)) return 'already-there'
        throw refused(
          'this database already has the identity of another fleet: restore into an empty database, or remove the secrets "restore.age" and "restore.identity"',
        )
      }
      await insert(context, tx, content)
      await audit.record(tx, 'AdminAction', { action: 'keys-restored', subject: content.fleetId })
      return 'restored'
    })
    audit.committed()
    return outcome
  } finally {
    for (const { secret } of content.keys) if (secret) wipe(secret)
  }
}

async function openBackup({ backup, identity }: RestoreFiles): Promise<BackupContent> {
  const decrypter = new Decrypter()
  decrypter.addIdentity(await readAgeIdentity(identity))
  let plain: Uint8Array | undefined
  try {
    plain = await decrypter.decrypt(backup)
    const content = decodeBackup(plain)
    // Byte strings of the decoder may be views of `plain`, which is wiped.
    const keys = content.keys.map((key) => ({ ...key, secret: key.secret && key.secret.slice() }))
    for (const { secret } of content.keys) if (secret) wipe(secret)
    return { ...content, keys }
  } catch (cause) {
    throw refused(
      cause instanceof ProtocolError
        ? 'the secret "restore.age" is not a backup of this service'
        : 'the secret "restore.identity" does not open "restore.age", or that was changed',
      cause,
    )
  } finally {
    if (plain) wipe(plain)
  }
}

async function insert(context: Context, tx: Tx, content: BackupContent): Promise<void> {
  const { custody } = context
  const live = content.keys.filter(({ secret }) => secret !== null).map(({ kind }) => kind)
  if (live.length !== 2 || !live.includes('sign') || !live.includes('agreement')) throw refused('the backup holds no complete identity')
  let signing: SecretBytes | undefined
  try {
    for (const key of content.keys) {
      const secret = key.secret && openKey(context, key)
      const value = secret && custody.sealSecret(secret, { table: 'identity_key', row: key.kind, version: key.version })
      if (key.kind === 'sign' && secret) signing = secret
      else secret?.destroy()
      await tx.identityKey.create({
        data: {
          kind: key.kind,
          version: key.version,
          publicKey: plainBytes(key.publicKey),
          sealed: value && plainBytes(value.sealed),
          kekId: value?.kekId ?? custody.kekId,
          succession: key.succession && plainBytes(key.succession),
          createdAt: new Date(key.createdAt),
          retiredAt: key.retiredAt === null ? null : new Date(key.retiredAt),
        },
      })
    }
    await insertCertificates(context, tx, content, signing!)
    await tx.$queryRaw`SELECT setval('session.prekey_id_seq', ${PREKEY_ID_FLOOR + randomInt(PREKEY_ID_RANGE)}::bigint)`
  } finally {
    signing?.destroy()
  }
}

/** @returns in the arena, and proven to belong to its public key */
function openKey({ arena }: Context, key: BackupKey): SecretBytes {
  const seed = key.secret!
  if (key.kind === 'agreement') {
    const secret = secretFrom(arena, seed.slice())
    if (equalConstantTime(publicKeyOf(secret), key.publicKey)) return secret
    secret.destroy()
  } else {
    const { secret, publicKey } = generateSigningKey(arena, seed)
    if (equalConstantTime(publicKey, key.publicKey)) return secret
    secret.destroy()
  }
  throw refused('a key in the backup does not belong to its public key')
}

/** Those of the backup, and one that is newer than any that was issued after it, saying the same. */
async function insertCertificates({ clock, limits }: Context, tx: Tx, content: BackupContent, signing: SecretBytes): Promise<void> {
  const newest = content.certificates[0]!
  const { peerIds, logKey, displayName, signKey, dhKey, suites, succession } = readCertificate(newest.certificate, newest.issuedAt)
  const now = clock.now()
  const sequence = newest.sequence + SEQUENCE_JUMP
  const reissued = issueCertificate(
    {
      displayName,
      signKey,
      dhKey,
      peerIds,
      logKey,
      suites,
      notBefore: now,
      notAfter: now + limits.certificateLifetimeMs,
      sequence,
      ...(succession ? { succession } : {}),
    },
    (message) => sign(signing, message),
  )
  for (const entry of [...content.certificates, { sequence, certificate: reissued, issuedAt: now }]) {
    const read = readCertificate(entry.certificate, entry.issuedAt)
    await tx.certificate.create({
      data: {
        sequence: entry.sequence,
        digest: plainBytes(certificateDigest(entry.certificate)),
        certificate: plainBytes(entry.certificate),
        peerIds: read.peerIds,
        logKey: plainBytes(read.logKey),
        notAfter: new Date(read.notAfter),
        issuedAt: new Date(entry.issuedAt),
      },
    })
  }
}

function refused(message: string, cause?: unknown): ProtocolError {
  return new ProtocolError('KeyStorage', message, { reason: 'accessControlFailed', cause })
}

/**
 * The fleet's identity, encrypted to age recipients: what brings the fleet back when database and secrets are lost.
 * Live ratchet state is not in it, since restored state would use keys a second time.
 * @see docs/spec/custody.md §2
 */
import type { ResponseOf } from '@tallystick/contracts/call'
import type { sessionBackup } from '@tallystick/contracts/session'
import { wipe, withSecret } from '@tallystick/secret-bytes/arena'
import { Encrypter } from 'age-encryption'
import type { Context } from '../context.js'
import type { Identity } from '../identity/identity.js'
import { plainBytes } from '../plain-bytes.js'
import { refuse } from '../refuse.js'
import { type BackupKey, encodeBackup, MOST_CERTIFICATES } from './backup-file.js'

type Answer = ResponseOf<typeof sessionBackup>

/**
 * @param recipients `age1…`, one to eight; any of them can open the file
 * @returns refused with InvalidRequest for a recipient that age does not know, with Conflict when a key is in a token
 */
export async function writeBackup(context: Context, identity: Pick<Identity, 'fleetId'>, recipients: readonly string[]): Promise<Answer> {
  const encrypter = new Encrypter()
  for (const [index, recipient] of recipients.entries()) {
    try {
      encrypter.addRecipient(recipient)
    } catch {
      return refuse('InvalidRequest', `recipient ${index + 1} is not one that age knows: age1… is expected`)
    }
  }
  const { db, custody, clock, audit } = context
  const createdAt = clock.now()
  const rows = await db.identityKey.findMany({ orderBy: [{ kind: 'desc' }, { version: 'asc' }] })
  const certificates = await db.certificate.findMany({ orderBy: { sequence: 'desc' }, take: MOST_CERTIFICATES })
  if (certificates.length === 0) return refuse('NotReady', 'this fleet has no certificate yet', context.limits.retryAfterMs)
  const inToken = rows.find(
    (row) => row.kind === 'sign' && row.sealed !== null && custody.locationOf(sealedValue(row), bindingOf(row)) === 'in-token',
  )
  if (inToken) {
    return refuse(
      'Conflict',
      'the signing key is in a token and cannot leave it: copy the token by its maker’s own way, or renew the identity with TALLYSTICK_CUSTODY=file first',
    )
  }
  const keys: BackupKey[] = []
  let plain: Uint8Array | undefined
  try {
    for (const row of rows) keys.push(keyOf(context, row))
    plain = encodeBackup({
      v: 1,
      domain: 'tallystick/backup/v1',
      fleetId: identity.fleetId,
      createdAt,
      keys,
      certificates: certificates.map(({ sequence, certificate, issuedAt }) => ({ sequence, certificate, issuedAt: issuedAt.getTime() })),
    })
    const file = await encrypter.encrypt(plain)
    await audit.record(db, 'KeyAccessed', { keyKind: 'identity', purpose: 'backup' })
    await audit.record(db, 'AdminAction', { action: 'keys-backed-up', subject: identity.fleetId })
    audit.committed()
    return { ok: true, file: plainBytes(file), fleetId: identity.fleetId, createdAt }
  } finally {
    for (const { secret } of keys) if (secret) wipe(secret)
    if (plain) wipe(plain)
  }
}

interface KeyRow {
  readonly kind: string
  readonly version: number
  readonly publicKey: Uint8Array
  readonly sealed: Uint8Array | null
  readonly kekId: string
  readonly succession: Uint8Array | null
  readonly createdAt: Date
  readonly retiredAt: Date | null
}

/** @returns with the secret on the heap, for the caller to wipe */
function keyOf({ custody }: Context, row: KeyRow): BackupKey {
  let secret: Uint8Array | null = null
  if (row.sealed !== null) {
    const opened = custody.openSecret(sealedValue(row), bindingOf(row))
    // Of libsodium's 64 bytes the second half is the public key.
    secret = withSecret(opened, (bytes) => bytes.slice(0, 32))
    opened.destroy()
  }
  return {
    kind: row.kind as BackupKey['kind'],
    version: row.version,
    publicKey: row.publicKey,
    secret,
    succession: row.succession,
    createdAt: row.createdAt.getTime(),
    retiredAt: row.retiredAt?.getTime() ?? null,
  }
}

function sealedValue(row: KeyRow): { sealed: Uint8Array; kekId: string } {
  return { sealed: row.sealed!, kekId: row.kekId }
}

function bindingOf(row: KeyRow): { table: string; row: string; version: number } {
  return { table: 'identity_key', row: row.kind, version: row.version }
}

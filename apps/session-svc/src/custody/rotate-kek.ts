/**
 * Rotation of the key-encryption key: every data key is opened with the old one and wrapped under the next one, in one
 * transaction. Rows stay as they are, since their data keys do.
 * @see docs/spec/custody.md §2
 */
import { withSecret } from '@tallystick/secret-bytes/arena'
import type { Refusal } from '@tallystick/contracts/codes'
import type { ResponseOf } from '@tallystick/contracts/call'
import type { sessionRotateKek } from '@tallystick/contracts/session'
import type { Context } from '../context.js'
import type { Tx } from '../db.js'
import { refuse } from '../refuse.js'
import { type DataKeyRow, lockDataKeys, readDataKeys, rewrapDataKey } from './data-key.store.js'
import type { ConnectedKeks, KeyEncryptionKey } from './key-encryption-key.js'
import type { CustodyHost, KekRotation } from './key-custody.js'

/** What `session.v1.rotateKek` answers. A second call finds nothing to do and says so with `rewrapped: 0`. */
export async function rotateKek(context: Context): Promise<ResponseOf<typeof sessionRotateKek> | Refusal> {
  const outcome = await context.custody.rotateKek()
  if (!outcome) {
    return refuse(
      'Conflict',
      'no next key is configured: put 32 random bytes into the secret "kek.next" (or set TALLYSTICK_PKCS11_NEXT_LABEL) and start the service again',
    )
  }
  return { ok: true, ...outcome }
}

/** @returns undefined when there is no next key and nothing to move */
export async function rewrapAll(tx: Tx, host: CustodyHost, keks: ConnectedKeks): Promise<KekRotation | undefined> {
  await lockDataKeys(tx)
  const rows = await readDataKeys(tx)
  const next = keks.next()
  const target = next ?? keks.primary()
  const moving = rows.filter((row) => row.kekId !== target.id)
  if (moving.length === 0 && !next) return undefined
  const from = moving[0]?.kekId ?? target.id
  for (const row of moving) await rewrapDataKey(tx, row.id, target.id, rewrap(row, keks, target))
  if (moving.length > 0)
    await host.audit.record(tx, 'AdminAction', { action: 'kek-rotated', subject: `${from} to ${target.id}`.slice(0, 80) })
  return { from, to: target.id, rewrapped: moving.length }
}

function rewrap(row: DataKeyRow, keks: ConnectedKeks, target: KeyEncryptionKey): Uint8Array {
  const old = keks.all.find(({ id }) => id === row.kekId)
  if (!old) throw new Error(`data key ${row.id} is wrapped by ${row.kekId}, which is not at hand`)
  const key = old.unwrap(row.wrapped, row)
  try {
    const wrapped = withSecret(key, (bytes) => target.wrap(bytes, row))
    // Opened once more before the old wrapping is given up: a token that lies would cost everything.
    target.unwrap(wrapped, row).destroy()
    return wrapped
  } finally {
    key.destroy()
  }
}

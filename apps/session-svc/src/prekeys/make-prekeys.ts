/**
 * Makes prekeys: key pairs in the arena, signatures with the present IK_sign, rows.
 * @see docs/spec/session.md §3.1, docs/spec/custody.md §4
 */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { generateKeyPair as generateKem } from '@tallystick/primitives/mlkem1024'
import { generateKeyPair as generateCurve } from '@tallystick/primitives/x25519'
import { pqMessage, spkMessage } from '@tallystick/ratchet/labels'
import type { AuditEventBody } from '@tallystick/contracts/audit-events'
import type { Context } from '../context.js'
import type { SecretScope } from '../custody/secret-scope.js'
import type { Tx } from '../db.js'
import type { Signer } from '../identity/identity.js'
import { destroyAllPrekeys, type NewPrekey, type PrekeyKind, reserveIds, storePrekeys } from './prekeys.store.js'

/** Keys made before other work gets a turn: 16 ML-KEM keys take some 3 ms. */
const TURN = 16

/** How audit events name them; the two kinds of one-time keys share one name. */
export const AUDITED_AS: Record<PrekeyKind, AuditEventBody<'KeyStored'>['keyKind'] & AuditEventBody<'KeyRotated'>['keyKind']> = {
  signed: 'signed-prekey',
  'last-resort': 'last-resort-prekey',
  'one-time': 'one-time-prekeys',
  'pq-one-time': 'one-time-prekeys',
}

/** One replica at a time makes, rotates or destroys prekeys: two that refill at once would only make twice the stock. */
export async function lockPrekeys(tx: Tx): Promise<void> {
  await tx.$executeRaw`SELECT pg_advisory_xact_lock(hashtextextended('tallystick/session/prekeys', 0))`
}

/**
 * Makes and stores `count` prekeys of a kind, audited as KeyStored.
 * @param scope owns the private halves while they are in the arena
 */
export async function addPrekeys(
  context: Context,
  identity: Signer,
  tx: Tx,
  scope: SecretScope,
  kind: PrekeyKind,
  count: number,
): Promise<void> {
  const made: NewPrekey[] = []
  for (const id of await reserveIds(tx, count)) {
    if (made.length % TURN === TURN - 1) await nextTurn()
    made.push(makeOne(context, identity, scope, kind, id))
  }
  await storePrekeys(context, tx, made)
  for (const { secret } of made) scope.drop(secret)
  await context.audit.record(tx, 'KeyStored', { keyKind: AUDITED_AS[kind], count })
}

/**
 * Destroys every prekey, also those that were handed out or are in their grace time, and makes a full new stock. For an
 * identity that is replaced: whatever was handed out before starts no session any more. Takes the lock of prekeys.
 * @param identity signs the new ones
 * @returns how many private halves were destroyed
 */
export async function renewAllPrekeys(context: Context, identity: Signer, tx: Tx, scope: SecretScope): Promise<number> {
  const { audit, limits } = context
  await lockPrekeys(tx)
  const destroyed = await destroyAllPrekeys(tx)
  for (const kind of ['signed', 'last-resort'] as const) {
    await addPrekeys(context, identity, tx, scope, kind, 1)
    await audit.record(tx, 'KeyRotated', { keyKind: AUDITED_AS[kind], count: 1 })
  }
  for (const kind of ['one-time', 'pq-one-time'] as const) await addPrekeys(context, identity, tx, scope, kind, limits.oneTimePrekeys)
  await audit.record(tx, 'KeyRotated', { keyKind: 'one-time-prekeys', count: 2 * limits.oneTimePrekeys })
  if (destroyed > 0) await audit.record(tx, 'KeysZeroized', { count: destroyed })
  return destroyed
}

function makeOne({ arena }: Context, identity: Signer, scope: SecretScope, kind: PrekeyKind, id: number): NewPrekey {
  const curve = kind === 'signed' || kind === 'one-time'
  const { secret, publicKey } = curve ? generateCurve(arena) : generateKem(arena)
  scope.own(secret)
  // One-time X25519 keys are unsigned, as in X3DH: a forged one costs its forger's victim a session, never a secret.
  if (kind === 'one-time') return { id, kind, publicKey, signature: null, secret }
  const message =
    kind === 'signed' ? spkMessage(id, publicKey) : pqMessage(kind === 'last-resort' ? 'last-resort' : 'one-time', id, publicKey)
  return { id, kind, publicKey, signature: identity.sign(message), secret }
}

/**
 * `session.v1.renewIdentity`: for a suspected compromise. New IK_sign and IK_dh, a certificate that follows the old one,
 * new prekeys, every session wiped: one transaction, so that a crash leaves either the old identity or the new one.
 * @see docs/spec/identity.md §5
 */
import type { ResponseOf } from '@tallystick/contracts/call'
import type { sessionRenewIdentity } from '@tallystick/contracts/session'
import { ProtocolError } from '@tallystick/primitives/errors'
import { fingerprint, MAX_SUCCESSION, readCertificate, successionMessage } from '@tallystick/wire/certificate'
import type { Context } from '../context.js'
import type { SealBinding, SealedValue } from '../custody/key-custody.js'
import { SecretScope } from '../custody/secret-scope.js'
import type { Tx } from '../db.js'
import { lockAllPeers } from '../peers/peers.store.js'
import { renewAllPrekeys } from '../prekeys/make-prekeys.js'
import { refuse } from '../refuse.js'
import { reissueCertificate } from './certificates.js'
import type { Identity } from './identity.js'
import { type IdentityKeys, lockIdentity, makeKeys, storedSigningKey } from './identity-keys.js'
import { startOverWithAll } from './start-over.js'

type Answer = ResponseOf<typeof sessionRenewIdentity>

/** Nothing was changed: there is nothing to renew yet, or no further renewal is possible. */
class NotRenewable extends Error {
  readonly answer: Answer

  constructor(answer: Extract<Answer, { ok: false }>) {
    super(answer.message)
    this.answer = answer
  }
}

interface Replaced {
  readonly value: SealedValue
  readonly binding: SealBinding
}

/**
 * Locks, in this order: identity, pinning, every peer, certificates, prekeys. Whoever seals, opens or hands out a bundle
 * has finished before, or waits and then works with the new keys.
 * @param identity replaced in place: the service goes on with the new keys as soon as this returns
 * @returns the same answer again for a `requestId` that was answered before; NotReady without a certificate; Conflict
 *   after the eighth renewal
 */
export async function renewIdentity(context: Context, identity: Identity, requestId: string): Promise<Answer> {
  let made: IdentityKeys | undefined
  let replaced: Replaced | undefined
  let answer: Answer
  try {
    answer = await SecretScope.run((scope) =>
      context.db.$transaction(async (tx) => {
        await lockIdentity(tx)
        const before = await answered(tx, identity, requestId)
        if (before) return before
        await lockAllPeers(tx)
        await identity.follow(tx)
        replaced = await storedSigningKey(tx, identity.version)
        made = await successorOf(context, tx, identity)
        return renewAll(context, tx, scope, made, requestId)
      }),
    )
  } catch (error) {
    made?.destroy()
    if (error instanceof NotRenewable) return error.answer
    throw error
  }
  if (made) takeOver(context, identity, made, replaced)
  return answer
}

async function successorOf(context: Context, tx: Tx, identity: Identity): Promise<IdentityKeys> {
  const { fleetId, signKey, succession, version } = identity
  if (succession.length >= MAX_SUCCESSION)
    throw new NotRenewable(refuse('Conflict', `the identity was renewed ${MAX_SUCCESSION} times: a new fleet is needed`))
  return makeKeys(context, tx, version + 1, (next) => [
    ...succession,
    { key: signKey, signature: identity.sign(successionMessage(next, fleetId)) },
  ])
}

async function renewAll(context: Context, tx: Tx, scope: SecretScope, keys: IdentityKeys, requestId: string): Promise<Answer> {
  const { clock, audit, limits } = context
  const sequence = await reissueCertificate(context, tx, keys)
  if (sequence === undefined) throw new NotRenewable(refuse('NotReady', 'this fleet has no certificate yet', limits.retryAfterMs))
  const prekeysDestroyed = await renewAllPrekeys(context, keys, tx, scope)
  const sessionsWiped = await startOverWithAll(context, tx, keys.version)
  const { fleetId, version } = keys
  await tx.identityRenewal.create({
    data: { requestId, version, sequence, sessionsWiped, prekeysDestroyed, renewedAt: new Date(clock.now()) },
  })
  await audit.record(tx, 'KeyRotated', { keyKind: 'identity', count: 1 })
  await audit.record(tx, 'KeyRotated', { keyKind: 'agreement', count: 1 })
  // The secret halves of the identity that was.
  await audit.record(tx, 'KeysZeroized', { count: 2 })
  await audit.record(tx, 'AdminAction', { action: 'identity-renewed', subject: `${fleetId}#${sequence}` })
  return { ok: true, fleetId, sequence, fingerprint: fingerprint(keys.signKey), sessionsWiped, prekeysDestroyed }
}

/** The new keys serve from now on; the old signing key goes, also from a token. */
function takeOver(context: Context, identity: Identity, made: IdentityKeys, replaced: Replaced | undefined): void {
  identity.become(made)
  context.audit.committed()
  context.log.warn({ what: 'identity', version: made.version }, 'the identity keys were renewed; peers have to approve them')
  if (!replaced) return
  try {
    context.custody.eraseSigningKey(replaced.value, replaced.binding)
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error
    context.log.warn({ err: error }, 'the replaced signing key could not be erased in its token: erase it by hand')
  }
}

/** Fingerprints are of the certificate that was issued then: there may have been another renewal since. */
async function answered(tx: Tx, identity: Identity, requestId: string): Promise<Answer | undefined> {
  const row = await tx.identityRenewal.findUnique({ where: { requestId } })
  if (!row) return undefined
  const { sequence, sessionsWiped, prekeysDestroyed } = row
  const { certificate, issuedAt } = await tx.certificate.findUniqueOrThrow({ where: { sequence } })
  const { signKey } = readCertificate(certificate, issuedAt.getTime())
  return { ok: true, fleetId: identity.fleetId, sequence, fingerprint: fingerprint(signKey), sessionsWiped, prekeysDestroyed }
}

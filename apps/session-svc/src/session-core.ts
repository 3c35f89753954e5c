/** All parts of the service, put together once. Tests make two of these and let them talk. */
import type { Context } from './context.js'
import { DocumentSigner } from './documents/sign-document.js'
import { type Identity, loadIdentity } from './identity/identity.js'
import { CertificateLearner } from './peers/learn-certificate.js'
import { PrekeyStock } from './prekeys/prekey-stock.js'
import type { BundleSource } from './sessions/bundle-source.js'
import { wipeSuperseded } from './sessions/epochs.js'
import { OpenMessages } from './sessions/open-messages.js'
import { PeerQueue } from './sessions/peer-queue.js'
import { SealMessages } from './sessions/seal-messages.js'
import { dropOldEnvelopes } from './sessions/sealed.store.js'
import { SessionStore } from './sessions/sessions.store.js'

/** What exists once the identity keys are there. */
export interface SessionCore {
  readonly context: Context
  readonly identity: Identity
  readonly stock: PrekeyStock
  readonly sealing: SealMessages
  readonly opening: OpenMessages
  readonly signer: DocumentSigner
}

/**
 * Loads or makes the identity keys, and builds the rest on them.
 * @throws ProtocolError KeyStorage(accessControlFailed) when the key file is not the one the database was sealed under
 */
export async function openSessionCore(
  context: Context,
  bundles: BundleSource,
  store: SessionStore = new SessionStore(),
): Promise<SessionCore> {
  const identity = await loadIdentity(context)
  const queue = new PeerQueue()
  const learner = new CertificateLearner(context, bundles)
  return {
    context,
    identity,
    stock: new PrekeyStock(context, identity),
    sealing: new SealMessages(context, identity, store, queue, bundles),
    opening: new OpenMessages(context, identity, store, queue, (fleetId) => learner.want(fleetId)),
    signer: new DocumentSigner(context, identity),
  }
}

/** Wipes superseded epochs and drops stored ciphertexts whose time is over. */
export async function expire(context: Context, store: SessionStore = new SessionStore()): Promise<void> {
  const { db, clock, limits, audit } = context
  const now = new Date(clock.now())
  const before = new Date(now.getTime() - limits.oldEpochGraceMs)
  const peers = await db.session.findMany({
    where: { active: false, state: { not: null }, retiredAt: { lt: before } },
    select: { fleetId: true },
    distinct: ['fleetId'],
  })
  for (const { fleetId } of peers) await db.$transaction((tx) => wipeSuperseded(context, tx, store, fleetId, now))
  if (peers.length > 0) audit.committed()
  await dropOldEnvelopes(db, new Date(now.getTime() - limits.envelopeRetentionMs))
}

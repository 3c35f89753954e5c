/** All parts of the service, put together once. Tests make two of these and let them talk. */
import type { Context } from './context.js'
import { DocumentSigner } from './documents/sign-document.js'
import { type Identity, loadIdentity } from './identity/identity.js'
import { CertificateLearner } from './peers/learn-certificate.js'
import { lockPeer } from './peers/peers.store.js'
import { PrekeyStock } from './prekeys/prekey-stock.js'
import { tidyAuditLimits } from './recovery/audit-limit.js'
import { DatabaseFence } from './recovery/database-fence.js'
import type { BundleSource } from './sessions/bundle-source.js'
import { wipeSuperseded } from './sessions/epochs.js'
import { OpenMessages } from './sessions/open-messages.js'
import { dropOldDigests } from './sessions/opened.store.js'
import { PeerQueue } from './sessions/peer-queue.js'
import { Prefetcher } from './sessions/prefetch.js'
import { SealMessages } from './sessions/seal-messages.js'
import { dropOldEnvelopes, dropOldIds } from './sessions/sealed.store.js'
import { SessionStore } from './sessions/sessions.store.js'

/** What exists once the identity keys are there. */
export interface SessionCore {
  readonly context: Context
  readonly identity: Identity
  readonly stock: PrekeyStock
  readonly fence: DatabaseFence
  readonly prefetcher: Prefetcher
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
  await context.custody.open(context)
  const identity = await loadIdentity(context)
  const queue = new PeerQueue()
  const learner = new CertificateLearner(context, bundles)
  const stock = new PrekeyStock(context, identity)
  const fence = new DatabaseFence(context, identity)
  const prefetcher = new Prefetcher(context, bundles)
  // Before anything can be sealed or handed out.
  await fence.check()
  const shared = { context, identity, store, queue, fence }
  return {
    context,
    identity,
    stock,
    fence,
    prefetcher,
    sealing: new SealMessages({ ...shared, bundles, prefetcher }),
    opening: new OpenMessages({ ...shared, certificateWanted: (fleetId) => learner.want(fleetId) }),
    signer: new DocumentSigner(context, identity),
  }
}

/** Every minute: the number outside the database, epochs and rows whose time is over, bundles for epochs that grow old. */
export async function tidy({ context, fence, prefetcher }: SessionCore): Promise<void> {
  await fence.check()
  await expire(context)
  await prefetcher.lookForOld()
  tidyAuditLimits(context)
}

/** Wipes superseded epochs; drops stored ciphertexts, and later their ids, whose time is over. */
export async function expire(context: Context, store: SessionStore = new SessionStore()): Promise<void> {
  const { db, clock, limits, audit } = context
  const now = new Date(clock.now())
  const at = (age: number) => new Date(now.getTime() - age)
  const peers = await db.session.findMany({
    where: { active: false, state: { not: null }, retiredAt: { lt: at(Math.min(limits.oldEpochQuietMs, limits.oldEpochGraceMs)) } },
    select: { fleetId: true },
    distinct: ['fleetId'],
  })
  for (const { fleetId } of peers) {
    await db.$transaction(async (tx) => {
      await lockPeer(tx, fleetId)
      await wipeSuperseded(context, tx, store, fleetId, now)
    })
  }
  if (peers.length > 0) audit.committed()
  await dropOldEnvelopes(db, at(limits.envelopeRetentionMs))
  await dropOldIds(db, at(limits.idRetentionMs))
  await dropOldDigests(db, at(limits.idRetentionMs))
}

/**
 * Hands one prekey bundle to a pinned peer's relay. Fetches are limited per peer, so that one peer cannot drain the
 * one-time keys of all others.
 * @see docs/spec/custody.md §4
 */
import type { ResponseOf } from '@tallystick/contracts/call'
import type { sessionTakeBundle } from '@tallystick/contracts/session'
import { encodeBundle } from '@tallystick/wire/bundle'
import type { Context } from '../context.js'
import { currentCertificate } from '../identity/certificates.js'
import { lockPeer, mayTalk } from '../peers/peers.store.js'
import { plainBytes } from '../plain-bytes.js'
import { refuse } from '../refuse.js'
import { epochHint } from '../sessions/epoch-hint.js'
import { countBundle, countOutstanding, handOutOneTime, newestReusable } from './prekeys.store.js'
import type { PrekeyStock } from './prekey-stock.js'

export async function takeBundle(context: Context, stock: PrekeyStock, forFleetId: string): Promise<ResponseOf<typeof sessionTakeBundle>> {
  const { db, clock, limits, audit, metrics } = context
  let handedOut = 0
  const response = await db.$transaction(async (tx) => {
    // A renewal of the own identity needs this lock too: certificate and prekeys of one bundle are of one identity.
    const peer = await lockPeer(tx, forFleetId)
    if (!peer || !mayTalk(peer)) {
      await audit.record(tx, 'AuthFailed', { surface: 'p2p', reason: peer ? 'blocked-peer' : 'unknown-peer', client: forFleetId, count: 1 })
      return refuse('UnauthorizedPeer', 'bundles are for pinned peers only')
    }
    const certificate = await currentCertificate(tx)
    if (!certificate) return refuse('NotReady', 'this fleet has no certificate yet', limits.retryAfterMs)
    const now = new Date(clock.now())
    const { taken, windowStart } = await countBundle(tx, forFleetId, now, limits.bundleWindowMs)
    if (taken > limits.bundlesPerPeer) {
      metrics.rateLimited.inc({ layer: 'bundle' })
      // Once per window: a peer that hammers must not fill the log.
      if (taken === limits.bundlesPerPeer + 1) {
        await audit.record(tx, 'RateLimitTriggered', { layer: 'bundle', peer: forFleetId, limit: 'BUNDLES_PER_PEER', count: taken })
      }
      return refuse('RateLimited', 'too many bundles in this window', windowStart.getTime() + limits.bundleWindowMs - now.getTime())
    }
    const spk = await newestReusable(tx, 'signed')
    const lastResort = await newestReusable(tx, 'last-resort')
    if (!spk || !lastResort) return refuse('NotReady', 'prekeys are being made', limits.retryAfterMs)
    const { epoch, generation } = await epochHint(context, tx, forFleetId)
    handedOut = generation
    // A peer that fetches and never uses gets the last-resort key; it must not fill the database with keys of its own.
    const mayHaveMore = (await countOutstanding(tx, forFleetId)) < 2 * limits.handedOutPerPeer
    const oneTime = mayHaveMore ? await handOutOneTime(tx, forFleetId, now) : []
    const opk = oneTime.find(({ kind }) => kind === 'one-time')
    const kem = oneTime.find(({ kind }) => kind === 'pq-one-time')
    const pq = kem ?? lastResort
    return {
      ok: true as const,
      bundle: plainBytes(
        encodeBundle({
          certificate: certificate.certificate,
          spk: { id: spk.id, key: spk.publicKey, signature: spk.signature! },
          pq: { id: pq.id, key: pq.publicKey, signature: pq.signature!, kind: kem ? 'one-time' : 'last-resort' },
          ...(opk ? { opk: { id: opk.id, key: opk.publicKey } } : {}),
          ...(epoch === undefined ? {} : { epoch }),
        }),
      ),
    }
  })
  context.generation.passed(handedOut)
  audit.committed()
  if (response.ok) stock.refillSoon()
  return response
}

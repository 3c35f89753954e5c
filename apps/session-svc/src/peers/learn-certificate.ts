/**
 * A peer that has renewed its certificate hands the new one out with its bundles. When one of its messages names a
 * certificate that is not known here, a bundle is fetched for the certificate alone.
 */
import { ProtocolError } from '@tallystick/primitives/errors'
import { decodeBundle } from '@tallystick/wire/bundle'
import { readCertificate } from '@tallystick/wire/certificate'
import type { Context } from '../context.js'
import type { BundleSource } from '../sessions/bundle-source.js'
import { lockPeer } from './peers.store.js'
import { judgeCertificate } from './pin-peer.js'

/** A certificate learnt this recently is the peer's newest: a message that names yet another one will not open later. */
const FRESH_MS = 60_000

export class CertificateLearner {
  readonly #context: Context
  readonly #bundles: BundleSource
  readonly #running = new Set<string>()
  readonly #learntAt = new Map<string, number>()

  constructor(context: Context, bundles: BundleSource) {
    this.#context = context
    this.#bundles = bundles
  }

  /**
   * Asks in the background, once per peer at a time.
   * @returns false when the peer's newest certificate has been learnt just now, so that asking again is of no use
   */
  want(fleetId: string): boolean {
    const learntAt = this.#learntAt.get(fleetId)
    if (learntAt !== undefined && Math.abs(this.#context.clock.now() - learntAt) < FRESH_MS) return false
    if (this.#running.has(fleetId)) return true
    this.#running.add(fleetId)
    this.#learn(fleetId)
      .catch((error: unknown) => this.#context.log.warn({ err: error, peer: fleetId }, 'the certificate of a peer could not be learnt'))
      .finally(() => this.#running.delete(fleetId))
    return true
  }

  async #learn(fleetId: string): Promise<void> {
    const answer = await this.#bundles.fetch(fleetId)
    if (!answer.ok) throw new ProtocolError('Network', `no bundle: ${answer.code}`)
    const { certificate: bytes } = decodeBundle(answer.bundle)
    const certificate = readCertificate(bytes, this.#context.clock.now())
    if (certificate.fleetId !== fleetId) throw new ProtocolError('VerificationFailed', 'the bundle is of another fleet')
    await this.#context.db.$transaction(async (tx) => {
      const pinned = await lockPeer(tx, fleetId)
      // A new identity is kept for a person, and everything else that may not be adopted is audited there.
      if (pinned) await judgeCertificate(this.#context, tx, certificate, bytes, pinned, 'peer')
    })
    this.#learntAt.set(fleetId, this.#context.clock.now())
    this.#context.audit.committed()
  }
}

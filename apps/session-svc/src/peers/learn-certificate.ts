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
import { adoptCertificate } from './pin-peer.js'

export class CertificateLearner {
  readonly #context: Context
  readonly #bundles: BundleSource
  readonly #running = new Set<string>()

  constructor(context: Context, bundles: BundleSource) {
    this.#context = context
    this.#bundles = bundles
  }

  /** In the background; one attempt per peer at a time. A failure leaves everything as it was: the message comes again. */
  want(fleetId: string): void {
    if (this.#running.has(fleetId)) return
    this.#running.add(fleetId)
    this.#learn(fleetId)
      .catch((error: unknown) => this.#context.log.warn({ err: error, peer: fleetId }, 'the certificate of a peer could not be learnt'))
      .finally(() => this.#running.delete(fleetId))
  }

  async #learn(fleetId: string): Promise<void> {
    const answer = await this.#bundles.fetch(fleetId)
    if (!answer.ok) throw new ProtocolError('Network', `no bundle: ${answer.code}`)
    const { certificate: bytes } = decodeBundle(answer.bundle)
    const certificate = readCertificate(bytes, this.#context.clock.now())
    if (certificate.fleetId !== fleetId) throw new ProtocolError('VerificationFailed', 'the bundle is of another fleet')
    await this.#context.db.$transaction(async (tx) => {
      const pinned = await lockPeer(tx, fleetId)
      if (pinned) await adoptCertificate(this.#context, tx, certificate, bytes, pinned, 'peer')
    })
    this.#context.audit.committed()
  }
}

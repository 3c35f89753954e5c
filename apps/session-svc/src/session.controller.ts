/** The bus side of session-svc: one method per contract, each a line or two into the part that does the work. */
import { Controller, Inject } from '@nestjs/common'
import type { RequestOf, ResponseOf } from '@tallystick/contracts/call'
import type { Refusal } from '@tallystick/contracts/codes'
import * as contracts from '@tallystick/contracts/session'
import type { CallContext } from '@tallystick/nats-rpc/context'
import { Handles } from '@tallystick/nats-rpc/handles'
import { fingerprint } from '@tallystick/wire/certificate'
import { writeBackup } from './backup/write-backup.js'
import { custodyView } from './custody/custody-view.js'
import { rotateKek } from './custody/rotate-kek.js'
import { currentCertificate } from './identity/certificates.js'
import { renewIdentity } from './identity/renew-identity.js'
import { offerCertificate } from './peers/offer-certificate.js'
import { setPeerTrust } from './peers/peer-trust.js'
import { pinPeer } from './peers/pin-peer.js'
import { readPeer } from './peers/read-peer.js'
import { plainBytes } from './plain-bytes.js'
import { takeBundle } from './prekeys/take-bundle.js'
import { attention, requestResync, requestRotation, setPeerPolicy } from './recovery/requests.js'
import { refuse } from './refuse.js'
import { ServiceKeySource } from './service-keys.js'
import type { SessionCore } from './session-core.js'
import { Upkeep } from './upkeep.js'

const NOT_READY_MS = 500

@Controller()
export class SessionController {
  readonly #upkeep: Upkeep
  readonly #keys: ServiceKeySource

  constructor(@Inject(Upkeep) upkeep: Upkeep, @Inject(ServiceKeySource) keys: ServiceKeySource) {
    this.#upkeep = upkeep
    this.#keys = keys
  }

  @Handles(contracts.sessionFleet)
  async fleet(_request: RequestOf<typeof contracts.sessionFleet>, call: CallContext): Promise<ResponseOf<typeof contracts.sessionFleet>> {
    const core = this.#upkeep.core
    const certificate = core && (await currentCertificate(core.context.db))
    if (!core || !certificate) {
      this.#hint(call)
      return notReady()
    }
    return {
      ok: true,
      fleetId: core.identity.fleetId,
      displayName: certificate.displayName,
      certificate: plainBytes(certificate.certificate),
      peerIds: certificate.peerIds,
      fingerprint: fingerprint(certificate.signKey),
    }
  }

  @Handles(contracts.sessionPinPeer)
  async pinPeer({ certificate }: RequestOf<typeof contracts.sessionPinPeer>): Promise<ResponseOf<typeof contracts.sessionPinPeer>> {
    return this.#with((core) => pinPeer(core.context, core.identity.fleetId, certificate))
  }

  @Handles(contracts.sessionSetPeerTrust)
  async setPeerTrust(request: RequestOf<typeof contracts.sessionSetPeerTrust>): Promise<ResponseOf<typeof contracts.sessionSetPeerTrust>> {
    return this.#with((core) => setPeerTrust(core.context, request))
  }

  @Handles(contracts.sessionPeer)
  async peer({ fleetId }: RequestOf<typeof contracts.sessionPeer>): Promise<ResponseOf<typeof contracts.sessionPeer>> {
    return this.#with((core) => readPeer(core.context, fleetId))
  }

  @Handles(contracts.sessionSetPeerPolicy)
  async setPeerPolicy(
    request: RequestOf<typeof contracts.sessionSetPeerPolicy>,
  ): Promise<ResponseOf<typeof contracts.sessionSetPeerPolicy>> {
    return this.#with((core) => setPeerPolicy(core.context, request))
  }

  @Handles(contracts.sessionRotate)
  async rotate({ fleetId }: RequestOf<typeof contracts.sessionRotate>): Promise<ResponseOf<typeof contracts.sessionRotate>> {
    return this.#with((core) => requestRotation(core.context, fleetId))
  }

  @Handles(contracts.sessionResync)
  async resync({ fleetId }: RequestOf<typeof contracts.sessionResync>): Promise<ResponseOf<typeof contracts.sessionResync>> {
    return this.#with((core) => requestResync(core.context, fleetId))
  }

  @Handles(contracts.sessionAttention)
  async attention(): Promise<ResponseOf<typeof contracts.sessionAttention>> {
    const core = this.#upkeep.core
    return core ? attention(core.context) : { ok: true, items: [] }
  }

  @Handles(contracts.sessionCustody)
  async custody(): Promise<ResponseOf<typeof contracts.sessionCustody>> {
    return this.#with((core) => custodyView(core.context))
  }

  @Handles(contracts.sessionBackup)
  async backup({ recipients }: RequestOf<typeof contracts.sessionBackup>): Promise<ResponseOf<typeof contracts.sessionBackup>> {
    return this.#with((core) => writeBackup(core.context, core.identity, recipients))
  }

  @Handles(contracts.sessionRotateKek)
  async rotateKek(): Promise<ResponseOf<typeof contracts.sessionRotateKek>> {
    return this.#with((core) => rotateKek(core.context))
  }

  @Handles(contracts.sessionRenewIdentity)
  async renewIdentity({
    requestId,
  }: RequestOf<typeof contracts.sessionRenewIdentity>): Promise<ResponseOf<typeof contracts.sessionRenewIdentity>> {
    return this.#with((core) => renewIdentity(core.context, core.identity, requestId))
  }

  @Handles(contracts.sessionOfferCertificate)
  async offerCertificate({
    fleetId,
    certificate,
  }: RequestOf<typeof contracts.sessionOfferCertificate>): Promise<ResponseOf<typeof contracts.sessionOfferCertificate>> {
    return this.#with((core) => offerCertificate(core.context, fleetId, certificate))
  }

  @Handles(contracts.sessionTakeBundle)
  async takeBundle({ forFleetId }: RequestOf<typeof contracts.sessionTakeBundle>): Promise<ResponseOf<typeof contracts.sessionTakeBundle>> {
    return this.#with((core) => core.fence.guard(() => takeBundle(core.context, core.stock, forFleetId)))
  }

  @Handles(contracts.sessionSeal)
  async seal({ items }: RequestOf<typeof contracts.sessionSeal>): Promise<ResponseOf<typeof contracts.sessionSeal>> {
    const core = this.#upkeep.core
    if (!core) return { items: items.map(({ messageId }) => ({ ...notReady(), messageId })) }
    return { items: await core.sealing.seal(items) }
  }

  @Handles(contracts.sessionOpen)
  async open({ items }: RequestOf<typeof contracts.sessionOpen>): Promise<ResponseOf<typeof contracts.sessionOpen>> {
    const core = this.#upkeep.core
    if (!core) return { items: items.map(({ envelopeDigest }) => ({ ...notReady(), envelopeDigest })) }
    return { items: await core.opening.open(items) }
  }

  @Handles(contracts.sessionAcknowledge)
  async acknowledge({
    envelopeDigests,
  }: RequestOf<typeof contracts.sessionAcknowledge>): Promise<ResponseOf<typeof contracts.sessionAcknowledge>> {
    const core = this.#upkeep.core
    // This contract knows no refusal: the caller repeats it after a fault.
    if (!core) throw new Error('not ready yet')
    await core.opening.acknowledge(envelopeDigests)
    return { ok: true }
  }

  @Handles(contracts.sessionSignDocument)
  async signDocument(request: RequestOf<typeof contracts.sessionSignDocument>): Promise<ResponseOf<typeof contracts.sessionSignDocument>> {
    return this.#with((core) => core.signer.sign(request))
  }

  async #with<T>(work: (core: SessionCore) => Promise<T>): Promise<T | Refusal> {
    const core = this.#upkeep.core
    return core ? work(core) : notReady()
  }

  /** Whoever asks for the certificate is up, and may be the one whose key it waits for. */
  #hint({ caller }: CallContext): void {
    if (caller !== 'relay-svc' && caller !== 'audit-svc') return
    this.#keys.seen(caller === 'relay-svc' ? 'relay' : 'audit')
    this.#upkeep.wake()
  }
}

function notReady(): Refusal {
  return refuse('NotReady', 'this fleet is still making its keys and certificate', NOT_READY_MS)
}

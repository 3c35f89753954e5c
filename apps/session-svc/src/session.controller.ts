/** The bus side of session-svc: one method per contract, each a line or two into the part that does the work. */
import { Controller, Inject } from '@nestjs/common'
import type { RequestOf, ResponseOf } from '@tallystick/contracts/call'
import type { Refusal } from '@tallystick/contracts/codes'
import * as contracts from '@tallystick/contracts/session'
import type { CallContext } from '@tallystick/nats-rpc/context'
import { Handles } from '@tallystick/nats-rpc/handles'
import { fingerprint } from '@tallystick/wire/certificate'
import { currentCertificate } from './identity/certificates.js'
import { pinPeer, setPeerTrust } from './peers/pin-peer.js'
import { readPeer } from './peers/read-peer.js'
import { plainBytes } from './plain-bytes.js'
import { takeBundle } from './prekeys/take-bundle.js'
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
      fingerprint: fingerprint(core.identity.signKey),
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

  @Handles(contracts.sessionTakeBundle)
  async takeBundle({ forFleetId }: RequestOf<typeof contracts.sessionTakeBundle>): Promise<ResponseOf<typeof contracts.sessionTakeBundle>> {
    return this.#with((core) => takeBundle(core.context, core.stock, forFleetId))
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

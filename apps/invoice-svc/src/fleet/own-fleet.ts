/** This fleet's own identity, asked of session-svc and kept for a few seconds. */
import { sessionFleet } from '@tallystick/contracts/session'
import { RpcFault } from '@tallystick/nats-rpc/fault'
import { verify } from '@tallystick/primitives/ed25519'
import { readCertificate, type ReadCertificate } from '@tallystick/wire/certificate'
import { readStatement } from '@tallystick/wire/document'
import type { Rpc } from '../app.js'
import type { Limits } from '../limits.js'
import { Refused } from '../refused.js'

export interface FleetIdentity {
  readonly fleetId: string
  readonly displayName: string
  readonly fingerprint: string
  readonly certificate: Uint8Array
  readonly fields: ReadCertificate
}

/** Whether a statement of session-svc was made with the key of this certificate. */
export function isSignedBy({ fields }: Pick<FleetIdentity, 'fields'>, statement: Uint8Array): boolean {
  const { payload, signature } = readStatement(statement)
  return verify(fields.signKey, payload, signature)
}

export class OwnFleet {
  #known: { identity: FleetIdentity; until: number } | undefined

  constructor(private readonly deps: { rpc: Rpc; clock: { now(): number }; limits: Pick<Limits, 'fleetCacheMs'> }) {}

  /**
   * @throws Refused NotReady while session-svc has no certificate yet
   * @throws RpcFault when it cannot be asked
   */
  async identity(): Promise<FleetIdentity> {
    const now = this.deps.clock.now()
    if (this.#known !== undefined && now < this.#known.until && this.#known.until - now <= this.deps.limits.fleetCacheMs)
      return this.#known.identity
    const answer = await this.deps.rpc.call(sessionFleet, {})
    if (!answer.ok)
      throw new Refused('NotReady', 'This fleet has no certificate yet: its services are still starting.', {
        retryAfterMs: answer.retryAfterMs ?? 1_000,
      })
    const fields = readCertificate(answer.certificate, now)
    const identity = {
      fleetId: answer.fleetId,
      displayName: answer.displayName,
      fingerprint: answer.fingerprint,
      certificate: answer.certificate,
      fields,
    }
    this.#known = { identity, until: now + this.deps.limits.fleetCacheMs }
    return identity
  }

  /** What is kept may be of yesterday: the next call asks again. */
  forget(): void {
    this.#known = undefined
  }

  /** As `identity`; while session-svc is away, the newest that it said. The fleet id in it never changes. */
  async known(): Promise<FleetIdentity> {
    try {
      return await this.identity()
    } catch (error) {
      if (this.#known === undefined || !(error instanceof RpcFault || error instanceof Refused)) throw error
      return this.#known.identity
    }
  }
}

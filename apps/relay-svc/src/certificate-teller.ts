/**
 * Shows the fleet's own certificate to the relays of its peers: on every new connection, and to all of them when it
 * has changed. That is how a renewed certificate, or a new identity after a suspected compromise, reaches the peers.
 * @see docs/spec/relay.md §5.1
 */
import { sessionFleet } from '@tallystick/contracts/session'
import type { ServiceClient } from '@tallystick/nats-rpc/client'
import { createHash } from 'node:crypto'
import type { AllowList } from './allow-list.js'
import { showCertificate } from './certificate-stream.js'
import type { Limits } from './limits.js'
import type { RelayNode } from './node.js'
import { hex } from './octets.js'

export interface TellerDeps {
  readonly node: Pick<RelayNode, 'connections' | 'openCertificateStream'>
  readonly allowList: Pick<AllowList, 'fleet' | 'fleets'>
  readonly limits: Pick<Limits, 'certificatePollMs' | 'certificateTimeoutMs'>
  readonly rpc: Pick<ServiceClient, 'call'>
  readonly log: { info(fields: object, text: string): void; debug(fields: object, text: string): void }
  /** Connect to the peer once, with nothing to send. */
  connect(fleetId: string): Promise<void>
}

/** Until the certificate is known for the first time it is asked for this often, ms: rarely enough to open no circuit. */
const FIRST_LOOK_MS = 15_000
/** session-svc runs and is still making its keys: asking again costs nothing, ms. */
const NOT_READY_MS = 1_000

export class CertificateTeller {
  readonly #deps: TellerDeps
  #own: { bytes: Uint8Array; digest: string } | undefined
  /** By fleet: the certificate that its relay has answered for on the present connection. */
  readonly #told = new Map<string, string>()
  readonly #telling = new Set<string>()
  #timer: NodeJS.Timeout | undefined
  #stopped = false

  constructor(deps: TellerDeps) {
    this.#deps = deps
  }

  start(): void {
    void this.#look()
  }

  stop(): void {
    this.#stopped = true
    clearTimeout(this.#timer)
  }

  /** A connection with this peer stands. */
  opened(fleetId: string): void {
    this.#told.delete(fleetId)
    void this.#tell(fleetId)
  }

  async #look(): Promise<void> {
    const wait = await this.#askAndTell()
    if (this.#stopped) return
    this.#timer = setTimeout(() => void this.#look(), wait)
    this.#timer.unref()
  }

  /** @returns milliseconds until the next look */
  async #askAndTell(): Promise<number> {
    const { rpc, log, limits, allowList } = this.#deps
    let wait = limits.certificatePollMs
    let changed = false
    try {
      const answer = await rpc.call(sessionFleet, {})
      if (answer.ok) changed = this.#learn(answer.certificate)
      else if (this.#own === undefined) wait = Math.min(wait, NOT_READY_MS)
    } catch (err) {
      log.debug({ err }, 'own certificate not learnt')
      if (this.#own === undefined) wait = Math.min(wait, FIRST_LOOK_MS)
    }
    for (const { fleetId, peerIds, state } of allowList.fleets()) {
      if (state !== 'allowed') continue
      if (this.#deps.node.connections(peerIds).length > 0) void this.#tell(fleetId)
      else if (changed) void this.#deps.connect(fleetId)
    }
    return wait
  }

  /** @returns whether it replaces another; the first one is no news to anybody that has no connection with us */
  #learn(bytes: Uint8Array): boolean {
    const digest = hex(createHash('sha256').update(bytes).digest())
    if (this.#own?.digest === digest) return false
    const changed = this.#own !== undefined
    this.#own = { bytes, digest }
    if (changed) this.#deps.log.info({ what: 'certificate' }, 'the own certificate has changed, peers are told')
    return changed
  }

  async #tell(fleetId: string): Promise<void> {
    const { node, allowList, limits, log } = this.#deps
    const own = this.#own
    if (own === undefined || this.#telling.has(fleetId) || this.#told.get(fleetId) === own.digest) return
    const connection = node.connections(allowList.fleet(fleetId)?.peerIds ?? []).at(-1)
    if (connection === undefined) return
    this.#telling.add(fleetId)
    try {
      const stream = await node.openCertificateStream(connection, AbortSignal.timeout(limits.certificateTimeoutMs))
      const shown = await showCertificate(stream, own.bytes, limits.certificateTimeoutMs)
      if (shown !== 'later') this.#told.set(fleetId, own.digest)
    } catch (error) {
      // A relay of an earlier version; it learns the certificate with the next bundle.
      if (error instanceof Error && error.name === 'UnsupportedProtocolError') this.#told.set(fleetId, own.digest)
      else log.debug({ err: error, peer: fleetId }, 'own certificate not shown, it is shown again')
    } finally {
      this.#telling.delete(fleetId)
    }
    // Another one may have come meanwhile.
    if (this.#own !== own) void this.#tell(fleetId)
  }
}

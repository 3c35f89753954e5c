/**
 * `/tallystick/certificate/1.0.0`: one certificate on a stream of its own, answered with one byte. Bytes are passed on
 * as they come; what they say is session-svc's business.
 * @see docs/spec/relay.md §5.1
 */
import type { Stream } from '@libp2p/interface'
import { sessionOfferCertificate } from '@tallystick/contracts/session'
import type { ServiceClient } from '@tallystick/nats-rpc/client'
import type { Limits } from './limits.js'
import type { RelayMetrics } from './metrics.js'
import type { PeerQuotas } from './peer-quota.js'
import type { SecurityEvents } from './security-events.js'

export const CERTIFICATE_PROTOCOL = '/tallystick/certificate/1.0.0'
export const MAX_CERTIFICATE_BYTES = 4096
const PREFIX_BYTES = 2

/** How the other side took it. */
export type Shown = 'taken' | 'later' | 'refused'
const STATUS: readonly Shown[] = ['taken', 'later', 'refused']

export interface CertificateDeps {
  readonly limits: Pick<Limits, 'certificateTimeoutMs'>
  readonly quotas: Pick<PeerQuotas, 'certificate'>
  readonly security: Pick<SecurityEvents, 'rateLimited'>
  readonly metrics: Pick<RelayMetrics, 'rateLimited'>
  readonly rpc: Pick<ServiceClient, 'call'>
  readonly log: { info(fields: object, text: string): void; debug(fields: object, text: string): void }
}

/**
 * Show a certificate and hear how it was taken. The stream is closed, or aborted on any error.
 * @param certificate 1 to 4096 bytes
 * @throws Error when the other side closes, answers something else, or not in time
 */
export async function showCertificate(stream: Stream, certificate: Uint8Array, timeoutMs: number): Promise<Shown> {
  if (certificate.length === 0 || certificate.length > MAX_CERTIFICATE_BYTES) throw new RangeError('certificate: 1 to 4096 bytes')
  const answer = collect(stream, timeoutMs, (bytes) => (bytes.length > 0 ? bytes : undefined), 1)
  const message = new Uint8Array(PREFIX_BYTES + certificate.length)
  new DataView(message.buffer).setUint16(0, certificate.length)
  message.set(certificate, PREFIX_BYTES)
  try {
    stream.send(message)
    const shown = STATUS[(await answer)[0]!]
    if (shown === undefined) throw new Error('an answer that the protocol does not know')
    await stream.close({ signal: AbortSignal.timeout(timeoutMs) })
    return shown
  } catch (error) {
    answer.catch(() => undefined) // the same end, heard of twice
    stream.abort(error instanceof Error ? error : new Error('not shown'))
    throw error
  }
}

/** The receiving side: read, ask session-svc, answer. Never throws; a stream that breaks the form is reset. */
export async function serveCertificate(deps: CertificateDeps, fleetId: string, stream: Stream): Promise<void> {
  const { limits, quotas, log } = deps
  try {
    // Read before the rate is looked at: an answer to what is still being written would be lost.
    const message = await collect(stream, limits.certificateTimeoutMs, complete, PREFIX_BYTES + MAX_CERTIFICATE_BYTES)
    const verdict = quotas.certificate(fleetId, performance.now())
    if (!verdict.ok) {
      deps.metrics.rateLimited.inc({ layer: verdict.layer })
      deps.security.rateLimited(verdict.layer, verdict.limit, fleetId)
    }
    const shown = verdict.ok ? await offer(deps, fleetId, message.slice(PREFIX_BYTES)) : 'later'
    stream.send(Uint8Array.of(STATUS.indexOf(shown)))
    await stream.close({ signal: AbortSignal.timeout(limits.certificateTimeoutMs) })
  } catch (err) {
    log.debug({ err, peer: fleetId }, 'a certificate was not shown to its end')
    stream.abort(err instanceof Error ? err : new Error('certificate stream'))
  }
}

async function offer(deps: CertificateDeps, fleetId: string, certificate: Uint8Array): Promise<Shown> {
  try {
    const verdict = await deps.rpc.call(sessionOfferCertificate, { fleetId, certificate })
    if (verdict.ok) {
      if (verdict.outcome !== 'known')
        deps.log.info({ peer: fleetId, outcome: verdict.outcome }, 'a peer has shown a certificate that was new here')
      return 'taken'
    }
    deps.log.info({ peer: fleetId, code: verdict.code }, 'the certificate that a peer shows is refused')
    return verdict.code === 'NotReady' || verdict.retryAfterMs !== undefined ? 'later' : 'refused'
  } catch (err) {
    deps.log.debug({ err, peer: fleetId }, 'session-svc could not be asked about a certificate')
    return 'later'
  }
}

/** @returns the whole message once it is there; @throws Error for a length outside the bounds or bytes after the end */
function complete(bytes: Uint8Array): Uint8Array | undefined {
  if (bytes.length < PREFIX_BYTES) return undefined
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint16(0)
  if (length === 0 || length > MAX_CERTIFICATE_BYTES) throw new Error(`a certificate of ${length} bytes`)
  if (bytes.length > PREFIX_BYTES + length) throw new Error('bytes after the certificate')
  return bytes.length === PREFIX_BYTES + length ? bytes : undefined
}

/** Holds at most `limit` bytes of the stream. */
function collect(
  stream: Stream,
  timeoutMs: number,
  done: (bytes: Uint8Array) => Uint8Array | undefined,
  limit: number,
): Promise<Uint8Array> {
  const held = new Uint8Array(limit)
  let filled = 0
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`not complete after ${timeoutMs} ms`)), timeoutMs)
    timer.unref()
    const end = (settle: () => void): void => {
      clearTimeout(timer)
      settle()
    }
    stream.addEventListener('message', (event) => {
      const chunk = event.data.subarray()
      if (chunk.length > limit - filled) return end(() => reject(new Error('more bytes than the protocol allows')))
      held.set(chunk, filled)
      filled += chunk.length
      try {
        const message = done(held.subarray(0, filled))
        if (message !== undefined) end(() => resolve(message))
      } catch (error) {
        end(() => reject(error instanceof Error ? error : new Error('unreadable')))
      }
    })
    stream.addEventListener('remoteCloseWrite', () => end(() => reject(new Error('the peer closed the stream'))))
    stream.addEventListener('close', (event) => end(() => reject(event.error ?? new Error('the stream was closed'))))
  })
}

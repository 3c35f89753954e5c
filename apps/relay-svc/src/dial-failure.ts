/** Why a peer could not be reached, as a code and one sentence for a person. */
import type { ErrorCode } from '@tallystick/contracts/codes'
import { RpcFault } from '@tallystick/nats-rpc/fault'
import type { PeerEndpoint } from './address.js'
import type { LinkEnd } from './link.js'

export class DialFailure extends Error {
  readonly code: ErrorCode
  readonly retryAfterMs: number | undefined

  constructor(code: ErrorCode, message: string, retryAfterMs?: number) {
    super(message)
    this.name = 'DialFailure'
    this.code = code
    this.retryAfterMs = retryAfterMs
  }
}

const BY_ERRNO: Record<string, string> = {
  ECONNREFUSED: 'connection refused',
  EHOSTUNREACH: 'no route to the host',
  ENETUNREACH: 'no route to the network',
  ECONNRESET: 'connection reset',
  ETIMEDOUT: 'no answer',
  ENOTFOUND: 'the host name is not known',
  EAI_AGAIN: 'the name server does not answer',
  EPIPE: 'connection reset',
}

/** @param error what libp2p threw for this endpoint */
export function dialFailure(error: unknown, endpoint: PeerEndpoint, timeoutMs: number): DialFailure {
  if (error instanceof DialFailure) return error
  const text = error instanceof Error ? `${error.name} ${error.message}` : String(error)
  const at = `the peer cannot be reached at ${endpoint.text}`
  const errno = Object.keys(BY_ERRNO).find((code) => text.includes(code))
  if (errno !== undefined) return new DialFailure('Network', `${at}: ${BY_ERRNO[errno]}`)
  if (/identity|UnexpectedPeer|does not match|Dialed peer|expected.*peer/i.test(text))
    return new DialFailure('InvalidPeerId', `${at}: another key answers there than the pinned one`)
  if (/Abort|Timeout|timed out/i.test(text))
    return new DialFailure('Network', `${at}: no answer within ${Math.round(timeoutMs / 100) / 10} s`)
  return new DialFailure(
    'Network',
    `${at}: the connection was closed during its handshake (the peer may not have allowed this relay yet, or limits handshakes)`,
  )
}

/** The stream ended before the peer's hello. */
export function helloFailure(end: LinkEnd, endpoint: string): DialFailure {
  if (end.byPeer && end.code !== null && end.code !== 'Network')
    return new DialFailure(end.code, `the peer at ${endpoint} closed the stream: ${end.code}`, end.retryAfterMs ?? undefined)
  if (!end.byPeer) return new DialFailure(end.code ?? 'Network', `the peer at ${endpoint} did not answer: ${end.reason}`)
  return new DialFailure(
    'Network',
    `the peer at ${endpoint} closed the connection before its hello (it may not have allowed this relay yet)`,
  )
}

export function codeOf(error: unknown): ErrorCode {
  return error instanceof DialFailure || error instanceof RpcFault ? error.code : 'Network'
}

export function causeOf(error: unknown): string {
  if (error instanceof RpcFault && error.code === 'CircuitBreakerOpen')
    return 'the peer could not be reached several times; the next attempt is a single probe'
  return error instanceof Error ? error.message : String(error)
}

export function retryOf(error: unknown): number | undefined {
  return error instanceof DialFailure || error instanceof RpcFault ? error.retryAfterMs : undefined
}

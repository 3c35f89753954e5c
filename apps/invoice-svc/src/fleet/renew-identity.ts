/**
 * Suspected compromise: new identity keys. session-svc does it in one transaction; here the own view of the fleet is
 * refreshed, and what was signed and not yet encoded is signed again with the new key.
 * @see docs/runbooks/compromise.md
 */
import { createHash } from 'node:crypto'
import { sessionRenewIdentity } from '@tallystick/contracts/session'
import type { App } from '../app.js'
import { newId } from '../ids.js'
import { recordAction } from '../peers/session-actions.js'
import { Refused, refusedBy } from '../refused.js'
import { signAgain } from './sign-again.js'

export interface Renewed {
  readonly fleetId: string
  readonly sequence: number
  readonly fingerprint: string
  readonly sessionsWiped: number
  readonly prekeysDestroyed: number
  /** Nothing was done by this call: the request had been carried out before. */
  readonly repeated: boolean
}

/**
 * @param confirm the fleet's own id, typed by whoever asks
 * @param key the Idempotency-Key, if there is one: a repeated request is the same request for session-svc too
 * @throws Refused InvalidRequest for another id; RpcFault when session-svc is away
 */
export async function renewIdentity(app: App, client: string, confirm: string, key: string | undefined): Promise<Renewed> {
  app.fleet.forget()
  const before = await app.fleet.identity()
  if (confirm !== before.fleetId) {
    const message = 'is not the id of this fleet: nothing was done'
    throw new Refused('InvalidRequest', `/confirm: ${message}`, { errors: [{ pointer: '/confirm', rule: 'InvalidRequest', message }] })
  }
  const answer = await app.rpc.call(sessionRenewIdentity, { requestId: key === undefined ? newId() : requestIdOf(client, key) })
  if (!answer.ok) throw refusedBy(answer)
  app.fleet.forget()
  const { fleetId, sequence, fingerprint, sessionsWiped, prekeysDestroyed } = answer
  await signAgain(app)
  await recordAction(app, client, 'identity-renewed', fleetId)
  app.wake.attention()
  app.wake.messages()
  return { fleetId, sequence, fingerprint, sessionsWiped, prekeysDestroyed, repeated: sequence <= before.fields.sequence }
}

/** A UUID (version 8, RFC 9562) of client and key. */
function requestIdOf(client: string, key: string): string {
  const hash = createHash('sha256').update(`tallystick/renew-identity/v1\0${client}\0${key}`).digest().subarray(0, 16)
  hash[6] = (hash[6]! & 0x0f) | 0x80
  hash[8] = (hash[8]! & 0x3f) | 0x80
  const hex = hash.toString('hex')
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-')
}

/** /v1/fleet: who we are, the invitation that others pin us with, and new identity keys after a suspected compromise. */
import { Controller, Inject } from '@nestjs/common'
import { relayIdentity } from '@tallystick/contracts/relay'
import { logVkey } from '@tallystick/wire/certificate'
import { encodeInvitation } from '@tallystick/wire/invitation'
import { fleetId } from '@tallystick/contracts/call'
import { z } from 'zod'
import { APP, type App } from '../app.js'
import { base64Url, hex, hexDigest, time } from '../http/page.js'
import { Called, route, Serves, type Call } from '../http/route.js'
import { Refused } from '../refused.js'
import { renewIdentity, type Renewed } from './renew-identity.js'

export const fleetView = z
  .strictObject({
    fleetId: z.string(),
    displayName: z.string(),
    fingerprint: z.string().describe('12 groups of 5 digits, compared out of band'),
    peerIds: z.array(z.string()),
    multiaddrs: z.array(z.string()),
    certificate: z.string().describe('base64url'),
    certificateDigest: hexDigest,
    sequence: z.int(),
    notBefore: time,
    notAfter: time,
    suites: z.array(z.string()),
    logVkey: z.string().describe('Verifier key of the audit log (C2SP signed note)'),
    invitation: z.string().describe('One line, tally1…'),
  })
  .meta({ id: 'Fleet' })

const getFleet = route({
  method: 'GET',
  path: '/v1/fleet',
  scope: 'fleet:read',
  tag: 'fleet',
  summary: 'Own identity, addresses and invitation',
  status: 200,
  response: fleetView,
  problems: [503],
})

const renew = route({
  method: 'POST',
  path: '/v1/fleet/renew-identity',
  scope: 'keys:write',
  tag: 'fleet',
  summary: 'Suspected compromise: new identity keys, all sessions wiped; every peer has to approve the new fingerprint',
  status: 200,
  body: z.strictObject({ confirm: fleetId.describe("This fleet's own id: a slip must not do this") }),
  response: z.strictObject({
    fleetId: z.string(),
    sequence: z.int().describe('Of the new certificate'),
    fingerprint: z.string().describe('To be read to every peer'),
    sessionsWiped: z.int(),
    prekeysDestroyed: z.int(),
    repeated: z.boolean().describe('This request had been carried out before; nothing was done now'),
  }),
  problems: [409],
})

@Controller()
export class FleetController {
  constructor(@Inject(APP) private readonly app: App) {}

  @Serves(getFleet)
  async get(@Called() _call: Call<typeof getFleet>): Promise<z.output<typeof fleetView>> {
    const { fleetId, displayName, fingerprint, certificate, fields } = await this.app.fleet.identity()
    const relay = await this.app.rpc.call(relayIdentity, {})
    // The certificate is reissued when the relay has a new key; an invitation in between would lead nowhere.
    if (!fields.peerIds.includes(relay.peerId) || relay.multiaddrs.length === 0) {
      throw new Refused('NotReady', 'The relay has no address yet that the certificate names.', { retryAfterMs: 1_000 })
    }
    const multiaddrs = relay.multiaddrs
      .filter((address) => fields.peerIds.some((peerId) => address.endsWith(`/p2p/${peerId}`)))
      .slice(0, 16)
    return {
      fleetId,
      displayName,
      fingerprint,
      peerIds: fields.peerIds,
      multiaddrs,
      certificate: base64Url(certificate),
      certificateDigest: hex(fields.digest),
      sequence: fields.sequence,
      notBefore: new Date(fields.notBefore).toISOString(),
      notAfter: new Date(fields.notAfter).toISOString(),
      suites: fields.suites,
      logVkey: logVkey(fields),
      invitation: encodeInvitation({ certificate, multiaddrs }),
    }
  }

  @Serves(renew)
  async renew(@Called() { client, body, request }: Call<typeof renew>): Promise<Renewed> {
    const key = request.headers['idempotency-key']
    return await renewIdentity(this.app, client, body.confirm, typeof key === 'string' ? key : undefined)
  }
}

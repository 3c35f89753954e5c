/** /v1/peers: pin, look at, verify, block, remove; rotate and resync the session, set its policy. */
import { Controller, Inject } from '@nestjs/common'
import { fleetId } from '@tallystick/contracts/call'
import { INVITATION_MAX_CHARS } from '@tallystick/wire/invitation'
import { z } from 'zod'
import { APP, type App } from '../app.js'
import { pageOf, pageQuery, toPage } from '../http/page.js'
import { Called, route, Serves, type Call } from '../http/route.js'
import { changePeer } from './change-peer.js'
import { peerDetails, peerStates, peerSummary, peerView, type PeerView } from './peer-view.js'
import { listPeers, visiblePeer } from './peer.store.js'
import { pinPeer } from './pin-peer.js'
import { resyncSession, rotateSession, setRotateEvery } from './session-actions.js'

const params = z.strictObject({ id: fleetId })
const tag = 'peers'

const pin = route({
  method: 'POST',
  path: '/v1/peers',
  scope: 'peers:write',
  tag,
  summary: 'Pin a peer by its invitation',
  status: 201,
  response: peerView,
  body: z.strictObject({ invitation: z.string().min(1).max(INVITATION_MAX_CHARS) }),
  problems: [409, 422],
})
const list = route({
  method: 'GET',
  path: '/v1/peers',
  scope: 'peers:read',
  tag,
  summary: 'Peers, by id',
  status: 200,
  response: pageOf(peerView),
  query: z.strictObject({ limit: pageQuery.limit, after: fleetId.optional(), state: peerStates.optional() }),
})
const get = route({
  method: 'GET',
  path: '/v1/peers/:id',
  scope: 'peers:read',
  tag,
  summary: 'One peer, with keys, session and connection',
  params,
  status: 200,
  response: peerView,
  problems: [404],
})
const verify = route({
  method: 'POST',
  path: '/v1/peers/:id/verify',
  scope: 'peers:write',
  tag,
  summary: 'Its fingerprint was compared out of band; the one of a pending identity approves that',
  params,
  bodyOptional: true,
  body: z.strictObject({ fingerprint: z.string().max(200).optional() }),
  status: 200,
  response: peerView,
  problems: [404, 409],
})
const block = route({
  method: 'POST',
  path: '/v1/peers/:id/block',
  scope: 'peers:write',
  tag,
  summary: 'Nothing in or out any more',
  params,
  status: 200,
  response: peerView,
  problems: [404, 409],
})
const rotate = route({
  method: 'POST',
  path: '/v1/peers/:id/rotate',
  scope: 'peers:write',
  tag,
  summary: 'Begin a new epoch with the next message, and send one soon',
  params,
  status: 202,
  response: peerView,
  problems: [404, 409],
})
const resync = route({
  method: 'POST',
  path: '/v1/peers/:id/resync',
  scope: 'peers:write',
  tag,
  summary: 'Begin a session that continues nothing, or accept one from the peer within the hour',
  params,
  status: 202,
  response: peerView,
  problems: [404, 409],
})
const setPolicy = route({
  method: 'PATCH',
  path: '/v1/peers/:id',
  scope: 'peers:write',
  tag,
  summary: 'Documents per epoch with this peer; 1: a fresh session for each',
  params,
  body: z.strictObject({ rotateEvery: z.int().min(1).max(100).nullable() }),
  status: 200,
  response: peerView,
  problems: [404, 409],
})
const remove = route({
  method: 'DELETE',
  path: '/v1/peers/:id',
  scope: 'peers:write',
  tag,
  summary: 'Forget the peer; evidence stays',
  params,
  status: 204,
  problems: [404],
})

@Controller()
export class PeersController {
  constructor(@Inject(APP) private readonly app: App) {}

  @Serves(pin)
  async pin(@Called() { client, body }: Call<typeof pin>): Promise<PeerView> {
    return await peerDetails(this.app, await pinPeer(this.app, client, body.invitation))
  }

  @Serves(list)
  async list(@Called() { query }: Call<typeof list>): Promise<{ items: PeerView[]; next: string | null }> {
    return toPage(await listPeers(this.app.db, query), query.limit, peerSummary, (row) => row.fleetId)
  }

  @Serves(get)
  async get(@Called() { params: { id } }: Call<typeof get>): Promise<PeerView> {
    return await peerDetails(this.app, await visiblePeer(this.app.db, id))
  }

  @Serves(verify)
  async verify(@Called() { client, params: { id }, body }: Call<typeof verify>): Promise<PeerView> {
    return await peerDetails(this.app, await changePeer(this.app, client, id, { action: 'peer-verified', fingerprint: body?.fingerprint }))
  }

  @Serves(block)
  async block(@Called() { client, params: { id } }: Call<typeof block>): Promise<PeerView> {
    return await peerDetails(this.app, await changePeer(this.app, client, id, { action: 'peer-blocked' }))
  }

  @Serves(rotate)
  async rotate(@Called() { client, params: { id } }: Call<typeof rotate>): Promise<PeerView> {
    return await peerDetails(this.app, await rotateSession(this.app, client, id))
  }

  @Serves(resync)
  async resync(@Called() { client, params: { id } }: Call<typeof resync>): Promise<PeerView> {
    return await peerDetails(this.app, await resyncSession(this.app, client, id))
  }

  @Serves(setPolicy)
  async setPolicy(@Called() { client, params: { id }, body }: Call<typeof setPolicy>): Promise<PeerView> {
    return await peerDetails(this.app, await setRotateEvery(this.app, client, id, body.rotateEvery))
  }

  @Serves(remove)
  async remove(@Called() { client, params: { id } }: Call<typeof remove>): Promise<void> {
    await changePeer(this.app, client, id, { action: 'peer-removed' })
  }
}

/** /v1/documents/:id/shares and /v1/shares. */
import { Controller, Inject } from '@nestjs/common'
import { fleetId } from '@tallystick/contracts/call'
import { z } from 'zod'
import { APP, type App } from '../app.js'
import { pageOf, pageQuery, toPage, uuid } from '../http/page.js'
import { Called, route, Serves, type Call } from '../http/route.js'
import { found } from '../refused.js'
import { cancelShare } from './cancel-share.js'
import { createShare } from './create-share.js'
import { retryShare } from './retry-share.js'
import { shareStates, shareView, verdictsFor, viewShare, type ShareView } from './share-view.js'
import { listShares, shareById } from './share.store.js'

const params = z.strictObject({ id: uuid })
const tag = 'shares'

const create = route({
  method: 'POST',
  path: '/v1/documents/:id/shares',
  scope: 'shares:write',
  tag,
  summary: 'Share an issued document with a peer',
  params,
  body: z.strictObject({ peerId: fleetId }),
  status: 202,
  response: shareView,
  problems: [404, 409],
})
const list = route({
  method: 'GET',
  path: '/v1/shares',
  scope: 'documents:read',
  tag,
  summary: 'Newest first',
  status: 200,
  response: pageOf(shareView),
  query: z.strictObject({ ...pageQuery, state: shareStates.optional(), peerId: fleetId.optional(), documentId: uuid.optional() }),
})
const get = route({
  method: 'GET',
  path: '/v1/shares/:id',
  scope: 'documents:read',
  tag,
  summary: 'One share: its stages, and why it waits',
  params,
  status: 200,
  response: shareView,
  problems: [404],
})
const retry = route({
  method: 'POST',
  path: '/v1/shares/:id/retry',
  scope: 'shares:write',
  tag,
  summary: 'Try now',
  params,
  status: 202,
  response: shareView,
  problems: [404, 409],
})
const cancel = route({
  method: 'POST',
  path: '/v1/shares/:id/cancel',
  scope: 'shares:write',
  tag,
  summary: 'Cancel before it is sealed',
  params,
  status: 200,
  response: shareView,
  problems: [404, 409],
})

@Controller()
export class SharesController {
  constructor(@Inject(APP) private readonly app: App) {}

  @Serves(create)
  async create(@Called() { client, params: { id }, body, operation }: Call<typeof create>): Promise<ShareView> {
    return await createShare(this.app, client, id, body.peerId, operation)
  }

  @Serves(list)
  async list(@Called() { query }: Call<typeof list>): Promise<{ items: ShareView[]; next: string | null }> {
    const rows = await listShares(this.app.db, query)
    const verdicts = await verdictsFor(this.app.db, 'received', rows)
    return toPage(
      rows,
      query.limit,
      (row) => viewShare(row, verdicts(row)),
      (row) => row.id,
    )
  }

  @Serves(get)
  async get(@Called() { params: { id } }: Call<typeof get>): Promise<ShareView> {
    const row = found(await shareById(this.app.db, id), 'share')
    return viewShare(row, (await verdictsFor(this.app.db, 'received', [row]))(row))
  }

  @Serves(retry)
  async retry(@Called() { params: { id }, operation }: Call<typeof retry>): Promise<ShareView> {
    return await retryShare(this.app, id, operation)
  }

  @Serves(cancel)
  async cancel(@Called() { params: { id }, operation }: Call<typeof cancel>): Promise<ShareView> {
    return await cancelShare(this.app, id, operation)
  }
}

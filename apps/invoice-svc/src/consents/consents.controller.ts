/** /v1/consents: what may be shared with whom, and what of it may be logged. */
import { Controller, Inject } from '@nestjs/common'
import { fleetId } from '@tallystick/contracts/call'
import { z } from 'zod'
import { APP, now, type App } from '../app.js'
import { pageOf, pageQuery, toPage, uuid } from '../http/page.js'
import { Called, route, Serves, type Call } from '../http/route.js'
import { found } from '../refused.js'
import { consentPurpose, consentSchema, consentView, type ConsentView } from './consent-view.js'
import { consentById, listConsents } from './consent.store.js'
import { grantConsent } from './grant-consent.js'
import { withdrawConsent } from './withdraw-consent.js'

const params = z.strictObject({ id: uuid })
const tag = 'consents'

const grant = route({
  method: 'POST',
  path: '/v1/consents',
  scope: 'consents:write',
  tag,
  summary: 'Grant',
  status: 201,
  response: consentSchema,
  problems: [404, 422],
  body: z.strictObject({
    peerId: fleetId,
    purpose: z.string().max(20),
    kinds: z.array(z.string().max(40)).max(20),
    expiresAt: z.string().max(40).optional(),
  }),
})
const list = route({
  method: 'GET',
  path: '/v1/consents',
  scope: 'peers:read',
  tag,
  summary: 'Consents, newest first',
  status: 200,
  response: pageOf(consentSchema),
  query: z.strictObject({ ...pageQuery, peerId: fleetId.optional(), purpose: consentPurpose.optional() }),
})
const get = route({
  method: 'GET',
  path: '/v1/consents/:id',
  scope: 'peers:read',
  tag,
  summary: 'One consent',
  params,
  status: 200,
  response: consentSchema,
  problems: [404],
})
const withdraw = route({
  method: 'DELETE',
  path: '/v1/consents/:id',
  scope: 'consents:write',
  tag,
  summary: 'Withdraw',
  params,
  status: 204,
  problems: [404],
})

@Controller()
export class ConsentsController {
  constructor(@Inject(APP) private readonly app: App) {}

  @Serves(grant)
  async grant(@Called() { client, body, operation }: Call<typeof grant>): Promise<ConsentView> {
    return await grantConsent(this.app, client, body, operation)
  }

  @Serves(list)
  async list(@Called() { query }: Call<typeof list>): Promise<{ items: ConsentView[]; next: string | null }> {
    const at = now(this.app)
    return toPage(
      await listConsents(this.app.db, query),
      query.limit,
      (row) => consentView(row, at),
      (row) => row.id,
    )
  }

  @Serves(get)
  async get(@Called() { params: { id } }: Call<typeof get>): Promise<ConsentView> {
    return consentView(found(await consentById(this.app.db, id), 'consent'), now(this.app))
  }

  @Serves(withdraw)
  async withdraw(@Called() { client, params: { id } }: Call<typeof withdraw>): Promise<void> {
    await withdrawConsent(this.app, client, id)
  }
}

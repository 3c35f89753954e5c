/** /v1/inbox: what came in, what was verified of it, and the answer to it. */
import { Controller, Inject } from '@nestjs/common'
import { fleetId } from '@tallystick/contracts/call'
import { MAX_NOTE_LENGTH } from '@tallystick/invoice-domain/verdict'
import { toUbl } from '@tallystick/ubl/to-ubl'
import { z } from 'zod'
import { APP, type App } from '../app.js'
import { documentOf } from '../documents/document-view.js'
import { documentPage, PAGE_POLICY } from '../documents/page-html.js'
import { representationFor } from '../http/negotiate.js'
import { hex, iso, pageOf, pageQuery, toPage, uuid } from '../http/page.js'
import { Called, route, Serves, type Call } from '../http/route.js'
import { found } from '../refused.js'
import { verdictsFor } from '../shares/share-view.js'
import { giveVerdict } from './give-verdict.js'
import { inboxItem, inboxListItem, inboxListView, inboxStates, inboxView, type InboxItem, type InboxListItem } from './inbox-view.js'
import { inboxById, listInbox } from './inbox.store.js'

const params = z.strictObject({ id: uuid })
const tag = 'inbox'

const list = route({
  method: 'GET',
  path: '/v1/inbox',
  scope: 'inbox:read',
  tag,
  summary: 'Received documents, newest first',
  status: 200,
  response: pageOf(inboxListItem),
  query: z.strictObject({ ...pageQuery, state: inboxStates.optional(), peerId: fleetId.optional() }),
})
const get = route({
  method: 'GET',
  path: '/v1/inbox/:id',
  scope: 'inbox:read',
  tag,
  summary: 'One received document: JSON, UBL or a printable page',
  params,
  status: 200,
  response: inboxItem,
  produces: ['application/xml', 'text/html'],
  problems: [404, 406],
})
const verdict = route({
  method: 'POST',
  path: '/v1/inbox/:id/verdict',
  scope: 'verdicts:write',
  tag,
  summary: 'Send a signed verdict back',
  params,
  body: z.strictObject({
    verdict: z.string().max(20),
    code: z.string().max(32).optional(),
    note: z.string().min(1).max(MAX_NOTE_LENGTH).optional(),
  }),
  status: 202,
  response: inboxItem,
  problems: [404, 409, 422],
})

@Controller()
export class InboxController {
  constructor(@Inject(APP) private readonly app: App) {}

  @Serves(list)
  async list(@Called() { query }: Call<typeof list>): Promise<{ items: InboxListItem[]; next: string | null }> {
    const rows = await listInbox(this.app.db, query)
    const verdicts = await verdictsFor(this.app.db, 'sent', rows)
    return toPage(
      rows,
      query.limit,
      (row) => inboxListView(row, verdicts(row)),
      (row) => row.id,
    )
  }

  @Serves(get)
  async get(@Called() { params: { id }, request, reply }: Call<typeof get>): Promise<InboxItem | string> {
    const row = found(await inboxById(this.app.db, id), 'inbox item')
    reply.header('vary', 'accept')
    switch (representationFor(request.headers.accept)) {
      case 'xml':
        reply.type('application/xml; charset=utf-8')
        return toUbl(documentOf(row))
      case 'html':
        reply.type('text/html; charset=utf-8').header('content-security-policy', PAGE_POLICY)
        return documentPage(documentOf(row), [
          ['From', row.peer],
          ['Received', iso(row.receivedAt)],
          ['State', row.state],
          ['Content digest (BLAKE3-256)', hex(row.contentDigest)],
        ])
      case 'json':
        return inboxView(row, (await verdictsFor(this.app.db, 'sent', [row]))(row))
    }
  }

  @Serves(verdict)
  async verdict(@Called() { params: { id }, body, operation }: Call<typeof verdict>): Promise<InboxItem> {
    return await giveVerdict(this.app, id, body, operation)
  }
}

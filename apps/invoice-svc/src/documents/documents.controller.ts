/** /v1/invoices and /v1/credit-notes: one code, two paths. /v1/documents/:id finds both. */
import { Controller, Inject, type Type } from '@nestjs/common'
import type { BillingKind } from '@tallystick/invoice-domain/model'
import { toUbl } from '@tallystick/ubl/to-ubl'
import { z } from 'zod'
import { APP, now, type App } from '../app.js'
import { representationFor } from '../http/negotiate.js'
import { hex, pageOf, pageQuery, toPage, uuid } from '../http/page.js'
import { Called, route, Serves, type Call } from '../http/route.js'
import { found } from '../refused.js'
import { createDocument, draftFromJson, draftFromUbl } from './create-document.js'
import { termsSchema } from './document-schema.js'
import {
  documentListItem,
  documentOf,
  documentView,
  listItem,
  today,
  view,
  type DocumentListItem,
  type DocumentView,
} from './document-view.js'
import { documentById, listDocuments, shareStatus, type DocumentRow } from './document.store.js'
import { editDocument } from './edit-document.js'
import { issue } from './issue-document.js'
import { documentPage, PAGE_POLICY } from './page-html.js'

const params = z.strictObject({ id: uuid })
const REPRESENTATIONS = ['application/xml', 'text/html']
/** Documented by its schema, read by the domain, which names every broken field at once. */
const anyTerms = z.unknown().meta({ $ref: '#/components/schemas/DocumentTerms' })

type Rendered = DocumentView | string

export function documentsController(segment: 'invoices' | 'credit-notes', kind: BillingKind): Type<unknown> {
  const path = `/v1/${segment}`
  const tag = segment
  const name = kind === 'invoice' ? 'invoice' : 'credit note'
  const create = route({
    method: 'POST',
    path,
    scope: 'documents:write',
    tag,
    summary: `Create a draft ${name}: JSON in EN 16931 terms, or a UBL 2.1 Invoice or CreditNote`,
    body: anyTerms,
    accepts: ['application/xml', 'text/xml'],
    status: 201,
    response: documentView,
    problems: [413, 422],
  })
  const list = route({
    method: 'GET',
    path,
    scope: 'documents:read',
    tag,
    summary: 'Newest first',
    status: 200,
    response: pageOf(documentListItem),
    query: z.strictObject({
      ...pageQuery,
      state: z.enum(['draft', 'issued']).optional(),
      number: z
        .string()
        .max(200)
        .regex(/^\P{Cc}*$/u)
        .optional(),
    }),
  })
  const get = route({
    method: 'GET',
    path: `${path}/:id`,
    scope: 'documents:read',
    tag,
    summary: 'JSON, UBL or a printable page',
    params,
    status: 200,
    response: documentView,
    produces: REPRESENTATIONS,
    problems: [404, 406],
  })
  const edit = route({
    method: 'PATCH',
    path: `${path}/:id`,
    scope: 'documents:write',
    tag,
    summary: 'Change a draft (JSON merge patch, RFC 7396)',
    params,
    body: anyTerms,
    accepts: ['application/merge-patch+json'],
    status: 200,
    response: documentView,
    problems: [404, 409, 422],
  })
  const issueIt = route({
    method: 'POST',
    path: `${path}/:id/issue`,
    scope: 'documents:write',
    tag,
    summary: 'Number, validate, freeze',
    params,
    bodyOptional: true,
    body: z.strictObject({ series: z.string().max(32).optional() }),
    status: 200,
    response: documentView,
    problems: [404, 409, 413, 422],
  })

  @Controller()
  class DocumentsController {
    constructor(@Inject(APP) private readonly app: App) {}

    @Serves(create)
    async create(@Called() { client, body, xml, operation }: Call<typeof create>): Promise<DocumentView> {
      return await createDocument(this.app, client, xml === undefined ? draftFromJson(body, kind) : draftFromUbl(xml), operation)
    }

    @Serves(list)
    async list(@Called() { query }: Call<typeof list>): Promise<{ items: DocumentListItem[]; next: string | null }> {
      const rows = await listDocuments(this.app.db, { kind, ...query })
      const statuses = await shareStatus(
        this.app.db,
        rows.map((row) => row.id),
      )
      return toPage(
        rows,
        query.limit,
        (row) => listItem(row, statuses.get(row.id)),
        (row) => row.id,
      )
    }

    @Serves(get)
    async get(@Called() call: Call<typeof get>): Promise<Rendered> {
      return await render(this.app, call, found(await documentById(this.app.db, call.params.id), name))
    }

    @Serves(edit)
    async edit(@Called() { params: { id }, body }: Call<typeof edit>): Promise<DocumentView> {
      return await editDocument(this.app, id, body)
    }

    @Serves(issueIt)
    async issue(@Called() { params: { id }, body, operation }: Call<typeof issueIt>): Promise<DocumentView> {
      return await issue(this.app, id, body?.series, operation)
    }
  }
  return DocumentsController
}

const getAny = route({
  method: 'GET',
  path: '/v1/documents/:id',
  scope: 'documents:read',
  tag: 'documents',
  summary: 'A document of any kind',
  params,
  status: 200,
  response: documentView,
  produces: REPRESENTATIONS,
  problems: [404, 406],
})

@Controller()
export class AnyDocumentController {
  constructor(@Inject(APP) private readonly app: App) {}

  @Serves(getAny)
  async get(@Called() call: Call<typeof getAny>): Promise<Rendered> {
    return await render(this.app, call, found(await documentById(this.app.db, call.params.id), 'document'))
  }
}

/** Registers the schema by name, for the two bodies above that refer to it. */
export const REFERRED_SCHEMAS = [termsSchema]

async function render(app: App, { request, reply }: Pick<Call, 'request' | 'reply'>, row: DocumentRow): Promise<Rendered> {
  reply.header('vary', 'accept')
  switch (representationFor(request.headers.accept)) {
    case 'xml':
      reply.type('application/xml; charset=utf-8')
      return toUbl(documentOf(row))
    case 'html':
      reply.type('text/html; charset=utf-8').header('content-security-policy', PAGE_POLICY)
      return documentPage(documentOf(row), [
        ['Document id', row.id],
        ['State', row.state],
        ...(row.contentDigest === null ? [] : ([['Content digest (BLAKE3-256)', hex(row.contentDigest)]] as const)),
      ])
    case 'json':
      return view(row, { status: (await shareStatus(app.db, [row.id])).get(row.id), today: today(now(app)) })
  }
}

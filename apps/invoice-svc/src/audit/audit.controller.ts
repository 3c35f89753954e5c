/** /v1/audit and the tlog-tiles paths: audit-svc's answers, as JSON and as the bytes that monitors read. */
import { Controller, Inject, StreamableFile } from '@nestjs/common'
import { auditCheckpoint, auditConsistency, auditEvents, auditInclusion, auditTile } from '@tallystick/contracts/audit'
import { auditEvent, auditStream } from '@tallystick/contracts/audit-events'
import { z } from 'zod'
import { APP, type App } from '../app.js'
import { base64Url, hex, hexDigest, uuid } from '../http/page.js'
import { Called, route, Serves, type Call } from '../http/route.js'
import { Refused, refusedBy } from '../refused.js'

const tag = 'audit'
const scope = 'audit:read' as const
const size = z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER)

const events = route({
  method: 'GET',
  path: '/v1/audit/events',
  scope,
  tag,
  summary: 'Events, oldest first',
  status: 200,
  query: z.strictObject({
    limit: z.coerce.number().int().min(1).max(200).default(50),
    after: z.coerce.number().int().min(-1).default(-1),
    stream: auditStream.optional(),
  }),
  response: z.strictObject({
    items: z.array(z.strictObject({ index: z.int(), leafHash: hexDigest, event: auditEvent })),
    next: z.int().nullable(),
  }),
})
const checkpoint = route({
  method: 'GET',
  path: '/v1/audit/checkpoint',
  scope,
  tag,
  summary: 'The newest signed checkpoint',
  status: 200,
  problems: [404, 503],
  response: z.strictObject({ note: z.string(), size: z.int(), rootHash: hexDigest, vkey: z.string() }),
})
const inclusion = route({
  method: 'GET',
  path: '/v1/audit/inclusion/:eventId',
  scope,
  tag,
  summary: 'Inclusion proof of an event; 404 until it is under a checkpoint',
  params: z.strictObject({ eventId: uuid }),
  status: 200,
  problems: [404],
  response: z.strictObject({
    leaf: z.string().describe('base64url'),
    index: z.int(),
    size: z.int(),
    proof: z.array(hexDigest),
    note: z.string(),
    vkey: z.string(),
  }),
})
const consistency = route({
  method: 'GET',
  path: '/v1/audit/consistency',
  scope,
  tag,
  summary: 'Consistency proof between two tree sizes',
  query: z.strictObject({ from: size, to: size }),
  status: 200,
  problems: [404, 422],
  response: z.strictObject({ from: z.int(), to: z.int(), proof: z.array(hexDigest), fromRoot: hexDigest, toRoot: hexDigest }),
})
const note = route({
  method: 'GET',
  path: '/checkpoint',
  scope,
  tag,
  summary: 'The checkpoint as C2SP tlog-tiles serves it',
  status: 200,
  produces: ['text/plain'],
  problems: [404, 503],
})
const tile = route({
  method: 'GET',
  path: '/tile/*',
  scope,
  tag,
  summary: 'Hash and entry tiles (C2SP tlog-tiles)',
  status: 200,
  produces: ['application/octet-stream'],
  problems: [404],
})

const TILE = /^tile\/(?:[0-9]|[1-5][0-9]|6[0-3]|entries)\/(?:x[0-9]{3}\/)*[0-9]{3}(?:\.p\/(?:[1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5]))?$/

@Controller()
export class AuditController {
  constructor(@Inject(APP) private readonly app: App) {}

  @Serves(events)
  async events(@Called() { query: { limit, after, stream } }: Call<typeof events>) {
    const { items } = await this.app.rpc.call(auditEvents, { after, limit, ...(stream === undefined ? {} : { stream }) })
    const last = items.at(-1)
    return {
      items: items.map(({ index, leafHash, event }) => ({ index, leafHash: hex(leafHash), event })),
      next: items.length === limit && last !== undefined ? last.index : null,
    }
  }

  @Serves(checkpoint)
  async checkpoint(@Called() _call: Call<typeof checkpoint>) {
    const { note: text, size: treeSize, rootHash, vkey } = await this.#checkpoint()
    return { note: text, size: treeSize, rootHash: hex(rootHash), vkey }
  }

  @Serves(inclusion)
  async inclusion(@Called() { params: { eventId } }: Call<typeof inclusion>) {
    const answer = await this.app.rpc.call(auditInclusion, { eventId })
    if (!answer.ok) throw refusedBy(answer)
    return {
      leaf: base64Url(answer.leaf),
      index: answer.index,
      size: answer.size,
      proof: answer.proof.map(hex),
      note: answer.note,
      vkey: answer.vkey,
    }
  }

  @Serves(consistency)
  async consistency(@Called() { query: { from, to } }: Call<typeof consistency>) {
    const answer = await this.app.rpc.call(auditConsistency, { from, to })
    if (!answer.ok) throw refusedBy(answer)
    return { from, to, proof: answer.proof.map(hex), fromRoot: hex(answer.fromRoot), toRoot: hex(answer.toRoot) }
  }

  @Serves(note)
  async note(@Called() { reply }: Call<typeof note>): Promise<string> {
    const answer = await this.#checkpoint()
    reply.type('text/plain; charset=utf-8')
    return answer.note
  }

  @Serves(tile)
  async tile(@Called() { request, reply }: Call<typeof tile>): Promise<StreamableFile> {
    const path = (request.url.split('?')[0] ?? '').slice(1)
    if (path.length > 128 || !TILE.test(path)) throw new Refused('NotFound', 'This is not the path of a tile.')
    const answer = await this.app.rpc.call(auditTile, { path })
    if (!answer.ok) throw refusedBy(answer)
    // Full tiles never change.
    if (!path.includes('.p/')) reply.header('cache-control', 'private, max-age=31536000, immutable')
    return new StreamableFile(answer.bytes, { type: 'application/octet-stream' })
  }

  async #checkpoint() {
    const answer = await this.app.rpc.call(auditCheckpoint, {})
    if (!answer.ok) throw refusedBy(answer)
    return answer
  }
}

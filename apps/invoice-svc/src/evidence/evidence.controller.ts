/** GET /v1/documents/:id/evidence: the file that `tallystick evidence verify` checks offline. */
import { Controller, Inject } from '@nestjs/common'
import { fleetId } from '@tallystick/contracts/call'
import { EVIDENCE_FORMAT } from '@tallystick/merkle-log/evidence'
import { z } from 'zod'
import { APP, type App } from '../app.js'
import { uuid } from '../http/page.js'
import { Called, route, Serves, type Call } from '../http/route.js'
import { conflict } from '../refused.js'
import { evidenceOf } from './build-evidence.js'

const evidenceSchema = z.looseObject({ format: z.literal(EVIDENCE_FORMAT) }).meta({ id: 'Evidence', description: 'docs/spec/evidence.md' })

const get = route({
  method: 'GET',
  path: '/v1/documents/:id/evidence',
  scope: 'documents:read',
  tag: 'documents',
  summary: 'Evidence of a sent or received document; 409 names the parts that are still missing, unless partial=true',
  params: z.strictObject({ id: uuid }),
  query: z.strictObject({ partial: z.enum(['true', 'false']).default('false'), peerId: fleetId.optional() }),
  status: 200,
  response: evidenceSchema,
  problems: [404, 409],
})

@Controller()
export class EvidenceController {
  constructor(@Inject(APP) private readonly app: App) {}

  @Serves(get)
  async get(@Called() { params: { id }, query: { partial, peerId }, reply }: Call<typeof get>): Promise<Record<string, unknown>> {
    const { file, missing } = await evidenceOf(this.app, id, peerId)
    if (missing.length > 0 && partial === 'false') {
      throw conflict(
        'The evidence is not complete yet; partial=true gives what there is.',
        missing.map(({ pointer, message }) => ({ pointer, rule: 'Missing', message })),
      )
    }
    reply.header('tallystick-evidence', missing.length === 0 ? 'complete' : 'incomplete')
    return file
  }
}

/** /v1/custody: how the keys are kept, their backup, and a new key-encryption key. */
import { Controller, Inject, StreamableFile } from '@nestjs/common'
import { sessionBackup, sessionCustody, sessionRotateKek } from '@tallystick/contracts/session'
import { z } from 'zod'
import { APP, type App } from '../app.js'
import { time } from '../http/page.js'
import { Called, route, Serves, type Call } from '../http/route.js'
import { recordAction } from '../peers/session-actions.js'
import { refusedBy } from '../refused.js'

const tag = 'custody'

const custodyView = z
  .strictObject({
    provider: z.enum(['file', 'pkcs11']),
    kekId: z.string().describe('Names the key-encryption key; not the key'),
    dataKeys: z.array(z.strictObject({ id: z.string(), version: z.int(), kekId: z.string(), createdAt: time })),
    signingKey: z.enum(['sealed', 'in-token']),
    memory: z.strictObject({
      arenaBytes: z.int(),
      usedBytes: z.int(),
      lockedBytes: z.int().describe('What the kernel counts as locked for session-svc'),
      locked: z.boolean(),
      guardPages: z.boolean(),
      excludedFromCoreDumps: z.boolean(),
    }),
    prekeys: z.array(
      z.strictObject({
        kind: z.enum(['signed', 'last-resort', 'one-time', 'pq-one-time']),
        available: z.int(),
        newestAt: time.nullable(),
      }),
    ),
    generation: z.strictObject({
      value: z.int(),
      restoredAt: time.nullable().describe('When session-svc noticed last that its database had been put back'),
    }),
  })
  .meta({ id: 'Custody' })

const get = route({
  method: 'GET',
  path: '/v1/custody',
  scope: 'ops:read',
  tag,
  summary: 'How keys are kept: provider, key names, locked memory, stock of prekeys',
  status: 200,
  response: custodyView,
})
const backup = route({
  method: 'POST',
  path: '/v1/custody/backup',
  scope: 'keys:write',
  tag,
  summary: 'Identity keys as an age file, encrypted to the recipients; never a session',
  status: 200,
  body: z.strictObject({
    recipients: z.array(z.string().min(1).max(4096)).min(1).max(8).describe('age recipients (age1…), each able to open the file alone'),
  }),
  produces: ['application/octet-stream'],
  problems: [409],
})
const rotateKek = route({
  method: 'POST',
  path: '/v1/custody/rotate-kek',
  scope: 'keys:write',
  tag,
  summary: 'Wrap the data keys under the next key-encryption key',
  status: 200,
  response: z.strictObject({ from: z.string(), to: z.string(), rewrapped: z.int() }),
  problems: [409],
})

@Controller()
export class CustodyController {
  constructor(@Inject(APP) private readonly app: App) {}

  @Serves(get)
  async get(@Called() _call: Call<typeof get>): Promise<z.output<typeof custodyView>> {
    const answer = await this.app.rpc.call(sessionCustody, {})
    if (!answer.ok) throw refusedBy(answer)
    const { provider, kekId, dataKeys, signingKey, memory, prekeys, generation } = answer
    return {
      provider,
      kekId,
      dataKeys: dataKeys.map(({ createdAt, ...key }) => ({ ...key, createdAt: timeOf(createdAt) })),
      signingKey,
      memory,
      prekeys: prekeys.map(({ newestAt, ...stock }) => ({ ...stock, newestAt: newestAt === null ? null : timeOf(newestAt) })),
      generation: { value: generation.value, restoredAt: generation.restoredAt === null ? null : timeOf(generation.restoredAt) },
    }
  }

  /** Bytes, not JSON: what comes is what belongs into the file. It is not kept for a repeated Idempotency-Key. */
  @Serves(backup)
  async backup(@Called() { client, body, reply }: Call<typeof backup>): Promise<StreamableFile> {
    const answer = await this.app.rpc.call(sessionBackup, { recipients: body.recipients })
    if (!answer.ok) throw refusedBy(answer)
    await recordAction(this.app, client, 'keys-backed-up', answer.fleetId)
    const day = timeOf(answer.createdAt).slice(0, 10)
    reply.header('content-disposition', `attachment; filename="tallystick-${answer.fleetId.slice(0, 12)}-${day}.age"`)
    return new StreamableFile(answer.file, { type: 'application/octet-stream' })
  }

  @Serves(rotateKek)
  async rotateKek(@Called() { client }: Call<typeof rotateKek>): Promise<{ from: string; to: string; rewrapped: number }> {
    const answer = await this.app.rpc.call(sessionRotateKek, {})
    if (!answer.ok) throw refusedBy(answer)
    const { from, to, rewrapped } = answer
    await recordAction(this.app, client, 'kek-rotated', to)
    return { from, to, rewrapped }
  }
}

function timeOf(ms: number): string {
  return new Date(ms).toISOString()
}

/** GET /v1/events: changes as server-sent events. Resumes after Last-Event-ID. */
import { PassThrough } from 'node:stream'
import { Controller, Inject, StreamableFile } from '@nestjs/common'
import { APP, type App } from '../app.js'
import { Called, route, Serves, type Call } from '../http/route.js'
import { cursorText, readCursor } from './change-feed.js'

const listen = route({
  method: 'GET',
  path: '/v1/events',
  scope: 'documents:read',
  tag: 'events',
  summary: 'Changes of documents, shares, inbox, peers and circuits as they happen',
  status: 200,
  produces: ['text/event-stream'],
  problems: [429],
})

/** A listener that reads more slowly than this is cut off; it resumes where it was. Bytes. */
const BACKLOG_BYTES = 1024 * 1024

@Controller()
export class EventsController {
  constructor(@Inject(APP) private readonly app: App) {}

  @Serves(listen)
  async listen(@Called() { request, reply }: Call<typeof listen>): Promise<StreamableFile> {
    const stream = new PassThrough({ highWaterMark: BACKLOG_BYTES })
    const last = request.headers['last-event-id']
    const end = await this.app.feed.listen(
      readCursor(typeof last === 'string' ? last : undefined),
      (row) => {
        const data = JSON.stringify({ at: row.at.toISOString(), ...row.data })
        if (!stream.write(`id: ${cursorText(row)}\nevent: ${row.topic}\ndata: ${data}\n\n`)) stream.destroy()
      },
      () => stream.end(),
    )
    const ping = setInterval(() => {
      // Ended, and not read to its end yet: writing would be an error.
      if (stream.writable) stream.write(': ping\n\n')
    }, this.app.limits.changesPingMs)
    const close = () => {
      clearInterval(ping)
      end()
      stream.destroy()
    }
    stream.once('close', close)
    request.raw.once('close', close)
    if (request.raw.destroyed) close() // the client left while the feed was being opened
    stream.write('retry: 2000\n\n')
    reply.header('x-accel-buffering', 'no')
    return new StreamableFile(stream, { type: 'text/event-stream; charset=utf-8' })
  }
}

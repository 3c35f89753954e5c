/** `tallystick invoice import|send|show|watch`. */
import { setTimeout as pause } from 'node:timers/promises'
import { type Api, readText } from '../api.js'
import { CommandError, EXIT, type ExitCode, type Printer } from '../outcome.js'

interface Document {
  id: string
  kind: string
  state: string
  status: string
  number: string | null
  seller: string | null
  buyer: string | null
  currency: string | null
  payableAmount: string | null
  violations?: { pointer: string; rule: string; message: string }[]
  unmapped?: { path: string; value: string }[]
}

interface Share {
  shareId: string
  state: string
  times: Record<string, string>
  cause: string | null
  code: string | null
  nextAttemptAt: string | null
}

const STAGES = ['queued', 'sealed', 'relayed', 'stored', 'delivered', 'accepted', 'rejected', 'disputed', 'paid', 'refused', 'cancelled']
const ENDED = new Set(['accepted', 'rejected', 'disputed', 'paid', 'refused', 'cancelled'])
/** Below the API's 100 requests a minute. */
const POLL_MS = 700

export async function invoiceImport(
  api: Api,
  file: string,
  options: { issue?: boolean; series?: string },
  print: Printer,
): Promise<ExitCode> {
  const text = readText(file, 'invoice')
  let document = await api.post<Document>(
    '/v1/invoices',
    text,
    /^\s*</.test(text.replace(/^\ufeff/, '')) ? 'application/xml' : 'application/json',
  )
  const unmapped = document.unmapped ?? []
  if (options.issue === true)
    document = await api.post<Document>(
      `/v1/${segmentOf(document)}/${document.id}/issue`,
      options.series === undefined ? {} : { series: options.series },
    )
  describe(document, print)
  for (const { path } of unmapped) print.line(`  not kept: ${path}`)
  for (const { pointer, rule, message } of document.violations ?? []) print.line(`  ${rule} ${pointer}: ${message}`)
  print.result({ ...document, unmapped })
  return EXIT.ok
}

export async function invoiceShow(api: Api, id: string, format: string, print: Printer): Promise<ExitCode> {
  const path = `/v1/documents/${encodeURIComponent(id)}`
  if (format === 'xml' || format === 'html') {
    print.content(await api.text(path, format === 'xml' ? 'application/xml' : 'text/html'))
    return EXIT.ok
  }
  const document = await api.get<Document>(path)
  describe(document, print)
  print.result(document)
  return EXIT.ok
}

export async function invoiceSend(
  api: Api,
  id: string,
  peerId: string,
  options: { watch?: boolean } & WatchOptions,
  print: Printer,
): Promise<ExitCode> {
  const share = await api.post<Share>(`/v1/documents/${encodeURIComponent(id)}/shares`, { peerId })
  print.line(`share ${share.shareId}`)
  if (options.watch === true) return invoiceWatch(api, share.shareId, options, print)
  print.result(share)
  return EXIT.ok
}

export interface WatchOptions {
  /** A stage to stop at; default: a verdict, a refusal or a cancellation. */
  readonly until?: string
  /** Seconds; default: no end. */
  readonly timeout?: string
}

/** Prints each stage as it is reached; ends with exit code 4 if the time is up first, 3 if the share was refused. */
export async function invoiceWatch(api: Api, shareId: string, options: WatchOptions, print: Printer): Promise<ExitCode> {
  if (options.until !== undefined && !STAGES.includes(options.until))
    throw new CommandError(EXIT.usage, `--until is one of ${STAGES.join(', ')}.`)
  const seconds = options.timeout === undefined ? Number.POSITIVE_INFINITY : Number(options.timeout)
  if (!(seconds > 0)) throw new CommandError(EXIT.usage, '--timeout is a number of seconds.')
  const end = performance.now() + seconds * 1_000
  const shown = new Set<string>()
  let lastCause: string | null = null
  for (;;) {
    const share = await api.get<Share>(`/v1/shares/${encodeURIComponent(shareId)}`)
    for (const stage of STAGES) {
      const at = share.times[stage]
      if (at === undefined || shown.has(stage)) continue
      shown.add(stage)
      print.line(`${at}  ${stage}`)
    }
    if (share.cause !== null && share.cause !== lastCause)
      print.line(`  waiting: ${share.cause}${share.nextAttemptAt === null ? '' : ` Next attempt ${share.nextAttemptAt}.`}`)
    lastCause = share.cause
    if (ENDED.has(share.state) || (options.until !== undefined && shown.has(options.until))) {
      print.result(share)
      return share.state === 'refused' || share.state === 'cancelled' ? EXIT.validation : EXIT.ok
    }
    if (performance.now() > end)
      throw new CommandError(EXIT.unreachable, `The share is still ${share.state}.${share.cause === null ? '' : ` ${share.cause}`}`, {
        ...share,
      })
    await pause(POLL_MS)
  }
}

function segmentOf(document: Document): string {
  return document.kind === 'credit-note' ? 'credit-notes' : 'invoices'
}

function describe(document: Document, print: Printer): void {
  print.line(`${document.kind} ${document.number ?? '(no number yet)'}  ${document.status}  ${document.id}`)
  print.line(`  ${document.seller ?? '?'} to ${document.buyer ?? '?'}, payable ${document.payableAmount ?? '?'} ${document.currency ?? ''}`)
}

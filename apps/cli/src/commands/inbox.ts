/** `tallystick inbox list|verdict`. */
import type { Api } from '../api.js'
import { EXIT, type ExitCode, type Printer } from '../outcome.js'

interface InboxItem {
  id: string
  kind: string
  number: string | null
  seller: string | null
  currency: string | null
  payableAmount: string | null
  state: string
  receivedAt: string
}

/** The newest hundred, newest first. */
export async function inboxList(api: Api, state: string | undefined, print: Printer): Promise<ExitCode> {
  const filter = state === undefined ? '' : `&state=${encodeURIComponent(state)}`
  const page = await api.get<{ items: InboxItem[]; next: string | null }>(`/v1/inbox?limit=100${filter}`)
  for (const item of page.items) {
    print.line(
      `${item.id}  ${item.state.padEnd(8)}  ${item.kind} ${item.number ?? '?'} of ${item.seller ?? '?'}, ${item.payableAmount ?? '?'} ${item.currency ?? ''}`,
    )
  }
  if (page.items.length === 0) print.line('nothing has been received')
  else if (page.next !== null) print.line('there is more: use --state, or the API')
  print.result(page)
  return EXIT.ok
}

export async function inboxVerdict(
  api: Api,
  id: string,
  verdict: string,
  options: { code?: string; note?: string },
  print: Printer,
): Promise<ExitCode> {
  const { code, note } = options
  const body = { verdict, ...(code === undefined ? {} : { code }), ...(note === undefined ? {} : { note }) }
  const item = await api.post<InboxItem>(`/v1/inbox/${encodeURIComponent(id)}/verdict`, body)
  print.line(`${item.kind} ${item.number ?? '?'} is ${item.state}; the signed verdict is on its way`)
  print.result(item)
  return EXIT.ok
}

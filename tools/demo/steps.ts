/** The stages of the demo, each through the public HTTP API of the two fleets. */
import { waitInFleet } from './fleet-events.ts'
import type { RunningFleet } from '../fleet/start.ts'
import type { ApiAnswer, ApiInit } from '../fleet/api-client.ts'

/** Kinds that the demo's fleets share and log. */
const SHARED_KINDS = ['invoice', 'credit-note']
const LOGGED_KINDS = [...SHARED_KINDS, 'verdict']
const STAGES = ['queued', 'sealed', 'relayed', 'stored', 'delivered'] as const
const WITHIN_MS = 60_000

export interface Side {
  name: string
  fleet: RunningFleet
  /** As the other side knows it. */
  peerId: string
}

export interface DemoDocument {
  id: string
  kind: string
  number: string
  seller: string
  buyer: string
  currency: string
  payableAmount: string
}

export interface Share {
  shareId: string
  state: string
  times: Record<string, string>
  cause: string | null
  verdict: { verdict: string; at: string } | null
}

export class ApiProblem extends Error {
  readonly status: number
  readonly code: string
  constructor(side: Side, what: string, answer: ApiAnswer) {
    const problem = answer.body as {
      code?: string
      detail?: string
      title?: string
      errors?: { pointer: string; rule: string; message: string }[]
    }
    const fields = (problem.errors ?? []).slice(0, 8).map((error) => `\n  ${error.pointer} ${error.rule}: ${error.message}`)
    super(
      `${side.name}: ${what} was refused (${answer.status} ${problem.code ?? ''}): ${problem.detail ?? problem.title ?? JSON.stringify(answer.body).slice(0, 300)}${fields.join('')}`,
    )
    this.status = answer.status
    this.code = problem.code ?? ''
  }
}

async function call(side: Side, what: string, path: string, init?: ApiInit): Promise<ApiAnswer['body']> {
  const answer = await side.fleet.api(path, init)
  if (answer.status >= 300) throw new ApiProblem(side, what, answer)
  return answer.body
}

/** Each side hands its invitation string to the other one. */
export async function pinEachOther(a: Side, b: Side, signal: AbortSignal): Promise<void> {
  const invitations = await Promise.all(
    [a, b].map(async (side) => (await call(side, 'reading the own fleet', '/v1/fleet')).invitation as string),
  )
  await Promise.all([
    call(a, 'pinning', '/v1/peers', { body: { invitation: invitations[1] } }),
    call(b, 'pinning', '/v1/peers', { body: { invitation: invitations[0] } }),
  ])
  await Promise.all(
    [a, b].map(async (side) => {
      let cause = ''
      await waitInFleet(
        side.fleet.info,
        `${side.name} pinning its peer`,
        async () => {
          const peer = await call(side, 'reading the peer', `/v1/peers/${side.peerId}`)
          cause = `it is ${peer.state} (${peer.cause ?? 'no cause given'})`
          return peer.state === 'active' ? true : undefined
        },
        { signal, withinMs: WITHIN_MS, describe: () => cause },
      )
    }),
  )
}

/** @returns how many were granted now; those of an earlier run still count */
export async function grantConsents(side: Side): Promise<number> {
  let granted = 0
  for (const [purpose, kinds] of [
    ['share', SHARED_KINDS],
    ['log', LOGGED_KINDS],
  ] as const) {
    const { items } = (await call(side, 'listing consents', `/v1/consents?peerId=${side.peerId}&purpose=${purpose}`)) as {
      items: { active: boolean; kinds: string[] }[]
    }
    if (items.some((consent) => consent.active && kinds.every((kind) => consent.kinds.includes(kind)))) continue
    await call(side, 'granting consent', '/v1/consents', { body: { peerId: side.peerId, purpose, kinds } })
    granted++
  }
  return granted
}

const pathOf = (kind: string) => (kind === 'credit-note' ? '/v1/credit-notes' : '/v1/invoices')

export async function importInvoice(side: Side, xml: Uint8Array): Promise<DemoDocument> {
  return (await call(side, 'importing the invoice', '/v1/invoices', {
    body: xml,
    headers: { 'content-type': 'application/xml' },
  })) as DemoDocument
}

/** @returns the issued document; `renumbered` when its own number had been issued by an earlier run */
export async function issueInvoice(side: Side, draft: DemoDocument): Promise<{ document: DemoDocument; renumbered: boolean }> {
  const path = `${pathOf(draft.kind)}/${draft.id}`
  const issue = () => side.fleet.api(`${path}/issue`, { method: 'POST' })
  let answer = await issue()
  const taken =
    answer.status === 409 && ((answer.body as { errors?: { rule: string }[] }).errors ?? []).some(({ rule }) => rule === 'NumberTaken')
  if (taken) {
    await call(side, 'changing the number', path, { method: 'PATCH', body: { number: null } })
    answer = await issue()
  }
  if (answer.status !== 200) throw new ApiProblem(side, 'issuing the invoice', answer)
  return { document: answer.body as DemoDocument, renumbered: taken }
}

/** Share, and tell each stage as it is reached. */
export async function shareUntilDelivered(
  side: Side,
  document: DemoDocument,
  signal: AbortSignal,
  onStage: (stage: string, at: string) => void,
): Promise<Share> {
  const share = (await call(side, 'sharing', `/v1/documents/${document.id}/shares`, { body: { peerId: side.peerId } })) as Share
  const told = new Set<string>()
  let last = share
  return waitInFleet(
    side.fleet.info,
    'delivery',
    async () => {
      last = await readShare(side, share.shareId)
      for (const stage of STAGES) {
        const at = last.times[stage]
        if (at === undefined || told.has(stage)) continue
        told.add(stage)
        onStage(stage, at)
      }
      if (['refused', 'cancelled'].includes(last.state)) throw new Error(`the share was ${last.state}: ${last.cause ?? 'no cause given'}`)
      return last.times.delivered === undefined ? undefined : last
    },
    { signal, withinMs: WITHIN_MS, describe: () => `it is ${last.state}${last.cause === null ? '' : `, ${last.cause}`}` },
  )
}

async function readShare(side: Side, id: string): Promise<Share> {
  return (await call(side, 'reading the share', `/v1/shares/${id}`)) as Share
}

export interface InboxItem {
  id: string
  documentId: string
  number: string
  contentDigest: string
  payableAmount: string
  currency: string
  verification?: { check: string; how: string }[]
}

export async function findInInbox(side: Side, documentId: string, signal: AbortSignal): Promise<InboxItem> {
  const found = await waitInFleet(
    side.fleet.info,
    `the invoice in the inbox of ${side.name}`,
    async () => {
      const { items } = (await call(side, 'reading the inbox', `/v1/inbox?peerId=${side.peerId}`)) as { items: InboxItem[] }
      return items.find((item) => item.documentId === documentId)
    },
    { signal, withinMs: WITHIN_MS },
  )
  return (await call(side, 'reading the inbox', `/v1/inbox/${found.id}`)) as InboxItem
}

export async function accept(side: Side, item: InboxItem): Promise<void> {
  await call(side, 'accepting', `/v1/inbox/${item.id}/verdict`, { body: { verdict: 'accepted' } })
}

/** The buyer's signed verdict has come back to the seller. */
export async function waitForAcceptance(side: Side, shareId: string, signal: AbortSignal): Promise<Share> {
  let last: Share | undefined
  return waitInFleet(
    side.fleet.info,
    "the buyer's acceptance",
    async () => {
      last = await readShare(side, shareId)
      return last.state === 'accepted' ? last : undefined
    },
    { signal, withinMs: WITHIN_MS, describe: () => `the share is ${last?.state}` },
  )
}

/** Complete once both sides' logs have proved their entries to each other. @returns the evidence file's text */
export async function fetchEvidence(side: Side, documentId: string, signal: AbortSignal): Promise<string> {
  let missing = ''
  return waitInFleet(
    side.fleet.info,
    'complete evidence',
    async () => {
      const answer = await side.fleet.api(`/v1/documents/${documentId}/evidence`)
      if (answer.status === 200) return `${JSON.stringify(answer.body, null, 2)}\n`
      if (answer.status !== 409 && answer.status !== 503) throw new ApiProblem(side, 'fetching the evidence', answer)
      missing = ((answer.body as { errors?: { pointer: string; message: string }[] }).errors ?? [])
        .map(({ pointer, message }) => `${pointer} ${message}`)
        .join('; ')
      return undefined
    },
    { signal, withinMs: WITHIN_MS, describe: () => `missing: ${missing}` },
  )
}

/** Two fleets as real processes, and what a test wants to say about them. */
import { randomUUID } from 'node:crypto'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import pg from 'pg'
import { startFleet, type RunningFleet } from '../tools/fleet/start.ts'
import { startPostgres, type TestPostgres } from '../tools/testing/postgres.ts'

export const root = path.resolve(import.meta.dirname, '..')
const corpora = process.env.TALLYSTICK_CORPORA ?? path.resolve(root, '../shared/corpora')

/** An official EN 16931 example, or one of the project's own samples on a machine without the corpus. */
export function exampleInvoice(name: string, fallback: string): Buffer {
  const official = path.join(corpora, 'en16931/examples', name)
  return readFileSync(existsSync(official) ? official : path.join(root, 'samples', fallback))
}

export interface TwoFleets {
  acme: RunningFleet
  globex: RunningFleet
  postgres: TestPostgres
  acmeId: string
  globexId: string
  stop(): Promise<void>
}

export async function startTwoFleets(env: Record<string, string> = {}): Promise<TwoFleets> {
  const data = mkdtempSync(path.join(os.tmpdir(), 'tallystick-e2e-'))
  const postgres = await startPostgres()
  const settings = { NODE_ENV: 'test', TALLYSTICK_API_RATE_PER_MINUTE: '100000', ...env }
  const start = (name: string) => startFleet({ name, dataDir: path.join(data, name), postgres: postgres.server, env: settings })
  const [acme, globex] = await Promise.all([start('acme'), start('globex')])
  const acmeFleet = await get(acme, '/v1/fleet')
  const globexFleet = await get(globex, '/v1/fleet')
  return {
    acme,
    globex,
    postgres,
    acmeId: acmeFleet.fleetId,
    globexId: globexFleet.fleetId,
    async stop() {
      await Promise.all([acme.stop(), globex.stop()])
      await postgres.stop()
      rmSync(data, { recursive: true, force: true })
    },
  }
}

/** Where the fleet's `fleet.json` is: what `--fleet` takes. */
export function folderOf(fleet: RunningFleet): string {
  return path.dirname(path.dirname(fleet.logFile('nats')))
}

/** Each side pins the other by its invitation string. */
export async function pinEachOther({ acme, globex }: TwoFleets): Promise<void> {
  for (const [self, peer] of [
    [acme, globex],
    [globex, acme],
  ] as const) {
    const { invitation } = await get(peer, '/v1/fleet')
    const { peerId } = await post(self, '/v1/peers', { invitation }, 201)
    await until(`${self.info.name} has an active peer`, async () => (await get(self, `/v1/peers/${peerId}`)).state === 'active')
  }
}

const KINDS = ['invoice', 'credit-note', 'verdict']
export async function grant(fleet: RunningFleet, peerId: string, purposes: readonly ('share' | 'log')[] = ['share', 'log']): Promise<void> {
  for (const purpose of purposes) await post(fleet, '/v1/consents', { peerId, purpose, kinds: KINDS }, 201)
}

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- answers of the public API, read as a client without types would
type Json = any

export async function get(fleet: RunningFleet, at: string, status = 200): Promise<Json> {
  const answer = await fleet.api(at)
  if (answer.status !== status) throw new Error(`GET ${at} at ${fleet.info.name}: ${answer.status} ${JSON.stringify(answer.body)}`)
  return answer.body
}

export async function post(
  fleet: RunningFleet,
  at: string,
  body: unknown,
  status: number,
  headers: Record<string, string> = {},
): Promise<Json> {
  const answer = await fleet.api(at, { method: 'POST', body, headers })
  if (answer.status !== status) throw new Error(`POST ${at} at ${fleet.info.name}: ${answer.status} ${JSON.stringify(answer.body)}`)
  return answer.body
}

/** The same request until the fleet answers it, as a client of the API would: the key makes it safe to repeat. */
export async function insist(
  fleet: RunningFleet,
  at: string,
  body: unknown,
  status: number,
  headers: Record<string, string> = {},
): Promise<Json> {
  const key = randomUUID()
  let last = 'no answer'
  return until(
    `POST ${at} is answered`,
    async () => {
      try {
        const answer = await fleet.api(at, { method: 'POST', body, headers: { ...headers, 'idempotency-key': key } })
        last = `${answer.status} ${JSON.stringify(answer.body)}`
        if (answer.status === status) return answer.body
        if (answer.status < 500 && answer.status !== 409) throw new Error(`POST ${at}: ${last}`, { cause: 'final' })
      } catch (error) {
        if ((error as Error).cause === 'final') throw error
        last = String(error)
      }
      return undefined
    },
    { detail: () => last },
  )
}

/** Import a UBL document and issue it. @returns its id */
export async function issueUbl(fleet: RunningFleet, xml: Buffer | string): Promise<{ id: string; contentDigest: string }> {
  const draft = await insist(fleet, '/v1/invoices', xml.toString(), 201, { 'content-type': 'application/xml' })
  const issued = await insist(fleet, `/v1/invoices/${draft.id}/issue`, {}, 200)
  return { id: issued.id, contentDigest: issued.contentDigest }
}

export async function share(fleet: RunningFleet, documentId: string, peerId: string): Promise<Json> {
  return insist(fleet, `/v1/documents/${documentId}/shares`, { peerId }, 202)
}

const ORDER = ['queued', 'sealed', 'relayed', 'stored', 'delivered', 'accepted', 'paid']
export async function shareReaches(fleet: RunningFleet, shareId: string, state: string, timeoutMs = 60_000): Promise<Json> {
  let last: Json
  return until(
    `share ${shareId} is ${state}`,
    async () => {
      try {
        last = await get(fleet, `/v1/shares/${shareId}`)
      } catch (error) {
        last = String(error)
        return undefined
      }
      if (last.state === 'refused') throw new Error(`share refused: ${JSON.stringify(last)}`)
      return ORDER.indexOf(last.state) >= ORDER.indexOf(state) ? last : undefined
    },
    { timeoutMs, detail: () => JSON.stringify(last) },
  )
}

export async function inboxItem(fleet: RunningFleet, contentDigest: string, timeoutMs = 60_000): Promise<Json> {
  return until(
    `${fleet.info.name} has received ${contentDigest}`,
    async () => {
      try {
        const { items } = await get(fleet, '/v1/inbox?limit=200')
        return items.find((item: Json) => item.contentDigest === contentDigest)
      } catch {
        return undefined // the API may be down in this very moment: the next look decides
      }
    },
    { timeoutMs },
  )
}

/** All audit events of a fleet, oldest first. */
export async function auditEvents(fleet: RunningFleet): Promise<Json[]> {
  const all: Json[] = []
  for (let after: number | null = -1; after !== null;) {
    const page: Json = await get(fleet, `/v1/audit/events?limit=200&after=${after}`)
    all.push(...page.items.map((item: Json) => item.event))
    after = page.next
  }
  return all
}

/** A query as owner of the fleet's tables: what an attacker with the database, or an operator, would do. */
export async function sql(fleets: TwoFleets, fleet: string, text: string, values: unknown[] = []): Promise<Json[]> {
  const url = new URL(fleets.postgres.url)
  url.pathname = `/${fleet}`
  const client = new pg.Client({ connectionString: url.href })
  await client.connect()
  try {
    return (await client.query(text, values)).rows
  } finally {
    await client.end()
  }
}

/** Looks until it holds. The fleet's own events cannot be awaited from another process, so this polls at short intervals. */
export async function until<T>(
  what: string,
  look: () => Promise<T | undefined | false>,
  options: { timeoutMs?: number; detail?: () => string } = {},
): Promise<T> {
  const deadline = performance.now() + (options.timeoutMs ?? 60_000)
  for (;;) {
    const found = await look()
    if (found) return found
    if (performance.now() > deadline)
      throw new Error(`not within ${options.timeoutMs ?? 60_000} ms: ${what}${options.detail ? ` (${options.detail()})` : ''}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

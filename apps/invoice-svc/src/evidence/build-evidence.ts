/**
 * The evidence file of a document: gathered, then verified here as anybody would, before it is given out. Entries of
 * the counterparty's log that do not speak of this document are left out: it chose which leaves to send.
 * @see docs/spec/evidence.md
 */
import { buildEvidence, type EvidenceParts } from '@tallystick/merkle-log/evidence'
import { verifyEvidence, type EvidenceResult } from '@tallystick/merkle-log/evidence-verify'
import type { App } from '../app.js'
import { documentById } from '../documents/document.store.js'
import { inboxByAnyId } from '../inbox/inbox.store.js'
import { conflict, notFound, Refused } from '../refused.js'
import { partsOfReceived, partsOfSent, sharesOf, type Gathered } from './evidence.store.js'

export interface Evidence {
  readonly file: Record<string, unknown>
  /** Pointers into the file, each with what is not there yet. */
  readonly missing: Array<{ pointer: string; message: string }>
}

/**
 * @param id of an own document, an inbox item, or the sender's id of a received document
 * @param peer which counterparty, when there are several
 * @throws Refused NotFound; InvalidRequest when several fit; Conflict when nothing was signed yet
 */
export async function evidenceOf(app: App, id: string, peer: string | undefined): Promise<Evidence> {
  const gathered = await gather(app, id, peer)
  const { parts } = gathered
  const built = fileOf(gathered, parts)
  const offered = gathered.counterparty === 'sender' ? parts.senderLog : parts.recipientLog
  const bad = new Set(built.result.checks.filter((check) => !check.ok).flatMap((check) => foreignEntry(check.name, gathered.counterparty)))
  if (offered === undefined || bad.size === 0) return { file: built.file, missing: missingOf(built.result, parts) }
  const log = { ...offered, entries: offered.entries.filter((_, n) => !bad.has(n)) }
  const cleaned: EvidenceParts = { ...parts, ...(gathered.counterparty === 'sender' ? { senderLog: log } : { recipientLog: log }) }
  const again = fileOf(gathered, cleaned)
  return { file: again.file, missing: missingOf(again.result, cleaned) }
}

async function gather(app: App, id: string, peer: string | undefined): Promise<Gathered> {
  if ((await documentById(app.db, id)) !== null) {
    const shares = await sharesOf(app.db, id, peer)
    if (shares.length === 0) throw conflict('This document was not shared: there is nothing to prove yet.')
    const peers = new Set(shares.map((share) => share.peer))
    if (peers.size > 1) throw severalPeers([...peers])
    for (const share of shares) {
      const parts = await partsOfSent(app.db, share)
      if (parts !== undefined) return parts
    }
    throw conflict('The document is not signed for this peer yet.')
  }
  const received = (await inboxByAnyId(app.db, id)).filter((row) => peer === undefined || row.peer === peer)
  const [row, ...others] = received
  if (row === undefined) throw notFound('document')
  if (others.length > 0) throw severalPeers(received.map((each) => each.peer))
  return await partsOfReceived(app.db, row)
}

function severalPeers(peers: readonly string[]): Refused {
  return new Refused('InvalidRequest', `Several peers have this document: name one with ?peerId= (${peers.slice(0, 8).join(', ')}).`)
}

function fileOf(gathered: Gathered, parts: EvidenceParts): { file: Record<string, unknown>; result: EvidenceResult } {
  const file = buildEvidence(parts, gathered.contentDigest)
  return { file, result: verifyEvidence(file) }
}

function foreignEntry(name: string, counterparty: string): number[] {
  const match = /^(sender|recipient)\.log\[(\d+)\]/.exec(name)
  return match?.[1] === counterparty ? [Number(match[2])] : []
}

const WORDS: Record<string, string> = {
  receipt: 'the delivery receipt has not come yet',
  verdicts: 'there is no signed verdict yet',
  'sender.log': "the sender's log entries are not there: it needs consent of purpose log, and its next checkpoint",
  'recipient.log': "the recipient's log entries are not there: it needs consent of purpose log, and its next checkpoint",
}

/** A log is complete with one entry for the document and one for each verdict. */
function missingOf(result: EvidenceResult, parts: EvidenceParts): Evidence['missing'] {
  const missing = new Set(result.missing)
  const entries = 1 + (parts.verdicts?.length ?? 0)
  for (const [name, log] of [
    ['sender.log', parts.senderLog],
    ['recipient.log', parts.recipientLog],
  ] as const) {
    if ((log?.entries.length ?? 0) < entries) missing.add(name)
  }
  const failed = result.checks
    .filter((check) => !check.ok)
    .map((check) => ({ pointer: `/${check.name.split('.')[0] ?? ''}`, message: `${check.name}: ${check.detail}` }))
  return [...[...missing].map((name) => ({ pointer: `/${name.replace('.', '/')}`, message: WORDS[name] ?? 'missing' })), ...failed]
}

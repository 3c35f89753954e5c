/** The stored parts of an evidence file, for a document that was sent and for one that was received. */
import type { EvidenceLogEntry, EvidenceParts } from '@tallystick/merkle-log/evidence'
import type { DocumentKind } from '@tallystick/wire/document'
import type { Db } from '../app.js'
import type { InboxRow } from '../inbox/inbox.store.js'
import type { ShareRow } from '../shares/share.store.js'

type Kind = Exclude<DocumentKind, 'verdict'>
type Log = NonNullable<EvidenceParts['senderLog']>

/** What was gathered, and whose proofs came from outside. */
export interface Gathered {
  readonly parts: EvidenceParts
  readonly contentDigest: Uint8Array
  readonly counterparty: 'sender' | 'recipient'
}

/** Shares of a document that may have evidence, the newest first. */
export async function sharesOf(db: Db, documentId: string, peer: string | undefined): Promise<ShareRow[]> {
  return await db.share.findMany({
    where: { documentId, state: { notIn: ['cancelled'] }, ...(peer === undefined ? {} : { peer }) },
    orderBy: { id: 'desc' },
  })
}

/** @returns undefined while the statement is not signed: before that there is nothing to prove */
export async function partsOfSent(db: Db, share: ShareRow): Promise<Gathered | undefined> {
  const { documentId, peer, contentDigest } = share
  const message = await db.message.findUnique({ where: { id: share.messageId } })
  if (message === null || message.statement === null || message.certificate === null || message.peerCertificate === null) return undefined
  const verdicts = await db.verdict.findMany({ where: { direction: 'received', peer, documentId }, orderBy: [{ seq: 'asc' }] })
  const [senderLog, recipientLog] = [await ownLog(db, peer, documentId), await peerLog(db, peer, documentId)]
  return {
    contentDigest,
    counterparty: 'recipient',
    parts: {
      kind: share.kind as Kind,
      documentId,
      body: message.body,
      statement: message.statement,
      senderCertificate: message.certificate,
      recipientCertificate: message.peerCertificate,
      ...(share.receipt === null ? {} : { receipt: { messageId: share.messageId, body: share.receipt } }),
      verdicts: verdicts.flatMap(({ body, statement }) => (statement === null ? [] : [{ body, statement }])),
      ...(senderLog === undefined ? {} : { senderLog }),
      ...(recipientLog === undefined ? {} : { recipientLog }),
    },
  }
}

export async function partsOfReceived(db: Db, row: InboxRow): Promise<Gathered> {
  const { documentId, peer, contentDigest } = row
  // Our own verdicts are signed when they are sent: the message has the statement.
  const verdicts = await db.message.findMany({
    where: { kind: 'verdict', peer, documentId, statement: { not: null } },
    orderBy: [{ seq: 'asc' }, { id: 'asc' }],
  })
  const inbound = await db.inbound.findFirst({ where: { peer, messageId: row.messageId, outcome: 'taken' } })
  const receipt = inbound?.receiptMessageId == null ? null : await db.message.findUnique({ where: { id: inbound.receiptMessageId } })
  const [senderLog, recipientLog] = [await peerLog(db, peer, documentId), await ownLog(db, peer, documentId)]
  return {
    contentDigest,
    counterparty: 'sender',
    parts: {
      kind: row.kind as Kind,
      documentId,
      body: row.body,
      statement: row.statement,
      senderCertificate: row.certificate,
      recipientCertificate: row.ownCertificate,
      ...(receipt === null ? {} : { receipt: { messageId: row.messageId, body: receipt.body } }),
      verdicts: verdicts.map(({ body, statement }) => ({ body, statement: statement! })),
      ...(senderLog === undefined ? {} : { senderLog }),
      ...(recipientLog === undefined ? {} : { recipientLog }),
    },
  }
}

async function ownLog(db: Db, peer: string, documentId: string): Promise<Log | undefined> {
  const rows = await db.sharingEvent.findMany({ where: { peer, documentId, provenAt: { not: null } }, orderBy: { createdAt: 'asc' } })
  return asLog(
    rows.map((row) => ({ ...row, leaf: row.leaf!, leafIndex: row.leafIndex!, treeSize: row.treeSize!, note: row.note!, vkey: row.vkey! })),
  )
}

async function peerLog(db: Db, peer: string, documentId: string): Promise<Log | undefined> {
  return asLog(await db.peerProof.findMany({ where: { peer, documentId }, orderBy: { leafIndex: 'asc' } }))
}

interface ProofRow {
  readonly leaf: Uint8Array
  readonly leafIndex: bigint
  readonly treeSize: bigint
  readonly proof: Uint8Array[]
  readonly note: string
  readonly salt: Uint8Array
  readonly vkey: string
}

/** A log has one key; were it changed, the newest is the one in the certificate. */
function asLog(rows: readonly ProofRow[]): Log | undefined {
  const vkey = rows.at(-1)?.vkey
  if (vkey === undefined) return undefined
  const entries = rows
    .filter((row) => row.vkey === vkey)
    .map((row): EvidenceLogEntry => ({
      leaf: row.leaf,
      index: Number(row.leafIndex),
      size: Number(row.treeSize),
      proof: row.proof,
      note: row.note,
      salt: row.salt,
    }))
  return { vkey, entries }
}

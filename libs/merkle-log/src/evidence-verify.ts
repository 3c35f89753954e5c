/**
 * Checks an evidence file offline: every signature, digest and proof in it, each as a check of its own with a name.
 * @see docs/spec/evidence.md §3
 */
import { equalConstantTime, toHex } from '@tallystick/primitives/bytes'
import { ProtocolError } from '@tallystick/primitives/errors'
import { decode } from '@tallystick/wire/cbor'
import { CLOCK_SKEW_MS, logOrigin, logVkey, type ReadCertificate, readCertificate } from '@tallystick/wire/certificate'
import { DOCUMENT_KINDS, readStatement, type Statement, verifyStatement } from '@tallystick/wire/document'
import { decodeReceipt, decodeVerdict, LEAF_MAX_BYTES, type VerdictBody } from '@tallystick/wire/messages'
import { contentCommitment, contentDigest } from '@tallystick/wire/payload'
import { epochMs, fleetIdText, oneOf, record, text, uuid } from '@tallystick/wire/shape'
import { type Checkpoint, verifyCheckpoint } from './checkpoint.js'
import { type EvidenceFile, parseEvidence, readEvidence } from './evidence.js'
import { decodeVkey } from './note.js'
import { leafHash, verifyInclusion } from './tree.js'

export interface EvidenceCheck {
  /** Stable: `document.digest`, `sender.log[0].inclusion`, … @see docs/spec/evidence.md §3 */
  readonly name: string
  readonly ok: boolean
  /** One sentence for a person. */
  readonly detail: string
}

export interface EvidenceResult {
  /** Every check passed. What a file does not contain is not checked: see `missing`. */
  readonly ok: boolean
  readonly checks: EvidenceCheck[]
  /** Parts that a complete file has and this one does not. */
  readonly missing: string[]
  /** What the verified parts say; absent unless `ok`. */
  readonly summary?: {
    readonly kind: string
    readonly documentId: string
    readonly contentDigest: string
    readonly sender: { fleetId: string; displayName: string }
    readonly recipient: { fleetId: string; displayName: string }
    readonly issuedAt: number
    /** The newest one. */
    readonly verdict?: { verdict: string; code?: string; at: number }
  }
}

type Side = 'sender' | 'recipient'
type VerdictPart = NonNullable<EvidenceFile['verdicts']>[number]
type Entry = NonNullable<EvidenceFile['sender']['log']>['entries'][number]

interface Party {
  readonly certificate: ReadCertificate
  readonly peer: ReadCertificate
}

/**
 * Pure: no clock, no network, no files. Signatures are judged at the times that the file itself names.
 * @param json the parsed file; whoever has text uses {@link verifyEvidenceText}, since parsing hides names given twice
 * @returns never throws; a file that is not an evidence file fails the check `format`
 * @see docs/spec/evidence.md §3
 */
export function verifyEvidence(json: unknown): EvidenceResult {
  return verifyWith(() => readEvidence(json))
}

/** `verifyEvidence` for the text of a file; text that is no JSON, too long or has a name twice fails `format`. */
export function verifyEvidenceText(text: string): EvidenceResult {
  return verifyWith(() => readEvidence(parseEvidence(text)))
}

function verifyWith(read: () => EvidenceFile): EvidenceResult {
  const checks: EvidenceCheck[] = []
  const check = <T>(name: string, detail: string, work: () => T): T | undefined => {
    try {
      const value = work()
      checks.push({ name, ok: true, detail })
      return value
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error
      checks.push({ name, ok: false, detail: `${error.code}: ${error.message}` })
      return undefined
    }
  }

  const file = check('format', 'an evidence file of version 1', read)
  if (file === undefined) return { ok: false, checks, missing: [] }
  const { document } = file
  check('document.digest', 'the digest is that of the document', () =>
    same(contentDigest(document.body), document.contentDigest, 'digest of another document'),
  )
  const stated = check('document.form', 'the statement can be read', () => readStatement(document.statement))
  if (stated === undefined) return { ok: false, checks, missing: missingParts(file) }

  const sender = check('sender.certificate', 'the sender’s keys are vouched for by its root key', () =>
    readCertificate(file.sender.certificate, stated.issuedAt),
  )
  const recipient = check('recipient.certificate', 'the recipient’s keys are vouched for by its root key', () =>
    readCertificate(file.recipient.certificate, stated.issuedAt),
  )
  if (sender === undefined || recipient === undefined) return { ok: false, checks, missing: missingParts(file) }

  check('document.statement', `signed by ${sender.displayName} for ${recipient.displayName}`, () =>
    verifyStatement(document.statement, {
      certificate: sender,
      audience: recipient.fleetId,
      now: stated.issuedAt,
      contentDigest: document.contentDigest,
      kind: document.kind,
      documentId: document.documentId,
    }),
  )
  checkReceipt(file, check)
  const verdicts = (file.verdicts ?? []).map((verdict, i) =>
    checkVerdict(`verdict[${i}]`, verdict, file, stated, { certificate: recipient, peer: sender }, check),
  )
  for (const [side, party] of [
    ['sender', { certificate: sender, peer: recipient }],
    ['recipient', { certificate: recipient, peer: sender }],
  ] as const) {
    checkLog(side, party, file, check)
  }

  const ok = checks.every((each) => each.ok)
  const missing = missingParts(file)
  if (!ok) return { ok, checks, missing }
  const verdict = verdicts.at(-1)
  const name = ({ fleetId, displayName }: ReadCertificate) => ({ fleetId, displayName })
  return {
    ok,
    checks,
    missing,
    summary: {
      kind: document.kind,
      documentId: document.documentId,
      contentDigest: toHex(document.contentDigest),
      sender: name(sender),
      recipient: name(recipient),
      issuedAt: stated.issuedAt,
      ...(verdict === undefined
        ? {}
        : { verdict: { verdict: verdict.verdict, ...(verdict.code === undefined ? {} : { code: verdict.code }), at: verdict.at } }),
    },
  }
}

type Check = <T>(name: string, detail: string, work: () => T) => T | undefined

function fail(reason: string): never {
  throw new ProtocolError('VerificationFailed', reason)
}

function same(a: Uint8Array, b: Uint8Array, reason: string): void {
  if (!equalConstantTime(a, b)) fail(reason)
}

function checkReceipt(file: EvidenceFile, check: Check): void {
  const { receipt, document } = file
  if (receipt === undefined) return
  // A delivery receipt is not signed (it is authenticated by the session only): it proves to its receiver, and to
  // others only together with the recipient's log.
  check('receipt', 'the delivery receipt names this document', () => {
    const item = decodeReceipt(receipt.body).items.find((each) => each.messageId === receipt.messageId)
    if (item === undefined) return fail('the receipt does not name the message')
    if (item.status === 'refused') return fail('the receipt says that the message was not taken')
    same(item.contentDigest, document.contentDigest, 'the receipt names another content')
  })
}

function checkVerdict(
  name: string,
  verdict: VerdictPart,
  file: EvidenceFile,
  stated: Statement,
  by: Party,
  check: Check,
): VerdictBody | undefined {
  const { document } = file
  const body = check(`${name}.body`, 'the verdict is about this document', () => {
    const read = decodeVerdict(verdict.body)
    if (read.documentId !== document.documentId) fail('the verdict is about another document')
    same(read.contentDigest, document.contentDigest, 'the verdict is about another content')
    return read
  })
  check(`${name}.statement`, `signed by ${by.certificate.displayName}`, () => {
    const { issuedAt } = readStatement(verdict.statement)
    if (issuedAt < stated.issuedAt - CLOCK_SKEW_MS) fail('the verdict is older than the document')
    readCertificate(file.recipient.certificate, issuedAt)
    verifyStatement(verdict.statement, {
      certificate: by.certificate,
      audience: by.peer.fleetId,
      now: issuedAt,
      contentDigest: contentDigest(verdict.body),
      kind: 'verdict',
      documentId: document.documentId,
    })
  })
  return body
}

function checkLog(side: Side, party: Party, file: EvidenceFile, check: Check): void {
  const log = file[side].log
  if (log === undefined) return
  const origin = logOrigin(party.certificate.fleetId)
  const key = check(`${side}.log.key`, 'the log’s key is the one in the certificate', () => {
    if (log.vkey !== logVkey(party.certificate)) fail('the log’s key is not the certificate’s')
    return decodeVkey(log.vkey)
  })
  const seen: Checkpoint[] = []
  log.entries.forEach((entry, i) => {
    const name = `${side}.log[${i}]`
    check(`${name}.commitment`, 'the entry commits to this document or its verdict', () => checkCommitment(entry, side, party, file))
    const checkpoint =
      key === undefined
        ? undefined
        : check(`${name}.checkpoint`, 'the checkpoint is signed by the log', () => {
            const read = verifyCheckpoint(entry.note, [key], origin)
            if (read.size !== entry.size) fail('the checkpoint is of another tree size')
            if (seen.some((other) => other.size === read.size && !equalConstantTime(other.root, read.root)))
              fail('two checkpoints of one size with different roots: the log was forked')
            seen.push(read)
            return read
          })
    if (checkpoint !== undefined) {
      check(`${name}.inclusion`, `entry ${entry.index} is in the tree of ${entry.size}`, () => {
        if (!verifyInclusion(leafHash(entry.leaf), entry.index, entry.size, entry.proof, checkpoint.root))
          fail('the entry is not in the tree of the checkpoint')
      })
    }
  })
}

/**
 * A leaf of the sharing stream and nothing more: a field that this version does not know could change what the entry
 * means, and an entry of the security stream proves no exchange. The actor is a fleet or one of its services.
 * @see docs/spec/audit-log.md §2
 */
const sharingLeaf = record({
  eventId: uuid,
  stream: oneOf('sharing'),
  type: oneOf('MessageSent', 'MessageReceived'),
  at: epochMs,
  actor: text(56, /^(?:tsf1[a-z2-7]{52}|[a-z]{1,16}-svc)$/),
  body: record({ peer: fleetIdText, messageId: uuid, kind: oneOf(...DOCUMENT_KINDS), commitment: text(64, /^[0-9a-f]{64}$/) }),
})

/** The leaf says who sent or received what, and its commitment opens to a digest of this file. */
function checkCommitment(entry: Entry, side: Side, party: Party, file: EvidenceFile): void {
  const event = sharingLeaf(decode(entry.leaf, { maxBytes: LEAF_MAX_BYTES, maxDepth: 2, maxItems: 32 }), 'leaf')
  const { kind, peer, commitment } = event.body
  const aboutVerdict = kind === 'verdict'
  if (!aboutVerdict && kind !== file.document.kind) fail('the entry is about another kind of document')
  const digests = aboutVerdict ? (file.verdicts ?? []).map((verdict) => contentDigest(verdict.body)) : [file.document.contentDigest]
  // The sender sends the document and receives the verdict; the recipient the other way round.
  const type = (side === 'sender') === aboutVerdict ? 'MessageReceived' : 'MessageSent'
  if (event.type !== type) fail(`the entry is not a ${type}`)
  if (event.actor.startsWith('tsf1') && event.actor !== party.certificate.fleetId) fail('the entry is by another fleet')
  if (peer !== party.peer.fleetId) fail('the entry is about another counterparty')
  if (!digests.some((digest) => commitment === toHex(contentCommitment(entry.salt, digest))))
    fail('the commitment does not open to this content')
}

function missingParts(file: EvidenceFile): string[] {
  const parts: [string, unknown][] = [
    ['receipt', file.receipt],
    ['verdicts', file.verdicts],
    ['sender.log', file.sender.log],
    ['recipient.log', file.recipient.log],
  ]
  return parts.filter(([, part]) => part === undefined).map(([name]) => name)
}

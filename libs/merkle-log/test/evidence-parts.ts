/** One document, its verdict and both logs, from fixed keys: the parts of which the specs make evidence files. */
import { toHex } from '@tallystick/primitives/bytes'
import { sha256 } from '@tallystick/primitives/hash'
import { encode } from '@tallystick/wire/cbor'
import { logOrigin } from '@tallystick/wire/certificate'
import { assembleStatement, encodeStatementPayload, type StatementFields } from '@tallystick/wire/document'
import { encodeReceipt, encodeVerdict } from '@tallystick/wire/messages'
import { contentCommitment, contentDigest } from '@tallystick/wire/payload'
import { DAY, NOW, testFleet, type TestFleet } from '../../wire/test/fixtures.js'
import { signCheckpoint } from '../src/checkpoint.js'
import type { EvidenceLogEntry } from '../src/evidence.js'
import { encodeVkey, verifierKey } from '../src/note.js'
import { append, EMPTY_FRONTIER, frontierRoot, inclusionRanges, leafHash, rangeHash } from '../src/tree.js'

export const [acme, globex, mallory] = [testFleet('acme'), testFleet('globex'), testFleet('mallory')]
export const documentId = '0190a1b2-0000-7000-8000-000000000001'
export const messageId = '0190a1b2-0000-7000-8000-000000000002'
export const body = encode({ invoice: 'F-1', total: '119.00' })
export const digest = contentDigest(body)

export function statement(fleet: TestFleet, to: TestFleet, change: Partial<StatementFields>): Uint8Array {
  const payload = encodeStatementPayload({
    kind: 'invoice',
    documentId,
    contentDigest: digest,
    signer: fleet.fleetId,
    audience: to.fleetId,
    issuedAt: NOW,
    expiresAt: NOW + DAY,
    nonce: sha256(),
    ...change,
  })
  return assembleStatement(payload, fleet.root.sign(payload))
}

export const verdictBody = encodeVerdict({ documentId, contentDigest: digest, verdict: 'accepted', at: NOW + 5_000 })
export const receiptBody = encodeReceipt({ items: [{ messageId, contentDigest: digest, status: 'stored', at: NOW + 1_000 }] })

/** A log of 11 leaves, two of which are about the document and its verdict. */
export function log(
  fleet: TestFleet,
  peer: TestFleet,
  types: [string, string],
  change: { event?: object; body?: object } = {},
): { vkey: string; entries: EvidenceLogEntry[] } {
  const salts = [sha256(fleet.certificate), sha256(peer.certificate)] as const
  const event = (type: string, kind: string, salt: Uint8Array, of: Uint8Array) =>
    encode({
      eventId: messageId,
      stream: 'sharing',
      type,
      at: NOW,
      actor: 'invoice-svc',
      body: { peer: peer.fleetId, messageId, kind, commitment: toHex(contentCommitment(salt, of)), ...change.body },
      ...change.event,
    })
  const leaves = Array.from({ length: 11 }, (_, i) => encode({ i }))
  leaves[3] = event(types[0], 'invoice', salts[0], digest)
  leaves[8] = event(types[1], 'verdict', salts[1], contentDigest(verdictBody))
  const hashes = leaves.map(leafHash)
  const root = frontierRoot(append(EMPTY_FRONTIER, hashes).frontier)
  const nodeOf = ({ level, index }: { level: number; index: number }) =>
    frontierRoot(append(EMPTY_FRONTIER, hashes.slice(index * 2 ** level, (index + 1) * 2 ** level)).frontier)
  const key = verifierKey(logOrigin(fleet.fleetId), fleet.log.publicKey)
  const note = signCheckpoint({ origin: key.name, size: 11, root, extensions: [] }, key, fleet.log.sign)
  const entry = (index: number, salt: Uint8Array) => ({
    leaf: leaves[index]!,
    index,
    size: 11,
    proof: inclusionRanges(index, 11).map((range) => rangeHash(range, nodeOf)),
    note,
    salt,
  })
  return { vkey: encodeVkey(key), entries: [entry(3, salts[0]), entry(8, salts[1])] }
}

export const parts = {
  kind: 'invoice' as const,
  documentId,
  body,
  statement: statement(acme, globex, {}),
  senderCertificate: acme.certificate,
  recipientCertificate: globex.certificate,
  receipt: { messageId, body: receiptBody },
  verdicts: [
    {
      body: verdictBody,
      statement: statement(globex, acme, {
        kind: 'verdict',
        contentDigest: contentDigest(verdictBody),
        issuedAt: NOW + 5_000,
        expiresAt: NOW + DAY,
      }),
    },
  ],
  senderLog: log(acme, globex, ['MessageSent', 'MessageReceived']),
  recipientLog: log(globex, acme, ['MessageReceived', 'MessageSent']),
}

/**
 * Writes evidence files made by the product's own functions (from dist), one JSON object per line:
 * `{ name, genuine, file, checks }`, where `file` is the text of an evidence file and `checks` is what the product's
 * verifier finds. Keys come from fixed seeds, so that two runs write the same lines.
 *
 *   node interop/go/make-evidence.mts FOLDER        writes FOLDER/cases.jsonl and FOLDER/genuine.json
 */
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { signCheckpoint } from '@tallystick/merkle-log/checkpoint'
import { buildEvidence } from '@tallystick/merkle-log/evidence'
import { verifyEvidenceText } from '@tallystick/merkle-log/evidence-verify'
import { encodeVkey, verifierKey } from '@tallystick/merkle-log/note'
import { append, EMPTY_FRONTIER, frontierRoot, inclusionRanges, leafHash, rangeHash } from '@tallystick/merkle-log/tree'
import { toHex, utf8 } from '@tallystick/primitives/bytes'
import { generateSigningKey, sign } from '@tallystick/primitives/ed25519'
import { sha256 } from '@tallystick/primitives/hash'
import { SecretArena } from '@tallystick/secret-bytes/arena'
import { decode, encode } from '@tallystick/wire/cbor'
import { issueCertificate, logOrigin, successionMessage } from '@tallystick/wire/certificate'
import { assembleStatement, encodeStatementPayload } from '@tallystick/wire/document'
import { fleetIdOf, peerIdFromKey } from '@tallystick/wire/keys'
import { encodeReceipt, encodeVerdict } from '@tallystick/wire/messages'
import { contentCommitment, contentDigest } from '@tallystick/wire/payload'

const folder = process.argv[2]
if (folder === undefined) throw new Error('usage: make-evidence.mts FOLDER')

const arena = SecretArena.open(64 * 1024, { allowUnlocked: true })
const NOW = Date.UTC(2026, 0, 15)
const DAY = 86_400_000
const documentId = '0190a1b2-0000-7000-8000-000000000001'
const messageId = '0190a1b2-0000-7000-8000-000000000002'

type Bytes = Uint8Array
const key = (name: string) => {
  const { secret, publicKey } = generateSigningKey(arena, sha256(utf8(name)))
  return { publicKey, sign: (message: Bytes): Bytes => sign(secret, message) }
}
type Key = ReturnType<typeof key>

function fleet(name: string, change: object = {}) {
  const [root, log] = [key(`${name}/root`), key(`${name}/log`)]
  const fields = {
    displayName: `${name} GmbH`, signKey: root.publicKey, dhKey: sha256(utf8(`${name}/dh`)), logKey: log.publicKey,
    peerIds: [peerIdFromKey(key(`${name}/transport`).publicKey)], suites: ['TS1'], notBefore: NOW - DAY, notAfter: NOW + 365 * DAY, sequence: 1, ...change,
  }
  return { root, log, fleetId: fleetIdOf(root.publicKey) as string, certificate: issueCertificate(fields, root.sign) as Bytes }
}
type Fleet = ReturnType<typeof fleet>
const [acme, globex, mallory] = [fleet('acme'), fleet('globex'), fleet('mallory')]

interface Link { key: Bytes; signature: Bytes }
/** acme under its third root key; `change` gets the links of its succession, `fields` changes the rest of the certificate. */
function renewed(change: (links: Link[]) => Link[] = (links) => links, fields: object = {}): Fleet {
  const roots = [acme.root, key('acme/root 2'), key('acme/root 3')]
  const links = roots.slice(0, -1).map((root, i) => ({ key: root.publicKey, signature: root.sign(successionMessage(roots[i + 1]!.publicKey, acme.fleetId)) }))
  const root = roots.at(-1)!
  const { payload } = decode(acme.certificate) as { payload: Bytes }
  const value = encode({ ...(decode(payload) as object), signKey: root.publicKey, sequence: 3, succession: change(links), ...fields }) as Bytes
  return { ...acme, root, certificate: encode({ payload: value, signature: root.sign(value) }) as Bytes }
}
/** An evidence file whose sender is `fleet`, in the least form. */
const by = (sender: Fleet) => ({ ...least, statement: documentStatement({ signer: sender.fleetId }, sender), senderCertificate: sender.certificate })
function withoutSuccession(): Bytes {
  const { payload } = decode(renewed().certificate) as { payload: Bytes }
  const { succession: _, ...fields } = decode(payload) as { succession: unknown }
  const value = encode(fields) as Bytes
  return encode({ payload: value, signature: key('acme/root 3').sign(value) }) as Bytes
}
const flip = (bytes: Bytes) => bytes.map((byte, i) => (i === 40 || (bytes.length <= 40 && i === 0) ? byte ^ 1 : byte))

function statementBy(signer: Fleet, change: object): Bytes {
  const payload = encodeStatementPayload({ kind: 'invoice', documentId, contentDigest: contentDigest(body), signer: signer.fleetId, audience: globex.fleetId, issuedAt: NOW, expiresAt: NOW + DAY, nonce: sha256(utf8('nonce')), ...change } as never)
  return assembleStatement(payload, signer.root.sign(payload))
}

const body = encode({ invoice: 'F-1', total: '119.00' }) as Bytes
const digest = contentDigest(body) as Bytes
const documentStatement = (change: object = {}, signer = acme) => statementBy(signer, change)

function verdict(verdict: 'accepted' | 'paid', at: number, change: object = {}, signer = globex) {
  const of = encodeVerdict({ documentId, contentDigest: digest, verdict, at }) as Bytes
  return { body: of, statement: statementBy(signer, { kind: 'verdict', contentDigest: contentDigest(of), audience: acme.fleetId, issuedAt: at, expiresAt: at + DAY, ...change }) }
}
const receiptOf = (id: string, of: Bytes) => ({ messageId, body: encodeReceipt({ items: [{ messageId: id, contentDigest: of, status: 'stored', at: NOW + 1000 }] }) as Bytes })

/** What an entry is about; `event` and `body` change single fields of its leaf. */
interface About { readonly type: string; readonly kind: string; readonly of: Bytes; readonly event?: object; readonly body?: object }
/** A log of `size` leaves in which the given events stand at `places`; `root` and `signer` let a checkpoint lie. */
function log(own: Fleet, peer: Fleet, size: number, places: number[], about: About[], change: { root?: Bytes; signer?: Key; origin?: string; sizes?: number[] } = {}) {
  const leaves = Array.from({ length: size }, (_, i) => encode({ i }) as Bytes)
  const salts = about.map((_, i) => sha256(own.certificate, utf8(String(i))) as Bytes)
  about.forEach(({ type, kind, of, event: other, body }, i) => {
    const event = { eventId: messageId, stream: 'sharing', type, at: NOW, actor: 'invoice-svc', body: { peer: peer.fleetId, messageId, kind, commitment: toHex(contentCommitment(salts[i]!, of)), ...body }, ...other }
    leaves[places[i]!] = encode(event) as Bytes
  })
  const hashes = leaves.map(leafHash)
  const rootAt = (n: number) => frontierRoot(append(EMPTY_FRONTIER, hashes.slice(0, n)).frontier) as Bytes
  const node = ({ level, index }: { level: number; index: number }) => frontierRoot(append(EMPTY_FRONTIER, hashes.slice(index * 2 ** level, (index + 1) * 2 ** level)).frontier)
  const signer = change.signer ?? own.log
  const verifier = verifierKey(change.origin ?? logOrigin(own.fleetId), signer.publicKey)
  const entries = about.map((_, i) => {
    const index = places[i]!
    const at = change.sizes?.[i] ?? size
    const note = signCheckpoint({ origin: verifier.name, size: at, root: change.root ?? rootAt(at), extensions: [] }, verifier, signer.sign) as string
    return { leaf: leaves[index]!, index, size: at, proof: inclusionRanges(index, at).map((range: never) => rangeHash(range, node as never)) as Bytes[], note, salt: salts[i]! }
  })
  return { vkey: encodeVkey(verifier) as string, entries }
}

const accepted = verdict('accepted', NOW + 5000)
const paid = verdict('paid', NOW + 9000)
const of = (one: { body: Bytes }) => contentDigest(one.body) as Bytes
const sent: About = { type: 'MessageSent', kind: 'invoice', of: digest }
const received: About = { ...sent, type: 'MessageReceived' }
const verdictIn: About = { type: 'MessageReceived', kind: 'verdict', of: of(accepted) }
const verdictOut: About = { ...verdictIn, type: 'MessageSent' }
const senderLog = (size = 11, places = [3, 8], change = {}) => log(acme, globex, size, places, [sent, verdictIn], change)
const recipientLog = (size = 11, places = [3, 8], change = {}) => log(globex, acme, size, places, [received, verdictOut], change)

const least = { kind: 'invoice', documentId, body, statement: documentStatement(), senderCertificate: acme.certificate, recipientCertificate: globex.certificate }
const complete = { ...least, receipt: receiptOf(messageId, digest), verdicts: [accepted], senderLog: senderLog(), recipientLog: recipientLog() }
type Parts = Omit<typeof complete, 'receipt' | 'verdicts'> & Partial<typeof complete>

const own = key('acme/own-log')
const forked = senderLog().entries.map((entry, i) => (i === 0 ? entry : { ...entry, note: senderLog(11, [3, 8], { root: sha256() }).entries[1]!.note }))

const GENUINE: Record<string, object> = {
  complete,
  least,
  'two verdicts': { ...complete, verdicts: [accepted, paid], senderLog: log(acme, globex, 20, [0, 7, 19], [sent, verdictIn, { ...verdictIn, of: of(paid) }]) },
  'a log of one leaf': { ...least, senderLog: log(acme, globex, 1, [0], [sent]) },
  'first and last leaf': { ...complete, senderLog: senderLog(8, [0, 7]), recipientLog: recipientLog(9, [0, 8]) },
  'a large tree': { ...complete, senderLog: senderLog(1500, [1024, 1499]), recipientLog: recipientLog(1023, [511, 1022]) },
  'two checkpoints': { ...complete, senderLog: senderLog(30, [4, 29], { sizes: [5, 30] }) },
  'a credit note': { ...least, kind: 'credit-note', statement: documentStatement({ kind: 'credit-note' }) },
  'a certificate that ended within the skew': { ...least, senderCertificate: fleet('acme', { notAfter: NOW - 60_000 }).certificate },
  'a leaf by the fleet itself': { ...least, senderLog: log(acme, globex, 11, [3], [{ ...sent, event: { actor: acme.fleetId } }]) },
  'by the third root key of the sender': by(renewed()),
  'an empty document': { ...least, body: new Uint8Array(), statement: documentStatement({ contentDigest: contentDigest(new Uint8Array()) }) },
}

const FALSE: Record<string, object> = {
  'signed by another fleet': { ...complete, statement: documentStatement({}, mallory) },
  'signed by another fleet in the name of the sender': { ...complete, statement: documentStatement({ signer: acme.fleetId }, mallory) },
  'for another recipient': { ...complete, statement: documentStatement({ audience: mallory.fleetId }) },
  'for nobody in particular': { ...least, statement: documentStatement({ audience: null }) },
  'statement of another kind': { ...complete, statement: documentStatement({ kind: 'quote' }) },
  'statement about another document': { ...complete, statement: documentStatement({ documentId: messageId }) },
  'another body': { ...complete, body: encode({ invoice: 'F-1', total: '1.00' }) },
  'the certificate of another fleet': { ...complete, senderCertificate: mallory.certificate },
  'the recipient certificate of another fleet': { ...complete, recipientCertificate: mallory.certificate },
  'certificates the wrong way round': { ...complete, senderCertificate: globex.certificate, recipientCertificate: acme.certificate },
  'a certificate that had ended': { ...complete, senderCertificate: fleet('acme', { notAfter: NOW - 600_000 }).certificate },
  'a certificate from the future': { ...complete, recipientCertificate: fleet('globex', { notBefore: NOW + DAY }).certificate },
  'a recipient certificate that ends before the verdict': { ...complete, recipientCertificate: fleet('globex', { notAfter: NOW + 1000 }).certificate, verdicts: [verdict('accepted', NOW + DAY)] },
  'a succession without its first link': by(renewed((links) => links.slice(1))),
  'a succession without its last link': by(renewed((links) => links.slice(0, 1))),
  'a succession in another order': by(renewed((links) => links.toReversed())),
  'a link with another signature': by(renewed((links) => links.map((link, i) => (i === 1 ? { ...link, signature: flip(link.signature) } : link)))),
  'a link with another key': by(renewed((links) => links.map((link, i) => (i === 1 ? { ...link, key: mallory.root.publicKey } : link)))),
  'a link signed for another fleet': by(renewed((links) => [links[0]!, { ...links[1]!, signature: key('acme/root 2').sign(successionMessage(key('acme/root 3').publicKey, globex.fleetId)) }])),
  'an empty succession': by(renewed(() => [])),
  'a succession of nine links': by(renewed((links) => Array.from({ length: 9 }, (_, i) => links[i % 2]!))),
  'a key twice in a succession': by(renewed((links) => [links[0]!, links[0]!, links[1]!])),
  'a succession with a field too many': by(renewed((links) => links.map((link) => ({ ...link, at: NOW })))),
  'the fleet id of the present key beside a succession': by(renewed(undefined, { fleetId: fleetIdOf(key('acme/root 3').publicKey) })),
  'a new root key without a succession': by({ ...renewed(undefined, {}), certificate: withoutSuccession() }),
  'a receipt for another message': { ...complete, receipt: receiptOf(documentId, digest) },
  'a receipt for another digest': { ...complete, receipt: receiptOf(messageId, sha256()) },
  'a verdict by the sender': { ...complete, verdicts: [verdict('accepted', NOW + 5000, {}, acme)] },
  'a verdict by a third fleet': { ...complete, verdicts: [verdict('accepted', NOW + 5000, {}, mallory)] },
  'a verdict for a third fleet': { ...complete, verdicts: [verdict('accepted', NOW + 5000, { audience: mallory.fleetId })] },
  'a verdict before the document': { ...complete, verdicts: [verdict('accepted', NOW + 5000, { issuedAt: NOW - DAY / 2, expiresAt: NOW + DAY / 2 })] },
  'a verdict with the statement of another': { ...complete, verdicts: [{ ...accepted, statement: paid.statement }] },
  'a verdict whose statement is not of a verdict': { ...complete, verdicts: [verdict('accepted', NOW + 5000, { kind: 'invoice' })] },
  'a verdict about another document': { ...complete, verdicts: [verdict('accepted', NOW + 5000, { documentId: messageId })] },
  'entries about a verdict that is not there': { ...complete, verdicts: [paid] },
  'sent and received exchanged': { ...complete, senderLog: log(acme, globex, 11, [3, 8], [received, verdictOut]) },
  'the log of the other side': { ...complete, senderLog: recipientLog() },
  'an entry about another fleet': { ...least, senderLog: log(acme, mallory, 11, [3], [sent]) },
  'an entry of the stream security': { ...least, senderLog: log(acme, globex, 11, [3], [{ ...sent, event: { stream: 'security' } }]) },
  'an entry with a field more': { ...least, senderLog: log(acme, globex, 11, [3], [{ ...sent, event: { note: 'trust me' } }]) },
  'an entry with a field more in its body': { ...least, senderLog: log(acme, globex, 11, [3], [{ ...sent, body: { amount: '1.00' } }]) },
  'an entry by the other fleet': { ...least, senderLog: log(acme, globex, 11, [3], [{ ...sent, event: { actor: globex.fleetId } }]) },
  'an entry by a client': { ...least, senderLog: log(acme, globex, 11, [3], [{ ...sent, event: { actor: 'client:erp' } }]) },
  'an entry with an event id that is no UUID': { ...least, senderLog: log(acme, globex, 11, [3], [{ ...sent, event: { eventId: 'first' } }]) },
  'an entry with a message id that is no UUID': { ...least, senderLog: log(acme, globex, 11, [3], [{ ...sent, body: { messageId: 'first' } }]) },
  'a log key of its own': { ...complete, senderLog: senderLog(11, [3, 8], { signer: own }) },
  'a log of another name': { ...complete, senderLog: senderLog(11, [3, 8], { origin: logOrigin(globex.fleetId) }) },
  'a checkpoint with another root': { ...complete, senderLog: senderLog(11, [3, 8], { root: sha256() }) },
  'a fork: two roots of one size': { ...complete, senderLog: { ...senderLog(), entries: forked } },
}

interface Line { readonly name: string; readonly genuine: boolean; readonly file: string }
const fileOf = (parts: object): Record<string, unknown> => JSON.parse(JSON.stringify(buildEvidence(parts as never, contentDigest((parts as Parts).body)))) as Record<string, unknown>
const lines: Line[] = []
for (const [genuine, all] of [[true, GENUINE], [false, FALSE]] as const)
  for (const [name, parts] of Object.entries(all)) lines.push({ name, genuine, file: JSON.stringify(fileOf(parts)) })

// Form: what is not the one form is refused by both.
type Tree = { [name: string]: Tree | string | number }
function changed(name: string, change: (json: Tree) => void): void {
  const json = fileOf(complete) as Tree
  change(json)
  lines.push({ name: `form: ${name}`, genuine: false, file: JSON.stringify(json) })
}
const at = (json: Tree, ...names: string[]): Tree => names.reduce((node, name) => node[name] as Tree, json)
changed('unknown field', (json) => { json.note = 'trust me' })
changed('unknown field deep down', (json) => { at(json, 'sender', 'log', 'entries', '0').extra = 1 })
changed('name in another case', (json) => { json.Format = json.format!; delete json.format })
changed('no certificate', (json) => { delete at(json, 'sender').certificate })
changed('null log', (json) => { at(json, 'sender').log = null as never })
changed('padded base64url', (json) => { at(json, 'document').body += '=' })
changed('base64url with a line end', (json) => { at(json, 'document').body = `${at(json, 'document').body as string}\n` })
changed('upper-case hex', (json) => { at(json, 'document').contentDigest = (at(json, 'document').contentDigest as string).toUpperCase() })
changed('no entries', (json) => { at(json, 'sender', 'log').entries = [] as never })
changed('no verdicts in the list', (json) => { json.verdicts = [] as never })
changed('negative index', (json) => { at(json, 'sender', 'log', 'entries', '0').index = -1 })
changed('index beyond the size', (json) => { at(json, 'sender', 'log', 'entries', '0').index = 11 })
changed('index that is no integer', (json) => { at(json, 'sender', 'log', 'entries', '0').index = 3.5 })
changed('kind verdict', (json) => { at(json, 'document').kind = 'verdict' })
changed('proof one hash longer', (json) => { (at(json, 'sender', 'log', 'entries', '0').proof as unknown as string[]).push('ab'.repeat(32)) })
changed('proof one hash shorter', (json) => { (at(json, 'sender', 'log', 'entries', '0').proof as unknown as string[]).pop() })
changed('an unsigned note', (json) => { const entry = at(json, 'sender', 'log', 'entries', '0'); entry.note = (entry.note as string).split('\n\n')[0]! + '\n\n' })
changed('proof of 64 hashes', (json) => { at(json, 'sender', 'log', 'entries', '0').proof = Array.from({ length: 64 }, () => 'ab'.repeat(32)) as never })
changed('a note of 8193 characters', (json) => { at(json, 'sender', 'log', 'entries', '0').note = 'n'.repeat(8193) })
changed('a vkey of 401 characters', (json) => { at(json, 'sender', 'log').vkey = 'k'.repeat(401) })
changed('size 0', (json) => { Object.assign(at(json, 'sender', 'log', 'entries', '0'), { index: 0, size: 0 }) })
changed('17 verdicts', (json) => { json.verdicts = Array.from({ length: 17 }, () => at(json, 'verdicts', '0')) as never })
changed('a document id that is no UUID of RFC 9562', (json) => { at(json, 'document').documentId = '0190a1b2-0000-9000-8000-000000000001' })
changed('base64url with bits left over', (json) => { at(json, 'sender', 'log', 'entries', '0').leaf = 'AB' })
const genuine = JSON.stringify(fileOf(complete))
for (const [name, file] of [
  ['a name twice', genuine.replace('"kind":', '"kind":"quote","kind":')],
  ['a name twice, once escaped', genuine.replace('"kind":', '"k\\u0069nd" : "quote","kind":')],
] as const) lines.push({ name: `form: ${name}`, genuine: false, file })
for (const [name, file] of [['nothing', ''], ['null', 'null'], ['a list', '[]'], ['two values', '{}{}']] as const) lines.push({ name: `form: ${name}`, genuine: false, file })

const checksOf = (file: string): { name: string; ok: boolean }[] =>
  verifyEvidenceText(file).checks.map(({ name, ok }: { name: string; ok: boolean }) => ({ name, ok }))
writeFileSync(path.join(folder, 'cases.jsonl'), lines.map((line) => `${JSON.stringify({ ...line, checks: checksOf(line.file) })}\n`).join(''))
writeFileSync(path.join(folder, 'genuine.json'), JSON.stringify(fileOf(complete), null, 2))
process.stdout.write(`${lines.length} evidence files written by the product's functions\n`)
arena.close()

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { sha256 } from '@tallystick/primitives/hash'
import { encode } from '@tallystick/wire/cbor'
import { logOrigin } from '@tallystick/wire/certificate'
import { encodeVerdict } from '@tallystick/wire/messages'
import { contentDigest } from '@tallystick/wire/payload'
import { DAY, NOW, testKey } from '../../wire/test/fixtures.js'
import { acme, body, digest, documentId, globex, log, mallory, messageId, parts, statement, verdictBody } from '../test/evidence-parts.js'
import { signCheckpoint } from './checkpoint.js'
import { buildEvidence, EVIDENCE_MAX_CHARS } from './evidence.js'
import { verifyEvidence, verifyEvidenceText } from './evidence-verify.js'
import { encodeVkey, verifierKey } from './note.js'

interface LogJson {
  vkey: string
  entries: { leaf: string; index: number; size: number; proof: string[]; note: string; salt: string }[]
}
interface FileJson {
  format: string
  note?: string
  document: { kind: string; documentId: string; contentDigest: string; body: string; statement: string }
  sender: { certificate: string; log: LogJson }
  recipient: { certificate: string; log: LogJson }
  receipt: { messageId: string; body: string }
}
type Tree = { [key: string]: Tree | string | number }
const file = (change: Partial<typeof parts> = {}): FileJson =>
  JSON.parse(JSON.stringify(buildEvidence({ ...parts, ...change }, contentDigest(change.body ?? body)))) as FileJson
const failed = (json: unknown): string[] =>
  verifyEvidence(json)
    .checks.filter((check) => !check.ok)
    .map((check) => check.name)

describe('evidence file', () => {
  it('a complete one verifies, names every check and says what it proves', () => {
    const result = verifyEvidence(file())
    expect(result.checks.filter((check) => !check.ok)).toEqual([])
    expect(result).toMatchObject({
      ok: true,
      missing: [],
      summary: {
        kind: 'invoice',
        documentId,
        sender: { fleetId: acme.fleetId },
        recipient: { displayName: 'globex GmbH' },
        verdict: { verdict: 'accepted' },
      },
    })
    expect(result.checks.map((check) => check.name)).toEqual([
      'format',
      'document.digest',
      'document.form',
      'sender.certificate',
      'recipient.certificate',
      'document.statement',
      'receipt',
      'verdict[0].body',
      'verdict[0].statement',
      ...['sender', 'recipient'].flatMap((side) => [
        `${side}.log.key`,
        ...[0, 1].flatMap((i) => ['commitment', 'checkpoint', 'inclusion'].map((check) => `${side}.log[${i}].${check}`)),
      ]),
    ])
  })

  it('a later verdict stands beside the first; an entry may be about either', () => {
    const paid = encodeVerdict({ documentId, contentDigest: digest, verdict: 'paid', at: NOW + 9_000 })
    const second = {
      body: paid,
      statement: statement(globex, acme, { kind: 'verdict', contentDigest: contentDigest(paid), issuedAt: NOW + 9_000 }),
    }
    expect(verifyEvidence(file({ verdicts: [...parts.verdicts, second] }))).toMatchObject({
      ok: true,
      summary: { verdict: { verdict: 'paid' } },
    })
    expect(failed(file({ verdicts: [second] }))).toEqual(['sender.log[1].commitment', 'recipient.log[1].commitment'])
  })

  it('a partial one verifies and says what is missing', () => {
    const { receipt: _r, verdicts: _v, senderLog: _s, recipientLog: _l, ...least } = parts
    const result = verifyEvidence(JSON.parse(JSON.stringify(buildEvidence(least, digest))))
    expect(result).toMatchObject({ ok: true, missing: ['receipt', 'verdicts', 'sender.log', 'recipient.log'] })
  })

  it.each<[string, (json: FileJson) => void, string[]]>([
    [
      'digest',
      (j) => {
        j.document.contentDigest = 'ab'.repeat(32)
      },
      ['document.digest'],
    ],
    [
      'statement',
      (j) => {
        j.document.statement = file({ statement: statement(mallory, globex, {}) }).document.statement
      },
      ['document.statement'],
    ],
    [
      'kind',
      (j) => {
        j.document.kind = 'quote'
      },
      ['document.statement'],
    ],
    [
      'document id',
      (j) => {
        j.document.documentId = messageId
      },
      ['document.statement', 'verdict[0].body', 'verdict[0].statement'],
    ],
    [
      'sender certificate',
      (j) => {
        j.sender.certificate = file({ senderCertificate: mallory.certificate }).sender.certificate
      },
      ['document.statement', 'sender.log.key'],
    ],
    [
      'recipient certificate',
      (j) => {
        j.recipient.certificate = file({ recipientCertificate: mallory.certificate }).recipient.certificate
      },
      ['document.statement', 'verdict[0].statement', 'recipient.log.key'],
    ],
    [
      'receipt',
      (j) => {
        j.receipt.messageId = documentId
      },
      ['receipt'],
    ],
    [
      'log key',
      (j) => {
        j.sender.log.vkey = j.recipient.log.vkey
      },
      ['sender.log.key'],
    ],
    [
      'salt',
      (j) => {
        j.sender.log.entries[0]!.salt = '00'.repeat(32)
      },
      ['sender.log[0].commitment'],
    ],
    [
      'index',
      (j) => {
        j.sender.log.entries[0]!.index = 4
      },
      ['sender.log[0].inclusion'],
    ],
    [
      'size',
      (j) => {
        j.recipient.log.entries[1]!.size = 12
      },
      ['recipient.log[1].checkpoint'],
    ],
    [
      'proof',
      (j) => {
        j.recipient.log.entries[1]!.proof[0] = 'ab'.repeat(32)
      },
      ['recipient.log[1].inclusion'],
    ],
    [
      'note',
      (j) => {
        j.recipient.log.entries[0]!.note = j.sender.log.entries[0]!.note
      },
      ['recipient.log[0].checkpoint'],
    ],
    [
      'leaf of the other entry',
      (j) => {
        j.sender.log.entries[0]!.leaf = j.sender.log.entries[1]!.leaf
      },
      ['sender.log[0].commitment', 'sender.log[0].inclusion'],
    ],
    [
      'format',
      (j) => {
        j.format = 'tallystick-evidence/v9'
      },
      ['format'],
    ],
    [
      'unknown field',
      (j) => {
        j.note = 'trust me'
      },
      ['format'],
    ],
  ])('must fail: another %s', (_name, change, names) => {
    const json = file()
    change(json)
    expect(failed(json)).toEqual(expect.arrayContaining(names))
    expect(verifyEvidence(json).ok).toBe(false)
    if (names[0] !== 'format') expect(failed(json).length).toBeLessThanOrEqual(Math.max(names.length + 4, 6))
  })

  it('must fail: another body, verdict, direction; a verdict before the document; a fork', () => {
    expect(failed(file({ body: encode({ total: '1.00' }) }))).toEqual(
      expect.arrayContaining(['document.statement', 'sender.log[0].commitment']),
    )
    const paid = encodeVerdict({ documentId, contentDigest: digest, verdict: 'paid', at: NOW })
    expect(failed(file({ verdicts: [{ ...parts.verdicts[0]!, body: paid }] }))).toEqual(
      expect.arrayContaining(['verdict[0].statement', 'sender.log[1].commitment']),
    )
    expect(failed(file({ senderLog: log(acme, globex, ['MessageReceived', 'MessageSent']) }))).toEqual([
      'sender.log[0].commitment',
      'sender.log[1].commitment',
    ])
    expect(
      failed(
        file({
          verdicts: [
            {
              body: verdictBody,
              statement: statement(globex, acme, { kind: 'verdict', contentDigest: contentDigest(verdictBody), issuedAt: NOW - DAY / 2 }),
            },
          ],
        }),
      ),
    ).toContain('verdict[0].statement')
    expect(failed(file({ statement: statement(acme, mallory, {}) }))).toContain('document.statement')
    const key = verifierKey(logOrigin(acme.fleetId), acme.log.publicKey)
    const forked = signCheckpoint({ origin: key.name, size: 11, root: sha256(), extensions: [] }, key, acme.log.sign)
    const [first, second] = parts.senderLog.entries
    expect(failed(file({ senderLog: { ...parts.senderLog, entries: [first!, { ...second!, note: forked }] } }))).toEqual([
      'sender.log[1].checkpoint',
    ])
  })

  // The receipt is the one part that nobody has signed; its times are the session's word only.
  it('must fail: any changed character of any value, the unsigned receipt apart', () => {
    const paths: string[][] = []
    const walk = (value: Tree | string | number, path: string[]) => {
      if (typeof value === 'object') for (const key of Object.keys(value)) walk(value[key]!, [...path, key])
      else paths.push(path)
    }
    walk(file({ receipt: undefined as never }) as unknown as Tree, [])
    fc.assert(
      fc.property(fc.constantFrom(...paths), fc.nat(), (path, seed) => {
        const json = file() as unknown as Tree
        const holder = path.slice(0, -1).reduce((node, key) => node[key] as Tree, json)
        const key = path.at(-1)!
        const value = holder[key] as string | number
        if (typeof value === 'number') holder[key] = value + 1 + (seed % 5)
        else {
          const i = seed % value.length
          holder[key] = value.slice(0, i) + (value[i] === 'a' ? 'b' : 'a') + value.slice(i + 1)
        }
        expect(verifyEvidence(json).ok).toBe(false)
      }),
      { numRuns: 600 },
    )
  })

  describe('a leaf', () => {
    const withLeaf = (change: { event?: object; body?: object }) =>
      failed(file({ senderLog: log(acme, globex, ['MessageSent', 'MessageReceived'], change) }))
    const both = ['sender.log[0].commitment', 'sender.log[1].commitment']

    it.each(['invoice-svc', 'session-svc', acme.fleetId])('by the actor %s holds', (actor) => {
      expect(withLeaf({ event: { actor } })).toEqual([])
    })

    it.each<[string, { event?: object; body?: object }]>([
      ['of the stream security', { event: { stream: 'security' } }],
      ['with a field too many', { event: { note: 'trust me' } }],
      ['with a field too many in its body', { body: { amount: '119.00' } }],
      ['by the other fleet', { event: { actor: globex.fleetId } }],
      ['by a client', { event: { actor: 'client:invoice-svc' } }],
      ['by nobody', { event: { actor: '' } }],
      ['whose event id is no UUID', { event: { eventId: 'first' } }],
      ['whose message id is no UUID', { body: { messageId: 'first' } }],
      ['whose time is no integer from 0 on', { event: { at: -1 } }],
      ['whose commitment is in upper case', { body: { commitment: 'AB'.repeat(32) } }],
      ['without a body', { event: { body: null } }],
    ])('must fail: %s', (_name, change) => {
      expect(withLeaf(change)).toEqual(both)
    })
  })

  describe('as text', () => {
    const written = JSON.stringify(file())
    const kind = '"kind":"invoice",'

    it('holds as the parsed file does', () => {
      expect(verifyEvidenceText(JSON.stringify(file(), null, '\t\r\n '))).toEqual(verifyEvidence(file()))
      const odd = JSON.stringify({ ...file(), 'a"\\': ['":', '\\'] })
      expect(verifyEvidenceText(odd).checks[0]!.detail).toContain('unknown field')
    })

    it.each<[string, string]>([
      ['a name twice', written.replace(kind, kind + kind)],
      ['a name twice, once escaped', written.replace(kind, `"k\\u0069nd" : "quote", ${kind}`)],
      ['a name twice at the top', written.replace('{', '{"format":"x",')],
      ['a name twice where unknown fields would be', written.replace('{', '{"__proto__":1,"__proto__":2,')],
    ])('must fail: %s', (_name, text) => {
      expect(text).not.toBe(written)
      expect(verifyEvidenceText(text)).toMatchObject({ ok: false, checks: [{ name: 'format', detail: expect.stringContaining('twice') }] })
    })

    it.each<[string, string]>([
      ['nothing', ''],
      ['two values', `${written}${written}`],
      ['more characters than a file has', ' '.repeat(EVIDENCE_MAX_CHARS - written.length + 1) + written],
      ['deep nesting', '['.repeat(2_000_000)],
    ])('must fail: %s', (_name, text) => {
      expect(verifyEvidenceText(text).checks).toMatchObject([{ name: 'format', ok: false }])
    })
  })

  it('never throws on anything that JSON can hold', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (json) => {
        expect(verifyEvidence(json).ok).toBe(false)
      }),
      { numRuns: 300 },
    )
    for (const odd of [null, undefined, [], '', 0, { format: 'tallystick-evidence/v1' }, { ...file(), sender: null }])
      expect(failed(odd)).toEqual(['format'])
  })

  it('a log key that the certificate does not name proves nothing', () => {
    const own = testKey('mallory/own-log')
    const key = verifierKey(logOrigin(acme.fleetId), own.publicKey)
    const entries = parts.senderLog.entries.map((entry) => ({
      ...entry,
      note: signCheckpoint({ origin: key.name, size: 11, root: sha256(), extensions: [] }, key, own.sign),
    }))
    expect(failed(file({ senderLog: { vkey: encodeVkey(key), entries } }))).toEqual(['sender.log.key'])
  })
})

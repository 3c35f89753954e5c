/** The program for checks from outside: its own conduct. The vectors themselves run in the libraries' tests. */
import { spawnSync } from 'node:child_process'
import { createCipheriv, createHash, createHmac, diffieHellman, generateKeyPairSync, hkdfSync, type KeyObject, sign } from 'node:crypto'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { publicKeyFromRaw } from '@libp2p/crypto/keys'
import { peerIdFromPublicKey } from '@libp2p/peer-id'
import { blake3 } from '@noble/hashes/blake3.js'
import { ml_kem1024 } from '@noble/post-quantum/ml-kem.js'
import * as cborg from 'cborg'
import { expect, it } from 'vitest'
import { NOW, testFleet } from '../libs/wire/test/fixtures.js'

function ask(...requests: (object | string)[]): Record<string, unknown>[] {
  const input = requests.map((request) => (typeof request === 'string' ? request : JSON.stringify(request))).join('\n')
  const { stdout, status, stderr } = spawnSync(process.execPath, [path.join(import.meta.dirname, 'vectors.mjs')], {
    input,
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  })
  expect(stderr).toBe('')
  expect(status).toBe(0)
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>)
}

it('answers every line in order, with its id, and goes on after a refusal', () => {
  const answers = ask(
    { id: 1, op: 'hmac', key: '0b'.repeat(20), msg: '4869205468657265' },
    { id: 'two', op: 'cbor.roundtrip', bytes: 'a2616200616101' },
    'no JSON',
    { id: 4, op: 'no such op' },
    { id: 5, op: 'x25519', sk: 'zz', pk: '' },
    { id: 6, op: 'decimal', fn: 'add', a: '0.1', b: '0.2' },
  )
  expect(answers.map(({ id }) => id)).toEqual([1, 'two', null, 4, 5, 6])
  // RFC 4231, test case 1
  expect(answers[0]).toEqual({ id: 1, out: 'b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7' })
  expect(answers[1]).toMatchObject({ error: 'Serialization' })
  expect(answers[2]).toMatchObject({ error: 'Serialization' })
  expect(answers[3]).toMatchObject({ error: 'InvalidRequest' })
  expect(answers[4]).toMatchObject({ error: 'InvalidRequest' })
  expect(answers[5]).toEqual({ id: 6, out: '0.3' })
})

it('says ok: false where ok is the answer', () => {
  const [bad, malformed] = ask(
    { id: 1, op: 'ed25519.verify', pk: '00'.repeat(32), msg: '', sig: '00'.repeat(64) },
    { id: 2, op: 'envelope.decode', bytes: 'ff' },
  )
  expect(bad).toEqual({ id: 1, ok: false })
  expect(malformed).toMatchObject({ id: 2, ok: false, error: 'Serialization' })
})

it('refuses the all-zero agreement', () => {
  const [answer] = ask({ id: 1, op: 'x25519', sk: '11'.repeat(32), pk: '00'.repeat(32) })
  expect(answer).toMatchObject({ id: 1, error: 'InvalidPublicKey' })
})

it('keeps the bytes of canonical CBOR and hashes as published', () => {
  const [cbor, blake3, peer] = ask(
    { id: 1, op: 'cbor.roundtrip', bytes: 'a2616101616200' },
    { id: 2, op: 'blake3', input: '' },
    { id: 3, op: 'peerid', publicKey: 'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a' },
  )
  expect(cbor).toEqual({ id: 1, out: 'a2616101616200' })
  expect(blake3).toEqual({ id: 2, out: 'af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262' })
  expect((peer as { out: string }).out).toMatch(/^12D3KooW/)
})

const read = (file: string): string => readFileSync(path.resolve(import.meta.dirname, '..', file), 'utf8')
const vectors = (name: string): Record<string, string>[] =>
  (JSON.parse(read(`docs/spec/vectors/${name}.json`)) as { cases: Record<string, string>[] }).cases

it('agrees with every published envelope and bundle, and refuses with the same code', () => {
  const cases = vectors('envelope')
  const answers = ask(...cases.map(({ id, kind, bytes }) => ({ id, op: `${kind}.decode`, bytes })))
  expect(answers.map(({ ok, error }) => (ok === true ? 'ok' : error))).toEqual(cases.map(({ expect }) => expect))
})

const hex = (bytes: Uint8Array | ArrayBuffer): string => Buffer.from(bytes as Uint8Array).toString('hex')
const sha256 = (...parts: Uint8Array[]): Uint8Array => createHash('sha256').update(Buffer.concat(parts)).digest()
const rawKey = (key: KeyObject, field: 'x' | 'd'): string =>
  Buffer.from(key.export({ format: 'jwk' })[field] as string, 'base64url').toString('hex')

/** Each operation with values of another implementation, and the answer that is right. */
function everyOperation(): [op: string, inputs: object, answer: object][] {
  const [a, b] = [generateKeyPairSync('x25519'), generateKeyPairSync('x25519')]
  const signer = generateKeyPairSync('ed25519')
  const message = Buffer.from('vectors')
  const [key, nonce, aad] = [Buffer.alloc(32, 1), Buffer.alloc(12, 2), Buffer.from('aad')]
  const cipher = createCipheriv('chacha20-poly1305', key, nonce, { authTagLength: 16 }).setAAD(aad, { plaintextLength: 7 })
  const sealed = Buffer.concat([cipher.update(message), cipher.final(), cipher.getAuthTag()])
  const kem = ml_kem1024.keygen(Buffer.alloc(64, 3))
  const encapsulated = ml_kem1024.encapsulate(kem.publicKey)
  const leaves = [sha256(Buffer.of(0), message), sha256(Buffer.of(0), key)] as const
  const root = sha256(Buffer.of(1), ...leaves)
  // C2SP signed note: name, key id, signature over the text.
  const origin = 'example.org/log'
  const logKey = Buffer.concat([Buffer.of(1), Buffer.from(rawKey(signer.publicKey, 'x'), 'hex')])
  const keyId = sha256(Buffer.from(`${origin}\n`), logKey).subarray(0, 4)
  const text = `${origin}\n2\n${Buffer.from(root).toString('base64')}\n`
  const signature = Buffer.concat([keyId, sign(null, Buffer.from(text), signer.privateKey)]).toString('base64')
  const vkey = `${origin}+${hex(keyId)}+${logKey.toString('base64')}`
  const invoice = read('samples/acme-invoice.xml')
  const fleet = testFleet('acme')
  const [publicKey, signed] = [rawKey(signer.publicKey, 'x'), hex(sign(null, message, signer.privateKey))]
  return [
    [
      'x25519',
      { sk: rawKey(a.privateKey, 'd'), pk: rawKey(b.publicKey, 'x') },
      { out: hex(diffieHellman({ privateKey: a.privateKey, publicKey: b.publicKey })) },
    ],
    ['ed25519.verify', { pk: publicKey, msg: hex(message), sig: signed }, { ok: true }],
    ['aead.open', { key: hex(key), nonce: hex(nonce), aad: hex(aad), ct: hex(sealed) }, { out: hex(message) }],
    ['hkdf', { ikm: hex(key), salt: hex(nonce), info: hex(aad), size: 77 }, { out: hex(hkdfSync('sha256', key, nonce, aad, 77)) }],
    ['hmac', { key: hex(key), msg: hex(message) }, { out: createHmac('sha256', key).update(message).digest('hex') }],
    ['blake3', { input: hex(message), key: hex(key), size: 64 }, { out: hex(blake3(message, { key, dkLen: 64 })) }],
    ['mlkem1024.decaps', { dk: hex(kem.secretKey), ct: hex(encapsulated.cipherText) }, { out: hex(encapsulated.sharedSecret) }],
    ['cbor.roundtrip', { bytes: hex(cborg.encode({ b: [1, 'x'], a: message })) }, { out: hex(cborg.encode({ b: [1, 'x'], a: message })) }],
    ['merkle.inclusion', { leafHash: hex(leaves[0]), index: 0, size: 2, proof: [hex(leaves[1])], root: hex(root) }, { ok: true }],
    ['merkle.consistency', { size1: 1, size2: 2, root1: hex(leaves[0]), root2: hex(root), proof: [hex(leaves[1])] }, { ok: true }],
    ['checkpoint.verify', { note: `${text}\n— ${origin} ${signature}\n`, keys: [vkey] }, { ok: true, origin, size: 2, root: hex(root) }],
    ['peerid', { publicKey }, { out: peerIdFromPublicKey(publicKeyFromRaw(Buffer.from(publicKey, 'hex'))).toString() }],
    ['ubl.roundtrip', { xml: invoice }, { xml: expect.stringContaining('<cbc:ID>') as string }],
    ['en16931.check', { xml: invoice }, { failed: [] }],
    ['decimal', { fn: 'mul', a: '1.10', b: '3' }, { out: expect.stringMatching(/^3\.30?$/) as string }],
    ['envelope.decode', { bytes: vectors('envelope')[0]!['bytes'] }, { ok: true }],
    ['bundle.decode', { bytes: vectors('envelope').find(({ id }) => id === 'bundle')!['bytes'] }, { ok: true }],
    ['certificate.decode', { bytes: hex(fleet.certificate), now: NOW }, { ok: true }],
  ]
}

it('every operation gives the value of another implementation', () => {
  const all = everyOperation()
  const answers = ask(...all.map(([op, inputs]) => ({ id: op, op, ...inputs })))
  for (const [i, [op, , answer]] of all.entries()) expect(answers[i], op).toEqual({ id: op, ...answer })
})

it('has these operations and no others', () => {
  const [answer] = ask({ id: 1, op: '' })
  const known = (answer!['message'] as string).replace(/^.*known: /, '').split(', ')
  expect(known.toSorted()).toEqual(
    everyOperation()
      .map(([op]) => op)
      .toSorted(),
  )
})

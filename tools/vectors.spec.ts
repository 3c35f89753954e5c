/** The program for checks from outside: its own conduct. The vectors themselves run in the libraries' tests. */
import { spawnSync } from 'node:child_process'
import path from 'node:path'
import { expect, it } from 'vitest'

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

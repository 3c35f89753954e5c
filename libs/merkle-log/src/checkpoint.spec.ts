import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { testKey } from '../../wire/test/fixtures.js'
import { encodeCheckpoint, parseCheckpoint, readCheckpoint, signCheckpoint, verifyCheckpoint } from './checkpoint.js'
import { decodeVkey, encodeNote, parseNote, signNote, verifierKey, verifyNote } from './note.js'

const code = (name: string) => expect.objectContaining({ code: name })
const log = testKey('log')
const witness = testKey('witness')
const origin = 'tallystick/test'
const key = verifierKey(origin, log.publicKey)
const witnessKey = verifierKey('witness.example', witness.publicKey)
const checkpoint = { origin, size: 42, root: new Uint8Array(32).fill(9), extensions: [] }
const note = signCheckpoint(checkpoint, key, log.sign)

describe('signed note', () => {
  it('the example of the specification verifies', () => {
    const example = `If you think cryptography is the answer to your problem,
then you don't know what your problem is.

— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=
`
    const vkey = 'PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW'
    expect(verifyNote(example, [decodeVkey(vkey)]).signedBy[0]?.name).toBe('PeterNeumann')
    expect(() => verifyNote(example.replace('problem is', 'problem was'), [decodeVkey(vkey)])).toThrow(code('InvalidSignature'))
  })

  it('ignores signatures of unknown keys, counts a trusted one once', () => {
    const both = encodeNote({
      text: 'a\n',
      signatures: [
        ...parseNote(signNote('a\n', witnessKey, witness.sign)).signatures,
        ...parseNote(signNote('a\n', key, log.sign)).signatures,
        ...parseNote(signNote('a\n', key, log.sign)).signatures,
      ],
    })
    expect(verifyNote(both, [key]).signedBy).toEqual([key])
    expect(verifyNote(both, [key, witnessKey]).signedBy).toHaveLength(2)
    expect(() => verifyNote(both, [])).toThrow(code('InvalidSignature'))
    expect(() => verifyNote(both, [verifierKey('other', log.publicKey)])).toThrow(code('InvalidSignature'))
  })

  it('a text may hold empty lines', () => {
    const text = 'one\n\n— not a signature\n\ntwo\n'
    expect(verifyNote(signNote(text, key, log.sign), [key]).text).toBe(text)
  })

  it('must fail: malformed notes', () => {
    for (const bad of [
      '',
      '\n',
      'a\n',
      'a\n\n',
      `a${note.slice(note.indexOf('\n\n'))}`.replace('\n\n', ''),
      note.slice(0, -1),
      note.replace('— ', '- '),
      `${note}\n`,
      note.replace('\n\n', '\n'),
      note.replace('tallystick/test\n', 'tallystick/\u0001test\n'),
      `${note}— x\n`,
      `${note}— x AAAA\n`,
      `${note}— x+y AAAAAAAA\n`,
      note.repeat(1000),
    ]) {
      expect(() => verifyNote(bad, [key]), bad.slice(0, 60)).toThrow()
    }
    expect(() => encodeNote({ text: 'a\n', signatures: [] })).toThrow(code('Serialization'))
    expect(() => signNote('a', key, log.sign)).toThrow(code('Serialization'))
    expect(() => signNote('a\tb\n', key, log.sign)).toThrow(code('Serialization'))
    const many = encodeNote({ text: 'a\n', signatures: Array.from({ length: 65 }, () => parseNote(note).signatures[0]!) })
    expect(() => verifyNote(many, [key])).toThrow(code('Serialization'))
  })
})

describe('checkpoint', () => {
  it('signs and verifies', () => {
    expect(verifyCheckpoint(note, [key], origin)).toMatchObject({ origin, size: 42, root: checkpoint.root })
    expect(readCheckpoint(note)).toEqual(checkpoint)
    expect(note).toBe(`tallystick/test\n42\n${'CQkJ'.repeat(10)}CQk=\n\n${note.slice(note.indexOf('— '))}`)
  })

  it('keeps extension lines', () => {
    const extended = { ...checkpoint, extensions: ['one', 'two words'] }
    expect(verifyCheckpoint(signCheckpoint(extended, key, log.sign), [key]).extensions).toEqual(extended.extensions)
  })

  it('any changed character is refused or belongs to a signature that is ignored', () => {
    fc.assert(
      fc.property(fc.nat({ max: note.length - 1 }), fc.constantFrom('A', 'b', '0', '+', '\n', ' '), (at, character) => {
        fc.pre(note[at] !== character)
        expect(() => verifyCheckpoint(note.slice(0, at) + character + note.slice(at + 1), [key], origin)).toThrow()
      }),
      { numRuns: 1_000 },
    )
  })

  it.each([
    '',
    'o\n',
    'o\n1\n',
    'o\n01\nAAAA\n',
    'o\n-1\n',
    'o\n1\nAAAA\n',
    `o\n1.0\n${'CQkJ'.repeat(10)}CQk=\n`,
    `o\n1e3\n${'CQkJ'.repeat(10)}CQk=\n`,
    `o\n9007199254740993\n${'CQkJ'.repeat(10)}CQk=\n`,
    `\n1\n${'CQkJ'.repeat(10)}CQk=\n`,
    `o\n1\n${'CQkJ'.repeat(10)}CQk=`,
    `o\n1\n${'CQkJ'.repeat(10)}CQk\n`,
    `o\n1\n${'CQkJ'.repeat(10)}CQk=\n\nx\n`,
  ])('must fail: text %j', (text) => {
    expect(() => parseCheckpoint(text)).toThrow(code('Serialization'))
  })

  it('must fail: another log, signed by a witness only', () => {
    expect(() => verifyCheckpoint(note, [key], 'tallystick/other')).toThrow(code('InvalidSignature'))
    const witnessed = signNote(encodeCheckpoint(checkpoint), witnessKey, witness.sign)
    expect(verifyCheckpoint(witnessed, [key, witnessKey]).size).toBe(42)
    expect(() => verifyCheckpoint(witnessed, [key, witnessKey], origin)).toThrow(code('InvalidSignature'))
    expect(() => encodeCheckpoint({ ...checkpoint, extensions: ['a\nb'] })).toThrow(code('Serialization'))
    expect(() => encodeCheckpoint({ ...checkpoint, size: 1.5 })).toThrow(code('Serialization'))
  })
})

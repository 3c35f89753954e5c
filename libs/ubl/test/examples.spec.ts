import { describe, expect, it } from 'vitest'
import { issueDocument } from '@tallystick/invoice-domain/issue'
import { fromRecord, toRecord } from '@tallystick/invoice-domain/record'
import { checkEn16931, roundtripUbl } from '../src/check.js'
import { parseUbl } from '../src/parse-ubl.js'
import { toUbl } from '../src/to-ubl.js'
import { decode, encode } from '../../wire/src/cbor.js'
import { hasCorpora, readCorpus, WHY_SKIPPED } from './corpora.js'
import { readNodes, TERMS, termsOf } from './terms.js'

const EXAMPLES = readCorpus('examples')

/** Every leaf and attribute of a document with its path: stricter than the terms. */
function leaves(xml: string): string[] {
  const found: string[] = []
  const walk = (node: ReturnType<typeof readNodes>, path: string): void => {
    for (const [name, value] of node.attributes) if (!/^xmlns|schemaLocation$/.test(name)) found.push(`${path}/@${name} = ${value}`)
    const value = node.name === 'ChargeIndicator' ? node.text.trim().replace(/^1$/, 'true').replace(/^0$/, 'false') : node.text.trim()
    if (node.children.length === 0) found.push(`${path} = ${value}`)
    for (const child of node.children) walk(child, `${path}/${child.name}`)
  }
  walk(readNodes(xml), '')
  return found.sort()
}

describe('the official examples', () => {
  it('are sixteen', (context) => {
    if (!hasCorpora) return context.skip(WHY_SKIPPED)
    expect(EXAMPLES).toHaveLength(16)
  })

  it('cover the table: it names every term from BT-1 to BT-165', () => {
    const named = new Set(
      TERMS.flatMap(([term]) => term.replace(/ currency$/, '').split('/')).map((term) => term.replace(/^(?=\d)/, 'BT-')),
    )
    const missing = Array.from({ length: 165 }, (_, index) => `BT-${index + 1}`).filter((term) => !named.has(term))
    // BT-4 does not exist in the standard.
    expect(missing).toEqual(['BT-4'])
  })

  for (const { name, bytes } of EXAMPLES) {
    it(`${name} keeps every term through import, record, CBOR and export`, () => {
      const source = new TextDecoder().decode(bytes)
      const { document, unmapped } = parseUbl(bytes)
      expect(unmapped).toEqual([])
      const record = toRecord(document)
      const carried = fromRecord(decode(encode(record)))
      expect(carried).toEqual(document)
      const exported = toUbl(carried)
      expect(termsOf(exported)).toEqual(termsOf(source))
      const kept = leaves(exported)
      for (const leaf of leaves(source)) {
        const at = kept.indexOf(leaf)
        expect(at, leaf).toBeGreaterThanOrEqual(0)
        kept.splice(at, 1)
      }
      // The only element an export adds: the type of a line's object reference.
      expect(kept.filter((leaf) => !/Line\/DocumentReference\/DocumentTypeCode = 130$/.test(leaf))).toEqual([])
      expect(roundtripUbl(exported)).toBe(exported)
    })

    it(`${name} breaks no rule, and issuing it adds nothing`, () => {
      expect(checkEn16931(bytes)).toEqual([])
      const { document } = parseUbl(bytes)
      expect(issueDocument(document, { number: 'UNUSED-1', issueDate: '2026-01-01' })).toEqual(document)
    })
  }
})

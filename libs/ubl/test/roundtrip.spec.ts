import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fromRecord, toRecord } from '@tallystick/invoice-domain/record'
import { validate } from '@tallystick/invoice-domain/validate'
import { parseUbl } from '../src/parse-ubl.js'
import { toUbl } from '../src/to-ubl.js'
import { anyDocument, normalForm } from '../../invoice-domain/test/random-document.js'

describe('UBL round trip', () => {
  it('gives back every document in normal form, with nothing left over', () => {
    fc.assert(
      fc.property(anyDocument, (random) => {
        const document = normalForm(random)
        const parsed = parseUbl(toUbl(document))
        expect(parsed.document).toEqual(document)
        expect(parsed.unmapped).toEqual([])
        expect(fromRecord(toRecord(parsed.document))).toEqual(document)
      }),
      { numRuns: 400 },
    )
  })

  it('writes the same text again after reading it', () => {
    fc.assert(
      fc.property(anyDocument, (random) => {
        const xml = toUbl(normalForm(random))
        expect(toUbl(parseUbl(xml).document)).toBe(xml)
      }),
      { numRuns: 200 },
    )
  })

  it('answers every document with rules, never with an exception', () => {
    fc.assert(
      fc.property(anyDocument, (random) => {
        for (const violation of validate(random)) {
          expect(violation.rule).toMatch(/^BR-/)
          expect(violation.pointer).toMatch(/^(\/[A-Za-z0-9]+)+$/)
        }
      }),
      { numRuns: 300 },
    )
  })
})

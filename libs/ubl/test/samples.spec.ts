import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { checkEn16931, roundtripUbl } from '../src/check.js'
import { parseUbl } from '../src/parse-ubl.js'

const SAMPLES = resolve(import.meta.dirname, '../../../samples')

describe('the samples', () => {
  it.each(['acme-invoice.xml', 'acme-credit-note.xml'])('%s is valid, kept whole, and exports as it is', (name) => {
    const xml = readFileSync(join(SAMPLES, name), 'utf8')
    expect(checkEn16931(xml)).toEqual([])
    expect(parseUbl(xml).unmapped).toEqual([])
    expect(roundtripUbl(xml)).toBe(xml)
  })
})

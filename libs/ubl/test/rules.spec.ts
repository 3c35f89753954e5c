import { describe, expect, it } from 'vitest'
import { checkEn16931 } from '../src/check.js'
import { hasCorpora, readCorpus, WHY_SKIPPED } from './corpora.js'

interface RuleTest {
  /** file and position, for the message */
  where: string
  document: string
  /** rule → whether it must be reported */
  expected: Map<string, boolean>
}

/**
 * What the rules here do not decide as the official ones do; docs/spec/ubl.md §7 says why for each.
 */
const DEVIATIONS = new Set([
  // A withdrawn unit code: units are held to their form, not to the list of two thousand.
  'Invoice-unit-UBL/BR-CL-23.xml #2 BR-CL-23',
  // A line's object reference without a type is checked as one of type 130.
  'Invoice-unit-UBL/BR-CL-07.xml #6 BR-CL-07',
])

function testsOf(folder: 'Invoice-unit-UBL' | 'CreditNote-unit-UBL'): RuleTest[] {
  return readCorpus(folder).flatMap(({ name, bytes }) => {
    const xml = new TextDecoder().decode(bytes).replace(/<!--[^]*?-->/g, '')
    return [...xml.matchAll(/<test\b[^>]*>([^]*?)<\/test>/g)].map((match, index) => {
      const body = match[1] as string
      const asserts = /<assert>([^]*?)<\/assert>/.exec(body)?.[1] ?? ''
      const document = /<((?:\w+:)?(?:Invoice|CreditNote))\b[^]*<\/\1>/.exec(body)?.[0] ?? ''
      const expected = new Map(
        [...asserts.matchAll(/<(success|error|warning)\b[^>]*>\s*([^<\s]+)\s*</g)].map(([, kind, rule]) => [
          rule as string,
          kind !== 'success',
        ]),
      )
      return { where: `${folder}/${name} #${index + 1}`, document, expected }
    })
  })
}

describe('the official rule tests', () => {
  for (const folder of ['Invoice-unit-UBL', 'CreditNote-unit-UBL'] as const) {
    it(`of ${folder} are answered as they say`, (context) => {
      if (!hasCorpora) return context.skip(WHY_SKIPPED)
      const wrong: string[] = []
      const rules = new Set<string>()
      let assertions = 0
      for (const { where, document, expected } of testsOf(folder)) {
        const failed = checkEn16931(document)
        for (const [rule, reported] of expected) {
          assertions++
          rules.add(rule)
          if (failed.includes(rule) !== reported) wrong.push(`${where} ${rule}`)
        }
      }
      console.log(`${folder}: ${assertions} assertions on ${rules.size} rules, ${wrong.length} deviate: ${wrong.join('; ') || 'none'}`)
      expect(assertions).toBeGreaterThan(200)
      expect(wrong.filter((each) => !DEVIATIONS.has(each))).toEqual([])
      expect(
        [...DEVIATIONS].filter((each) => each.startsWith(folder) && !wrong.includes(each)),
        'a deviation that is none any more',
      ).toEqual([])
    })
  }
})

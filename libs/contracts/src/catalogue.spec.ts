import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { MAX_BUS_BYTES, MAX_ENVELOPE_BYTES, MAX_PAYLOAD_BYTES, SERVICE_NAMES } from './call.js'
import { CATALOGUE } from './catalogue.js'
import { ERROR_CODES, refusal } from './codes.js'
import { PROTOCOL_ERROR_CODES } from '@tallystick/primitives/errors'

/** Codes that only the API and the bus use. */
const BEYOND_PROTOCOL = ['NotFound', 'Conflict', 'InvalidRequest', 'PeerBlocked', 'NotReady', 'Internal']

describe('error codes', () => {
  it('are those of the protocol, and the named few beyond', () => {
    expect([...ERROR_CODES].sort()).toEqual([...PROTOCOL_ERROR_CODES, ...BEYOND_PROTOCOL].sort())
    expect(new Set(ERROR_CODES).size).toBe(ERROR_CODES.length)
  })

  it('stand in docs/spec/errors.md, each in one row of its table, and no other', () => {
    const text = readFileSync(new URL('../../../docs/spec/errors.md', import.meta.url), 'utf8')
    const rows = [...text.matchAll(/^\| `([A-Za-z]+)` \|/gm)].map((match) => match[1])
    expect(rows.sort()).toEqual([...ERROR_CODES].sort())
  })
})

describe('the catalogue', () => {
  it('has each subject once, with its owner in front and a version', () => {
    const subjects = CATALOGUE.map((c) => c.subject)
    expect(new Set(subjects).size).toBe(subjects.length)
    for (const c of CATALOGUE) expect(c.subject, c.subject).toMatch(new RegExp(`^${c.owner.replace('-svc', '')}\\.v1\\.[a-z][A-Za-z]+$`))
  })

  it('names callers that exist, and at least one each', () => {
    for (const c of CATALOGUE) {
      expect(c.callers.length, c.subject).toBeGreaterThan(0)
      for (const caller of c.callers) expect(SERVICE_NAMES).toContain(caller)
      expect(new Set(c.callers).size).toBe(c.callers.length)
    }
  })

  it('keeps end-to-end keys and plaintext away from relay-svc', () => {
    const relayCalls = CATALOGUE.filter((c) => c.owner === 'session-svc' && c.callers.includes('relay-svc')).map((c) => c.subject)
    expect(relayCalls.sort()).toEqual(['session.v1.fleet', 'session.v1.offerCertificate', 'session.v1.takeBundle'])
  })

  it('gives every call a deadline between one second and thirty', () => {
    for (const c of CATALOGUE) {
      expect(c.timeoutMs, c.subject).toBeGreaterThanOrEqual(1_000)
      expect(c.timeoutMs, c.subject).toBeLessThanOrEqual(30_000)
    }
  })

  it('is listed in docs/spec/bus.md with owner, callers and deadline', () => {
    const text = readFileSync(new URL('../../../docs/spec/bus.md', import.meta.url), 'utf8')
    for (const c of CATALOGUE)
      expect(text).toContain(`| \`${c.subject}\` | ${c.owner} | ${c.callers.join(', ')} | ${c.timeoutMs / 1000} s |`)
    expect([...text.matchAll(/^\| `[a-z]+\.v1\./gm)]).toHaveLength(CATALOGUE.length)
  })

  it('refuses unknown fields at the top of every request', () => {
    for (const c of CATALOGUE) {
      const result = c.request.safeParse({ unknownField: 1 })
      expect(result.success, c.subject).toBe(false)
      expect(
        result.error?.issues.some((issue) => issue.code === 'unrecognized_keys'),
        c.subject,
      ).toBe(true)
    }
  })

  it('carries no fraction: money and other decimals are text', () => {
    const floats = CATALOGUE.flatMap((c) =>
      [c.request, c.response].flatMap((schema) =>
        numberFormats(schema)
          .filter((f) => f !== 'int')
          .map((f) => `${c.subject} ${f}`),
      ),
    )
    expect(floats).toEqual([])
  })
})

it('the largest payload and its envelope fit a bus message with room for a receipt of the same size class', () => {
  expect(MAX_ENVELOPE_BYTES).toBeGreaterThan(MAX_PAYLOAD_BYTES)
  expect(MAX_BUS_BYTES).toBeGreaterThan(MAX_ENVELOPE_BYTES + 64 * 1024)
})

it('a refusal has a code of the list, one sentence, and nothing else', () => {
  expect(refusal.safeParse({ ok: false, code: 'NotReady', message: 'not yet' }).success).toBe(true)
  expect(refusal.safeParse({ ok: false, code: 'Oops', message: 'x' }).success).toBe(false)
  expect(refusal.safeParse({ ok: false, code: 'NotReady', message: 'x'.repeat(501) }).success).toBe(false)
  expect(refusal.safeParse({ ok: false, code: 'NotReady', message: 'x', stack: 'at …' }).success).toBe(false)
})

/** The kinds of number in a schema, by its JSON Schema: `int` or `number`. */
function numberFormats(schema: z.ZodType): string[] {
  const found: string[] = []
  z.toJSONSchema(schema, {
    unrepresentable: 'any',
    override: ({ jsonSchema }) => {
      if (jsonSchema.type === 'integer') found.push('int')
      if (jsonSchema.type === 'number') found.push('number')
    },
  })
  return found
}

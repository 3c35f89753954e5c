import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startPostgres, type TestPostgres } from '../../../tools/testing/postgres.ts'
import { draftInvoice, sampleXml, startInvoiceService, type Service } from './harness.ts'

let postgres: TestPostgres
let service: Service
beforeAll(async () => {
  postgres = await startPostgres()
  const fleet = await postgres.createFleet('docs')
  service = await startInvoiceService({ databaseUrl: fleet.urls.invoice })
})
afterAll(async () => {
  await service?.stop()
  await postgres?.stop()
})

const create = async (overrides: Record<string, unknown> = {}) => {
  const answer = await service.request('POST', '/v1/invoices', { body: draftInvoice(overrides) })
  expect(answer.status, answer.text).toBe(201)
  return answer.json.id as string
}

describe('drafts', () => {
  it('creates a draft from JSON and says what issuing would refuse', async () => {
    const answer = await service.request('POST', '/v1/invoices', { body: { currency: 'EUR' } })
    expect(answer.status).toBe(201)
    expect(answer.json).toMatchObject({
      kind: 'invoice',
      state: 'draft',
      status: 'draft',
      number: null,
      source: 'json',
      contentDigest: null,
    })
    expect(answer.json.violations.length).toBeGreaterThan(0)
    expect(answer.json.violations[0]).toEqual({ pointer: expect.any(String), rule: expect.any(String), message: expect.any(String) })
  })

  it('names every unknown or malformed field', async () => {
    const answer = await service.request('POST', '/v1/invoices', { body: { ...draftInvoice(), color: 'red', totals: { payable: 12.5 } } })
    expect(answer.status).toBe(422)
    expect(answer.headers['content-type']).toMatch(/^application\/problem\+json/)
    expect(answer.json.errors.map((e: { pointer: string }) => e.pointer).sort()).toEqual(['/color', '/totals/payable'])
    expect(answer.json).toMatchObject({
      status: 422,
      type: expect.stringContaining('urn:tallystick:problem:'),
      title: expect.any(String),
      traceId: expect.any(String),
    })
  })

  it('imports UBL and exports the same terms', async () => {
    const imported = await service.request('POST', '/v1/invoices', { body: sampleXml(), type: 'application/xml' })
    expect(imported.status, imported.text).toBe(201)
    expect(imported.json).toMatchObject({ kind: 'invoice', source: 'ubl', state: 'draft' })
    const xml = await service.request('GET', `/v1/invoices/${imported.json.id}`, { headers: { accept: 'application/xml' } })
    expect(xml.headers['content-type']).toMatch(/^application\/xml/)
    const again = await service.request('POST', '/v1/invoices', { body: xml.text, type: 'application/xml' })
    expect(again.json.document).toEqual(imported.json.document)
  })

  it('changes a draft by merge patch, and only a draft', async () => {
    const id = await create()
    const changed = await service.request('PATCH', `/v1/invoices/${id}`, {
      body: { buyerReference: 'PO-8', dueDate: null },
      type: 'application/merge-patch+json',
    })
    expect(changed.status, changed.text).toBe(200)
    expect(changed.json.document).toMatchObject({ buyerReference: 'PO-8' })
    expect(changed.json.document.dueDate).toBeUndefined()
    expect((await service.request('POST', `/v1/invoices/${id}/issue`)).status).toBe(200)
    const late = await service.request('PATCH', `/v1/invoices/${id}`, { body: { buyerReference: 'PO-9' } })
    expect([late.status, late.json.code]).toEqual([409, 'Conflict'])
  })

  it('prints a page in which nothing from outside is markup', async () => {
    const id = await create({
      notes: [{ text: '<script>alert(1)</script>' }],
      buyer: { name: '"><img src=x onerror=alert(1)>', address: { country: 'NL' } },
    })
    const page = await service.request('GET', `/v1/invoices/${id}`, { headers: { accept: 'text/html' } })
    expect(page.status).toBe(200)
    expect(page.headers['content-type']).toMatch(/^text\/html/)
    expect(page.text).not.toMatch(/<script|<img/)
    expect(page.text).toContain('&lt;script&gt;')
    expect(page.headers['content-security-policy']).toMatch(/default-src 'none'.*style-src 'sha256-/)
    expect((await service.request('GET', `/v1/invoices/${id}`, { headers: { accept: 'image/png' } })).status).toBe(406)
  })
})

describe('issue', () => {
  it('numbers, completes and freezes', async () => {
    const id = await create()
    const issued = await service.request('POST', `/v1/invoices/${id}/issue`, { body: { series: 'FRZ' } })
    expect(issued.status, issued.text).toBe(200)
    expect(issued.json).toMatchObject({
      state: 'issued',
      number: 'FRZ-2026-0001',
      payableAmount: '166.24',
      contentDigest: expect.stringMatching(/^[0-9a-f]{64}$/),
    })
    await expect(service.db.$executeRaw`UPDATE document SET number = 'X' WHERE id = ${id}::uuid`).rejects.toThrow(/frozen/)
  })

  it('names the rule and the field of a draft that breaks the standard', async () => {
    const id = await create({ totals: { payable: '1.00' } })
    const refused = await service.request('POST', `/v1/invoices/${id}/issue`)
    expect(refused.status).toBe(422)
    expect(refused.json.code).toMatch(/^BR-/)
    expect(refused.json.errors[0]).toMatchObject({ rule: expect.stringMatching(/^BR-/), pointer: expect.stringMatching(/^\//) })
  })

  it('issued twice at once gives one number', async () => {
    const id = await create()
    const answers = await Promise.all(
      Array.from({ length: 8 }, () => service.request('POST', `/v1/invoices/${id}/issue`, { body: { series: 'RACE' } })),
    )
    expect(answers.map((a) => a.status).sort()).toEqual([200, 409, 409, 409, 409, 409, 409, 409])
    const next = await create()
    expect((await service.request('POST', `/v1/invoices/${next}/issue`, { body: { series: 'RACE' } })).json.number).toBe('RACE-2026-0002')
  })

  it('numbers without gaps, refusals in between included', async () => {
    const good = await Promise.all(Array.from({ length: 20 }, () => create()))
    const bad = await Promise.all(Array.from({ length: 10 }, () => create({ lines: [] })))
    const answers = await Promise.all(
      [...good, ...bad].sort().map((id) => service.request('POST', `/v1/invoices/${id}/issue`, { body: { series: 'GAP' } })),
    )
    const numbers = answers
      .filter((a) => a.status === 200)
      .map((a) => a.json.number as string)
      .sort()
    expect(numbers).toEqual(Array.from({ length: 20 }, (_, n) => `GAP-2026-${String(n + 1).padStart(4, '0')}`))
    expect(answers.filter((a) => a.status === 422)).toHaveLength(10)
  })

  it('edits and an issue at once end in a document that is one of them', async () => {
    const id = await create()
    const [issued, ...patches] = await Promise.all([
      service.request('POST', `/v1/invoices/${id}/issue`, { body: { series: 'MIX' } }),
      ...Array.from({ length: 6 }, (_, n) => service.request('PATCH', `/v1/invoices/${id}`, { body: { buyerReference: `PO-${n}` } })),
    ])
    expect(issued!.status).toBe(200)
    for (const patch of patches) expect([200, 409]).toContain(patch.status)
    const now = await service.request('GET', `/v1/invoices/${id}`)
    expect(now.json.document.buyerReference).toBe(issued!.json.document.buyerReference)
  })

  it('gives no number that an imported document has taken, and says when one comes twice', async () => {
    const [one, two] = [await create({ number: 'TKN-2026-0001' }), await create({ number: 'TKN-2026-0001' })]
    expect((await service.request('POST', `/v1/invoices/${one}/issue`)).json).toMatchObject({ state: 'issued', warnings: [] })
    const repeated = await service.request('POST', `/v1/invoices/${two}/issue`)
    expect([repeated.status, repeated.json.warnings]).toEqual([
      200,
      [{ rule: 'NumberRepeated', pointer: '/number', message: expect.stringContaining(one) }],
    ])
    const given = await service.request('POST', `/v1/invoices/${await create()}/issue`, { body: { series: 'TKN' } })
    expect(given.json.number).toBe('TKN-2026-0002')
  })

  it('serves credit notes by the same code', async () => {
    const draft = await service.request('POST', '/v1/credit-notes', {
      body: draftInvoice({ typeCode: '381', precedingInvoices: [{ number: 'INV-1' }] }),
    })
    expect(draft.status, draft.text).toBe(201)
    const issued = await service.request('POST', `/v1/credit-notes/${draft.json.id}/issue`)
    expect(issued.json, issued.text).toMatchObject({ kind: 'credit-note', state: 'issued', number: expect.stringMatching(/^CN-2026-/) })
    expect((await service.request('GET', `/v1/documents/${draft.json.id}`)).json.kind).toBe('credit-note')
    expect((await service.request('POST', '/v1/credit-notes', { body: { kind: 'invoice' } })).status).toBe(422)
  })
})

describe('lists', () => {
  it('pages through everything once, newest first, while more is added', async () => {
    for (let n = 0; n < 7; n++) await create()
    const seen: string[] = []
    let after: string | null = ''
    while (after !== null) {
      const page: Awaited<ReturnType<Service['request']>> = await service.request(
        'GET',
        `/v1/invoices?limit=3${after === '' ? '' : `&after=${after}`}`,
      )
      expect(page.status, page.text).toBe(200)
      seen.push(...page.json.items.map((item: { id: string }) => item.id))
      after = page.json.next as string | null
      await create()
    }
    expect(new Set(seen).size).toBe(seen.length)
    expect([...seen].sort().reverse()).toEqual(seen)
    expect(seen.length).toBeGreaterThanOrEqual(7)
  })

  it('filters by state and refuses parameters that it does not know', async () => {
    const page = await service.request('GET', '/v1/invoices?state=issued&limit=200')
    expect(new Set(page.json.items.map((item: { state: string }) => item.state))).toEqual(new Set(['issued']))
    expect(page.json.items[0].document).toBeUndefined()
    for (const query of ['?colour=red', '?limit=0', '?limit=201', '?after=x', '?state=lost']) {
      const refused = await service.request('GET', `/v1/invoices${query}`)
      expect([query, refused.status]).toEqual([query, 400])
      expect(refused.json.errors).toHaveLength(1)
    }
  })
})

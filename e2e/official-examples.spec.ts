/** The 16 official EN 16931 examples: imported, shared, received, exported at the buyer with every term unchanged. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { hasCorpora, readCorpus, WHY_SKIPPED } from '../libs/ubl/test/corpora.js'
import { termsOf } from '../libs/ubl/test/terms.js'
import { grant, inboxItem, issueUbl, pinEachOther, share, startTwoFleets, type TwoFleets } from './support.ts'

const EXAMPLES = readCorpus('examples')

let fleets: TwoFleets | undefined
beforeAll(async () => {
  if (!hasCorpora) return
  fleets = await startTwoFleets()
  await pinEachOther(fleets)
  await grant(fleets.acme, fleets.globexId)
})
afterAll(() => fleets?.stop())

describe('every EN 16931 term of the source is in the export at the buyer', () => {
  it('there are sixteen examples', (context) => {
    if (!hasCorpora) return context.skip(WHY_SKIPPED)
    expect(EXAMPLES).toHaveLength(16)
  })

  it.each(EXAMPLES)('$name travels from seller to buyer with every term', async ({ bytes }) => {
    const { acme, globex, globexId } = fleets as TwoFleets
    const { id, contentDigest } = await issueUbl(acme, Buffer.from(bytes))
    await share(acme, id, globexId)
    const item = await inboxItem(globex, contentDigest)
    const exported = await globex.api(`/v1/inbox/${item.id}`, { headers: { accept: 'application/xml' } })
    expect(exported.status).toBe(200)
    expect(termsOf(String(exported.body))).toEqual(termsOf(new TextDecoder().decode(bytes)))
  })
})

import { describe, expect, it } from 'vitest'
import { HandshakeAdmission, type AdmissionVerdict } from './admission.js'
import { DEFAULT_LIMITS } from './limits.js'

const MINUTE = 60_000
const admission = (options: { known?: string[]; limits?: Partial<typeof DEFAULT_LIMITS> } = {}) =>
  new HandshakeAdmission({ ...DEFAULT_LIMITS, ...(options.limits as object) }, (key) => options.known?.includes(key) ?? false)

function admitted(verdict: AdmissionVerdict) {
  if (!verdict.admitted) throw new Error(`refused: ${verdict.limit}`)
  return verdict.ticket
}
/** Admit and fail at once, as an unknown PeerId does. */
function knock(a: HandshakeAdmission, key: string, now: number): AdmissionVerdict {
  const verdict = a.admit(key, now)
  if (verdict.admitted) a.settle(verdict.ticket, false)
  return verdict
}

describe('an unknown address', () => {
  it('gets 5 handshakes a minute, the 6th is refused, and the window slides', () => {
    const a = admission()
    for (let i = 0; i < 5; i++) expect(knock(a, '198.51.100.1', i * 1_000).admitted).toBe(true)
    expect(knock(a, '198.51.100.1', 5_000)).toEqual({ admitted: false, limit: 'handshakesPerAddress', retryAfterMs: 55_000 })
    expect(knock(a, '198.51.100.1', 59_999).admitted).toBe(false)
    expect(knock(a, '198.51.100.1', 60_000).admitted).toBe(true)
    expect(knock(a, '198.51.100.1', 60_500).admitted).toBe(false)
  })

  it('is not locked out for longer by knocking on', () => {
    const a = admission()
    for (let at = 0; at < MINUTE; at += 100) knock(a, '198.51.100.1', at)
    expect(knock(a, '198.51.100.1', MINUTE).admitted).toBe(true)
  })

  it('does not affect another address', () => {
    const a = admission()
    for (let i = 0; i < 10; i++) knock(a, '198.51.100.1', 0)
    expect(knock(a, '198.51.100.2', 0).admitted).toBe(true)
  })

  it('gives the place back when the handshake proved an allowed PeerId', () => {
    const a = admission()
    for (let i = 0; i < 500; i++) a.settle(admitted(a.admit('198.51.100.1', i)), true)
    expect(a.tracked).toBe(0)
  })
})

describe('all unknown addresses together', () => {
  it('get 100 handshakes a minute', () => {
    const a = admission()
    for (let i = 0; i < 100; i++) expect(knock(a, `198.51.100.${i}`, i).admitted).toBe(true)
    expect(knock(a, '203.0.113.1', 200)).toEqual({ admitted: false, limit: 'handshakesUnknown', retryAfterMs: MINUTE - 200 })
    expect(knock(a, '203.0.113.1', MINUTE).admitted).toBe(true)
  })

  it('cannot lock out an address that an allowed peer has used', () => {
    const a = admission({ known: ['192.0.2.7'] })
    for (let i = 0; i < 1_000; i++) knock(a, `198.51.${i >> 8}.${i & 255}`, i)
    expect(a.admit('192.0.2.7', 1_001).admitted).toBe(true)
  })

  it('hold 64 unfinished handshakes at most', () => {
    const a = admission()
    const open = Array.from({ length: 64 }, (_, i) => admitted(a.admit(`198.51.100.${i}`, 0)))
    expect(a.admit('203.0.113.1', 1)).toMatchObject({ admitted: false, limit: 'pendingHandshakes' })
    a.settle(open[0]!, false)
    a.settle(open[0]!, false) // a second time changes nothing
    expect(a.pending).toBe(63)
    expect(a.admit('203.0.113.1', 1).admitted).toBe(true)
  })
})

describe('a known address', () => {
  it('shared with a hostile neighbour lets one more in every two seconds', () => {
    const a = admission({ known: ['192.0.2.7'] })
    for (let i = 0; i < 5; i++) expect(knock(a, '192.0.2.7', 0).admitted).toBe(true)
    expect(knock(a, '192.0.2.7', 1)).toEqual({ admitted: false, limit: 'handshakesPerAddress', retryAfterMs: 1_999 })
    let through = 0
    for (let at = 1; at < 30_000; at += 10) if (knock(a, '192.0.2.7', at).admitted) through += 1
    expect(through).toBe(14)
    const mine = a.admit('192.0.2.7', 32_000)
    expect(mine.admitted).toBe(true)
    a.settle(admitted(mine), true)
    // The one that succeeded did not use up the turn.
    expect(a.admit('192.0.2.7', 32_001).admitted).toBe(true)
  })
})

describe('memory', () => {
  it('is bounded: 100,000 addresses, the oldest goes', () => {
    const a = admission({ limits: { handshakesUnknown: 1_000_000 } as never })
    for (let i = 0; i < 100_100; i++) knock(a, `a${i}`, i / 10_000)
    expect(a.tracked).toBe(100_000)
  })

  it('forgets what has left the window', () => {
    const a = admission()
    for (let i = 0; i < 50; i++) knock(a, `198.51.100.${i}`, 0)
    knock(a, '203.0.113.1', 2 * MINUTE)
    expect(a.tracked).toBe(1)
  })

  it('fails closed: no address, no handshake', () => {
    expect(admission().admit(undefined, 0)).toMatchObject({ admitted: false, limit: 'noAddress' })
  })
})

/**
 * Audit events that a peer can cause as often as it likes: ten of a kind and minute are written, the rest is one number.
 * Counted per replica; a restart forgets at most the number of a minute.
 * @see docs/spec/custody.md §5
 */
import type { AuditEventBody, AuditEventType } from '@tallystick/contracts/audit-events'
import type { Context } from '../context.js'
import type { Tx } from '../db.js'

const WINDOW_MS = 60_000
/** Peers and kinds that are counted apart; above that all others share one count, so that invented names cost no memory. */
const MOST_COUNTED = 10_000
const THE_REST = ''

interface Window {
  start: number
  written: number
  suppressed: number
}

const counters = new WeakMap<Context, Map<string, Window>>()

/** Writes the event, or counts it. The number of what was not written goes out with the first event of a later minute. */
export async function recordLimited<T extends AuditEventType>(
  context: Context,
  tx: Tx,
  peer: string,
  type: T,
  body: AuditEventBody<T>,
): Promise<void> {
  const { audit, clock, limits } = context
  const windows = counters.get(context) ?? new Map<string, Window>()
  counters.set(context, windows)
  const now = clock.now()
  const wanted = `${type} ${peer}`
  const key = windows.has(wanted) || windows.size < MOST_COUNTED ? wanted : `${type} ${THE_REST}`
  let window = windows.get(key)
  if (window === undefined || Math.abs(now - window.start) >= WINDOW_MS) {
    if (window !== undefined && window.suppressed > 0)
      await audit.record(tx, 'RateLimitTriggered', {
        layer: 'peer-messages',
        ...(key === wanted ? { peer } : {}),
        limit: 'AUDITED_FAILURES_PER_PEER',
        count: window.suppressed,
      })
    window = { start: now, written: 0, suppressed: 0 }
    windows.set(key, window)
  }
  if (window.written >= limits.auditedFailuresPerPeer) {
    window.suppressed += 1
    return
  }
  window.written += 1
  await audit.record(tx, type, body)
}

/** Forgets windows that are over and suppressed nothing. */
export function tidyAuditLimits(context: Context): void {
  const now = context.clock.now()
  for (const [key, { start, suppressed }] of counters.get(context) ?? [])
    if (suppressed === 0 && Math.abs(now - start) >= WINDOW_MS) counters.get(context)!.delete(key)
}

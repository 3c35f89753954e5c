/** Counters of session-svc. Labels hold kinds and directions, never a peer and never content. */
import { Counter, Gauge, type Registry } from 'prom-client'

export interface SessionMetrics {
  readonly messages: Counter<'direction'>
  readonly rotations: Counter<'reason'>
  readonly rotationFailures: Counter<'severity'>
  readonly resyncs: Counter<'event'>
  readonly prekeys: Gauge<'kind'>
  readonly signatureFailures: Counter
  readonly replaysRejected: Counter
  readonly openFailures: Counter<'code'>
  readonly rateLimited: Counter<'layer'>
}

/** @param lockedBytes asked at every scrape */
export function sessionMetrics(registry: Registry, lockedBytes: () => number): SessionMetrics {
  const registers = [registry]
  new Gauge({
    name: 'tallystick_custody_locked_bytes',
    help: 'Memory that the kernel keeps locked for this process.',
    registers,
    collect() {
      this.set(lockedBytes())
    },
  })
  const metrics: SessionMetrics = {
    messages: new Counter({
      name: 'tallystick_session_messages_total',
      help: 'Messages sealed (out) and opened (in).',
      labelNames: ['direction'],
      registers,
    }),
    rotations: new Counter({
      name: 'tallystick_session_rotations_total',
      help: 'New epochs with a peer that already had one.',
      labelNames: ['reason'],
      registers,
    }),
    rotationFailures: new Counter({
      name: 'tallystick_session_rotation_failures_total',
      help: 'New epochs that could not be prepared (warning) or begun while messages wait (critical).',
      labelNames: ['severity'],
      registers,
    }),
    resyncs: new Counter({
      name: 'tallystick_session_resyncs_total',
      help: 'Sessions begun anew because the two sides did not understand each other, by event.',
      labelNames: ['event'],
      registers,
    }),
    prekeys: new Gauge({
      name: 'tallystick_prekeys_available',
      help: 'One-time prekeys not handed out yet.',
      labelNames: ['kind'],
      registers,
    }),
    signatureFailures: new Counter({
      name: 'tallystick_signature_failures_total',
      help: 'Signatures on certificates and bundles that did not verify.',
      registers,
    }),
    replaysRejected: new Counter({ name: 'tallystick_replay_rejected_total', help: 'Envelopes and handshakes seen before.', registers }),
    openFailures: new Counter({
      name: 'tallystick_session_open_failures_total',
      help: 'Envelopes that did not open, by code.',
      labelNames: ['code'],
      registers,
    }),
    rateLimited: sharedCounter(registry),
  }
  // There from the start: a rate needs two samples, and a dashboard tells "none" from "not measured".
  for (const direction of ['in', 'out']) metrics.messages.inc({ direction }, 0)
  for (const severity of ['warning', 'critical']) metrics.rotationFailures.inc({ severity }, 0)
  for (const event of ['started', 'completed']) metrics.resyncs.inc({ event }, 0)
  metrics.rateLimited.inc({ layer: 'bundle' }, 0)
  return metrics
}

/** `tallystick_rate_limited_total` is one name for all services; the registry of a process may have it already. */
function sharedCounter(registry: Registry): Counter<'layer'> {
  const name = 'tallystick_rate_limited_total'
  return (
    (registry.getSingleMetric(name) as Counter<'layer'> | undefined) ??
    new Counter({ name, help: 'Requests refused by a limit.', labelNames: ['layer'], registers: [registry] })
  )
}

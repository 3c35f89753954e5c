/** relay-svc's own metrics; names and labels are part of the public surface. */
import { Counter, Gauge, Histogram, type Registry } from 'prom-client'

const OUTCOMES = ['accepted', 'rate-limited', 'unauthorized', 'blocked', 'over-capacity', 'timeout', 'failed'] as const
export type HandshakeOutcome = (typeof OUTCOMES)[number]
const LAYERS = ['handshake', 'peer-messages', 'peer-bytes', 'bundle'] as const
export type LimitLayer = (typeof LAYERS)[number]

export class RelayMetrics {
  readonly handshakes: Counter<'outcome'>
  readonly rateLimited: Counter<'layer'>
  readonly queueDepth: Gauge<'queue'>
  readonly connections: Gauge
  readonly envelopes: Counter<'direction' | 'outcome'>
  readonly streamsCut: Counter<'code'>
  readonly streams: Counter
  readonly hopSeconds: Histogram

  constructor(registry: Registry) {
    const registers = [registry]
    this.handshakes = new Counter({
      name: 'tallystick_handshakes_total',
      help: 'Inbound libp2p connections by how their handshake ended.',
      labelNames: ['outcome'],
      registers,
    })
    this.rateLimited = new Counter({
      name: 'tallystick_rate_limited_total',
      help: 'Refusals by the layer whose limit was hit.',
      labelNames: ['layer'],
      registers,
    })
    this.queueDepth = new Gauge({ name: 'tallystick_relay_queue_depth', help: 'Envelopes waiting.', labelNames: ['queue'], registers })
    this.connections = new Gauge({ name: 'tallystick_relay_connections', help: 'Open connections to allowed peers.', registers })
    this.envelopes = new Counter({
      name: 'tallystick_relay_envelopes_total',
      help: 'Envelopes by direction and outcome of the hop.',
      labelNames: ['direction', 'outcome'],
      registers,
    })
    this.streamsCut = new Counter({
      name: 'tallystick_relay_streams_cut_total',
      help: 'Streams that this relay closed for cause.',
      labelNames: ['code'],
      registers,
    })
    this.streams = new Counter({ name: 'tallystick_relay_streams_total', help: 'Relay streams that reached their handler.', registers })
    this.hopSeconds = new Histogram({
      name: 'tallystick_relay_hop_seconds',
      help: 'From sending an envelope to its hop receipt.',
      buckets: [0.005, 0.02, 0.1, 0.5, 2, 10, 60],
      registers,
    })
    // There from the start: a rate needs two samples, and a dashboard tells "none" from "not measured".
    for (const outcome of OUTCOMES) this.handshakes.inc({ outcome }, 0)
    for (const layer of LAYERS) this.rateLimited.inc({ layer }, 0)
  }
}

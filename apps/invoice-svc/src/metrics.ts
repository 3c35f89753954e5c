/** Metrics of this service. No label holds an id of a document or a peer. */
import { Counter, Gauge, Histogram, type Registry } from 'prom-client'

const STAGES = ['sealed', 'relayed', 'stored', 'delivered', 'accepted', 'rejected', 'disputed', 'paid']

export interface AppMetrics {
  /** Seconds from the share to each stage. */
  readonly shareDuration: Histogram<'stage'>
  readonly rateLimited: Counter<'layer'>
  readonly httpDuration: Histogram<'method' | 'route' | 'status'>
  readonly verificationFailures: Counter<'what'>
  readonly signatureFailures: Counter
  readonly replayRejected: Counter
  readonly nonceStoreSize: Gauge
  readonly messagesMissing: Gauge
  readonly messagesResent: Counter
  readonly sequenceBreaks: Counter
  /** Receipts that contradict what was sent. */
  readonly receiptContradictions: Counter
}

export function createMetrics(registry: Registry): AppMetrics {
  const registers = [registry]
  const metrics: AppMetrics = {
    shareDuration: new Histogram({
      name: 'tallystick_share_duration_seconds',
      help: 'Seconds from a share to each of its stages',
      labelNames: ['stage'],
      registers,
      buckets: [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600, 86_400],
    }),
    rateLimited: new Counter({
      name: 'tallystick_rate_limited_total',
      help: 'Requests refused by a rate limit',
      labelNames: ['layer'],
      registers,
    }),
    httpDuration: new Histogram({
      name: 'tallystick_http_request_duration_seconds',
      help: 'Seconds of one API request',
      labelNames: ['method', 'route', 'status'],
      registers,
      buckets: [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5],
    }),
    verificationFailures: new Counter({
      name: 'tallystick_verification_failures_total',
      help: 'Received messages whose content did not verify',
      labelNames: ['what'],
      registers,
    }),
    signatureFailures: new Counter({
      name: 'tallystick_signature_failures_total',
      help: 'Received statements whose signature was refused',
      registers,
    }),
    replayRejected: new Counter({
      name: 'tallystick_replay_rejected_total',
      help: 'Received statements that had been used before',
      registers,
    }),
    nonceStoreSize: new Gauge({ name: 'tallystick_nonce_store_size', help: 'Nonces of statements kept until they expire', registers }),
    messagesMissing: new Gauge({
      name: 'tallystick_messages_missing',
      help: 'Messages of peers that are missing below newer ones that have come',
      registers,
    }),
    messagesResent: new Counter({
      name: 'tallystick_messages_resent_total',
      help: 'Messages sent again because the peer has not confirmed them',
      registers,
    }),
    sequenceBreaks: new Counter({
      name: 'tallystick_sequence_breaks_total',
      help: 'Received messages that do not follow the message before them',
      registers,
    }),
    receiptContradictions: new Counter({
      name: 'tallystick_receipt_contradictions_total',
      help: 'Receipts that contradict what was sent',
      registers,
    }),
  }
  // There from the start: a rate needs two samples, and a dashboard tells "none" from "not measured".
  for (const stage of STAGES) metrics.shareDuration.zero({ stage })
  metrics.rateLimited.inc({ layer: 'api' }, 0)
  return metrics
}

/** The bus metrics of one process, created once per registry. No label holds an id of a document or a message. */
import { Counter, Gauge, Histogram, type Registry } from 'prom-client'

export interface BusMetrics {
  readonly breakerState: Gauge<'service' | 'target'>
  readonly breakerTransitions: Counter<'service' | 'target' | 'from' | 'to'>
  readonly rpcDuration: Histogram<'target' | 'outcome'>
  readonly permissionViolations: Counter<'operation' | 'subject'>
  readonly expired: Counter<'target'>
  readonly inFlight: Gauge
  readonly connected: Gauge
}

const perRegistry = new WeakMap<Registry, BusMetrics>()

export function busMetrics(registry: Registry): BusMetrics {
  const known = perRegistry.get(registry)
  if (known) return known
  const registers = [registry]
  const metrics: BusMetrics = {
    breakerState: new Gauge({
      name: 'tallystick_breaker_state',
      help: '0 closed, 1 half-open, 2 open',
      labelNames: ['service', 'target'],
      registers,
    }),
    breakerTransitions: new Counter({
      name: 'tallystick_breaker_transitions_total',
      help: 'Changes of state of a circuit',
      labelNames: ['service', 'target', 'from', 'to'],
      registers,
    }),
    rpcDuration: new Histogram({
      name: 'tallystick_rpc_duration_seconds',
      help: 'Calls made, seen by the caller; outcome is ok, refused, aborted or the code of a fault',
      labelNames: ['target', 'outcome'],
      buckets: [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
      registers,
    }),
    permissionViolations: new Counter({
      name: 'tallystick_nats_permission_violations_total',
      help: 'Publications and subscriptions that the NATS server refused',
      labelNames: ['operation', 'subject'],
      registers,
    }),
    expired: new Counter({
      name: 'tallystick_rpc_expired_total',
      help: 'Requests that arrived after their deadline and were not executed',
      labelNames: ['target'],
      registers,
    }),
    inFlight: new Gauge({ name: 'tallystick_rpc_in_flight', help: 'Requests being handled now', registers }),
    connected: new Gauge({ name: 'tallystick_nats_connected', help: '1 while connected to the NATS server', registers }),
  }
  perRegistry.set(registry, metrics)
  return metrics
}

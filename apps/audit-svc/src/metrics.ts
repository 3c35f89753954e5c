/** audit-svc's own metrics; names are part of the public surface. */
import { Gauge, Histogram, type Registry } from 'prom-client'

export class AuditMetrics {
  readonly treeSize: Gauge
  readonly checkpointSize: Gauge
  readonly appendSeconds: Histogram

  constructor(registry: Registry) {
    const registers = [registry]
    this.treeSize = new Gauge({ name: 'tallystick_audit_tree_size', help: 'Leaves in the log.', registers })
    this.checkpointSize = new Gauge({ name: 'tallystick_audit_checkpoint_size', help: 'Leaves under the newest checkpoint.', registers })
    this.appendSeconds = new Histogram({
      name: 'tallystick_audit_append_duration_seconds',
      help: 'One group commit, from lock to commit.',
      buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5],
      registers,
    })
  }
}

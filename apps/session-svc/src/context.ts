/** What the parts of this service share; made once in session-core.ts, by hand in tests. */
import type { RandomSource } from '@tallystick/primitives/random'
import type { SecretArena } from '@tallystick/secret-bytes/arena'
import type { Clock } from '@tallystick/service-host/clock'
import type { AuditTrail } from './audit.js'
import type { KeyCustody } from './custody/key-custody.js'
import type { Db } from './db.js'
import type { Limits } from './limits.js'
import type { SessionMetrics } from './metrics.js'
import type { GenerationFile } from './recovery/generation-file.js'
import type { WireTap } from './wire-tap.js'

/** The two levels that this service logs at; pino's logger fits. */
export interface Log {
  warn(fields: Record<string, unknown>, text: string): void
  info(fields: Record<string, unknown>, text: string): void
}

export interface Context {
  readonly db: Db
  readonly arena: SecretArena
  readonly custody: KeyCustody
  readonly clock: Clock
  readonly random: RandomSource
  readonly limits: Limits
  /** The number outside the database that shows a database that was put back. */
  readonly generation: GenerationFile
  readonly audit: AuditTrail
  readonly metrics: SessionMetrics
  readonly tap: WireTap
  readonly log: Log
}

/** Gauges about how keys are kept; read at every scrape. */
import type { SecretArena } from '@tallystick/secret-bytes/arena'
import { Gauge, type Registry } from 'prom-client'
import type { KeyCustody } from './key-custody.js'

export function custodyMetrics(registry: Registry, arena: SecretArena, custody: KeyCustody): void {
  const registers = [registry]
  new Gauge({
    name: 'tallystick_custody_arena_bytes',
    help: 'Size of the locked arena that secrets in use lie in.',
    registers,
    collect() {
      this.set(arena.size)
    },
  })
  new Gauge({
    name: 'tallystick_custody_arena_used_bytes',
    help: 'Part of the arena that holds secrets now.',
    registers,
    collect() {
      this.set(arena.usedBytes)
    },
  })
  new Gauge({
    name: 'tallystick_custody_info',
    help: 'Always 1: which provider holds the key-encryption key.',
    labelNames: ['provider'],
    registers,
  }).set({ provider: custody.provider }, 1)
}

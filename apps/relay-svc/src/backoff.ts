/**
 * Pause before the next attempt: exponential with jitter over its upper half, so that many waiting messages or
 * replicas do not come back at the same instant.
 * @param failures 1 for the first failure
 * @param random in [0, 1)
 * @returns milliseconds
 */
export function backoffMs(failures: number, first: number, max: number, random: number): number {
  const full = Math.min(max, first * 2 ** Math.min(30, Math.max(0, failures - 1)))
  return Math.round(full / 2 + (full / 2) * random)
}

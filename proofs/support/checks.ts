/** What must hold of everything that acme has ever let out or taken in, whatever happened to its processes. */
import type { TapLine } from './stage.ts'

/** @returns how many (ratchet key, n) were released with more than one ciphertext: each is a key used twice */
export function keysReused(lines: readonly TapLine[]): number {
  return lines.length === 0 ? 0 : moreThanOne(lines.filter(({ direction }) => direction === 'out')).length
}

/** @returns how many envelopes were opened anew more than once */
export function openedAnew(lines: readonly TapLine[]): number {
  const seen = new Map<string, number>()
  for (const { direction, chain } of lines) if (direction === 'in') seen.set(chain, (seen.get(chain) ?? 0) + 1)
  return [...seen.values()].filter((times) => times > 1).length
}

/** @returns how many different message keys were released */
export function keysUsed(lines: readonly TapLine[]): number {
  return new Set(lines.filter(({ direction }) => direction === 'out').map(({ chain }) => chain)).size
}

function moreThanOne(lines: readonly TapLine[]): string[] {
  const ciphertexts = new Map<string, Set<string>>()
  for (const { chain, ct } of lines) ciphertexts.set(chain, (ciphertexts.get(chain) ?? new Set()).add(ct))
  return [...ciphertexts].filter(([, cts]) => cts.size > 1).map(([chain]) => chain)
}

/** One line with a figure, on the screen of `npm test`. */
export function figure(text: string): void {
  process.stdout.write(`proof: ${text}\n`)
}

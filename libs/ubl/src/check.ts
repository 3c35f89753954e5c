/** The two questions that programs outside ask of a UBL document, through the functions that the product uses. */
import { validate } from '@tallystick/invoice-domain/validate'
import { UblError } from './errors.js'
import { parseUbl, readUbl } from './parse-ubl.js'
import { toUbl } from './to-ubl.js'

/** Paths named in the error of `roundtripUbl`. */
const MAX_NAMED = 10

/**
 * Imports and exports again.
 * @throws UblError `UBL-LOSS` naming every EN 16931 term that cannot be kept; whatever `parseUbl` throws
 */
export function roundtripUbl(xml: Uint8Array | string): string {
  const { document, unmapped } = parseUbl(xml)
  const lost = unmapped.filter((part) => part.lost === 'term')
  if (lost.length > 0) {
    const names = lost.slice(0, MAX_NAMED).map((part) => part.path)
    throw new UblError(
      'InvalidRequest',
      'UBL-LOSS',
      `cannot be kept: ${names.join(', ')}${lost.length > MAX_NAMED ? ', …' : ''}`,
      lost[0]?.path,
    )
  }
  return toUbl(document)
}

/**
 * @returns ids of the broken rules, each once, sorted; a value that is not of its type counts as `UBL-VALUE` or
 *   `InvalidAmount`
 * @throws UblError for what is no bounded, well-formed UBL document at all
 */
export function checkEn16931(xml: Uint8Array | string): string[] {
  const { document, syntax, bad } = readUbl(xml)
  return [...new Set([...bad, ...syntax, ...validate(document)].map((broken) => broken.rule))].sort()
}

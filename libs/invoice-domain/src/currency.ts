/** How many digits a currency has after the decimal point (ISO 4217, "minor unit"). */

/** Only the currencies that differ from two digits; every other code has two. */
const MINOR_UNITS: Readonly<Record<string, number>> = {
  BIF: 0,
  CLP: 0,
  DJF: 0,
  GNF: 0,
  ISK: 0,
  JPY: 0,
  KMF: 0,
  KRW: 0,
  PYG: 0,
  RWF: 0,
  UGX: 0,
  UYI: 0,
  VND: 0,
  VUV: 0,
  XAF: 0,
  XOF: 0,
  XPF: 0,
  BHD: 3,
  IQD: 3,
  JOD: 3,
  KWD: 3,
  LYD: 3,
  OMR: 3,
  TND: 3,
  CLF: 4,
  UYW: 4,
}

/**
 * @param currency ISO 4217 code in capitals; an absent or unknown one counts as two digits
 * @returns 0 to 4
 */
export function minorUnits(currency: string | undefined): number {
  return currency !== undefined && Object.hasOwn(MINOR_UNITS, currency) ? (MINOR_UNITS[currency] as number) : 2
}

/**
 * Digits to which totals are computed and checked. EN 16931 fixes two at most (BR-DEC), so a currency with three or
 * four minor digits is still rounded to two there; a currency without minor units is rounded to whole units.
 */
export function totalScale(currency: string | undefined): number {
  return Math.min(2, minorUnits(currency))
}

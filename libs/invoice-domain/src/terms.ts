/** Terms that several groups of the model share. */

/** An identifier and, where the term has one, the scheme it comes from (an ICD or EAS code, for most). */
export interface Identifier {
  value: string
  schemeId?: string
}

/** BG-14 Invoicing period, BG-26 Invoice line period */
export interface Period {
  /** BT-73, BT-134 */
  startDate?: string
  /** BT-74, BT-135 */
  endDate?: string
}

/** BT-95/96, BT-102/103, BT-151/152: a VAT category code (UNTDID 5305) and its rate in percent */
export interface VatCategory {
  code?: string
  rate?: string
}

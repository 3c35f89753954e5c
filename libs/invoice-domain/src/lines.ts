/** BG-25 Invoice line and everything in it. */
import type { Identifier, Period, VatCategory } from './terms.js'

/** BG-27 Line allowance, BG-28 Line charge */
export interface LineAllowanceCharge {
  /** BT-136, BT-141 Amount, without VAT */
  amount?: string
  /** BT-137, BT-142 Base amount */
  baseAmount?: string
  /** BT-138, BT-143 Percentage */
  percentage?: string
  /** BT-139, BT-144 Reason */
  reason?: string
  /** BT-140, BT-145 Reason code */
  reasonCode?: string
}

/** BG-29 Price details */
export interface Price {
  /** BT-146 Item net price */
  net?: string
  /** BT-147 Item price discount */
  discount?: string
  /** BT-148 Item gross price */
  gross?: string
  /** BT-149 Base quantity, 1 if absent */
  baseQuantity?: string
  /** BT-150 Unit of the base quantity */
  baseQuantityUnit?: string
}

/** BT-158 Item classification identifier */
export interface Classification {
  code?: string
  /** BT-158-1 Scheme (UNTDID 7143) */
  listId?: string
  /** BT-158-2 Scheme version */
  listVersionId?: string
}

/** BG-32 Item attribute */
export interface ItemAttribute {
  /** BT-160 */
  name?: string
  /** BT-161 */
  value?: string
}

/** BG-31 Item information */
export interface Item {
  /** BT-153 */
  name?: string
  /** BT-154 */
  description?: string
  /** BT-155 Seller's identifier */
  sellerIdentifier?: string
  /** BT-156 Buyer's identifier */
  buyerIdentifier?: string
  /** BT-157 Standard identifier */
  standardIdentifier?: Identifier
  /** BT-158 */
  classifications?: Classification[]
  /** BT-159 Country of origin */
  originCountry?: string
  /** BG-32 */
  attributes?: ItemAttribute[]
}

/** BG-25 Invoice line */
export interface Line {
  /** BT-126 */
  id?: string
  /** BT-127 Note */
  note?: string
  /** BT-128 Line object identifier */
  invoicedObject?: Identifier
  /** BT-129 Quantity */
  quantity?: string
  /** BT-130 Unit of measure (UN/ECE Recommendation 20 with 21) */
  unit?: string
  /** BT-131 Net amount */
  netAmount?: string
  /** BT-132 Referenced purchase order line */
  orderLineReference?: string
  /** BT-133 Buyer accounting reference */
  buyerAccountingReference?: string
  /** BG-26 */
  period?: Period
  /** BG-27 */
  allowances?: LineAllowanceCharge[]
  /** BG-28 */
  charges?: LineAllowanceCharge[]
  /** BG-29 */
  price?: Price
  /** BG-30: BT-151, BT-152 */
  vat?: VatCategory
  /** BG-31 */
  item?: Item
}

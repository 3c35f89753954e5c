/** The parties of EN 16931-1: seller, buyer, payee, tax representative, and where the goods went. */
import type { Identifier } from './terms.js'

/** BG-5 Seller, BG-8 Buyer, BG-12 Tax representative, BG-15 Deliver to: postal address */
export interface Address {
  /** BT-35, BT-50, BT-64, BT-75 */
  line1?: string
  /** BT-36, BT-51, BT-65, BT-76 */
  line2?: string
  /** BT-162, BT-163, BT-164, BT-165 */
  line3?: string
  /** BT-37, BT-52, BT-66, BT-77 */
  city?: string
  /** BT-38, BT-53, BT-67, BT-78 */
  postCode?: string
  /** BT-39, BT-54, BT-68, BT-79 */
  subdivision?: string
  /** BT-40, BT-55, BT-69, BT-80 (ISO 3166-1 alpha-2) */
  country?: string
}

/** BG-6 Seller contact, BG-9 Buyer contact */
export interface Contact {
  /** BT-41, BT-56 */
  name?: string
  /** BT-42, BT-57 */
  telephone?: string
  /** BT-43, BT-58 */
  email?: string
}

/** BG-4 Seller */
export interface Seller {
  /** BT-27 Name */
  name?: string
  /** BT-28 Trading name */
  tradingName?: string
  /** BT-29 Identifiers */
  identifiers?: Identifier[]
  /** BT-30 Legal registration identifier */
  legalRegistration?: Identifier
  /** BT-31 VAT identifier */
  vatIdentifier?: string
  /** BT-32 Tax registration identifier; `schemeId` is the tax scheme's name in UBL ("TAX" if absent) */
  taxRegistration?: Identifier
  /** BT-33 Additional legal information */
  legalInformation?: string
  /** BT-34 Electronic address */
  electronicAddress?: Identifier
  /** BT-90 Bank assigned creditor identifier, if the seller is the creditor (scheme SEPA in UBL) */
  creditorIdentifier?: string
  /** BG-5 */
  address?: Address
  /** BG-6 */
  contact?: Contact
}

/** BG-7 Buyer */
export interface Buyer {
  /** BT-44 Name */
  name?: string
  /** BT-45 Trading name */
  tradingName?: string
  /** BT-46 Identifier */
  identifier?: Identifier
  /** BT-47 Legal registration identifier */
  legalRegistration?: Identifier
  /** BT-48 VAT identifier */
  vatIdentifier?: string
  /** BT-49 Electronic address */
  electronicAddress?: Identifier
  /** BG-8 */
  address?: Address
  /** BG-9 */
  contact?: Contact
}

/** BG-10 Payee */
export interface Payee {
  /** BT-59 Name */
  name?: string
  /** BT-60 Identifier */
  identifier?: Identifier
  /** BT-61 Legal registration identifier */
  legalRegistration?: Identifier
  /** BT-90 Bank assigned creditor identifier, if the payee is the creditor */
  creditorIdentifier?: string
}

/** BG-11 Seller tax representative */
export interface TaxRepresentative {
  /** BT-62 Name */
  name?: string
  /** BT-63 VAT identifier */
  vatIdentifier?: string
  /** BG-12 */
  address?: Address
}

/** BG-13 Delivery information */
export interface Delivery {
  /** BT-70 Deliver to party name */
  partyName?: string
  /** BT-71 Deliver to location identifier */
  location?: Identifier
  /** BT-72 Actual delivery date */
  date?: string
  /** BG-15 */
  address?: Address
}

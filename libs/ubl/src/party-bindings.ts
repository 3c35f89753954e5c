/** Parties, addresses and delivery: EN 16931 terms and their UBL elements. @see docs/spec/ubl.md §1 */
import type { BillingDocument } from '@tallystick/invoice-domain/model'
import type { Identifier } from '@tallystick/invoice-domain/terms'
import type { Address, Buyer, Contact, Delivery, Payee, Seller, TaxRepresentative } from '@tallystick/invoice-domain/parties'
import { constant, group, identifier, leaf, readIdentifier, within, writeIdentifier, type Binding, type When } from './binding.js'
import { attributeOf, child, type XmlElement } from './tree.js'
import { element } from './write-xml.js'

const address: readonly Binding<Address>[] = [
  leaf('cbc:StreetName', 'line1'),
  leaf('cbc:AdditionalStreetName', 'line2'),
  leaf('cbc:CityName', 'city'),
  leaf('cbc:PostalZone', 'postCode'),
  leaf('cbc:CountrySubentity', 'subdivision'),
  leaf('cac:AddressLine/cbc:Line', 'line3'),
  leaf('cac:Country/cbc:IdentificationCode', 'country', { kind: 'code' }),
]

const contact: readonly Binding<Contact>[] = [
  leaf('cbc:Name', 'name'),
  leaf('cbc:Telephone', 'telephone'),
  leaf('cbc:ElectronicMail', 'email'),
]

/** BT-90 is a party identification of scheme SEPA; every other one is BT-29, BT-46 or BT-60. */
const isCreditorId: When = (identification) => attributeOf(child(identification, 'cbc:ID'), 'schemeID') === 'SEPA'
const isPartyId: When = (identification, context) => !isCreditorId(identification, context)

function creditor<T extends { creditorIdentifier?: string }>(field: Parameters<typeof leaf<T>>[1]): Binding<T> {
  return within('cac:PartyIdentification', [leaf<T>('cbc:ID', field, { fixed: { schemeID: 'SEPA' } })], isCreditorId)
}

/** BT-29 repeats, each in a PartyIdentification of its own. */
const sellerIdentifiers: Binding<Seller> = {
  read(party, into, context) {
    const found: Identifier[] = []
    for (const identification of party.children) {
      if (identification.name !== 'cac:PartyIdentification' || !isPartyId(identification, context)) continue
      identification.known = true
      const id = child(identification, 'cbc:ID')
      if (id !== undefined) found.push(readIdentifier(id))
    }
    if (found.length > 0) into.identifiers = found
  },
  write: (seller) => (seller.identifiers ?? []).map((id) => element('cac:PartyIdentification', [writeIdentifier('cbc:ID', id)])),
}

function partyId<T extends { identifier?: Identifier }>(field: Parameters<typeof identifier<T>>[1]): Binding<T> {
  return within('cac:PartyIdentification', [identifier<T>('cbc:ID', field)], isPartyId)
}

function schemeOf(taxScheme: XmlElement): string {
  return (child(taxScheme, 'cac:TaxScheme', 'cbc:ID')?.text ?? '').trim()
}
const isVat: When = (taxScheme) => schemeOf(taxScheme).toUpperCase() === 'VAT'

function vatIdentifier<T extends { vatIdentifier?: string }>(field: Parameters<typeof leaf<T>>[1]): Binding<T> {
  return within('cac:PartyTaxScheme', [leaf<T>('cbc:CompanyID', field), constant('cac:TaxScheme/cbc:ID', 'VAT')], isVat)
}

/** The tax scheme that is written for BT-32 if the document names none. */
const TAX_SCHEME = 'TAX'

/** BT-32: a tax scheme other than VAT, whose name is kept as the identifier's scheme. */
const taxRegistration: Binding<Seller> = {
  read(party, into, context) {
    const found = party.children.filter((candidate) => candidate.name === 'cac:PartyTaxScheme' && !isVat(candidate, context))
    for (const candidate of found) candidate.known = true
    const [first] = found
    if (first === undefined) return
    const id = child(first, 'cbc:CompanyID')
    const scheme = child(first, 'cac:TaxScheme', 'cbc:ID')
    if (id === undefined) return
    id.used = true
    if (scheme !== undefined) scheme.used = true
    const schemeId = schemeOf(first)
    into.taxRegistration = schemeId === TAX_SCHEME || schemeId === '' ? { value: id.text } : { value: id.text, schemeId }
  },
  write(seller) {
    const registration = seller.taxRegistration
    if (registration === undefined) return []
    const scheme = element('cac:TaxScheme', [element('cbc:ID', registration.schemeId ?? TAX_SCHEME)])
    return [element('cac:PartyTaxScheme', [element('cbc:CompanyID', registration.value), scheme])]
  },
}

const seller: readonly Binding<Seller>[] = [
  within('cac:Party', [
    identifier('cbc:EndpointID', 'electronicAddress'),
    sellerIdentifiers,
    creditor('creditorIdentifier'),
    leaf('cac:PartyName/cbc:Name', 'tradingName'),
    group('cac:PostalAddress', 'address', address),
    vatIdentifier('vatIdentifier'),
    taxRegistration,
    within('cac:PartyLegalEntity', [
      leaf('cbc:RegistrationName', 'name'),
      identifier('cbc:CompanyID', 'legalRegistration'),
      leaf('cbc:CompanyLegalForm', 'legalInformation'),
    ]),
    group('cac:Contact', 'contact', contact),
  ]),
]

const buyer: readonly Binding<Buyer>[] = [
  within('cac:Party', [
    identifier('cbc:EndpointID', 'electronicAddress'),
    partyId('identifier'),
    leaf('cac:PartyName/cbc:Name', 'tradingName'),
    group('cac:PostalAddress', 'address', address),
    vatIdentifier('vatIdentifier'),
    within('cac:PartyLegalEntity', [leaf('cbc:RegistrationName', 'name'), identifier('cbc:CompanyID', 'legalRegistration')]),
    group('cac:Contact', 'contact', contact),
  ]),
]

const payee: readonly Binding<Payee>[] = [
  partyId('identifier'),
  creditor('creditorIdentifier'),
  leaf('cac:PartyName/cbc:Name', 'name'),
  identifier('cac:PartyLegalEntity/cbc:CompanyID', 'legalRegistration'),
]

const taxRepresentative: readonly Binding<TaxRepresentative>[] = [
  leaf('cac:PartyName/cbc:Name', 'name'),
  group('cac:PostalAddress', 'address', address),
  vatIdentifier('vatIdentifier'),
]

const delivery: readonly Binding<Delivery>[] = [
  leaf('cbc:ActualDeliveryDate', 'date', { kind: 'date' }),
  within('cac:DeliveryLocation', [identifier('cbc:ID', 'location'), group('cac:Address', 'address', address)]),
  leaf('cac:DeliveryParty/cac:PartyName/cbc:Name', 'partyName'),
]

/** From AccountingSupplierParty to Delivery, in UBL's order. */
export const partyBindings: readonly Binding<BillingDocument>[] = [
  group('cac:AccountingSupplierParty', 'seller', seller),
  group('cac:AccountingCustomerParty', 'buyer', buyer),
  group('cac:PayeeParty', 'payee', payee),
  group('cac:TaxRepresentativeParty', 'taxRepresentative', taxRepresentative),
  group('cac:Delivery', 'delivery', delivery),
]

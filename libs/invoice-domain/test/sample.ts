/** A small valid draft for tests: two rates, an allowance, a charge. */
import type { BillingDocument } from '@tallystick/invoice-domain/model'

export function sampleDraft(): BillingDocument {
  return {
    kind: 'invoice',
    currency: 'EUR',
    dueDate: '2026-03-31',
    seller: { name: 'Acme Tools GmbH', vatIdentifier: 'DE123456789', address: { city: 'Bremen', country: 'DE' } },
    buyer: { name: 'Globex Handels AG', address: { city: 'Wien', country: 'AT' } },
    allowances: [{ baseAmount: '200.00', percentage: '5', reason: 'Loyalty', vat: { code: 'S', rate: '19' } }],
    charges: [{ amount: '7.50', reason: 'Freight', vat: { code: 'S', rate: '19.00' } }],
    lines: [
      {
        id: '1',
        quantity: '3',
        unit: 'EA',
        price: { gross: '12.345', discount: '0.345', baseQuantity: '1' },
        allowances: [{ amount: '1.00', reason: 'Scratch' }],
        vat: { code: 'S', rate: '19' },
        item: { name: 'Hammer' },
      },
      {
        id: '2',
        quantity: '10',
        unit: 'EA',
        price: { net: '1.115', baseQuantity: '100' },
        vat: { code: 'S', rate: '7' },
        item: { name: 'Nails' },
      },
    ],
  }
}

/** A document of the domain to UBL 2.1. */
import type { BillingDocument } from '@tallystick/invoice-domain/model'
import { ROOTS } from './parse-ubl.js'
import { CAC_NS, CBC_NS } from './tree.js'
import { element, writeXml } from './write-xml.js'

/**
 * @returns an XML document (UTF-8, with declaration), elements in the order of the UBL 2.1 schema. A draft may be
 *   incomplete, and so is its export.
 */
export function toUbl(document: BillingDocument): string {
  const { root, namespace, bindings } = ROOTS[document.kind]
  const context = { kind: document.kind, currency: document.currency, vatCurrency: document.vatCurrency, bad: [] }
  const content = bindings.flatMap((binding) => binding.write(document, context))
  return writeXml(
    element(root, content, [
      ['xmlns', namespace],
      ['xmlns:cac', CAC_NS],
      ['xmlns:cbc', CBC_NS],
    ]),
  )
}

/**
 * A document as a printable page: no script, no link, no image, every value escaped. The policy that goes with it
 * allows nothing but its one style sheet, named by hash.
 */
import { createHash } from 'node:crypto'
import type { BillingDocument } from '@tallystick/invoice-domain/model'

const STYLE = `body{font:14px/1.4 system-ui,sans-serif;margin:2rem auto;max-width:60rem;color:#111}
h1{font-size:1.4rem}table{border-collapse:collapse;width:100%;margin:1rem 0}th,td{border-bottom:1px solid #ccc;padding:.3rem .5rem;text-align:left;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem}dt{color:#555}dd{margin:0}
.parties{display:grid;grid-template-columns:1fr 1fr;gap:2rem}@media print{body{margin:0}}`

export const PAGE_POLICY = `default-src 'none'; style-src 'sha256-${createHash('sha256').update(STYLE).digest('base64')}'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'`

/** Text as it stands in the page: the five characters that mean something to HTML, and nothing that reorders text. */
export function escapeHtml(text: string): string {
  return text
    .replaceAll(/[\u202a-\u202e\u2066-\u2069]/g, '\ufffd')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll("'", '&#39;')
}

type Cell = string | undefined
const e = (text: Cell) => (text === undefined ? '' : escapeHtml(text))
const term = (name: string, value: Cell) => (value === undefined ? '' : `<dt>${name}</dt><dd>${e(value)}</dd>`)

export function documentPage(document: BillingDocument, facts: ReadonlyArray<readonly [string, string]>): string {
  const title = `${document.kind === 'invoice' ? 'Invoice' : 'Credit note'} ${document.number ?? '(draft)'}`
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>${e(title)}</title><style>${STYLE}</style></head><body>
<h1>${e(title)}</h1>
<dl>${term('Issue date', document.issueDate)}${term('Due date', document.dueDate)}${term('Currency', document.currency)}${term('Buyer reference', document.buyerReference)}${term('Order', document.purchaseOrderReference)}${term('Contract', document.contractReference)}</dl>
<div class="parties">${party('Seller', document.seller)}${party('Buyer', document.buyer)}</div>
${(document.notes ?? []).map((note) => `<p>${e(note.text)}</p>`).join('\n')}
${lines(document)}
${totals(document)}
${document.paymentTerms === undefined ? '' : `<p>${e(document.paymentTerms)}</p>`}
<dl>${facts.map(([name, value]) => term(e(name), value)).join('')}</dl>
</body></html>
`
}

function party(role: string, party: BillingDocument['seller'] | BillingDocument['buyer']): string {
  if (party === undefined) return `<section><h2>${role}</h2></section>`
  const { address } = party
  const place =
    address === undefined
      ? []
      : [address.line1, address.line2, address.line3, [address.postCode, address.city].filter(Boolean).join(' '), address.country].filter(
          (line): line is string => line !== undefined && line !== '',
        )
  return `<section><h2>${role}</h2><p>${[party.name, ...place]
    .filter((line): line is string => line !== undefined)
    .map(e)
    .join('<br>')}</p><dl>${term('VAT', party.vatIdentifier)}</dl></section>`
}

function lines(document: BillingDocument): string {
  const rows = (document.lines ?? []).map(
    (line) =>
      `<tr><td>${e(line.id)}</td><td>${e(line.item?.name)}${line.item?.description === undefined ? '' : `<br>${e(line.item.description)}`}</td><td class="n">${e(line.quantity)} ${e(line.unit)}</td><td class="n">${e(line.price?.net)}</td><td class="n">${e(line.vat?.rate)}</td><td class="n">${e(line.netAmount)}</td></tr>`,
  )
  return `<table><thead><tr><th>#</th><th>Item</th><th class="n">Quantity</th><th class="n">Price</th><th class="n">VAT %</th><th class="n">Net</th></tr></thead><tbody>${rows.join('')}</tbody></table>`
}

function totals(document: BillingDocument): string {
  const t = document.totals ?? {}
  return `<dl>${term('Net', t.withoutVat)}${term('VAT', t.vat)}${term('Total', t.withVat)}${term('Paid', t.paid)}${term('Due', t.payable === undefined ? undefined : `${t.payable} ${document.currency ?? ''}`)}</dl>`
}

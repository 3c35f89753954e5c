/** Which representation an Accept header asks for (RFC 9110 §12.5.1). */
import { EdgeRefusal } from './problem.js'

export type Representation = 'json' | 'xml' | 'html'

const TYPES: Record<string, Representation> = {
  'application/json': 'json',
  'application/*': 'json',
  '*/*': 'json',
  'application/xml': 'xml',
  'text/xml': 'xml',
  'text/html': 'html',
  'text/*': 'html',
}

/** @throws EdgeRefusal NotAcceptable */
export function representationFor(accept: string | undefined): Representation {
  if (accept === undefined || accept.trim() === '') return 'json'
  const wanted = accept
    .slice(0, 1000)
    .split(',')
    .map((range, index) => {
      const [type, ...parameters] = range.split(';').map((part) => part.trim().toLowerCase())
      const q = parameters.find((parameter) => parameter.startsWith('q='))
      return { type: type ?? '', quality: q === undefined ? 1 : Number(q.slice(2)), index }
    })
    .filter(({ type, quality }) => Object.hasOwn(TYPES, type) && quality > 0)
    .sort((a, b) => b.quality - a.quality || specificity(b.type) - specificity(a.type) || a.index - b.index)
  const best = wanted[0]
  if (best === undefined)
    throw new EdgeRefusal('NotAcceptable', 'Documents come as application/json, application/xml (UBL 2.1) or text/html.')
  return TYPES[best.type]!
}

function specificity(type: string): number {
  return type === '*/*' ? 0 : type.endsWith('/*') ? 1 : 2
}

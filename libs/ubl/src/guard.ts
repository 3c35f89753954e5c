/**
 * The gate before the XML parser. One linear pass holds the text against the well-formedness rules of XML 1.0 and
 * against the limits, without building anything, and copies out only elements, text and CDATA: the parser behind it
 * never sees a declaration, a processing instruction, a comment or a document type.
 * @see docs/spec/ubl.md §5
 */
import { malformed, type UblError } from './errors.js'
import { MAX_ATTRIBUTE_LENGTH, MAX_ATTRIBUTES, MAX_DEPTH, MAX_ELEMENTS, MAX_NAME_LENGTH, MAX_UBL_BYTES } from './limits.js'

const NAME_START =
  ':A-Z_a-z\\u00C0-\\u00D6\\u00D8-\\u00F6\\u00F8-\\u02FF\\u0370-\\u037D\\u037F-\\u1FFF\\u200C\\u200D\\u2070-\\u218F\\u2C00-\\u2FEF\\u3001-\\uD7FF\\uF900-\\uFDCF\\uFDF0-\\uFFFD'
const NAME = new RegExp(`[${NAME_START}][${NAME_START}\\-.0-9\\u00B7\\u0300-\\u036F\\u203F\\u2040]*`, 'y')
const ATTRIBUTE_END = /[ \t\r\n]*=[ \t\r\n]*(["'])/y
const SPACE = /[ \t\r\n]*/y
const DECLARATION =
  /^<\?xml[ \t\r\n]+version[ \t\r\n]*=[ \t\r\n]*(?:"1\.0"|'1\.0')(?:[ \t\r\n]+encoding[ \t\r\n]*=[ \t\r\n]*(?:"([A-Za-z0-9._-]+)"|'([A-Za-z0-9._-]+)'))?(?:[ \t\r\n]+standalone[ \t\r\n]*=[ \t\r\n]*(?:"(?:yes|no)"|'(?:yes|no)'))?[ \t\r\n]*\?>/
// The characters that XML 1.0 forbids.
const FORBIDDEN = /[\u0000-\u0008\u000B\u000C\u000E-\u001F\uFFFE\uFFFF]/
/** Names with a meaning of their own in JavaScript objects; no UBL element or attribute has one. */
const RESERVED_NAMES = new Set(['__proto__', 'constructor', 'prototype'])

/**
 * @param input UTF-8 bytes, with or without a byte order mark, or text
 * @returns the text, line ends normalised to \n
 * @throws UblError XML-SIZE, XML-ENCODING, XML-SYNTAX (a character that XML forbids)
 */
export function decodeXml(input: Uint8Array | string): string {
  const text = typeof input === 'string' ? input : decodeBytes(input)
  if (text.length > MAX_UBL_BYTES || (typeof input === 'string' && new TextEncoder().encode(text).length > MAX_UBL_BYTES)) throw tooLarge()
  if (!text.isWellFormed()) throw malformed('XML-ENCODING', 'the text holds half of a surrogate pair')
  if (FORBIDDEN.test(text)) throw malformed('XML-SYNTAX', 'the text holds a control character that XML forbids')
  const body = text.startsWith('\uFEFF') ? text.slice(1) : text
  return body.replace(/\r\n?/g, '\n')
}

function tooLarge(): UblError {
  return malformed('XML-SIZE', `a document has at most ${MAX_UBL_BYTES} bytes`)
}

function decodeBytes(bytes: Uint8Array): string {
  if (bytes.length > MAX_UBL_BYTES) throw tooLarge()
  const [a, b] = bytes
  if ((a === 0xff && b === 0xfe) || (a === 0xfe && b === 0xff) || a === 0 || b === 0) {
    throw malformed('XML-ENCODING', 'only UTF-8 is taken, and this looks like UTF-16 or UTF-32')
  }
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    throw malformed('XML-ENCODING', declaredEncoding(bytes) ?? 'the bytes are not valid UTF-8')
  }
}

/** Says so if the document names another encoding, which is the usual reason for invalid UTF-8. */
function declaredEncoding(bytes: Uint8Array): string | undefined {
  const head = String.fromCharCode(...bytes.subarray(0, 200))
  const name = /encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']/.exec(head)?.[1]
  return name === undefined || /^utf-?8$/i.test(name) ? undefined : `only UTF-8 is taken, and the document declares ${name}`
}

/**
 * @param xml text from `decodeXml`
 * @returns the same document with elements, text and CDATA only
 * @throws UblError XML-SYNTAX, XML-DOCTYPE, XML-ENCODING, XML-LIMIT, XML-ENTITY
 */
export function guardXml(xml: string): string {
  const kept: string[] = []
  const open: string[] = []
  let elements = 0
  let rootSeen = false
  let at = skipDeclaration(xml)
  while (at < xml.length) {
    const next = xml.indexOf('<', at)
    const end = next === -1 ? xml.length : next
    if (end > at) {
      const text = xml.slice(at, end)
      checkText(text, open, at)
      if (open.length > 0) kept.push(text)
    }
    if (next === -1) break
    const second = xml[next + 1]
    if (second === '?') {
      at = endOf(xml, '?>', next + 2, 'a processing instruction is not closed')
      if (/^<\?xml[\s?]/i.test(xml.slice(next, next + 6))) throw syntax('an XML declaration is allowed at the very beginning only', next)
    } else if (second === '!') {
      if (xml.startsWith('<!--', next)) {
        const close = xml.indexOf('--', next + 4)
        if (close === -1 || xml[close + 2] !== '>') throw syntax('a comment is not closed, or holds "--"', next)
        at = close + 3
      } else if (xml.startsWith('<![CDATA[', next) && open.length > 0) {
        at = endOf(xml, ']]>', next + 9, 'a CDATA section is not closed')
        kept.push(xml.slice(next, at))
      } else {
        throw /^<!(?:DOCTYPE|ENTITY|ELEMENT|ATTLIST|NOTATION)/i.test(xml.slice(next, next + 12))
          ? malformed('XML-DOCTYPE', 'a document type declaration is refused: entities and external files are not read')
          : syntax('unexpected "<!"', next)
      }
    } else if (second === '/') {
      at = closeTag(xml, next, open)
      kept.push(xml.slice(next, at))
    } else {
      if (open.length === 0 && rootSeen) throw syntax('a second root element', next)
      rootSeen = true
      if (++elements > MAX_ELEMENTS) throw malformed('XML-LIMIT', `a document has at most ${MAX_ELEMENTS} elements`)
      at = openTag(xml, next, open)
      kept.push(xml.slice(next, at))
    }
  }
  if (open.length > 0) throw syntax(`<${open.at(-1)}> is not closed`, xml.length)
  if (!rootSeen) throw syntax('there is no element', xml.length)
  return kept.join('')
}

function skipDeclaration(xml: string): number {
  if (!/^<\?xml[\s?]/.test(xml.slice(0, 6))) return 0
  const match = DECLARATION.exec(xml.slice(0, 512))
  if (match === null) throw syntax('malformed XML declaration', 0)
  const encoding = match[1] ?? match[2]
  if (encoding !== undefined && !/^(?:utf-?8|us-ascii)$/i.test(encoding)) {
    throw malformed('XML-ENCODING', `only UTF-8 is taken, and the document declares ${encoding.slice(0, 40)}`)
  }
  return match[0].length
}

function openTag(xml: string, start: number, open: string[]): number {
  const name = nameAt(xml, start + 1)
  const seen = new Set<string>()
  let at = start + 1 + name.length
  for (;;) {
    const from = at
    at = skipSpace(xml, at)
    if (xml[at] === '>') {
      if (open.length >= MAX_DEPTH) throw malformed('XML-LIMIT', `elements nest at most ${MAX_DEPTH} deep`)
      open.push(name)
      return at + 1
    }
    if (xml[at] === '/' && xml[at + 1] === '>') return at + 2
    if (at === from) throw syntax(`malformed tag <${name}>`, start)
    at = attribute(xml, at, name, seen)
  }
}

function attribute(xml: string, start: number, element: string, seen: Set<string>): number {
  const name = nameAt(xml, start)
  if (seen.has(name)) throw syntax(`<${element}> has the attribute ${name} twice`, start)
  seen.add(name)
  if (seen.size > MAX_ATTRIBUTES) throw malformed('XML-LIMIT', `an element has at most ${MAX_ATTRIBUTES} attributes`)
  ATTRIBUTE_END.lastIndex = start + name.length
  const match = ATTRIBUTE_END.exec(xml)
  if (match === null) throw syntax(`the attribute ${name} of <${element}> has no value in quotes`, start)
  const from = start + name.length + match[0].length
  const end = xml.indexOf(match[1] as string, from)
  if (end === -1) throw syntax(`the attribute ${name} of <${element}> is not closed`, start)
  if (end - from > MAX_ATTRIBUTE_LENGTH) throw malformed('XML-LIMIT', `an attribute has at most ${MAX_ATTRIBUTE_LENGTH} characters`)
  if (xml.slice(from, end).includes('<')) throw syntax(`the attribute ${name} of <${element}> holds "<"`, start)
  return end + 1
}

function closeTag(xml: string, start: number, open: string[]): number {
  const name = nameAt(xml, start + 2)
  const expected = open.pop()
  if (name !== expected)
    throw syntax(expected === undefined ? `</${name}> closes nothing` : `</${name}> where </${expected}> is due`, start)
  const at = skipSpace(xml, start + 2 + name.length)
  if (xml[at] !== '>') throw syntax(`malformed tag </${name}>`, start)
  return at + 1
}

function nameAt(xml: string, at: number): string {
  NAME.lastIndex = at
  const name = NAME.exec(xml)?.[0]
  if (name === undefined) throw syntax('a name is expected', at)
  if (name.length > MAX_NAME_LENGTH) throw malformed('XML-LIMIT', `a name has at most ${MAX_NAME_LENGTH} characters`)
  if (RESERVED_NAMES.has(name)) throw malformed('XML-SYNTAX', `the name ${name} is reserved`)
  return name
}

function skipSpace(xml: string, at: number): number {
  SPACE.lastIndex = at
  return at + (SPACE.exec(xml)?.[0].length ?? 0)
}

function endOf(xml: string, mark: string, from: number, otherwise: string): number {
  const at = xml.indexOf(mark, from)
  if (at === -1) throw syntax(otherwise, from)
  return at + mark.length
}

function checkText(text: string, open: readonly string[], at: number): void {
  if (open.length === 0 && text.trim() !== '') throw syntax('text outside of the root element', at)
  if (text.includes(']]>')) throw syntax('"]]>" in text', at)
}

function syntax(message: string, at: number): UblError {
  return malformed('XML-SYNTAX', `not well-formed XML: ${message} (at character ${at})`)
}

const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" }

/**
 * Resolves the five entities of XML and numeric character references; everything else is refused.
 * @throws UblError XML-ENTITY
 */
export function decodeEntities(text: string): string {
  if (!text.includes('&')) return text
  return text.replace(/&([^;&]{0,12};?)/g, (_all, body: string) => {
    const name = body.endsWith(';') ? body.slice(0, -1) : null
    const value = name === null ? undefined : resolveEntity(name)
    if (value === undefined) throw malformed('XML-ENTITY', `unknown or malformed entity &${body.slice(0, 16)}`)
    return value
  })
}

function resolveEntity(name: string): string | undefined {
  if (Object.hasOwn(ENTITIES, name)) return ENTITIES[name]
  const match = /^#(?:([0-9]{1,7})|x([0-9A-Fa-f]{1,6}))$/.exec(name)
  if (match === null) return undefined
  const code = match[1] === undefined ? Number.parseInt(match[2] as string, 16) : Number.parseInt(match[1], 10)
  const legal =
    code === 9 ||
    code === 10 ||
    code === 13 ||
    (code >= 0x20 && code <= 0xd7ff) ||
    (code >= 0xe000 && code <= 0xfffd) ||
    (code >= 0x10000 && code <= 0x10ffff)
  return legal ? String.fromCodePoint(code) : undefined
}

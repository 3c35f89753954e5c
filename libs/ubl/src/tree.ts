/** XML text to a tree of elements with resolved namespaces, each part of which remembers whether it was used. */
import { XMLParser } from 'fast-xml-parser'
import { malformed } from './errors.js'
import { decodeEntities, decodeXml, guardXml } from './guard.js'

export const INVOICE_NS = 'urn:oasis:names:specification:ubl:schema:xsd:Invoice-2'
export const CREDIT_NOTE_NS = 'urn:oasis:names:specification:ubl:schema:xsd:CreditNote-2'
export const CAC_NS = 'urn:oasis:names:specification:ubl:schema:xsd:CommonAggregateComponents-2'
export const CBC_NS = 'urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2'
const XML_NS = 'http://www.w3.org/XML/1998/namespace'

/** Names in paths and bindings have these prefixes whatever the document uses. */
const PREFIXES: ReadonlyMap<string, string> = new Map([
  [INVOICE_NS, ''],
  [CREDIT_NOTE_NS, ''],
  [CAC_NS, 'cac:'],
  [CBC_NS, 'cbc:'],
])

export interface XmlAttribute {
  /** Local name; with its namespace in braces if it has one */
  readonly name: string
  readonly value: string
  used: boolean
}

export interface XmlElement {
  /** `cbc:ID`, `cac:Party`, `Invoice`; `{namespace}local` for any other namespace */
  readonly name: string
  readonly path: string
  /** Text directly inside, entities resolved, white space as written */
  readonly text: string
  readonly attributes: readonly XmlAttribute[]
  readonly children: readonly XmlElement[]
  /** Its text, if it has no children, went into the document */
  used: boolean
  /** A binding knows this element here, whether or not it could be kept */
  known: boolean
}

const parser = new XMLParser({
  preserveOrder: true,
  ignoreAttributes: false,
  attributeNamePrefix: '@',
  parseTagValue: false,
  parseAttributeValue: false,
  processEntities: false,
  htmlEntities: false,
  trimValues: false,
  cdataPropName: '#cdata',
  jPath: false,
  onDangerousProperty: (name: string) => name,
})

type ParsedNode = Record<string, unknown>

/** Namespace declarations of one element; a chain, so that a hostile document cannot make each element copy them. */
interface Scope {
  readonly own: ReadonlyMap<string, string>
  readonly outer: Scope | null
}

/** @throws UblError for anything but a well-formed, bounded UTF-8 document without a document type */
export function parseXml(input: Uint8Array | string): XmlElement {
  const nodes = parser.parse(guardXml(decodeXml(input))) as ParsedNode[]
  const root = nodes.find((node) => !Object.hasOwn(node, '#text'))
  if (root === undefined) throw malformed('XML-SYNTAX', 'there is no element')
  return build(root, { own: new Map([['xml', XML_NS]]), outer: null }, '', '')
}

function build(node: ParsedNode, inherited: Scope, parentPath: string, index: string): XmlElement {
  const tag = tagOf(node)
  const raw = attributesOf(node)
  const namespaces = declared(raw, inherited)
  const name = resolve(tag, namespaces, true)
  const path = `${parentPath}/${name}${index}`
  const attributes: XmlAttribute[] = []
  for (const [attribute, value] of raw) {
    if (attribute === 'xmlns' || attribute.startsWith('xmlns:')) continue
    const resolved = resolve(attribute, namespaces, false)
    if (attributes.some((other) => other.name === resolved)) throw malformed('XML-SYNTAX', `the attribute ${attribute} occurs twice`, path)
    attributes.push({ name: resolved, value, used: false })
  }
  const inner = node[tag] as ParsedNode[]
  let text = ''
  const elements: ParsedNode[] = []
  for (const part of inner) {
    if (Object.hasOwn(part, '#text')) text += decodeEntities(String(part['#text']))
    else if (Object.hasOwn(part, '#cdata'))
      text += (part['#cdata'] as { '#text'?: unknown }[]).map((piece) => String(piece['#text'] ?? '')).join('')
    else elements.push(part)
  }
  return { name, path, text, attributes, children: buildAll(elements, namespaces, path), used: false, known: false }
}

/** Children with their position among those of the same name, counted from 1, where there are several. */
function buildAll(nodes: readonly ParsedNode[], namespaces: Scope, path: string): XmlElement[] {
  const totals = new Map<string, number>()
  for (const node of nodes) totals.set(tagOf(node), (totals.get(tagOf(node)) ?? 0) + 1)
  const counts = new Map<string, number>()
  return nodes.map((node) => {
    const tag = tagOf(node)
    const position = (counts.get(tag) ?? 0) + 1
    counts.set(tag, position)
    return build(node, namespaces, path, totals.get(tag) === 1 ? '' : `[${position}]`)
  })
}

function tagOf(node: ParsedNode): string {
  return Object.keys(node).find((key) => key !== ':@') as string
}

function attributesOf(node: ParsedNode): [string, string][] {
  const attributes = (node[':@'] ?? {}) as Record<string, unknown>
  // Attribute value normalisation of XML 1.0 §3.3.3: literal white space becomes a space, character references stay.
  return Object.entries(attributes).map(([name, value]) => [name.slice(1), decodeEntities(String(value).replace(/[\t\n\r]/g, ' '))])
}

function declared(attributes: readonly [string, string][], inherited: Scope): Scope {
  const declarations = attributes.filter(([name]) => name === 'xmlns' || name.startsWith('xmlns:'))
  if (declarations.length === 0) return inherited
  return { own: new Map(declarations.map(([name, uri]) => [name === 'xmlns' ? '' : name.slice(6), uri])), outer: inherited }
}

function namespaceOf(prefix: string, scope: Scope): string | undefined {
  for (let current: Scope | null = scope; current !== null; current = current.outer) {
    const uri = current.own.get(prefix)
    if (uri !== undefined) return uri
  }
  return undefined
}

function resolve(name: string, namespaces: Scope, element: boolean): string {
  const [first = '', second, third] = name.split(':')
  if (third !== undefined || second === '' || (second !== undefined && first === ''))
    throw malformed('XML-NAMESPACE', `malformed name ${name}`)
  const prefix = second === undefined ? '' : first
  const local = second ?? first
  if (!element && prefix === '') return local
  const uri = namespaceOf(prefix, namespaces)
  if (uri === undefined || uri === '') {
    if (prefix === '') return `{}${local}`
    throw malformed('XML-NAMESPACE', `the prefix ${prefix} is not declared`)
  }
  const known = element ? PREFIXES.get(uri) : undefined
  return known === undefined ? `{${uri}}${local}` : `${known}${local}`
}

/** The first child of a name, without using it up. */
export function child(element: XmlElement, ...names: string[]): XmlElement | undefined {
  let current: XmlElement | undefined = element
  for (const name of names) current = current?.children.find((candidate) => candidate.name === name)
  return current
}

export function attributeOf(element: XmlElement | undefined, name: string): string | undefined {
  return element?.attributes.find((attribute) => attribute.name === name)?.value
}

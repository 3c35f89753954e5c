/**
 * The canonical form of a document: a versioned record of strings, lists and maps, with no absent value, no empty
 * list and no number but the version. It is what deterministic CBOR encodes, so equal documents have equal bytes.
 * Reading is strict: an unknown field, a wrong type or a malformed value is refused by name.
 * @see docs/spec/ubl.md §3
 */
import { isCalendarDate } from './calendar.js'
import { isDecimal } from './decimal.js'
import { DomainError, pointerTo, refuse, type Violation } from './errors.js'
import { BILLING_KINDS, type BillingDocument, type BillingKind } from './model.js'
import { DOCUMENT_SHAPE, type AnyGroup, type AnyShape, type LeafKind } from './shape.js'

/** Version of the record's layout. A change of meaning gets a new number; the old one stays readable. */
export const RECORD_VERSION = 1

/** A document with an attachment may reach the size of a payload; no list is longer than this. */
export const MAX_LIST_ITEMS = 20_000
/** Violations collected before reading stops, so that a hostile document cannot ask for a huge answer. */
export const MAX_REPORTED = 100

export type RecordValue = string | number | RecordValue[] | { [field: string]: RecordValue }
export interface DocumentRecord {
  [field: string]: RecordValue
  v: number
  kind: string
}

/** @returns the record: feed it to the deterministic CBOR encoder. Throws what `fromRecord` would refuse. */
export function toRecord(document: BillingDocument): DocumentRecord {
  return { v: RECORD_VERSION, ...toJson(document) }
}

/** The record without its version, for JSON answers. */
export function toJson(document: BillingDocument): { kind: BillingKind; [field: string]: RecordValue } {
  const problems: Violation[] = []
  const { kind, ...fields } = document
  checkKind(kind, problems)
  const body = readGroup(fields, DOCUMENT_SHAPE as AnyGroup, '', problems)
  refuseIfAny(problems)
  return { kind, ...body }
}

/**
 * @param record what the CBOR decoder gave: plain or null-prototype objects
 * @throws DomainError InvalidRequest (unknown field, wrong type), InvalidAmount, UnsupportedVersion
 */
export function fromRecord(record: unknown): BillingDocument {
  if (!isMap(record)) throw refuse('InvalidRequest', 'InvalidRequest', '', 'a document is a map of fields')
  const { v, ...rest } = record
  if (v !== RECORD_VERSION) throw refuse('UnsupportedVersion', 'UnsupportedVersion', '/v', 'unknown version of the document record')
  return fromJson(rest)
}

/**
 * Reads a document from JSON. `kind` may be left out if the caller knows it, and must agree with it otherwise.
 * @throws DomainError InvalidRequest, InvalidAmount; all violations found, up to MAX_REPORTED
 */
export function fromJson(body: unknown, kind?: BillingKind): BillingDocument {
  if (!isMap(body)) throw refuse('InvalidRequest', 'InvalidRequest', '', 'a document is an object of fields')
  const { kind: stated, v, ...fields } = body
  const problems: Violation[] = []
  if (v !== undefined && v !== RECORD_VERSION)
    throw refuse('UnsupportedVersion', 'UnsupportedVersion', '/v', 'unknown version of the document record')
  const actual = stated ?? kind
  checkKind(actual, problems)
  if (kind !== undefined && actual !== kind)
    problems.push({ rule: 'InvalidRequest', pointer: '/kind', message: `this must be of kind ${kind}` })
  const document = readGroup(fields, DOCUMENT_SHAPE as AnyGroup, '', problems)
  refuseIfAny(problems)
  return { kind: actual as BillingKind, ...document } as unknown as BillingDocument
}

/**
 * Applies a JSON merge patch (RFC 7396) to a draft: `null` removes, objects merge, everything else replaces.
 * @throws DomainError InvalidRequest, InvalidAmount; `kind` cannot change
 */
export function mergeDraft(document: BillingDocument, patch: unknown): BillingDocument {
  if (!isMap(patch)) throw refuse('InvalidRequest', 'InvalidRequest', '', 'a patch is an object of fields')
  return fromJson(merge(toJson(document), patch, 0), document.kind)
}

/** Deeper than any document; keeps a hostile patch from exhausting the stack. */
const MAX_PATCH_DEPTH = 16

function merge(target: unknown, patch: Record<string, unknown>, depth: number): Record<string, unknown> {
  if (depth > MAX_PATCH_DEPTH) throw refuse('InvalidRequest', 'InvalidRequest', '', `a patch is at most ${MAX_PATCH_DEPTH} levels deep`)
  const merged: Record<string, unknown> = Object.assign(Object.create(null), isMap(target) ? target : {})
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete merged[name]
    else merged[name] = isMap(value) ? merge(merged[name], value, depth + 1) : value
  }
  return merged
}

function checkKind(kind: unknown, problems: Violation[]): void {
  if (typeof kind !== 'string' || !(BILLING_KINDS as readonly string[]).includes(kind)) {
    problems.push({ rule: 'InvalidRequest', pointer: '/kind', message: `kind is one of ${BILLING_KINDS.join(', ')}` })
  }
}

function refuseIfAny(problems: Violation[]): void {
  if (problems.length === 0) return
  throw new DomainError(problems.every((p) => p.rule === 'InvalidAmount') ? 'InvalidAmount' : 'InvalidRequest', problems)
}

/** A map: a plain object or a null-prototype one, nothing with behaviour. */
function isMap(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}

function readGroup(source: Record<string, unknown>, group: AnyGroup, pointer: string, problems: Violation[]): Record<string, RecordValue> {
  const result: Record<string, RecordValue> = {}
  for (const name of Object.keys(source)) {
    if (!Object.hasOwn(group.fields, name) && problems.length < MAX_REPORTED) {
      problems.push({ rule: 'InvalidRequest', pointer: pointerTo(pointer, name.slice(0, 80)), message: 'unknown field' })
    }
  }
  for (const [name, shape] of Object.entries(group.fields)) {
    const value = Object.hasOwn(source, name) ? source[name] : undefined
    if (value === undefined) continue
    const read = readValue(value, shape, pointerTo(pointer, name), problems)
    if (read !== undefined) result[name] = read
  }
  for (const name of group.required ?? []) {
    if (!Object.hasOwn(source, name) || source[name] === undefined) {
      problems.push({ rule: 'InvalidRequest', pointer: pointerTo(pointer, name), message: 'missing' })
    }
  }
  if (group === (DOCUMENT_SHAPE.fields.notes.list as AnyGroup)) checkNote(result, pointer, problems)
  return result
}

function readValue(value: unknown, shape: AnyShape, pointer: string, problems: Violation[]): RecordValue | undefined {
  if (problems.length >= MAX_REPORTED) return undefined
  if (typeof shape === 'string') return readLeaf(value, shape, pointer, problems)
  if ('fields' in shape) {
    if (isMap(value)) return readGroup(value, shape, pointer, problems)
    problems.push({ rule: 'InvalidRequest', pointer, message: 'an object is expected' })
    return undefined
  }
  if (!Array.isArray(value) || value.length > MAX_LIST_ITEMS) {
    problems.push({ rule: 'InvalidRequest', pointer, message: `a list of at most ${MAX_LIST_ITEMS} items is expected` })
    return undefined
  }
  const items: RecordValue[] = []
  value.forEach((element: unknown, index) => {
    const read = readValue(element, shape.list, pointerTo(pointer, index), problems)
    if (read !== undefined) items.push(read)
  })
  return items.length === 0 ? undefined : items
}

const LEAVES: Readonly<Record<LeafKind, { holds: (value: string) => boolean; says: string }>> = {
  text: { holds: isPrintable, says: 'text without control characters or lone surrogates is expected' },
  code: {
    holds: (value) => /^[^\s]+(?: [^\s]+)*$/.test(value) && isPrintable(value),
    says: 'a code without white space around it is expected',
  },
  date: { holds: isCalendarDate, says: 'a date as YYYY-MM-DD is expected' },
  decimal: { holds: isDecimal, says: 'a decimal as text is expected: "12.50", no exponent, no separator, no plus sign' },
  base64: { holds: (value) => value !== '' && isBase64(value), says: 'base64 text, padded and without white space, is expected' },
}

function readLeaf(value: unknown, kind: LeafKind, pointer: string, problems: Violation[]): string | undefined {
  if (typeof value === 'string' && LEAVES[kind].holds(value)) return value
  problems.push({ rule: kind === 'decimal' ? 'InvalidAmount' : 'InvalidRequest', pointer, message: LEAVES[kind].says })
  return undefined
}

/** Every character that XML 1.0 can carry: what a document holds can always be exported. */
function isPrintable(value: string): boolean {
  // The characters that XML 1.0 forbids.
  return value.isWellFormed() && !/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/.test(value)
}

/**
 * A run-length check over large attachments: a repeated group in one expression would exhaust the regular expression
 * engine's stack on megabytes, so length and alphabet are checked apart.
 */
export function isBase64(value: string): boolean {
  return value.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(value)
}

/** UBL writes the subject code in front of the note's text, so a text that looks like one cannot be told apart. */
function checkNote(note: Record<string, RecordValue>, pointer: string, problems: Violation[]): void {
  const { text, subjectCode } = note
  if (subjectCode === undefined && typeof text === 'string' && /^#[^#\s]+#/.test(text)) {
    problems.push({ rule: 'BR-CL-08', pointer: pointerTo(pointer, 'text'), message: 'a note that begins with #…# needs its subjectCode' })
  }
  if (typeof subjectCode === 'string' && /[#\s]/.test(subjectCode)) {
    problems.push({ rule: 'BR-CL-08', pointer: pointerTo(pointer, 'subjectCode'), message: 'a subject code has no # and no white space' })
  }
}

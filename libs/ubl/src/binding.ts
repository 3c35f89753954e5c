/**
 * Bindings between the domain's fields and UBL elements. A binding reads and writes, so the two directions cannot
 * drift apart. A group's bindings stand in the order in which UBL 2.1 wants its elements.
 * Reading marks what it used; what stays unmarked is what the import could not keep.
 * @see docs/spec/ubl.md §1
 */
import { isCalendarDate } from '@tallystick/invoice-domain/calendar'
import { canonicalDecimal, MAX_FRACTION_DIGITS, MAX_INTEGER_DIGITS } from '@tallystick/invoice-domain/decimal'
import type { Identifier } from '@tallystick/invoice-domain/terms'
import { isBase64 } from '@tallystick/invoice-domain/record'
import type { BadValue } from './errors.js'
import type { XmlAttribute, XmlElement } from './tree.js'
import { element, type OutElement } from './write-xml.js'

export interface Context {
  readonly kind: 'invoice' | 'credit-note'
  /** BT-5 and BT-6, which the `currencyID` attributes repeat */
  readonly currency: string | undefined
  readonly vatCurrency: string | undefined
  /** Values that are not of their type; reading goes on, so that all of them are found */
  readonly bad: BadValue[]
}

export interface Binding<T> {
  /** Takes what it knows from the children of `parent`. */
  read(parent: XmlElement, into: Partial<T>, context: Context): void
  /** Elements in order; a binding whose fields are absent writes none. */
  write(from: Partial<T>, context: Context): OutElement[]
  /** Writes the same whatever the fields are: alone it is no reason to write its parent. */
  readonly constant?: true
}

/** `amount` is a decimal whose `currencyID` repeats BT-5, `vat-amount` one that repeats BT-6. */
export type ValueKind = 'text' | 'code' | 'date' | 'decimal' | 'amount' | 'vat-amount' | 'base64'

type TextField<T> = { [K in keyof T]-?: NonNullable<T[K]> extends string ? K : never }[keyof T] & string
type IdentifierField<T> = { [K in keyof T]-?: Identifier extends NonNullable<T[K]> ? K : never }[keyof T] & string
type GroupField<T> = { [K in keyof T]-?: NonNullable<T[K]> extends readonly unknown[] | string ? never : K }[keyof T] & string
type ListField<T> = { [K in keyof T]-?: NonNullable<T[K]> extends readonly unknown[] ? K : never }[keyof T] & string
type ItemOf<V> = NonNullable<V> extends readonly (infer E)[] ? E : never
type Fields = Record<string, unknown>

/** Children of a name that `when` lets through; each is known from now on. */
function candidates(parent: XmlElement, name: string, context: Context, when?: When): XmlElement[] {
  const found = parent.children.filter((candidate) => candidate.name === name && (when === undefined || when(candidate, context)))
  for (const candidate of found) candidate.known = true
  return found
}
export type When = (element: XmlElement, context: Context) => boolean

/** @returns undefined where an empty element says nothing; texts may be empty */
export function readValue(source: XmlElement, kind: ValueKind, context: Context): string | undefined {
  source.used = true
  const trimmed = source.text.trim()
  switch (kind) {
    case 'text':
      return source.text
    case 'code':
      return collapse(source.text)
    case 'date':
      if (trimmed !== '' && !isCalendarDate(trimmed))
        context.bad.push({ rule: 'UBL-VALUE', path: source.path, message: 'a date as YYYY-MM-DD is expected' })
      return trimmed === '' ? undefined : trimmed
    case 'base64': {
      const content = source.text.replace(/\s+/g, '')
      if (isBase64(content)) return content === '' ? undefined : content
      context.bad.push({ rule: 'UBL-VALUE', path: source.path, message: 'base64 text is expected' })
      return undefined
    }
    case 'decimal':
      return readDecimal(source, trimmed, context)
    case 'amount':
      useCurrency(source, context.currency)
      return readDecimal(source, trimmed, context)
    case 'vat-amount':
      useCurrency(source, context.vatCurrency)
      return readDecimal(source, trimmed, context)
  }
}

const DECIMAL_EXPECTED = `a decimal is expected: digits, an optional minus sign and fraction, at most ${MAX_INTEGER_DIGITS}.${MAX_FRACTION_DIGITS} digits`

function readDecimal(source: XmlElement, trimmed: string, context: Context): string | undefined {
  if (trimmed === '') return undefined
  const value = canonicalDecimal(trimmed)
  if (value === null) context.bad.push({ rule: 'InvalidAmount', path: source.path, message: DECIMAL_EXPECTED })
  return value ?? undefined
}

/** The attribute is used only if it says what will be written again; another currency stays unmarked. */
function useCurrency(source: XmlElement, currency: string | undefined): void {
  const attribute = source.attributes.find((candidate) => candidate.name === 'currencyID')
  if (attribute !== undefined && attribute.value.trim() === currency) attribute.used = true
}

function attributesFor(kind: ValueKind, context: Context): [string, string][] {
  const currency = kind === 'amount' ? context.currency : kind === 'vat-amount' ? context.vatCurrency : undefined
  return currency === undefined ? [] : [['currencyID', currency]]
}

interface LeafOptions<T> {
  readonly kind?: ValueKind
  /** Attribute name → field; the value is a code */
  readonly attributes?: Readonly<Record<string, TextField<T>>>
  readonly when?: When
  /** Attributes that are always the same, as `when` has checked */
  readonly fixed?: Readonly<Record<string, string>>
}

/** One element, one value. @param path element name, with wrappers before it: `cac:PartyName/cbc:Name` */
export function leaf<T>(path: string, field: TextField<T>, options: LeafOptions<T> = {}): Binding<T> {
  const [name, wrappers] = split(path)
  const kind = options.kind ?? 'text'
  const mapped = Object.entries<string>(options.attributes ?? {})
  const binding: Binding<T> = {
    read(parent, into, context) {
      const found = candidates(parent, name, context, options.when)[0]
      if (found === undefined) return
      const target = into as Fields
      const value = readValue(found, kind, context)
      // An element that is there for its attributes has no value of its own.
      const empty = value === '' && mapped.some(([attribute]) => found.attributes.some((present) => present.name === attribute))
      if (value !== undefined && !empty) target[field] = value
      for (const [attribute, attributeField] of mapped) {
        const present = useAttribute(found, attribute)?.value
        const written = CODE_ATTRIBUTES.has(attribute) ? collapse(present) : present
        if (written !== undefined) target[attributeField] = written
      }
      for (const attribute of Object.keys(options.fixed ?? {})) useAttribute(found, attribute)
    },
    write(from, context) {
      const source = from as Record<string, string | undefined>
      const value = source[field]
      const attributes = mapped.flatMap(([attribute, attributeField]): [string, string][] => {
        const present = source[attributeField]
        return present === undefined ? [] : [[attribute, present]]
      })
      if (value === undefined && attributes.length === 0) return []
      const currency = value === undefined ? [] : attributesFor(kind, context)
      return [element(name, value ?? '', [...currency, ...Object.entries(options.fixed ?? {}), ...attributes])]
    },
  }
  return wrapped(wrappers, binding)
}

/** Attributes that hold codes: white space around them says nothing. */
const CODE_ATTRIBUTES = new Set(['unitCode', 'mimeCode'])

/** @returns undefined for a code that is not there */
function collapse(code: string | undefined): string | undefined {
  const collapsed = code?.trim().replace(/\s+/g, ' ')
  return collapsed === '' ? undefined : collapsed
}

function useAttribute(source: XmlElement, name: string): XmlAttribute | undefined {
  const attribute = source.attributes.find((candidate) => candidate.name === name)
  if (attribute !== undefined) attribute.used = true
  return attribute
}

/** An identifier with its `schemeID`. */
export function identifier<T>(path: string, field: IdentifierField<T>, when?: When): Binding<T> {
  const [name, wrappers] = split(path)
  return wrapped(wrappers, {
    read(parent, into, context) {
      const found = candidates(parent, name, context, when)[0]
      if (found !== undefined) (into as Fields)[field] = readIdentifier(found)
    },
    write(from) {
      const value = (from as Fields)[field] as Identifier | undefined
      return value === undefined ? [] : [writeIdentifier(name, value)]
    },
  })
}

export function readIdentifier(source: XmlElement): Identifier {
  source.used = true
  const scheme = useAttribute(source, 'schemeID')
  return scheme === undefined ? { value: source.text } : { value: source.text, schemeId: scheme.value }
}

export function writeIdentifier(name: string, value: Identifier): OutElement {
  return element(name, value.value, value.schemeId === undefined ? [] : [['schemeID', value.schemeId]])
}

/** An element with a fixed value, written wherever its parent is; another value stays unmarked. */
export function constant<T>(path: string, value: string): Binding<T> {
  const [name, wrappers] = split(path)
  const binding = wrapped<T>(wrappers, {
    constant: true,
    read(parent, _into, context) {
      const found = candidates(parent, name, context)[0]
      if (found !== undefined && found.text.trim().toLowerCase() === value.toLowerCase()) found.used = true
    },
    write: () => [element(name, value)],
  })
  return { ...binding, constant: true }
}

/** A wrapper element whose content belongs to the same group of the model. */
export function within<T>(name: string, bindings: readonly Binding<T>[], when?: When): Binding<T> {
  return {
    read(parent, into, context) {
      const found = candidates(parent, name, context, when)[0]
      if (found !== undefined) for (const binding of bindings) binding.read(found, into, context)
    },
    write(from, context) {
      if (!bindings.some((binding) => binding.constant === undefined && binding.write(from, context).length > 0)) return []
      return [
        element(
          name,
          bindings.flatMap((binding) => binding.write(from, context)),
        ),
      ]
    },
  }
}

function wrapped<T>(wrappers: readonly string[], binding: Binding<T>): Binding<T> {
  return wrappers.reduceRight<Binding<T>>((inner, name) => {
    const outer = within<T>(name, [inner])
    return binding.constant === undefined
      ? outer
      : { ...outer, constant: true, write: (from, context) => [element(name, inner.write(from, context))] }
  }, binding)
}

/** One element, one group of the model. An empty element is an empty group: some rules ask for its presence. */
export function group<T, K extends GroupField<T>>(
  name: string,
  field: K,
  bindings: readonly Binding<NonNullable<T[K]>>[],
  when?: When,
): Binding<T> {
  return {
    read(parent, into, context) {
      const found = candidates(parent, name, context, when)[0]
      if (found !== undefined) (into as Fields)[field] = readAll<NonNullable<T[K]>>(found, bindings, context)
    },
    write(from, context) {
      const value = (from as Partial<T>)[field]
      return value == null ? [] : [writeAll(name, value as NonNullable<T[K]>, bindings, context)]
    },
  }
}

/** Elements of one name, a list of groups. */
export function list<T, K extends ListField<T>>(
  name: string,
  field: K,
  bindings: readonly Binding<ItemOf<T[K]>>[],
  when?: When,
): Binding<T> {
  return {
    read(parent, into, context) {
      const found = candidates(parent, name, context, when)
      if (found.length > 0) (into as Fields)[field] = found.map((each) => readAll<ItemOf<T[K]>>(each, bindings, context))
    },
    write(from, context) {
      const values = ((from as Partial<T>)[field] ?? []) as ItemOf<T[K]>[]
      return values.map((value) => writeAll(name, value, bindings, context))
    },
  }
}

/** A group of the model that has no element of its own: its bindings read from and write into the same parent. */
export function inside<T, K extends GroupField<T>>(field: K, bindings: readonly Binding<NonNullable<T[K]>>[]): Binding<T> {
  return {
    read(parent, into, context) {
      const value = ((into as Fields)[field] ?? {}) as Partial<NonNullable<T[K]>>
      for (const binding of bindings) binding.read(parent, value, context)
      if (Object.keys(value).length > 0) (into as Fields)[field] = value
    },
    write(from, context) {
      const value = (from as Partial<T>)[field]
      return value == null ? [] : bindings.flatMap((binding) => binding.write(value as Partial<NonNullable<T[K]>>, context))
    },
  }
}

export function readAll<T>(source: XmlElement, bindings: readonly Binding<T>[], context: Context): T {
  const value: Partial<T> = {}
  for (const binding of bindings) binding.read(source, value, context)
  return value as T
}

export function writeAll<T>(name: string, value: Partial<T>, bindings: readonly Binding<T>[], context: Context): OutElement {
  return element(
    name,
    bindings.flatMap((binding) => binding.write(value, context)),
  )
}

function split(path: string): [string, string[]] {
  const names = path.split('/')
  return [names.pop() as string, names]
}

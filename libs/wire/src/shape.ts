/**
 * Closed shapes for decoded CBOR: every field is named, every length is bounded, an unknown field is refused.
 * The same shapes run before encoding, so that nothing leaves that a peer would refuse.
 * @see docs/spec/payload.md §1
 */
import { ProtocolError } from '@tallystick/primitives/errors'

/** Checks one value. `path` names it in the error; the value itself never appears there. */
export type Shape<T> = (value: unknown, path: string) => T
export type ValueOf<S> = S extends Shape<infer T> ? T : never

const OPTIONAL = Symbol('optional')
type Optional<T> = Shape<T | undefined> & { readonly [OPTIONAL]: true }
type Fields = { readonly [key: string]: Shape<unknown> }
type OptionalKeys<F extends Fields> = { [K in keyof F]: F[K] extends { readonly [OPTIONAL]: true } ? K : never }[keyof F]
type RecordOf<F extends Fields> = { [K in Exclude<keyof F, OptionalKeys<F>>]: ValueOf<F[K]> } & {
  [K in OptionalKeys<F>]?: Exclude<ValueOf<F[K]>, undefined>
}

export function refuse(path: string, reason: string): never {
  throw new ProtocolError('Serialization', `${path}: ${reason}`)
}

export function optional<T>(shape: Shape<T>): Optional<T> {
  const read = (value: unknown, path: string): T | undefined => (value === undefined ? undefined : shape(value, path))
  return Object.assign(read, { [OPTIONAL]: true as const })
}

/** A map with exactly these keys; optional ones may be absent, and are then absent in the result. */
export function record<F extends Fields>(fields: F): Shape<RecordOf<F>> {
  const names = Object.keys(fields)
  return (value, path) => {
    if (value === null || typeof value !== 'object' || Array.isArray(value) || value instanceof Uint8Array) return refuse(path, 'not a map')
    for (const key of Object.keys(value)) if (!Object.hasOwn(fields, key)) refuse(path, 'unknown field')
    const out: Record<string, unknown> = {}
    for (const name of names) {
      const given = Object.hasOwn(value, name) ? (value as Record<string, unknown>)[name] : undefined
      const read = fields[name]!
      if (given === undefined && !(OPTIONAL in read)) refuse(`${path}.${name}`, 'missing')
      const checked = read(given, `${path}.${name}`)
      if (checked !== undefined) out[name] = checked
    }
    return out as RecordOf<F>
  }
}

export function list<T>(item: Shape<T>, min: number, max: number): Shape<T[]> {
  return (value, path) => {
    if (!Array.isArray(value)) return refuse(path, 'not a list')
    if (value.length < min || value.length > max) return refuse(path, `${value.length} entries, expected ${min} to ${max}`)
    return value.map((entry, i) => item(entry, `${path}[${i}]`))
  }
}

export function nullable<T>(shape: Shape<T>): Shape<T | null> {
  return (value, path) => (value === null ? null : shape(value, path))
}

export function fixedBytes(length: number): Shape<Uint8Array> {
  return (value, path) => (value instanceof Uint8Array && value.length === length ? value : refuse(path, `not ${length} bytes`))
}

export function bytes(max: number): Shape<Uint8Array> {
  return (value, path) => (value instanceof Uint8Array && value.length <= max ? value : refuse(path, `not at most ${max} bytes`))
}

/** @param max UTF-16 code units */
export function text(max: number, pattern?: RegExp): Shape<string> {
  return (value, path) => {
    if (typeof value !== 'string' || value.length > max) return refuse(path, `not text of at most ${max} characters`)
    if (pattern !== undefined && !pattern.test(value)) return refuse(path, 'not in the expected form')
    return value
  }
}

/** A safe integer from `min` on. */
export function integer(min = 0): Shape<number> {
  return (value, path) =>
    typeof value === 'number' && Number.isSafeInteger(value) && value >= min ? value : refuse(path, `not an integer from ${min} on`)
}

export function oneOf<const T extends string | number>(...values: readonly T[]): Shape<T> {
  return (value, path) => ((values as readonly unknown[]).includes(value) ? (value as T) : refuse(path, `not one of ${values.join(', ')}`))
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/
/** UUID in lower case. */
export const uuid: Shape<string> = text(36, UUID)
/** Milliseconds since 1970-01-01T00:00:00Z. */
export const epochMs: Shape<number> = integer(0)
export const fleetIdText: Shape<string> = text(56, /^tsf1[a-z2-7]{52}$/)
/**
 * One line for people: no control characters, no direction overrides or other invisible format characters, so that
 * what is shown is what was signed.
 */
export const displayText = (max: number): Shape<string> => text(max, /^[^\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]+$/u)
/** Like `displayText`, with line feeds. */
export const displayLines = (max: number): Shape<string> => text(max, /^[\n[^\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]]+$/v)

/**
 * JSON as the API takes it (RFC 8259), stricter than JSON.parse: a key stands once, depth and number of values are
 * capped while parsing, and names that reach into prototypes are refused. One pass, no recursion beyond the cap.
 */
import { JSON_DEPTH, JSON_VALUES } from '../limits.js'
import { Refused } from '../refused.js'

const FORBIDDEN = new Set(['__proto__', 'constructor', 'prototype'])
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y
const QUOTE = 0x22
const BACKSLASH = 0x5c

/**
 * @param bytes the body as it came
 * @returns maps are objects without a prototype
 * @throws Refused InvalidRequest, with a pointer to the place
 */
export function parseStrictJson(bytes: Uint8Array, limits = { depth: JSON_DEPTH, values: JSON_VALUES }): unknown {
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch (error) {
    throw broken('', 'the body is not UTF-8 text', error)
  }
  return new Parser(text, limits).document()
}

function broken(pointer: string, message: string, cause?: unknown): Refused {
  const refused = new Refused('InvalidRequest', 'The body is not JSON that this API takes.', {
    errors: [{ pointer, rule: 'Json', message }],
  })
  if (cause !== undefined) refused.cause = cause
  return refused
}

class Parser {
  #at = 0
  #values = 0
  readonly #path: Array<string | number> = []

  constructor(
    private readonly text: string,
    private readonly limits: { depth: number; values: number },
  ) {}

  document(): unknown {
    const value = this.#value()
    this.#space()
    if (this.#at < this.text.length) throw this.#broken('something follows the value')
    return value
  }

  #broken(message: string): Refused {
    const pointer = this.#path.map((token) => `/${String(token).slice(0, 80).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('')
    return broken(pointer, `${message}, at character ${this.#at}`)
  }

  #space(): void {
    for (;;) {
      const c = this.text.charCodeAt(this.#at)
      if (c !== 0x20 && c !== 0x0a && c !== 0x0d && c !== 0x09) return
      this.#at++
    }
  }

  #value(): unknown {
    if (++this.#values > this.limits.values) throw this.#broken(`more than ${this.limits.values} values`)
    this.#space()
    switch (this.text[this.#at]) {
      case '{':
        return this.#object()
      case '[':
        return this.#array()
      case '"':
        return this.#string()
      case 't':
        return this.#word('true', true)
      case 'f':
        return this.#word('false', false)
      case 'n':
        return this.#word('null', null)
      default:
        return this.#number()
    }
  }

  #word<T>(word: string, value: T): T {
    if (!this.text.startsWith(word, this.#at)) throw this.#broken('a value is expected')
    this.#at += word.length
    return value
  }

  #number(): number {
    NUMBER.lastIndex = this.#at
    const match = NUMBER.exec(this.text)
    if (match === null) throw this.#broken('a value is expected')
    this.#at = NUMBER.lastIndex
    const value = Number(match[0])
    if (!Number.isFinite(value)) throw this.#broken('a number out of range')
    return value
  }

  #string(): string {
    const start = this.#at++
    for (; ; this.#at++) {
      const c = this.text.charCodeAt(this.#at)
      if (Number.isNaN(c)) throw this.#broken('a string does not end')
      if (c === BACKSLASH) this.#at++
      else if (c === QUOTE) break
    }
    this.#at++
    const raw = this.text.slice(start, this.#at)
    try {
      return JSON.parse(raw) as string
    } catch (error) {
      this.#at = start
      const refused = this.#broken('a string with a bad escape or a control character')
      refused.cause = error
      throw refused
    }
  }

  #enter(): void {
    this.#at++
    if (this.#path.length >= this.limits.depth) {
      this.#path.length = 0 // a pointer of thirty levels helps nobody
      throw this.#broken(`nested deeper than ${this.limits.depth} levels`)
    }
  }

  #array(): unknown[] {
    this.#enter()
    const items: unknown[] = []
    this.#space()
    if (this.text[this.#at] === ']') {
      this.#at++
      return items
    }
    for (;;) {
      this.#path.push(items.length)
      items.push(this.#value())
      this.#path.pop()
      this.#space()
      const c = this.text[this.#at++]
      if (c === ']') return items
      if (c !== ',') throw this.#broken('"," or "]" is expected')
    }
  }

  #object(): Record<string, unknown> {
    this.#enter()
    const fields = Object.create(null) as Record<string, unknown>
    this.#space()
    if (this.text[this.#at] === '}') {
      this.#at++
      return fields
    }
    for (;;) {
      this.#space()
      if (this.text[this.#at] !== '"') throw this.#broken('a field name is expected')
      const name = this.#string()
      this.#path.push(name)
      if (FORBIDDEN.has(name)) throw this.#broken('this field name is not allowed')
      if (Object.hasOwn(fields, name)) throw this.#broken('the field stands twice')
      this.#space()
      if (this.text[this.#at++] !== ':') throw this.#broken('":" is expected')
      fields[name] = this.#value()
      this.#path.pop()
      this.#space()
      const c = this.text[this.#at++]
      if (c === '}') return fields
      if (c !== ',') throw this.#broken('"," or "}" is expected')
    }
  }
}

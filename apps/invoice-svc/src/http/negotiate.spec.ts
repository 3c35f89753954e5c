import { expect, it } from 'vitest'
import { EdgeRefusal } from './problem.js'
import { representationFor } from './negotiate.js'

it.each([
  [undefined, 'json'],
  ['', 'json'],
  ['*/*', 'json'],
  ['application/xml', 'xml'],
  ['text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8', 'html'],
  ['application/json;q=0.1, application/xml;q=0.2', 'xml'],
  ['*/*, application/xml', 'xml'],
  ['application/xml;q=0, */*;q=0.1', 'json'],
])('Accept: %s gives %s', (accept, representation) => {
  expect(representationFor(accept)).toBe(representation)
})

it('refuses what it cannot give', () => {
  expect(() => representationFor('image/png')).toThrow(EdgeRefusal)
  expect(() => representationFor('constructor')).toThrow(EdgeRefusal)
  expect(() => representationFor('application/xml;q=0')).toThrow(EdgeRefusal)
})

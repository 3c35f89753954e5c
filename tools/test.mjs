#!/usr/bin/env node
/**
 * `npm test`: unit, property and integration tests, then the end-to-end tests with two real fleets. Needs nothing but
 * this machine. The last line is `N passed, N failed`. `--long` adds the tests that take minutes; other arguments are
 * passed to vitest as file filters (the end-to-end tests then run only when a filter names them).
 */
import { existsSync } from 'node:fs'
import path from 'node:path'
import { onNode24 } from './process/node24.mjs'
import { runVitest, sum } from './testing/run-vitest.mjs'

const ROOT = path.resolve(import.meta.dirname, '..')
const E2E = path.join(ROOT, 'e2e', 'vitest.config.mts')

if (onNode24()) {
  const long = process.argv.includes('--long')
  const filters = process.argv.slice(2).filter((arg) => arg !== '--long')
  const forE2e = filters.filter((filter) => filter.startsWith('e2e'))
  const results = []
  if (filters.length === 0 || forE2e.length < filters.length)
    results.push(
      await runVitest(
        'unit and integration',
        path.join(ROOT, 'vitest.config.mts'),
        filters.filter((filter) => !forE2e.includes(filter)),
      ),
    )
  if (existsSync(E2E) && (filters.length === 0 || forE2e.length > 0)) results.push(await runVitest('end to end', E2E, forE2e))
  if (long) results.push(await runVitest('long', path.join(ROOT, 'tools', 'testing', 'vitest.long.config.mts'), filters))

  const { passed, failed, skipped } = sum(results)
  if (skipped > 0) process.stdout.write(`${skipped} skipped\n`)
  process.stdout.write(`${passed} passed, ${failed} failed\n`)
  // Sockets and handles of a test runner must not decide over the result.
  process.exit(failed === 0 && passed > 0 ? 0 : 1)
}

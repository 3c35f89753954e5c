/**
 * Every package that an installation brings has a licence that permits. The peers of a bench are not installed with the
 * product: their lockfiles stay in folders of their own, and are the only place where AGPL may stand (RESOLUTIONS C40).
 */
import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'

const PERMISSIVE = new Set([
  'MIT',
  'MIT-0',
  'ISC',
  '0BSD',
  'Apache-2.0',
  'BSD-2-Clause',
  'BSD-3-Clause',
  'BlueOak-1.0.0',
  'Unlicense',
  'CC0-1.0',
  'Python-2.0',
])

/** Weak copyleft of packages that are used as they come, each with its reason. */
const EXCEPTIONS = [
  [/^lightningcss/, 'MPL-2.0', 'a part of the test runner; unchanged, not shipped'],
  [/^caniuse-lite$/, 'CC-BY-4.0', 'data about browsers that Babel brings into mutation/; unchanged, not shipped'],
  [/^elkjs$/, 'EPL-2.0', 'draws diagrams in Prisma Studio, which nothing here starts; unchanged'],
]

/** Packages whose manifest has no licence field. */
const UNNAMED = {
  'seq-queue': 'MIT by its LICENSE file',
  'no-native': 'ours: an empty package in place of a binary for another platform',
}

/** @returns one line for each package whose licence does not permit */
export function licenceProblems(lock, name) {
  const problems = []
  for (const [place, { license, link }] of Object.entries(lock.packages ?? {})) {
    if (link || !place.includes('node_modules/')) continue
    const short = place.split('/').at(-1)
    if (license === undefined) {
      if (!(short in UNNAMED)) problems.push(`${name}: ${place} names no licence`)
      continue
    }
    const choices = license.replace(/[()]/g, '').split(/ OR /i)
    const permits = (choice) => choice.split(/ AND /i).every((part) => PERMISSIVE.has(part.trim()))
    if (choices.some(permits)) continue
    if (EXCEPTIONS.some(([packages, id]) => id === license && packages.test(short))) continue
    problems.push(`${name}: ${place} is under ${license}`)
  }
  return problems
}

export function checkLicences(root) {
  const problems = []
  for (const file of ['package-lock.json', 'fuzz/package-lock.json', 'mutation/package-lock.json']) {
    const full = path.join(root, file)
    if (existsSync(full)) problems.push(...licenceProblems(JSON.parse(readFileSync(full, 'utf8')), file))
  }
  // The guard has to bite.
  const planted = { packages: { 'node_modules/x': { license: 'AGPL-3.0-only' }, 'node_modules/y': { license: 'MIT OR GPL-3.0' } } }
  if (licenceProblems(planted, 'planted').length !== 1) problems.push('the licence check no longer bites')
  return problems
}

/** Where the official EN 16931 files are; they are read from outside the project and never copied into it. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

const ROOT = resolve(import.meta.dirname, '../../..')
const FOLDER = join(process.env['TALLYSTICK_CORPORA'] ?? resolve(ROOT, '../shared/corpora'), 'en16931')

export const hasCorpora = existsSync(FOLDER)
export const WHY_SKIPPED = `the EN 16931 files are not at ${FOLDER}; TALLYSTICK_CORPORA names their folder`

export interface CorpusFile {
  name: string
  bytes: Uint8Array
}

export function readCorpus(folder: 'examples' | 'Invoice-unit-UBL' | 'CreditNote-unit-UBL'): CorpusFile[] {
  if (!hasCorpora) return []
  const names = readdirSync(join(FOLDER, folder))
    .filter((name) => name.endsWith('.xml'))
    .sort()
  return names.map((name) => ({ name, bytes: readFileSync(join(FOLDER, folder, name)) }))
}

// A reporter may hide the reason of a skip; a reader of the output should still see it.
if (!hasCorpora) console.log(`skipped: ${WHY_SKIPPED}`)

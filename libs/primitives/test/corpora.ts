/** Reads the Wycheproof files that tests use where they are present; they are not part of the project. */
import { existsSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'

const ROOT = process.env['TALLYSTICK_CORPORA'] ?? resolve(import.meta.dirname, '../../../../shared/corpora')

export interface WycheproofGroup<T> {
  readonly type: string
  readonly tests: readonly (T & { tcId: number; comment: string; flags: string[]; result: 'valid' | 'invalid' | 'acceptable' })[]
  readonly publicKey?: { readonly pk: string }
  readonly tagSize?: number
}

/** @param context of the running test, which is reported as skipped, with the reason, when the file is not there */
export function wycheproof<T>(context: { skip(note?: string): never }, file: string): readonly WycheproofGroup<T>[] {
  const path = resolve(ROOT, 'wycheproof', file)
  if (!existsSync(path)) context.skip(`no Wycheproof file ${file}: set TALLYSTICK_CORPORA to the folder that holds wycheproof/`)
  return (JSON.parse(readFileSync(path, 'utf8')) as { testGroups: WycheproofGroup<T>[] }).testGroups
}

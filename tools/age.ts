/** The `age` command line, for the tests of backups: found or fetched, never installed. */
import { accessSync, chmodSync, constants, copyFileSync, mkdirSync, renameSync } from 'node:fs'
import path from 'node:path'
import { unpackDebianPackages } from './debian-package.ts'
import { CACHE } from './paths.ts'

const WAYS = `Ways to get age and age-keygen (BSD-3-Clause):
  - put them on PATH (Debian and Ubuntu: apt-get install age; macOS: brew install age)
  - set AGE_BIN to a folder that has both`
const FOLDER = path.join(CACHE, 'age')

/**
 * Folder with `age` and `age-keygen`: AGE_BIN, PATH, `.cache/age`, Debian's package unpacked without installing it.
 * @throws with the ways to get it
 */
export function findAge(): string {
  const named = process.env.AGE_BIN
  const places = named !== undefined && named !== '' ? [named] : [...(process.env.PATH ?? '').split(path.delimiter), FOLDER]
  const found = places.find((folder) => folder !== '' && isProgram(path.join(folder, 'age')) && isProgram(path.join(folder, 'age-keygen')))
  if (found !== undefined) return found
  try {
    unpackDebianPackages(['age'], (folder) => {
      mkdirSync(FOLDER, { recursive: true })
      for (const name of ['age', 'age-keygen']) {
        const half = path.join(FOLDER, `${name}.${process.pid}`)
        copyFileSync(path.join(folder, 'usr', 'bin', name), half)
        chmodSync(half, 0o755)
        renameSync(half, path.join(FOLDER, name))
      }
    })
  } catch (error) {
    throw new Error(`age was not found, and could not be fetched: ${(error as Error).message.split('\n')[0]}\n${WAYS}`, { cause: error })
  }
  return FOLDER
}

function isProgram(file: string): boolean {
  try {
    accessSync(file, constants.X_OK)
    return true
  } catch {
    return false // absent or not executable: the next place
  }
}

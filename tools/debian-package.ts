/** Debian packages as a source of single files: apt verifies them against the archive's signed index; nothing is installed. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import path from 'node:path'
import { CACHE } from './paths.ts'

/**
 * @param names packages, without what they depend on
 * @param take copies what it wants out of the folder with the unpacked files, which is removed afterwards
 * @throws when this is not a Debian-like system, or the archive cannot be reached
 */
export function unpackDebianPackages(names: readonly string[], take: (folder: string) => void): void {
  if (process.platform !== 'linux' || !existsSync('/usr/bin/apt-get') || !existsSync('/usr/bin/dpkg-deb'))
    throw new Error('this is not a Debian-like system')
  mkdirSync(CACHE, { recursive: true })
  const work = mkdtempSync(path.join(CACHE, 'apt-'))
  try {
    const run = (args: readonly string[]) =>
      execFileSync('apt-get', ['-q', '-o', 'Acquire::Retries=2', '-o', 'APT::Sandbox::User=', ...args], {
        cwd: work,
        stdio: ['ignore', 'pipe', 'pipe'],
        timeout: 180_000,
      })
    try {
      run(['download', ...names])
    } catch {
      // No package lists yet, or old ones: fetch them into the work folder. No root needed, the system stays as it is.
      const lists = path.join(work, 'lists')
      const archives = path.join(work, 'archives')
      mkdirSync(path.join(lists, 'partial'), { recursive: true })
      mkdirSync(path.join(archives, 'partial'), { recursive: true })
      const own = ['-o', `Dir::State::Lists=${lists}`, '-o', `Dir::Cache=${archives}`, '-o', 'Acquire::Languages=none']
      run([...own, 'update'])
      run([...own, 'download', ...names])
    }
    const packages = readdirSync(work).filter((name) => name.endsWith('.deb'))
    if (packages.length === 0) throw new Error('apt-get downloaded nothing')
    for (const file of packages) execFileSync('dpkg-deb', ['-x', file, 'unpacked'], { cwd: work, stdio: ['ignore', 'ignore', 'pipe'] })
    take(path.join(work, 'unpacked'))
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

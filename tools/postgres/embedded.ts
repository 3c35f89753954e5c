/** A PostgreSQL server of one's own: real, unprivileged, on 127.0.0.1 only, ended together with this process. */
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chownSync, chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { endProcess, identityOf, startChild, type Child } from '../process/child.ts'
import { lastLines } from '../process/log-tail.ts'
import { postgresHome, serverAccount, type Account } from './binaries.ts'

export interface EmbeddedPostgres {
  /** URL of the superuser, database `postgres`. */
  readonly adminUrl: string
  readonly port: number
  readonly pid: number
  readonly child: Child
  /** Fast shutdown: open connections are cut. */
  stop(): Promise<void>
}

export interface EmbeddedOptions {
  /** Created when missing; reused when it holds a cluster. */
  dataDir: string
  /** Where the superuser's password is kept (mode 0400). */
  passwordFile: string
  logFile: string
  /** Free, see `freePort`. */
  port: number
  /** false: no fsync, for tests whose data dies with them. */
  durable: boolean
}

const READY_WITHIN_MS = 60_000
/** Shared memory beyond the default of 128 MB is of no use to a fleet by hand; less keeps start-up quick. */
const SETTINGS = [
  'listen_addresses=127.0.0.1',
  'unix_socket_directories=',
  'max_connections=200',
  'shared_buffers=64MB',
  'timezone=UTC',
  'log_timezone=UTC',
  'log_min_duration_statement=-1',
]
const NOT_DURABLE = [
  'fsync=off',
  'synchronous_commit=off',
  'full_page_writes=off',
  'wal_level=minimal',
  'max_wal_senders=0',
  'autovacuum=off',
]

export async function startEmbeddedPostgres(options: EmbeddedOptions): Promise<EmbeddedPostgres> {
  const account = serverAccount()
  const home = postgresHome(account)
  const dataDir = path.resolve(options.dataDir)
  if (!existsSync(path.join(dataDir, 'PG_VERSION'))) await initialise(home, dataDir, options.passwordFile, account, options.durable)
  if (!existsSync(options.passwordFile))
    throw new Error(
      `${dataDir} holds a database, but its password file ${options.passwordFile} is missing: restore it, or remove the data folder to begin again`,
    )
  const password = readFileSync(options.passwordFile, 'utf8').trim()
  await endLeftover(dataDir)

  const { port } = options
  const settings = [...SETTINGS, ...(options.durable ? [] : NOT_DURABLE)].flatMap((setting) => ['-c', setting])
  const child = await startChild({
    command: path.join(home, 'bin', 'postgres'),
    args: ['-D', dataDir, '-p', String(port), ...settings],
    env: { PATH: process.env.PATH, LC_ALL: 'C', TZ: 'UTC' },
    cwd: '/',
    logFile: options.logFile,
    guardSignal: 'INT', // fast shutdown: do not wait for clients
    ...account,
  })
  const adminUrl = `postgresql://postgres:${encodeURIComponent(password)}@127.0.0.1:${port}/postgres`
  try {
    await untilReady(adminUrl, child, options.logFile)
  } catch (error) {
    await child.end('SIGINT')
    throw error
  }
  return {
    adminUrl,
    port,
    pid: child.pid,
    child,
    async stop() {
      if (child.running) await child.end('SIGINT', 30_000)
    },
  }
}

async function initialise(
  home: string,
  dataDir: string,
  passwordFile: string,
  account: Account | undefined,
  durable: boolean,
): Promise<void> {
  // A cluster that was cut off while it was being made has no PG_VERSION, or no password: begin again.
  rmSync(dataDir, { recursive: true, force: true })
  mkdirSync(dataDir, { recursive: true, mode: 0o700 })
  chmodSync(dataDir, 0o700)
  const password = randomBytes(24).toString('base64url')
  const temporary = mkdtempSync(path.join(os.tmpdir(), 'tallystick-initdb-'))
  try {
    const handover = path.join(temporary, 'password')
    writeFileSync(handover, password, { mode: 0o400 })
    if (account) for (const file of [dataDir, temporary, handover]) chownSync(file, account.uid, account.gid)
    mkdirSync(path.dirname(passwordFile), { recursive: true, mode: 0o700 })
    rmSync(passwordFile, { force: true })
    writeFileSync(passwordFile, password, { mode: 0o400 })
    const args = [
      '-D',
      dataDir,
      '--username=postgres',
      `--pwfile=${handover}`,
      '--auth=scram-sha-256',
      '--encoding=UTF8',
      '--locale-provider=builtin',
      '--locale=C.UTF-8',
      '--lc-messages=C',
      '--no-instructions',
    ]
    await run(path.join(home, 'bin', 'initdb'), durable ? args : [...args, '--no-sync'], account)
  } catch (error) {
    rmSync(dataDir, { recursive: true, force: true })
    throw error
  } finally {
    rmSync(temporary, { recursive: true, force: true })
  }
}

function run(command: string, args: string[], account: Account | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: '/',
      env: { PATH: process.env.PATH, LC_ALL: 'C', TZ: 'UTC' },
      stdio: ['ignore', 'pipe', 'pipe'],
      ...account,
    })
    let output = ''
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
    child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()))
    child.once('error', reject)
    child.once('close', (code) =>
      code === 0 ? resolve() : reject(new Error(`${path.basename(command)} failed (${code}):\n${output.trim()}`)),
    )
  })
}

/**
 * A server that a lost launcher left on this data is ended; a `postmaster.pid` whose number now belongs to some other
 * program (after a power loss) is removed, since PostgreSQL would take it for a running server.
 */
async function endLeftover(dataDir: string): Promise<void> {
  const file = path.join(dataDir, 'postmaster.pid')
  if (!existsSync(file)) return
  const pid = Number(readFileSync(file, 'utf8').split('\n')[0])
  if (Number.isInteger(pid) && pid > 1 && runsOn(pid, dataDir)) {
    if (!(await endProcess(identityOf(pid), 'SIGINT', 30_000)))
      throw new Error(`a PostgreSQL server (pid ${pid}) on ${dataDir} does not stop`)
  } else {
    rmSync(file, { force: true })
  }
}

function runsOn(pid: number, dataDir: string): boolean {
  try {
    return readlinkSync(`/proc/${pid}/cwd`) === dataDir
  } catch (error) {
    if (['ENOENT', 'ESRCH', 'EACCES'].includes((error as NodeJS.ErrnoException).code ?? '')) return false
    throw error
  }
}

async function untilReady(url: string, child: Child, logFile: string): Promise<void> {
  const deadline = Date.now() + READY_WITHIN_MS
  for (;;) {
    const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000 })
    client.on('error', () => undefined) // the server may end while we ask; the loop sees that
    try {
      await client.connect()
      await client.query('SELECT 1')
      return
    } catch (error) {
      const code = (error as { code?: string }).code
      if (code === '28P01')
        throw new Error('PostgreSQL refuses the kept superuser password: the password file and the data folder do not belong together', {
          cause: error,
        })
      if (!child.running) throw new Error(`PostgreSQL ended while starting: ${lastLines(logFile)}`, { cause: error })
      if (Date.now() > deadline)
        throw new Error(`PostgreSQL was not ready within ${READY_WITHIN_MS / 1000} s: ${lastLines(logFile)}`, { cause: error })
    } finally {
      await client.end().catch(() => undefined)
    }
    await delay(30)
  }
}

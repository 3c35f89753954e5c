/** An embedded PostgreSQL that is kept running in a folder, for one fleet or for several. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { randomBytes } from 'node:crypto'
import path from 'node:path'
import { KeepRunning, type KeepEvent } from '../process/keep-running.ts'
import { isReachable, serverAccount, SHARED_STATE_DIR } from './binaries.ts'
import { startEmbeddedPostgres } from './embedded.ts'

export interface ManagedPostgres {
  /** Superuser, database `postgres`. */
  readonly adminUrl: string
  readonly pid: number | undefined
  kill(signal: NodeJS.Signals): Promise<void>
  stop(): Promise<void>
}

export interface ManagedOptions {
  /** Holds the data folder and the superuser's password. */
  directory: string
  port: number
  logFile: string
  durable?: boolean
  restart?: boolean
  onEvent?: (event: KeepEvent) => void
}

export async function startManagedPostgres(options: ManagedOptions): Promise<ManagedPostgres> {
  mkdirSync(options.directory, { recursive: true, mode: 0o755 })
  let adminUrl = ''
  const keeper = new KeepRunning({
    restart: options.restart ?? true,
    onEvent: options.onEvent ?? (() => undefined),
    start: async () => {
      const server = await startEmbeddedPostgres({
        dataDir: dataFolder(options.directory),
        passwordFile: path.join(options.directory, 'password'),
        logFile: options.logFile,
        port: options.port,
        durable: options.durable ?? true,
      })
      adminUrl = server.adminUrl
      return server.child
    },
  })
  await keeper.start()
  return {
    get adminUrl() {
      return adminUrl
    },
    get pid() {
      return keeper.pid
    },
    kill: (signal) => keeper.kill(signal),
    stop: () => keeper.stop('SIGINT', 30_000),
  }
}

/**
 * `data` in the folder itself; or, when the server's account cannot walk in there (root's own home, say), a folder of
 * its own under SHARED_STATE_DIR, whose path is then written to the file `location`.
 */
function dataFolder(directory: string): string {
  const pointer = path.join(directory, 'location')
  if (existsSync(pointer)) return readFileSync(pointer, 'utf8').trim()
  const account = serverAccount()
  if (account === undefined || isReachable(directory, account)) return path.join(directory, 'data')
  const elsewhere = path.join(SHARED_STATE_DIR, `data-${randomBytes(8).toString('hex')}`)
  mkdirSync(SHARED_STATE_DIR, { recursive: true, mode: 0o755 })
  writeFileSync(pointer, `${elsewhere}\n`)
  return elsewhere
}

/** Finds or fetches `nats-server` (it is not on npm), and runs it. */
import { execFileSync } from 'node:child_process'
import {
  accessSync,
  chmodSync,
  constants,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
} from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { CACHE } from './paths.ts'
import { startChild, type Child } from './process/child.ts'
import { lastLines } from './process/log-tail.ts'

const WAYS = `Ways to get nats-server (2.9 or newer, Apache-2.0):
  - set NATS_SERVER_BIN to the program
  - put it on PATH (Debian and Ubuntu: apt-get install nats-server; macOS: brew install nats-server)
  - copy it to .cache/bin/nats-server
  - download a release: https://github.com/nats-io/nats-server/releases`

/**
 * Path of a runnable nats-server. In this order: NATS_SERVER_BIN, PATH, a copy in a data folder, the copy in `.cache`,
 * Debian's package unpacked without installing it.
 * @param dataDir a folder that may hold a copy in `bin/`
 * @throws with the ways to get one
 */
export function findNatsServer(dataDir?: string, say: (text: string) => void = () => undefined): string {
  const named = process.env.NATS_SERVER_BIN
  if (named !== undefined && named !== '') {
    if (isProgram(named)) return path.resolve(named)
    throw new Error(`NATS_SERVER_BIN is "${named}", which is not a program.\n${WAYS}`)
  }
  const cached = path.join(CACHE, 'bin', 'nats-server')
  const places = [
    ...(process.env.PATH ?? '')
      .split(path.delimiter)
      .filter((folder) => folder !== '')
      .map((folder) => path.join(folder, 'nats-server')),
    ...(dataDir === undefined ? [] : [path.join(dataDir, 'bin', 'nats-server')]),
    cached,
  ]
  const found = places.find(isProgram)
  if (found !== undefined) return found
  say('fetching nats-server from the Debian archive (once; nothing is installed)')
  try {
    fetchFromDebian(cached)
  } catch (error) {
    throw new Error(`nats-server was not found, and could not be fetched: ${(error as Error).message.split('\n')[0]}\n${WAYS}`, {
      cause: error,
    })
  }
  return cached
}

function isProgram(file: string): boolean {
  try {
    accessSync(file, constants.X_OK)
    return true
  } catch {
    return false // absent or not executable: the next place
  }
}

/** apt verifies the package against the archive's signed index. Lists and caches of its own: no root needed, the system stays as it is. */
function fetchFromDebian(target: string): void {
  if (process.platform !== 'linux' || !isProgram('/usr/bin/apt-get') || !isProgram('/usr/bin/dpkg-deb'))
    throw new Error('this is not a Debian-like system')
  mkdirSync(path.dirname(target), { recursive: true })
  const work = mkdtempSync(path.join(CACHE, 'apt-'))
  try {
    const run = (args: string[]) =>
      execFileSync('apt-get', ['-q', '-o', 'Acquire::Retries=2', '-o', 'APT::Sandbox::User=', ...args], {
        cwd: work,
        stdio: ['ignore', 'pipe', 'pipe'],
        timeout: 180_000,
      })
    const download = () => readdirSync(work).find((name) => name.startsWith('nats-server_') && name.endsWith('.deb'))
    try {
      run(['download', 'nats-server'])
    } catch {
      // No package lists yet, or old ones: fetch them into the work folder.
      const lists = path.join(work, 'lists')
      const archives = path.join(work, 'archives')
      mkdirSync(path.join(lists, 'partial'), { recursive: true })
      mkdirSync(path.join(archives, 'partial'), { recursive: true })
      const own = ['-o', `Dir::State::Lists=${lists}`, '-o', `Dir::Cache=${archives}`, '-o', 'Acquire::Languages=none']
      run([...own, 'update'])
      run([...own, 'download', 'nats-server'])
    }
    const deb = download()
    if (deb === undefined) throw new Error('apt-get downloaded nothing')
    execFileSync('dpkg-deb', ['-x', deb, 'unpacked'], { cwd: work, stdio: ['ignore', 'ignore', 'pipe'] })
    const program = ['usr/sbin/nats-server', 'usr/bin/nats-server'].map((file) => path.join(work, 'unpacked', file)).find(existsSync)
    if (program === undefined) throw new Error('the package holds no nats-server')
    const half = `${target}.${process.pid}`
    copyFileSync(program, half)
    chmodSync(half, 0o755)
    renameSync(half, target)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

export interface NatsProcess {
  readonly pid: number
  readonly child: Child
}

const READY_WITHIN_MS = 15_000

/** Start nats-server on a configuration file and wait until it greets on `port`. */
export async function startNatsServer(options: {
  program: string
  configFile: string
  port: number
  logFile: string
}): Promise<NatsProcess> {
  const child = await startChild({
    command: options.program,
    args: ['-c', options.configFile],
    env: { PATH: process.env.PATH, TZ: 'UTC' },
    logFile: options.logFile,
  })
  const deadline = Date.now() + READY_WITHIN_MS
  while (!(await greets(options.port))) {
    if (!child.running) throw new Error(`nats-server ended while starting: ${lastLines(options.logFile)}`)
    if (Date.now() > deadline) {
      await child.end('SIGKILL')
      throw new Error(`nats-server did not answer within ${READY_WITHIN_MS / 1000} s: ${lastLines(options.logFile)}`)
    }
    await delay(20)
  }
  return { pid: child.pid, child }
}

/** The server's first line is `INFO {…}`. */
function greets(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect({ port, host: '127.0.0.1' })
    const end = (answer: boolean) => {
      socket.destroy()
      resolve(answer)
    }
    socket.setTimeout(1_000, () => end(false))
    socket.once('error', () => end(false))
    socket.once('data', (data) => end(data.toString('latin1').startsWith('INFO ')))
  })
}

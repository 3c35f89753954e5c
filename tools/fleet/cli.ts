/** `npm run fleet -- up|down|status`: one fleet on this machine, in the background. */
import { spawn } from 'node:child_process'
import { closeSync, existsSync, fstatSync, openSync, writeSync } from 'node:fs'
import { once } from 'node:events'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { FLEET_NAME, ROOT, SERVICES } from '../paths.ts'
import { endProcess, isAlive } from '../process/child.ts'
import { lastLines } from '../process/log-tail.ts'
import { layoutOf, makeLayout, readJson, removeFile, type FleetInfo, type Layout, type SupervisorState } from './layout.ts'
import { endLeftovers } from './lock.ts'
import { startFleet, type FleetEvent } from './start.ts'

const USAGE = `usage: npm run fleet -- up --name NAME [--data DIR] [--http-port P] [--p2p-port P] [--foreground] [--json]
       npm run fleet -- down   [--name NAME | --data DIR]
       npm run fleet -- status [--name NAME | --data DIR] [--json]

  --data      folder of the fleet; default .fleet/NAME
  PostgreSQL  embedded below DIR; TALLYSTICK_DATABASE_URL names a server instead (superuser, or CREATEROLE and CREATEDB)
  nats-server from NATS_SERVER_BIN, PATH, DIR/bin, .cache/bin, or the Debian archive`

class UsageError extends Error {}

const say = (text: string) => void process.stderr.write(`${text}\n`)
const print = (text: string) => void process.stdout.write(`${text}\n`)

interface Arguments {
  command: string
  name: string | undefined
  layout: Layout
  httpPort: number | undefined
  p2pPort: number | undefined
  foreground: boolean
  json: boolean
  reportTo: number | undefined
}

function readArguments(): Arguments {
  let parsed
  try {
    parsed = parseArgs({
      allowPositionals: true,
      options: {
        name: { type: 'string' },
        data: { type: 'string' },
        'http-port': { type: 'string' },
        'p2p-port': { type: 'string' },
        foreground: { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
        'report-fd': { type: 'string' }, // from `up` to the supervisor that it starts
      },
    })
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
  const { values, positionals } = parsed
  if (values.help) throw new UsageError('')
  const [command, ...rest] = positionals
  if (command === undefined || rest.length > 0 || !['up', 'down', 'status'].includes(command))
    throw new UsageError(command === undefined ? 'say up, down or status' : `unknown: ${[command, ...rest].join(' ')}`)
  const { name } = values
  if (name !== undefined && !FLEET_NAME.test(name))
    throw new UsageError(`"${name}" is not a fleet name (a-z, 0-9 and "-", at most 31 characters, a letter first)`)
  if (name === undefined && (command === 'up' || values.data === undefined))
    throw new UsageError(command === 'up' ? 'give the fleet a --name' : 'say which fleet: --name or --data')
  // npm runs scripts in the project's folder; a relative path means the folder in which the user typed it.
  const directory =
    values.data === undefined ? path.join(ROOT, '.fleet', name as string) : path.resolve(process.env.INIT_CWD ?? process.cwd(), values.data)
  return {
    command,
    name,
    layout: layoutOf(directory),
    httpPort: portOf('--http-port', values['http-port']),
    p2pPort: portOf('--p2p-port', values['p2p-port']),
    foreground: values.foreground,
    json: values.json,
    reportTo: values['report-fd'] === undefined ? undefined : Number(values['report-fd']),
  }
}

function portOf(option: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const port = Number(text)
  if (!/^\d{1,5}$/.test(text) || port < 1 || port > 65535) throw new UsageError(`${option} ${text} is not a port`)
  return port
}

// ---------------------------------------------------------------- up

/** What the supervisor tells the `up` that waits for it, one JSON object a line. */
type Report = { kind: 'step'; text: string } | { kind: 'ready' } | { kind: 'failed'; message: string }

async function up(args: Arguments): Promise<number> {
  const { layout } = args
  const running = readJson<SupervisorState>(layout.lock)
  if (running !== undefined && isAlive(running.supervisor)) {
    say(`already running in ${layout.root}; nothing changed (stop it with \`npm run fleet -- down --data ${layout.root}\`)`)
    return status(args)
  }
  if (args.foreground) return supervise(args)

  makeLayout(layout)
  const started = Date.now()
  const log = openSync(layout.log('supervisor'), 'a', 0o600)
  const passed = [
    ...(args.httpPort === undefined ? [] : ['--http-port', String(args.httpPort)]),
    ...(args.p2pPort === undefined ? [] : ['--p2p-port', String(args.p2pPort)]),
  ]
  const child = spawn(
    process.execPath,
    [
      path.join(ROOT, 'tools', 'fleet.mjs'),
      'up',
      '--foreground',
      '--name',
      args.name as string,
      '--data',
      layout.root,
      ...passed,
      '--report-fd',
      '3',
    ],
    {
      cwd: ROOT,
      detached: true,
      stdio: ['ignore', log, log, 'pipe'],
    },
  )
  closeSync(log)
  child.unref()
  const outcome = await new Promise<Report>((resolve) => {
    child.once('error', (error) => resolve({ kind: 'failed', message: error.message }))
    child.once('exit', (code) =>
      resolve({ kind: 'failed', message: `the supervisor ended (${code}):\n${lastLines(layout.log('supervisor'))}` }),
    )
    createInterface({ input: child.stdio[3] as NodeJS.ReadableStream }).on('line', (line) => {
      const report = JSON.parse(line) as Report
      if (report.kind === 'step') say(report.text)
      else resolve(report)
    })
  })
  child.stdio[3]?.destroy()
  if (outcome.kind === 'failed') {
    say(`fleet ${args.name} did not start: ${outcome.message}`)
    return 1
  }
  say(`fleet ${args.name} is ready after ${((Date.now() - started) / 1000).toFixed(1)} s`)
  return status(args)
}

/** Runs the fleet until it is told to stop. */
async function supervise(args: Arguments): Promise<number> {
  const report = (value: Report) => {
    if (args.reportTo === undefined) return
    try {
      writeSync(args.reportTo, `${JSON.stringify(value)}\n`)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EPIPE') throw error // nobody waits any more
    }
  }
  if (args.reportTo !== undefined) fstatSync(args.reportTo)
  const stop = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stop.abort())
  const onEvent = (event: FleetEvent) => {
    const line = describe(event)
    say(`${new Date().toISOString()} ${line}`)
    if (event.kind === 'step') report({ kind: 'step', text: event.text })
  }
  const external = process.env.TALLYSTICK_DATABASE_URL
  try {
    const fleet = await startFleet({
      name: args.name as string,
      dataDir: args.layout.root,
      ...(args.httpPort === undefined ? {} : { httpPort: args.httpPort }),
      ...(args.p2pPort === undefined ? {} : { p2pPort: args.p2pPort }),
      ...(external === undefined || external === '' ? {} : { postgres: { adminUrl: external } }),
      signal: stop.signal,
      onEvent,
    })
    report({ kind: 'ready' })
    if (args.reportTo === undefined) printInfo(fleet.info, args)
    if (!stop.signal.aborted) await once(stop.signal, 'abort')
    say(`${new Date().toISOString()} stopping`)
    await fleet.stop()
    return 0
  } catch (error) {
    report({ kind: 'failed', message: (error as Error).message })
    throw error
  }
}

function describe(event: FleetEvent): string {
  if (event.kind === 'step') return event.text
  const { part, event: what } = event
  if (what.kind === 'started') return `${part} started (pid ${what.pid})`
  if (what.kind === 'ended') return `${part} ended (${what.exit.signal ?? what.exit.code}); again in ${what.pauseMs} ms`
  return `${part} could not be started (${what.error.message}); again in ${what.pauseMs} ms`
}

// ---------------------------------------------------------------- down, status

async function down(args: Arguments): Promise<number> {
  const state = readJson<SupervisorState>(args.layout.lock)
  if (state === undefined) {
    removeFile(args.layout.lock)
    say(`no fleet is running in ${args.layout.root}`)
    return 0
  }
  if (isAlive(state.supervisor) && !(await endProcess(state.supervisor, 'SIGTERM', 60_000)))
    throw new Error(`the supervisor (pid ${state.supervisor.pid}) does not end`)
  const left = await endLeftovers(readJson<SupervisorState>(args.layout.lock) ?? state)
  removeFile(args.layout.lock)
  say(`stopped${left.length > 0 ? ` (ended here: ${left.join(', ')})` : ''}; the data stays in ${args.layout.root}`)
  return 0
}

async function status(args: Arguments): Promise<number> {
  const { layout } = args
  const state = readJson<SupervisorState>(layout.lock)
  const info = readJson<FleetInfo>(layout.info)
  const supervised = state !== undefined && isAlive(state.supervisor)
  const services = Object.fromEntries(
    await Promise.all(
      SERVICES.map(async (service) => {
        const identity = state?.children[service]
        const alive = identity !== undefined && isAlive(identity)
        return [
          service,
          { pid: alive ? identity.pid : null, ready: alive && info !== undefined && (await isReady(info.metrics[service])) },
        ] as const
      }),
    ),
  )
  const up = supervised && Object.values(services).every(({ ready }) => ready)
  const answer = {
    state: up ? 'up' : supervised ? 'degraded' : 'down',
    directory: layout.root,
    ...(info === undefined ? {} : { name: info.name, fleetId: info.fleetId, peerId: info.peerId, api: info.api.url }),
    supervisor: supervised ? state.supervisor.pid : null,
    services,
  }
  if (args.json) print(JSON.stringify(args.command === 'up' ? info : answer, null, 2))
  else {
    print(`${info?.name ?? path.basename(layout.root)}: ${answer.state} (${layout.root})`)
    for (const [service, { pid, ready }] of Object.entries(services))
      print(`  ${service.padEnd(12)} ${pid === null ? 'down' : `pid ${pid}, ${ready ? 'ready' : 'not ready'}`}`)
    if (supervised && info !== undefined) printInfo(info, args)
  }
  return args.command === 'status' && !up ? 1 : 0
}

async function isReady(metricsUrl: string): Promise<boolean> {
  try {
    const response = await fetch(metricsUrl.replace(/\/metrics$/, '/health/ready'), { signal: AbortSignal.timeout(3_000) })
    await response.body?.cancel()
    return response.ok
  } catch {
    return false // it does not answer
  }
}

function printInfo(info: FleetInfo, args: Arguments): void {
  if (args.json && args.command === 'up') return print(JSON.stringify(info, null, 2))
  print(`  fleet id     ${info.fleetId}`)
  print(`  API          ${info.api.url}   (OpenAPI at /openapi.json)`)
  print(`  tokens       in ${args.layout.info}: ${Object.keys(info.api.tokens).join(', ')}`)
  print(`  peers dial   ${info.multiaddrs.join('\n               ')}`)
  print(`  logs         ${info.logs}`)
}

try {
  const args = readArguments()
  if (args.command !== 'up' && !existsSync(args.layout.root)) {
    say(`there is no fleet in ${args.layout.root}`)
    process.exitCode = args.command === 'down' ? 0 : 1
  } else process.exitCode = await { up, down, status }[args.command as 'up' | 'down' | 'status'](args)
} catch (error) {
  if (error instanceof UsageError) {
    if (error.message !== '') say(error.message)
    say(USAGE)
    process.exitCode = 2
  } else {
    say(`fleet: ${(error as Error).message}`)
    process.exitCode = 1
  }
}
// Idle HTTP connections to the services would hold the process for a few seconds more.
process.exit()

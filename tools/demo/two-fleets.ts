/** Both fleets of the demo: one embedded PostgreSQL with a database per fleet, everything else twice. */
import { existsSync } from 'node:fs'
import path from 'node:path'
import { layoutOf, makeLayout, readJson, writeJson } from '../fleet/layout.ts'
import { takeLock } from '../fleet/lock.ts'
import { startFleet, type RunningFleet } from '../fleet/start.ts'
import { startManagedPostgres, type ManagedPostgres } from '../postgres/managed.ts'
import { ensureTemplate } from '../prisma/template.ts'
import { freePort } from '../process/ports.ts'
import type { Screen } from './screen.ts'

export interface TwoFleets {
  acme: RunningFleet
  globex: RunningFleet
  /** The fleets were there from an earlier run. */
  reused: boolean
  stop(): Promise<void>
}

export async function startTwoFleets(directory: string, screen: Screen, signal: AbortSignal): Promise<TwoFleets> {
  const layout = layoutOf(directory)
  makeLayout(layout)
  const lock = await takeLock(layout)
  const external = process.env.TALLYSTICK_DATABASE_URL
  const reused = existsSync(path.join(directory, 'globex', 'fleet.json'))
  let postgres: ManagedPostgres | undefined
  const running: RunningFleet[] = []

  const stop = async () => {
    await Promise.all(running.map((fleet) => fleet.stop()))
    await postgres?.stop()
    lock.release()
  }
  try {
    if (reused) screen.note(`using the fleets of an earlier run in ${directory}`)
    let adminUrl = external
    if (adminUrl === undefined || adminUrl === '') {
      screen.begin(reused ? 'starting PostgreSQL' : 'creating a PostgreSQL server')
      const port = await freePort(readJson<{ postgres: number }>(layout.ports)?.postgres)
      writeJson(layout.ports, { postgres: port })
      postgres = await startManagedPostgres({
        directory: layout.postgres,
        port,
        logFile: layout.log('postgres'),
        onEvent: (event) => event.kind === 'started' && lock.record('postgres', event.pid),
      })
      adminUrl = postgres.adminUrl
      screen.done('PostgreSQL', `127.0.0.1:${port}, a database per fleet`)
    }
    signal.throwIfAborted()
    const own = postgres
    screen.begin('starting two fleets of four services each')
    const start = async (name: string) => {
      const fleet = await startFleet({
        name,
        dataDir: path.join(directory, name),
        postgres: { adminUrl, ...(own === undefined ? {} : { template: () => ensureTemplate(adminUrl) }) },
        signal,
        onEvent: (event) => {
          if (event.kind === 'step') screen.begin(`${name}: ${event.text}`)
          else if (event.event.kind !== 'started') screen.note(`${name}: ${event.part} ended and is started again (see its log)`)
        },
      })
      running.push(fleet)
      screen.done(`fleet ${name} is ready`, `${fleet.info.api.url}  ${fleet.info.fleetId.slice(0, 16)}…`)
      return fleet
    }
    const outcomes = await Promise.allSettled([start('acme'), start('globex')])
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason
    const [acme, globex] = outcomes.map((outcome) => (outcome as PromiseFulfilledResult<RunningFleet>).value) as [
      RunningFleet,
      RunningFleet,
    ]
    return { acme, globex, reused, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

// Ten thousand sessions with their states in the locked arena at the same time, in a process of its own: what they cost
// in resident memory, in locked memory and in memory maps.
import { spawnSync } from 'node:child_process'
import path from 'node:path'

const CHILD = path.join(import.meta.dirname, 'resident-child.mjs')
const WANTED = { residentMb: 60, lockedMib: 8, maps: 64 }

export function benchResident() {
  const { status, stdout, signal } = spawnSync(process.execPath, ['--expose-gc', CHILD], {
    stdio: ['ignore', 'pipe', 'inherit'],
    encoding: 'utf8',
  })
  if (status !== 0) throw new Error(`the process with the sessions ended with ${status ?? signal}`)
  const { sessions, arenaMib, residentMb, residentMbBeforeCollection, lockedMib, maps } = JSON.parse(stdout)
  console.log(`\n${sessions} sessions resident, in an arena of ${arenaMib} MiB`)
  const line = (what, value, wanted) =>
    console.log(`  ${what}: ${value} (wanted at most ${wanted}: ${value <= wanted ? 'met' : 'NOT met'})`)
  line('growth of resident memory, MB', residentMb, WANTED.residentMb)
  console.log(`    (${residentMbBeforeCollection} MB before the garbage of 10,000 handshakes was collected)`)
  line('locked memory of the process, MiB', lockedMib, WANTED.lockedMib)
  line('more memory maps than without sessions and arena', maps, WANTED.maps)
}

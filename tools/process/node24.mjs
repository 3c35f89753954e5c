/** npm scripts run on Node 24, which is among the installed packages; a direct call with an older one is passed on to it. */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import path from 'node:path'

/** @returns true when this process is on Node 24 or newer; else the program runs again and this process ends with its code */
export function onNode24() {
  if (Number(process.versions.node.split('.')[0]) >= 24) return true
  const node = path.resolve(import.meta.dirname, '..', '..', 'node_modules', '.bin', 'node')
  if (!existsSync(node)) {
    process.stderr.write('Node 24 is needed: run `npm ci` first\n')
    process.exit(1)
  }
  const child = spawn(node, process.argv.slice(1), { stdio: 'inherit' })
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal))
  child.once('exit', (code, signal) => process.exit(code ?? (signal === 'SIGINT' ? 130 : 143)))
  return false
}

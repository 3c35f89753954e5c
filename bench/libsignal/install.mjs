// libsignal-client is AGPL: it is no dependency of the product, nothing of it is in this repository, and it is installed
// into this folder, from this folder's lockfile, by the first bench that needs it.
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import path from 'node:path'

const HERE = import.meta.dirname

export async function libsignal() {
  if (!existsSync(path.join(HERE, 'node_modules', '@signalapp', 'libsignal-client', 'package.json'))) {
    console.log('installing @signalapp/libsignal-client into bench/libsignal (once)')
    const { status } = spawnSync('npm', ['ci', '--ignore-scripts'], { cwd: HERE, stdio: ['ignore', 'ignore', 'inherit'] })
    if (status !== 0) throw new Error('libsignal-client could not be installed: `npm ci` in bench/libsignal failed')
  }
  return import('./party.mjs')
}

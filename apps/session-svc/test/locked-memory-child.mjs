// Opens an arena as the service does, puts a known key into it, and waits. Built code: run from dist.
import { openLockedArena } from '../dist/custody/locked-memory.js'
import { secretFrom } from '../../../libs/secret-bytes/dist/arena.js'

const size = Number(process.argv[2])
const key = process.argv[3]
try {
  const arena = openLockedArena(size, process.argv[4] === 'allow')
  // A buffer of its own outside V8's heap, as a secret file is read into.
  const bytes = Buffer.allocUnsafeSlow(32)
  for (let i = 0; i < 32; i++) bytes[i] = Number.parseInt(key.slice(2 * i, 2 * i + 2), 16) ^ 0x5a
  globalThis.kept = [arena, secretFrom(arena, bytes)]
  process.stdout.write(`open ${arena.locked ? 'locked' : 'unlocked'}\n`)
  process.stdin.resume()
} catch (error) {
  process.stdout.write(`refused ${error.code} ${error.reason} ${error.message}\n`)
  process.exitCode = 3
}

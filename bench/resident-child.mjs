// The process that holds the sessions; prints one line of JSON. See resident.mjs.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe } from '@tallystick/ratchet/double-ratchet'
import { SecretArena } from '@tallystick/secret-bytes/arena'
import { establish, fleet, pass } from './conversation.mjs'

const SESSIONS = 10_000
const ARENA_MIB = 5
/** Sessions whose other end is kept, too: proof that what is resident works. */
const PAIRS = 100
const PAYLOAD = new Uint8Array(100).fill(7)

const status = (name) => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(readFileSync('/proc/self/status', 'utf8'))[1]) * 1024
const mapCount = () => readFileSync('/proc/self/maps', 'utf8').trim().split('\n').length

function collected() {
  globalThis.gc()
  globalThis.gc()
  return status('VmRSS')
}

/** The code is compiled and its caches are filled before anything is counted. */
function warmUp() {
  const arena = SecretArena.open(256 * 1024, { allowUnlocked: true })
  const acme = fleet(arena, 'acme')
  const globex = fleet(arena, 'globex')
  for (let i = 0; i < 200; i++) {
    const { a, b } = establish(arena, acme, globex, PAYLOAD)
    a.state.destroy()
    b.state.destroy()
  }
  arena.close()
}

warmUp()
const before = { resident: collected(), maps: mapCount() }
const arena = SecretArena.open(ARENA_MIB * 1024 * 1024)
const acme = fleet(arena, 'acme')
const globex = fleet(arena, 'globex')
const sessions = []
const pairs = []
for (let i = 0; i < SESSIONS; i++) {
  const { a, b } = establish(arena, acme, globex, PAYLOAD)
  sessions.push(a)
  if (i % (SESSIONS / PAIRS) === 0) pairs.push([a, b])
  else b.state.destroy()
}
const uncollected = status('VmRSS')
const after = { resident: collected(), maps: mapCount(), locked: status('VmLck') }

for (const [a, b] of pairs) for (const [from, to] of [[a, b], [b, a]]) assert.deepEqual(pass(from, to, PAYLOAD), PAYLOAD) // prettier-ignore
assert(sessions.every(({ state }) => describe(state).confirmed))
assert(arena.locked && after.locked >= arena.size)

const mb = (bytes) => Math.round(bytes / 1e5) / 10
console.log(
  JSON.stringify({
    sessions: sessions.length,
    arenaMib: ARENA_MIB,
    residentMb: mb(after.resident - before.resident),
    residentMbBeforeCollection: mb(uncollected - before.resident),
    lockedMib: Math.round((after.locked / 2 ** 20) * 100) / 100,
    maps: after.maps - before.maps,
  }),
)

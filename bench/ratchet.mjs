// The ratchet against @signalapp/libsignal-client: sealing and opening, with states in memory and with states at rest,
// turns of one message each, and the start of a session.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { SecretArena } from '@tallystick/secret-bytes/arena'
import { establish, fleet, pass, passThroughVaults } from './conversation.mjs'
import { compare } from './interleave.mjs'
import { libsignal } from './libsignal/install.mjs'
import { Vault } from './vault.mjs'

const PAYLOAD_BYTES = 1024

export async function benchRatchet() {
  const arena = SecretArena.open(1024 * 1024, { allowUnlocked: true })
  const signal = await libsignal()
  const payload = new Uint8Array(randomBytes(PAYLOAD_BYTES))
  const figures = [
    ['seal and open 1 KiB, states in memory', 6, await inMemory(arena, signal, payload)],
    ['seal and open 1 KiB, states sealed, written and read at every step', 2, await atRest(arena, signal, payload)],
    ['in turns, a DH step each, states in memory', 2, await inTurns(arena, signal, payload)],
    ['establishment by PQXDH with first message and answer', 0.8, await establishment(arena, signal, payload)],
  ]
  console.log('\nTimes as fast as libsignal-client, which always runs its post-quantum ratchet (SPQR) and an asynchronous bridge:')
  for (const [what, wanted, times] of figures)
    console.log(`  ${times.toFixed(2).padStart(6)}  ${what} (wanted ${wanted}: ${times >= wanted ? 'met' : 'NOT met'})`)
  arena.close()
}

async function inMemory(arena, signal, payload) {
  const { a, b } = establish(arena, fleet(arena, 'acme'), fleet(arena, 'globex'), payload)
  const { alice, bob } = await signalPair(signal, () => new signal.RecordsInMemory(), payload)
  return ratio('seal and open 1 KiB, states in memory', payload, {
    tallystick: () => pass(a, b, payload),
    'libsignal-client': async () => bob.open(alice, await alice.seal(bob, payload)),
  })
}

async function atRest(arena, signal, payload) {
  const { a, b } = establish(arena, fleet(arena, 'acme'), fleet(arena, 'globex'), payload)
  for (const end of [a, b]) {
    end.vault = new Vault(arena)
    end.vault.writeSecret('session', end.state)
    end.state.destroy()
  }
  const { alice, bob } = await signalPair(signal, () => new signal.RecordsInVault(new Vault(arena)), payload)
  const plain = await signalPair(signal, () => new signal.RecordsInVault(new PlainRows()), payload)
  return ratio('seal and open 1 KiB, states sealed, written and read at every step', payload, {
    tallystick: () => passThroughVaults(a, b, payload),
    'libsignal-client': async () => bob.open(alice, await alice.seal(bob, payload)),
    'libsignal-client, records written without sealing': async () =>
      plain.bob.open(plain.alice, await plain.alice.seal(plain.bob, payload)),
  })
}

/** Records as bytes, not sealed. */
class PlainRows {
  #rows = new Map()
  write(name, bytes) {
    this.#rows.set(name, bytes)
  }
  read(name) {
    return this.#rows.get(name)
  }
}

async function inTurns(arena, signal, payload) {
  let { a, b } = establish(arena, fleet(arena, 'acme'), fleet(arena, 'globex'), payload)
  let { alice, bob } = await signalPair(signal, () => new signal.RecordsInMemory(), payload)
  return ratio('in turns: one message, each with a DH step', payload, {
    tallystick: () => {
      const opened = pass(a, b, payload)
      ;[a, b] = [b, a]
      return opened
    },
    'libsignal-client': async () => {
      const opened = await bob.open(alice, await alice.seal(bob, payload))
      ;[alice, bob] = [bob, alice]
      return opened
    },
  })
}

async function establishment(arena, signal, payload) {
  const acme = fleet(arena, 'acme')
  const globex = fleet(arena, 'globex')
  const { alice, bob } = await signalPair(signal, () => new signal.RecordsInMemory(), payload)
  return ratio('establishment: PQXDH, the first message and the answer, 1 KiB each', undefined, {
    tallystick: () => {
      const { a, b } = establish(arena, acme, globex, payload)
      a.state.destroy()
      b.state.destroy()
    },
    'libsignal-client': async () => {
      alice.sessions = new signal.RecordsInMemory()
      bob.sessions = new signal.RecordsInMemory()
      await signal.converse(alice, bob, payload)
    },
  })
}

async function signalPair(signal, records, payload) {
  const alice = new signal.Party('alice', records())
  const bob = new signal.Party('bob', records())
  await signal.converse(alice, bob, payload)
  return { alice, bob }
}

/** Checks once that each contender gives the payload back, then compares. @returns times as fast as libsignal-client */
async function ratio(title, payload, contenders) {
  for (const [who, call] of Object.entries(contenders)) {
    const opened = await call()
    if (payload) assert.deepEqual(Buffer.from(opened), Buffer.from(payload), who)
  }
  return (await compare(title, contenders))['libsignal-client']
}

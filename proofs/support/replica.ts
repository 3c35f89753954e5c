/**
 * One replica of a fleet's session-svc as a process of its own, on a real database, that can be killed at any write.
 * Reads one JSON command per line from its standard input and answers each with one line on standard output; the
 * answer is the release: what it holds has left the process. Started by `ReplicaProcess`.
 */
import { loadGun, arm, disarm } from './gun.ts'
loadGun()
import type { Ask, Command, Reply, ReplicaSettings, Sealed } from './commands.ts'

const { readFileSync, appendFileSync } = await import('node:fs')
const { createInterface } = await import('node:readline')
const { TestFleet, TestClock, plain } = await import('../../apps/session-svc/test/fleet.ts')
const { pinPeer } = await import('../../apps/session-svc/src/peers/pin-peer.js')
const { fileTap } = await import('../../apps/session-svc/src/wire-tap.js')
const { breakOnPurpose } = await import('./mutants.ts')

const settings = JSON.parse(readFileSync(process.argv[2]!, 'utf8')) as ReplicaSettings
const clock = new TestClock()
clock.advance(settings.aheadMs)
if (settings.aim !== undefined) arm(aimed(settings.aim))
const say = (line: Reply | Ask) => process.stdout.write(`${JSON.stringify(line)}\n`)

function aimed({ at = Number.POSITIVE_INFINITY, ...aim }: NonNullable<ReplicaSettings['aim']>) {
  return { ...aim, at }
}

/** Bundles of peers come from whoever drives this process. */
const waiting = new Map<number, (bundle: Uint8Array | undefined) => void>()
let asked = 0
async function bundleOf(peer: string) {
  const ask = ++asked
  const answer = new Promise<Uint8Array | undefined>((resolve) => waiting.set(ask, resolve))
  say({ ask, bundleOf: peer })
  const bundle = await answer
  if (bundle === undefined) return { ok: false as const, code: 'Network' as const, message: 'the peer is away' }
  return { ok: true as const, bundle: plain(bundle) }
}

const fleet = await TestFleet.start({
  url: settings.url,
  clock,
  kek: readFileSync(settings.kekFile),
  limits: settings.limits,
  stateDir: settings.stateDir,
  tap: fileTap(settings.tapFile),
  before: async (context) => {
    if (settings.mutant !== undefined) breakOnPurpose(settings.mutant, context)
  },
})
fleet.peers = (fleetId) => ({ take: () => bundleOf(fleetId) })

const bytesOf = (text: string) => plain(Buffer.from(text, 'base64'))
const textOf = (value: Uint8Array) => Buffer.from(value).toString('base64')

async function seal(messageId: string, peer: string, text: string, kind: 'application' | 'control'): Promise<Sealed> {
  const item = { messageId, fleetId: peer, class: kind, payload: plain(Buffer.from(text)) }
  const outcome = (await fleet.core.sealing.seal([item]))[0]!
  return outcome.ok ? { ok: true, envelope: textOf(outcome.envelope), epoch: outcome.epoch } : { ok: false, code: outcome.code }
}

async function perform(command: Command): Promise<unknown> {
  switch (command.do) {
    case 'id':
      return { id: fleet.id, certificate: textOf(await fleet.certificate()) }
    case 'pin':
      return pinPeer(fleet.context, fleet.id, bytesOf(command.certificate)).then(({ ok }) => ({ ok }))
    case 'seal':
      return seal(command.messageId, command.peer, command.text, command.class)
    case 'open': {
      const outcome = await fleet.tryOpen({ id: command.peer }, bytesOf(command.envelope))
      return outcome.ok ? { ok: true, text: Buffer.from(outcome.payload).toString() } : { ok: false, code: outcome.code }
    }
    case 'acknowledge':
      await fleet.acknowledge(bytesOf(command.envelope))
      return { ok: true }
    case 'take': {
      const outcome = await fleet.take(command.peer)
      return outcome.ok ? { ok: true, bundle: textOf(outcome.bundle) } : { ok: false, code: outcome.code }
    }
    case 'storm':
      return storm(command)
    case 'arm':
      // From the next write after this answer.
      return { ok: true }
    case 'disarm':
      return { writes: disarm() }
    case 'quiet':
      await fleet.core.prefetcher.settled()
      await fleet.core.stock.ensure()
      return { ok: true }
  }
}

/** Several workers of this process, each with one call under way; what was sealed goes to a file, refusals are repeated. */
async function storm({ jobs, workers, file }: Command & { do: 'storm' }): Promise<unknown> {
  const todo = [...jobs]
  const started = performance.now()
  let repeats = 0
  await Promise.all(
    Array.from({ length: workers }, async () => {
      for (let job = todo.shift(); job; job = todo.shift()) {
        let outcome = await seal(job.messageId, job.peer, job.text, 'application')
        for (; !outcome.ok && outcome.code === 'Network'; repeats++) outcome = await seal(job.messageId, job.peer, job.text, 'application')
        if (!outcome.ok) throw new Error(`${job.text}: ${outcome.code}`)
        appendFileSync(file, `${JSON.stringify({ ...job, envelope: outcome.envelope })}\n`)
      }
    }),
  )
  return { ms: performance.now() - started, repeats }
}

const lines = createInterface({ input: process.stdin })
lines.on('line', (line) => {
  const received = JSON.parse(line) as { id: number; command: Command } | { answer: number; bundle: string | null }
  if ('answer' in received) {
    waiting.get(received.answer)?.(received.bundle === null ? undefined : bytesOf(received.bundle))
    waiting.delete(received.answer)
    return
  }
  const { id, command } = received
  perform(command).then(
    (result) => {
      say({ id, result })
      if (command.do === 'arm') arm(aimed(command.aim))
    },
    (error: unknown) => say({ id, fault: error instanceof Error ? `${error.name}: ${error.message}` : String(error) }),
  )
})
lines.once('close', () => {
  // The driver is done: leave no connection behind, and nothing to wait for.
  fleet
    .stop()
    .finally(() => process.exit(0))
    .catch(() => process.exit(1))
})
say({ id: 0, result: { ready: true } })

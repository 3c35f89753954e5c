/** Two service processes on one database, eight workers each, all sealing for the same peers at the same time. */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { keysReused, keysUsed } from './checks.ts'
import type { Job } from './commands.ts'
import { fromBase64, openAt, sealAt, sealCommand, type Stage } from './stage.ts'

export const PROCESSES = 2
export const WORKERS = 8

export interface RaceResult {
  readonly sealed: number
  readonly reused: number
  /** Different message keys on the wire. */
  readonly keys: number
  /** Messages that the peers could read, each once. */
  readonly opened: number
  readonly epochs: number
  readonly perSecond: number
}

/** @param each messages per peer, the first of which opens the session before the race */
export async function race(stage: Stage, each: number): Promise<RaceResult> {
  const replicas = []
  for (let replica = 1; replica <= PROCESSES; replica++) replicas.push(await stage.start({ replica }))
  // The peers answer once, so that the epoch after this one can begin in the middle of the race.
  const { acme } = stage
  for (const peer of stage.peers) {
    const first = await sealAt(replicas[0]!, sealCommand(peer, 'first'))
    await peer.open(acme, first)
    await openAt(replicas[0]!, peer, await peer.seal(acme, 'answer'))
  }
  const jobs = shuffled(stage.peers.flatMap((peer) => Array.from({ length: each - 1 }, (_, i) => ({ peer, text: `${peer.id} ${i}` }))))
  const files = replicas.map((_, i) => path.join(stage.home, `storm-${i}.jsonl`))
  const started = performance.now()
  await Promise.all(
    replicas.map((replica, mine) =>
      replica.call({
        do: 'storm',
        workers: WORKERS,
        file: files[mine]!,
        jobs: jobs
          .filter((_, i) => i % PROCESSES === mine)
          .map(({ peer, text }): Job => ({ messageId: peer.newId(), peer: peer.id, text })),
      }),
    ),
  )
  const seconds = (performance.now() - started) / 1_000
  const sealed = files.flatMap((file) =>
    readFileSync(file, 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Job & { envelope: string }),
  )
  const readable = await Promise.all(
    stage.peers.map(async (peer) => {
      const mine = sealed.filter((job) => job.peer === peer.id)
      const texts = new Set<string>()
      for (const job of mine) {
        const outcome = await peer.tryOpen(acme, fromBase64(job.envelope))
        if (outcome.ok && Buffer.from(outcome.payload).toString() === job.text) texts.add(job.text)
      }
      return texts.size
    }),
  )
  for (const replica of replicas) await replica.stop()
  const lines = stage.tapped()
  return {
    sealed: sealed.length + stage.peers.length,
    reused: keysReused(lines),
    keys: keysUsed(lines),
    opened: readable.reduce((sum, count) => sum + count, stage.peers.length),
    epochs: new Set(lines.filter(({ direction }) => direction === 'out').map(({ peer, epoch }) => `${peer}/${epoch}`)).size,
    perSecond: jobs.length / seconds,
  }
}

/** The same order in every run. */
function shuffled<T>(items: readonly T[]): T[] {
  const result = [...items]
  let state = 1
  for (let i = result.length - 1; i > 0; i--) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    const j = state % (i + 1)
    ;[result[i], result[j]] = [result[j]!, result[i]!]
  }
  return result
}

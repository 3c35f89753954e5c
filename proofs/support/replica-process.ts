/** A replica in a process of its own, as its driver sees it: commands go in, answers come out, or it dies. */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { CACHE } from '../../tools/paths.ts'
import { guardProcess, releaseProcess } from '../../tools/process/guard.ts'
import type { Command, ReplicaSettings } from './commands.ts'

const HERE = import.meta.dirname

/** The process ended before it answered. */
export class Died extends Error {
  readonly signal: NodeJS.Signals | null
  constructor(signal: NodeJS.Signals | null, code: number | null, log: string) {
    super(`the replica ended (${signal ?? code})${signal === 'SIGKILL' ? '' : `: ${log}`}`)
    this.name = 'Died'
    this.signal = signal
  }
}

/** The replica answered that its work threw. */
export class Fault extends Error {}

export interface ReplicaOptions {
  /** Folder of its own for settings and log. */
  readonly home: string
  readonly settings: ReplicaSettings
  /** Where bundles of peers come from; undefined: the peer is away. */
  bundles(peer: string): Promise<Uint8Array | undefined>
  /** Program and arguments that the node process is started under, `strace` with its own. */
  readonly under?: readonly string[]
}

let count = 0

export class ReplicaProcess {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>
  readonly #waiting = new Map<number, { resolve: (result: unknown) => void; reject: (error: Error) => void }>()
  readonly #logFile: string
  #next = 1
  /** Resolves when it has ended. */
  readonly ended: Promise<{ signal: NodeJS.Signals | null; code: number | null }>

  private constructor(options: ReplicaOptions) {
    const name = path.join(options.home, `replica-${++count}`)
    this.#logFile = `${name}.log`
    writeFileSync(`${name}.json`, JSON.stringify(options.settings), { mode: 0o600 })
    const command = [
      ...(options.under ?? []),
      process.execPath,
      '--disable-warning=ExperimentalWarning',
      '--import',
      path.join(HERE, 'from-dist.mjs'),
      path.join(HERE, 'replica.ts'),
      `${name}.json`,
    ]
    const log = openSync(this.#logFile, 'a', 0o600)
    // A session of its own: the tests' Ctrl-C reaches the tests, which end it.
    this.#child = spawn(command[0]!, command.slice(1), {
      detached: true,
      stdio: ['pipe', 'pipe', log],
      env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: path.join(CACHE, 'compile') },
    }) as ChildProcessByStdio<Writable, Readable, null>
    closeSync(log)
    const pid = this.#child.pid!
    guardProcess(pid, 'KILL')
    this.ended = new Promise((resolve) => {
      this.#child.once('close', (code, signal) => {
        releaseProcess(pid)
        for (const { reject } of this.#waiting.values()) reject(new Died(signal, code, this.log))
        this.#waiting.clear()
        resolve({ signal, code })
      })
    })
    // Writing to a process that has just died: its end is what is reported.
    this.#child.stdin.on('error', () => undefined)
    createInterface({ input: this.#child.stdout }).on('line', (line) => this.#heard(options, line))
  }

  /** @throws Died when it did not come up */
  static async start(options: ReplicaOptions): Promise<ReplicaProcess> {
    const replica = new ReplicaProcess(options)
    await new Promise((resolve, reject) => replica.#waiting.set(0, { resolve, reject }))
    return replica
  }

  get pid(): number {
    return this.#child.pid!
  }

  get log(): string {
    const lines = readFileSync(this.#logFile, 'utf8').trim().split('\n')
    return lines
      .slice(-20)
      .map((line) => line.slice(0, 300))
      .join('\n')
  }

  /**
   * @throws Died when the process ended instead of answering
   * @throws Fault when the work threw
   */
  async call<T>(command: Command): Promise<T> {
    const id = this.#next++
    const answer = new Promise<unknown>((resolve, reject) => this.#waiting.set(id, { resolve, reject }))
    this.#child.stdin.write(`${JSON.stringify({ id, command })}\n`)
    return (await answer) as T
  }

  /** After an answer: whether the process has died of it. The answer of the next call decides, not a pause. */
  async diesNow(): Promise<boolean> {
    return this.call({ do: 'disarm' }).then(
      () => false,
      (error: unknown) => {
        if (error instanceof Died && error.signal === 'SIGKILL') return true
        throw error
      },
    )
  }

  /** Ends it in order. */
  async stop(): Promise<{ signal: NodeJS.Signals | null; code: number | null }> {
    this.#child.stdin.end()
    return this.ended
  }

  async kill(signal: 'SIGKILL' | 'SIGCONT'): Promise<void> {
    process.kill(this.pid, signal)
    if (signal === 'SIGKILL') await this.ended
  }

  /** Until the kernel says that it is stopped. */
  async untilStopped(withinMs = 20_000): Promise<void> {
    const deadline = Date.now() + withinMs
    while (!/^State:\tT/m.test(readFileSync(`/proc/${this.pid}/status`, 'latin1'))) {
      if (Date.now() > deadline) throw new Error('the replica was not stopped')
      await delay(5)
    }
  }

  #heard(options: ReplicaOptions, line: string): void {
    const said = JSON.parse(line) as { id: number; result?: unknown; fault?: string } | { ask: number; bundleOf: string }
    if ('ask' in said) {
      const answer = (bundle: Uint8Array | undefined) =>
        this.#child.stdin.write(`${JSON.stringify({ answer: said.ask, bundle: bundle ? Buffer.from(bundle).toString('base64') : null })}\n`)
      options.bundles(said.bundleOf).then(answer, () => answer(undefined))
      return
    }
    const waiting = this.#waiting.get(said.id)
    this.#waiting.delete(said.id)
    if (said.fault === undefined) waiting?.resolve(said.result)
    else waiting?.reject(new Fault(said.fault))
  }
}

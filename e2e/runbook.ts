/**
 * The fenced commands of a runbook, run as they stand: the page and its test cannot drift apart. A block is
 * ```` ```sh NAME exit=N ````: NAME says for whom it is, N is the exit code that the page announces (default 0).
 */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { root } from './support.ts'

export interface Block {
  readonly name: string
  readonly exitCode: number
  readonly script: string
}

/** @param page below docs/runbooks @returns the blocks that have a name, in order */
export function blocksOf(page: string): Block[] {
  const text = readFileSync(path.join(root, 'docs/runbooks', page), 'utf8')
  return [...text.matchAll(/^```sh ([a-z]+)(?: exit=(\d+))?\n([^]*?)^```$/gm)].map(([, name, exitCode, script]) => ({
    name: name!,
    exitCode: Number(exitCode ?? 0),
    script: script!,
  }))
}

export interface Ran {
  readonly code: number | null
  readonly out: string
}

/** In a shell of its own, from the project's folder, with nothing of this process's environment but its path and home. */
export function runBlock(block: Block, variables: Readonly<Record<string, string>>, timeoutMs = 90_000): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn('bash', ['-euo', 'pipefail', '-c', block.script], {
      cwd: root,
      env: { PATH: `${path.dirname(process.execPath)}:${process.env.PATH}`, HOME: process.env.HOME, NO_COLOR: '1', ...variables },
      stdio: ['ignore', 'pipe', 'pipe'],
      signal: AbortSignal.timeout(timeoutMs),
    })
    let out = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (out += chunk.toString()))
    child.once('error', (error) => reject(new Error(`not to its end after ${timeoutMs} ms:\n${block.script}${out}`, { cause: error })))
    child.once('close', (code) => resolve({ code, out }))
  })
}

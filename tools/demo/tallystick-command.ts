/** The `tallystick` command, as a user would call it. */
import { spawn } from 'node:child_process'
import path from 'node:path'
import { ROOT } from '../paths.ts'

const COMMAND = path.join(ROOT, 'apps', 'cli', 'bin', 'tallystick.mjs')

/** The fleet's log is fetched and recomputed, and compared with its signed checkpoint. @returns what the command printed */
export function auditVerify(fleetDir: string, signal: AbortSignal): Promise<string> {
  return run(['audit', 'verify', '--fleet', fleetDir], signal)
}

/** Needs no fleet: no address and no token is given. */
export function evidenceVerify(file: string, signal: AbortSignal): Promise<string> {
  return run(['evidence', 'verify', file], signal)
}

function run(args: string[], signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [COMMAND, ...args], {
      env: { PATH: process.env.PATH, HOME: process.env.HOME, NO_COLOR: '1' },
      stdio: ['ignore', 'pipe', 'pipe'],
      signal,
    })
    let output = ''
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
    child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()))
    child.once('error', reject)
    child.once('close', (code) =>
      code === 0 ? resolve(output.trim()) : reject(new Error(`tallystick ${args.join(' ')} failed (exit code ${code}):\n${output.trim()}`)),
    )
  })
}

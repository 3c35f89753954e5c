/**
 * Nothing that this process starts outlives it: a small shell process (`guard.sh`) holds the other end of a pipe and
 * ends the listed processes when the pipe closes, which also happens on kill -9.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import type { Socket } from 'node:net'
import path from 'node:path'

let guard: ChildProcess | undefined

function tell(line: string): void {
  if (guard === undefined) {
    // A session of its own, so that Ctrl-C on the terminal reaches this process only and the guard stays to clean up.
    guard = spawn('sh', [path.join(import.meta.dirname, 'guard.sh')], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] })
    guard.unref()
    ;(guard.stdin as Socket).unref()
    guard.stdin?.on('error', () => (guard = undefined))
  }
  guard.stdin?.write(`${line}\n`)
}

/** End `pid` with `signal` when this process is gone. Call `releaseProcess` once it has ended by itself. */
export function guardProcess(pid: number, signal: 'TERM' | 'INT' | 'KILL' = 'TERM'): void {
  tell(`add ${pid} ${signal}`)
}

export function releaseProcess(pid: number): void {
  tell(`del ${pid}`)
}

/** Remove `directory` when this process is gone, after the guarded processes. */
export function guardDirectory(directory: string): void {
  if (/[\n\r]/.test(directory) || directory !== directory.trim()) throw new Error('a directory name with a line break cannot be guarded')
  tell(`rm ${directory}`)
}

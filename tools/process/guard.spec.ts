import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { identityOf, isAlive } from './child.ts'

/** A process that starts `sleep` under the guard, makes a folder, tells both, and waits. */
async function startGuarded(command: string): Promise<{ parent: ChildProcess; child: number; folder: string }> {
  const script = path.join(mkdtempSync(path.join(os.tmpdir(), 'tallystick-guard-')), 'parent.ts')
  writeFileSync(
    script,
    `import { mkdtempSync } from 'node:fs'
import { startChild } from ${JSON.stringify(path.join(import.meta.dirname, 'child.ts'))}
import { guardDirectory } from ${JSON.stringify(path.join(import.meta.dirname, 'guard.ts'))}
const folder = mkdtempSync(${JSON.stringify(path.join(os.tmpdir(), 'tallystick-guarded-'))})
guardDirectory(folder)
const child = await startChild({ command: 'sh', args: ['-c', ${JSON.stringify(command)}] })
console.log(JSON.stringify({ child: child.pid, folder }))
setInterval(() => undefined, 60_000)
`,
  )
  const parent = spawn(process.execPath, [script], { stdio: ['ignore', 'pipe', 'inherit'] })
  const line = await new Promise<string>((resolve) => createInterface({ input: parent.stdout }).once('line', resolve))
  return { parent, ...(JSON.parse(line) as { child: number; folder: string }) }
}

async function eventually(what: () => boolean, withinMs: number): Promise<boolean> {
  for (const deadline = Date.now() + withinMs; Date.now() < deadline; await delay(50)) if (what()) return true
  return what()
}

it('ends children and removes folders when the parent is killed', async () => {
  const { parent, child, folder } = await startGuarded('exec sleep 600')
  const identity = identityOf(child)
  expect(isAlive(identity)).toBe(true)
  parent.kill('SIGKILL')
  expect(await eventually(() => !isAlive(identity) && !existsSync(folder), 8_000)).toBe(true)
})

it('insists when a child ignores the signal', async () => {
  const stubborn = spawn('sh', ['-c', 'trap "" TERM; echo ready; while :; do sleep 0.2; done'], { stdio: ['ignore', 'pipe', 'inherit'] })
  await once(stubborn.stdout, 'data')
  const identity = identityOf(stubborn.pid as number)
  const guard = spawn('sh', [path.join(import.meta.dirname, 'guard.sh'), '5'], { stdio: ['pipe', 'inherit', 'inherit'] })
  guard.stdin.end(`add ${stubborn.pid} TERM\n`)
  const [, signal] = (await once(stubborn, 'exit')) as [number | null, string | null]
  expect(signal).toBe('SIGKILL')
  expect(isAlive(identity)).toBe(false)
})

it('leaves a released process alone', async () => {
  const released = spawn('sleep', ['600'])
  await once(released, 'spawn')
  const guard = spawn('sh', [path.join(import.meta.dirname, 'guard.sh')], { stdio: ['pipe', 'inherit', 'inherit'] })
  guard.stdin.end(`add ${released.pid} TERM\ndel ${released.pid}\n`)
  await once(guard, 'exit')
  expect(isAlive(identityOf(released.pid as number))).toBe(true)
  released.kill('SIGKILL')
})

it('knows a process by its start time, not by its number alone', () => {
  const own = identityOf(process.pid)
  expect(isAlive(own)).toBe(true)
  expect(isAlive({ pid: process.pid, start: 'another boot:1' })).toBe(false)
})

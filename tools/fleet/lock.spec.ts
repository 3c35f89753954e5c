import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { identityOf, isAlive } from '../process/child.ts'
import { layoutOf, makeLayout, readJson, writeJson, type Layout, type SupervisorState } from './layout.ts'
import { AlreadyRunning, takeLock } from './lock.ts'

let layout: Layout
beforeEach(() => {
  layout = layoutOf(mkdtempSync(path.join(os.tmpdir(), 'tallystick-lock-')))
  makeLayout(layout)
})
afterEach(() => rmSync(layout.root, { recursive: true, force: true }))

it('is held by one process at a time', async () => {
  const lock = await takeLock(layout)
  await expect(takeLock(layout)).rejects.toBeInstanceOf(AlreadyRunning)
  lock.release()
  expect(existsSync(layout.lock)).toBe(false)
  ;(await takeLock(layout)).release()
})

it('ends what a lost supervisor left behind, and nothing else', async () => {
  const left = spawn('sleep', ['600'])
  const stranger = spawn('sleep', ['600'])
  await Promise.all([once(left, 'spawn'), once(stranger, 'spawn')])
  const state: SupervisorState = {
    supervisor: { pid: process.pid, start: 'an earlier boot:7' }, // the number is ours, the process is not
    children: { 'relay-svc': identityOf(left.pid as number), 'audit-svc': { pid: stranger.pid as number, start: 'an earlier boot:8' } },
  }
  writeJson(layout.lock, state)
  const lock = await takeLock(layout)
  expect(isAlive(state.children['relay-svc'] as { pid: number })).toBe(false)
  expect(isAlive(identityOf(stranger.pid as number))).toBe(true)
  expect(readJson<SupervisorState>(layout.lock)?.supervisor).toEqual(identityOf(process.pid))
  lock.release()
  stranger.kill('SIGKILL')
})

it('begins anew after a power loss in the middle of a write', async () => {
  writeFileSync(layout.lock, '{"supervisor":{"pi')
  const lock = await takeLock(layout)
  lock.record('nats', process.pid)
  expect(readJson<SupervisorState>(layout.lock)?.children.nats).toEqual(identityOf(process.pid))
  lock.release()
})

it('two that find what a lost supervisor left behind do not both go on', async () => {
  const left = spawn('sleep', ['600'])
  await once(left, 'spawn')
  const gone = once(left, 'exit')
  const lost: SupervisorState = {
    supervisor: { pid: process.pid, start: 'an earlier boot:7' },
    children: { nats: identityOf(left.pid as number) },
  }
  writeJson(layout.lock, lost)
  const outcomes = await Promise.allSettled([takeLock(layout), takeLock(layout)])
  expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
  expect(await gone).toEqual([null, 'SIGTERM'])
})
